"""Photographs that come with scikit-learn, and how alike codes are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def sklearn_photo(name: str) -> Image.Image:
    import sklearn

    return Image.open(Path(sklearn.__file__).parent / "datasets" / "images" / name)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
