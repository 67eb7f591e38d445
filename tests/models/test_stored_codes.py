"""The codes that a model takes of the images of a codes file: kept, computed from maps, or computed from the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tuned_models import codes_by_torch, staged_images, tuned_by_hand

from cnncodes import CodesFile, ImageSet, ProbeModel, evaluate, extract, fit
from cnncodes.errors import CodesFileError, MismatchError, ProbeError
from cnncodes.models.stored_codes import StoredCodes

ROWS = np.array([20, 3, 33])


@pytest.fixture(scope="module")
def images() -> ImageSet:
    splits = ["test" if i % 4 == 0 else "train" for i in range(36)]
    return staged_images(splits=splits)


@pytest.fixture(scope="module")
def without_maps(images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "codes.h5"
    extract(images, path, backbone="staged", precision="fp32")
    return path


@pytest.fixture(scope="module")
def with_maps(images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maps") / "codes.h5"
    extract(images, path, backbone="staged", precision="fp32", maps="layer2")
    return path


@pytest.fixture(scope="module")
def model(without_maps: Path) -> ProbeModel:
    return tuned_by_hand(fit(without_maps, C=1.0, cv=2))


def test_codes_of_a_probe_are_those_of_the_file(without_maps: Path) -> None:
    model = fit(without_maps, C=1.0, cv=2, layers=["layer2", "layer4"])
    with CodesFile.open(without_maps) as file:
        np.testing.assert_array_equal(StoredCodes(file, model)(ROWS), file.codes(["layer2", "layer4"], ROWS))


def test_codes_of_a_fine_tuned_network_come_from_maps_or_from_images(
    with_maps: Path, without_maps: Path, images: ImageSet, model: ProbeModel
) -> None:
    expected = codes_by_torch(model, images)[ROWS]
    with CodesFile.open(with_maps) as file:
        codes = StoredCodes(file, model)
        np.testing.assert_allclose(codes(ROWS), expected, rtol=5e-3, atol=2e-3)
        assert codes.notes == []
    with CodesFile.open(without_maps) as file:
        shuffled = images.take(np.random.default_rng(0).permutation(36).tolist())
        np.testing.assert_allclose(StoredCodes(file, model, shuffled)(ROWS), expected, rtol=5e-3, atol=2e-3)


def test_without_maps_the_images_are_asked_for(without_maps: Path, with_maps: Path, model: ProbeModel) -> None:
    wanted = (
        "codes of the network before it was fine-tuned, which do not fit the model; give the images instead, or let "
        r"the file keep the maps of layer2: extract\(…, maps=\['layer2'\]\)"
    )
    with pytest.raises(ProbeError, match=wanted):
        evaluate(without_maps, model)
    whole = tuned_by_hand(model, ("layer",), first="all", below="pixels")
    with pytest.raises(ProbeError, match=r"give the images instead$"):
        evaluate(with_maps, whole)


def test_images_that_are_not_those_of_the_file_are_refused(
    without_maps: Path, images: ImageSet, model: ProbeModel
) -> None:
    with CodesFile.open(without_maps) as file:
        with pytest.raises(MismatchError, match=r"'bright/03' and 0 more images of .* are not among the images"):
            StoredCodes(file, model, images.take([20, 33]))(ROWS)
        others = ImageSet(images.ids, [*images.sources[:3], images.sources[0], *images.sources[4:]])
        with pytest.raises(MismatchError, match=r"bright/03 is another image than in .*; extract again"):
            StoredCodes(file, model, others)(ROWS)


def test_file_of_another_network_is_refused_and_maps_of_another_precision_are_noted(
    images: ImageSet, model: ProbeModel, tmp_path: Path
) -> None:
    extract(images, tmp_path / "codes.h5", backbone="staged", precision="bf16", maps="layer2")
    with CodesFile.open(tmp_path / "codes.h5") as file:
        codes = StoredCodes(file, model)
        assert [note.partition("codes.h5 ")[2] for note in codes.notes] == [
            "were computed in bf16; of images, the model computes them in fp32"
        ]
    extract(images, tmp_path / "pad.h5", backbone="staged", precision="fp32", maps="layer2", resize="pad")
    with CodesFile.open(tmp_path / "pad.h5") as file, pytest.raises(MismatchError, match="mode is 'pad' there"):
        StoredCodes(file, model)


def test_damaged_map_is_no_answer(images: ImageSet, model: ProbeModel, tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "codes.h5"
    extract(images, path, backbone="staged", precision="fp32", maps="layer2")
    with h5py.File(path, "r+") as file:
        file["maps/layer2"][4] += 1
    with pytest.raises(CodesFileError, match="damaged"):
        evaluate(path, model)


def test_figures_of_the_maps_are_those_of_the_images(with_maps: Path, images: ImageSet, model: ProbeModel) -> None:
    by_codes = evaluate(with_maps, model)
    held_out = images.take([i for i, split in enumerate(images.splits or []) if split == "test"])
    by_images = evaluate(held_out, model)
    assert by_codes.predicted.tolist() == by_images.predicted.tolist()
    assert by_codes.y.tolist() == held_out.labels
    assert (by_codes.n_seen, by_images.n_seen) == (0, 0)
    assert by_codes.neighbour_accuracy is not None
    answers = np.array(model.classes)[model.decision_function(codes_by_torch(model, held_out)).argmax(axis=1)]
    assert by_codes.predicted.tolist() == answers.tolist()
