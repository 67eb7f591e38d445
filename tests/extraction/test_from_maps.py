"""The upper part of a fine-tuned network on maps that a codes file keeps gives what the whole network does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tuned_models import codes_by_torch, staged_images, tuned_by_hand

from cnncodes import CodesFile, ImageSet, ProbeModel, extract, fit
from cnncodes.errors import MismatchError
from cnncodes.extraction.from_maps import UpperPart


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return staged_images()


@pytest.fixture(scope="module")
def codes(images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maps") / "codes.h5"
    extract(images, path, backbone="staged", precision="fp32", maps=["layer2", "layer3"])
    return path


@pytest.fixture(scope="module")
def model(codes: Path) -> ProbeModel:
    return tuned_by_hand(fit(codes, C=1.0, cv=2))


def test_codes_are_those_of_the_whole_network(codes: Path, images: ImageSet, model: ProbeModel) -> None:
    expected, rows = codes_by_torch(model, images), np.array([30, 2, 7])
    upper = UpperPart(model.provenance, "layer2", model.tensors)
    with CodesFile.open(codes) as file:
        maps = upper.maps_of(file)
        assert maps is not None
        np.testing.assert_allclose(upper.codes(maps, np.arange(36)), expected, rtol=5e-3, atol=2e-3)
        np.testing.assert_allclose(upper.codes(maps, rows), expected[rows], rtol=5e-3, atol=2e-3)
        assert np.abs(file.codes("penultimate") - expected).max() > 0.05
        assert upper.codes(maps, rows[:0]).shape == (0, 16)
        assert UpperPart(model.provenance, "layer1", model.tensors).maps_of(file) is None


def test_each_view_has_its_code(images: ImageSet, tmp_path: Path) -> None:
    path = tmp_path / "codes.h5"
    extract(images, path, backbone="staged", precision="fp32", maps="layer2", views="flip")
    model = tuned_by_hand(fit(path, C=1.0, cv=2))
    flipped = ImageSet(images.ids, [np.ascontiguousarray(image[:, ::-1]) for image in images.sources])
    upper = UpperPart(model.provenance, "layer2", model.tensors)
    with CodesFile.open(path) as file:
        maps = upper.maps_of(file)
        assert maps is not None
        both = upper.codes(maps, np.arange(36))
    for view, of_view in enumerate((images, flipped)):
        np.testing.assert_allclose(both[:, view], codes_by_torch(model, of_view), rtol=5e-3, atol=2e-3)


def test_parameters_of_another_network_are_refused(model: ProbeModel) -> None:
    with pytest.raises(MismatchError, match="the parameter layer9 is not there"):
        UpperPart(model.provenance, "layer2", {"layer9": np.ones(1, np.float32)})


def test_weights_that_are_others_are_refused(model: ProbeModel, tmp_path: Path) -> None:
    from tiny_network import Staged

    torch.save(Staged().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(MismatchError, match="put the original file back"):
        UpperPart(model.provenance, "layer2", model.tensors, weights=tmp_path / "weights.pth")
