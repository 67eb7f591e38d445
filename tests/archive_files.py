"""ZIP and tar archives, written for a test by Python's own modules."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

__all__ = ["folder_tar", "folder_zip", "pngs", "tar_of", "zip_of"]

from bad_images import encode
from PIL import Image

Members = Mapping[str, bytes]


def pngs(*names: str) -> dict[str, bytes]:
    """Return a small PNG for each name, another one for every place."""
    return {name: encode(Image.new("RGB", (9, 8), (20 * place, 0, 99)), "PNG") for place, name in enumerate(names)}


def zip_of(path: Path, members: Members, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return path


def tar_of(path: Path, members: Members, mode: str = "w", file_format: int = tarfile.PAX_FORMAT) -> Path:
    """Write a tar archive; `mode` is that of `tarfile.open`."""
    with tarfile.open(path, mode, format=file_format) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return path


def folder_zip(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def folder_tar(path: Path, folder: Path, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        archive.add(folder, ".")
    return path
