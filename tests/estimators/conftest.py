"""Images and estimators for these tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from cnncodes import CNNCodes, CNNCodesClassifier
from cnncodes.images.loading import load_images


@pytest.fixture(scope="module")
def data(small_sample: Path) -> tuple[list[str], np.ndarray]:
    images = load_images(small_sample / "train")
    assert images.labels is not None
    return [str(path) for path in images.sources], np.array(images.labels)


@pytest.fixture
def estimators() -> list[BaseEstimator]:
    return [CNNCodes(layer="layer1"), CNNCodesClassifier(layer="layer1", C=0.1)]
