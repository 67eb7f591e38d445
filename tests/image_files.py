"""Folders of images and tables, written for a test."""

from __future__ import annotations

from pathlib import Path

from bad_images import encode, picture

PNG = encode(picture(), "PNG")


def fill(root: Path, *names: str, data: bytes = PNG) -> Path:
    """Write files, and the folders above them; a name that ends in / is an empty folder."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return root


def table(root: Path, text: str | bytes, name: str = "images.csv") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path
