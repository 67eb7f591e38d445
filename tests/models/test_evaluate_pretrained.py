"""A pretrained network is scored on labels that are among its classes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cnncodes import evaluate, predict
from cnncodes.errors import ProbeError, SettingError


@pytest.fixture
def labelled(photos: Path, tmp_path: Path) -> Callable[..., Path]:
    def make(**names: str) -> Path:
        """Put a photograph, which `photos` has under the first name, into a folder of the second name."""
        for name, label in names.items():
            kind, _, cut = name.partition("_")
            (tmp_path / label).mkdir(exist_ok=True)
            shutil.copy(photos / kind / f"{cut}.png", tmp_path / label / f"{name}.png")
        return tmp_path

    return make


def test_accuracy_is_that_of_the_answers(labelled: Callable[..., Path]) -> None:
    root = labelled(china_0="PALACE", china_1="PALACE", china_2="monastery", flower_0="daisy", flower_1="roses")
    result = evaluate(root, "imagenet")
    answers = {one.path: one.label for one in predict(root, "imagenet")}
    right = [answers["PALACE/china_0.png"] == "palace", answers["PALACE/china_1.png"] == "palace"]
    right += [answers["daisy/flower_0.png"] == "daisy", answers["monastery/china_2.png"] == "monastery"]
    assert (result.classes, len(result.y)) == (["daisy", "monastery", "palace", "(another class)"], 4)
    assert 0 < result.accuracies.accuracy.value == sum(right) / 4 < 1
    assert result.confusion.sum() == 4
    assert result.confusion[0].tolist() == [0, 0, 0, 1]
    notes = "\n".join(result.notes)
    assert "labels that are not among the 1,000 classes of the network: 'roses'" in notes
    assert "1 of 5 images are left out" in notes
    assert "among the 3 of these images alone, " in notes
    assert (result.to_dict()["clf"], result.to_dict()["C"], result.to_dict()["backbone"]) == (
        "imagenet",
        None,
        "mobilenet_v2",
    )


def test_images_without_a_label_of_the_network_are_refused(labelled: Callable[..., Path], photos: Path) -> None:
    with pytest.raises(ProbeError, match=r"'goldfinches', 'roses'; .* Did you mean 'goldfinch'"):
        evaluate(labelled(flower_0="goldfinches", flower_1="roses"), "imagenet")
    with pytest.raises(ProbeError, match="have no labels"):
        evaluate(photos / "china", "imagenet")


def test_an_ambiguous_label_is_named(labelled: Callable[..., Path]) -> None:
    result = evaluate(labelled(china_0="palace", china_1="CARDIGAN"), "imagenet")
    assert len(result.y) == 1
    assert "the label 'CARDIGAN' is ambiguous: rename the folder to 'Cardigan' or 'cardigan'" in result.notes


def test_what_does_not_fit_is_refused(sample_codes: Path, photos: Path) -> None:
    with pytest.raises(ProbeError, match="on images, not on codes"):
        evaluate(sample_codes, "imagenet")
    for verb in (evaluate, predict):
        with pytest.raises(SettingError, match="has its own network"):
            verb(photos, "model.safetensors", backbone="resnet18")


def test_an_image_that_cannot_be_read_is_left_out(labelled: Callable[..., Path]) -> None:
    root = labelled(china_0="palace")
    (root / "palace" / "zero.png").touch()
    result = evaluate(root, "imagenet")
    assert len(result.y) == 1
    assert any("zero.png" in note for note in result.notes)
    (root / "palace" / "china_0.png").unlink()
    with pytest.raises(ProbeError, match="none of these 1 images can be read"):
        evaluate(root, "imagenet")
