"""A pretrained network is scored on labels that are among its classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnncodes import ImageSet, evaluate, load_images, predict
from cnncodes.errors import ProbeError, SettingError
from cnncodes.extraction.in_memory import Computed
from cnncodes.models.evaluate_pretrained import evaluate_pretrained
from cnncodes.models.pretrained import PretrainedNetwork
from cnncodes.networks.class_names import ClassNames


class MadeUp(PretrainedNetwork):
    """Answers as it is told, and cannot read the images that it has no answer to."""

    def __init__(self, answers: dict[str, list[float]]) -> None:
        self.answers, self.layer, self.notes = answers, "fc", []
        self.names = ClassNames(("daisy", "great white shark", "Cardigan", "cardigan"))
        self.backbone: Any = type("Named", (), {"name": "own"})

    def answer(self, images: ImageSet, **options: Any) -> tuple[Computed, np.ndarray]:
        read = [row for row, name in enumerate(images.ids) if name in self.answers]
        failures = {row: "no image" for row in range(len(images)) if row not in read}
        scores = np.array([self.answers[images.ids[row]] for row in read]).reshape(-1, 4)
        return Computed({}, np.array(read, int), np.zeros((len(read), 32), np.uint8), failures), scores


def images_of(**labels: str) -> ImageSet:
    return ImageSet(list(labels), [np.zeros((1, 1, 3), np.uint8)] * len(labels), labels=list(labels.values()))


def test_accuracy_is_that_of_the_answers_to_images_whose_labels_are_classes() -> None:
    images = images_of(a="DAISY", b="daisy", c="Great_White-Shark", d="daisy", e="roses", f="daisy", g="", h="cardigan")
    answers = {
        "a": [3.0, 0, 0, 0],
        "b": [0, 2.0, 0, 0],
        "c": [0, 4.0, 0, 0],
        "d": [2.0, 0, 0, 3.0],
        "e": [1.0, 0, 0, 0],
    }
    result = evaluate_pretrained(images, MadeUp(answers))
    assert result.y.tolist() == ["daisy", "daisy", "great white shark", "daisy"]
    assert result.predicted.tolist() == ["daisy", "great white shark", "great white shark", "(another class)"]
    assert result.classes == ["daisy", "great white shark", "(another class)"]
    assert result.confusion.tolist() == [[1, 1, 1], [0, 1, 0], [0, 0, 0]]
    assert (result.accuracies.accuracy.value, result.baseline_accuracy) == (0.5, 0.75)
    notes = "\n".join(result.notes)
    assert "labels that are not among the 4 classes of the network: 'roses'" in notes
    assert "2 of 8 images are left out" in notes
    assert {"left out: f: no image", "left out: h: no image"} <= set(result.notes)
    assert "among the 2 of these images alone, 75.0 % would be right" in notes
    about = {name: result.to_dict()[name] for name in ("clf", "layers", "C", "backbone")}
    assert about == {"clf": "imagenet", "layers": ["fc"], "C": None, "backbone": "own"}


def test_images_of_a_group_are_not_counted_as_independent() -> None:
    answers = {name: [float(name < "e"), 1.0 - (name < "e"), 0, 0] for name in "abcdefgh"}
    images = images_of(**dict.fromkeys(answers, "daisy"))
    apart = evaluate_pretrained(images, MadeUp(answers)).accuracies.accuracy
    images.groups = list("11112222")
    together = evaluate_pretrained(images, MadeUp(answers)).accuracies.accuracy
    assert apart.value == together.value == 0.5
    assert together.low < apart.low


def test_labels_that_are_no_class_or_that_may_be_two_are_named() -> None:
    with pytest.raises(ProbeError, match=r"network: 'daisies', 'roses'; nothing .* Did you mean 'daisy'"):
        evaluate_pretrained(images_of(a="daisies", b="roses"), MadeUp({}))
    with pytest.raises(ProbeError, match="'a', 'b', 'c', 'd', 'e' and 2 more; nothing"):
        evaluate_pretrained(images_of(**{name: name for name in "abcdefg"}), MadeUp({}))
    with pytest.raises(ProbeError, match="the images have no labels"):
        evaluate_pretrained(load_images(np.zeros((2, 4, 4, 3), np.uint8), labelled=False), MadeUp({}))
    with pytest.raises(ProbeError, match="none of these 1 images can be read: no image"):
        evaluate_pretrained(images_of(a="daisy"), MadeUp({}))
    result = evaluate_pretrained(images_of(a="daisy", b="CARDIGAN"), MadeUp({"a": [1.0, 0, 0, 0]}))
    assert len(result.y) == 1
    assert "the label 'CARDIGAN' is ambiguous: rename the folder to 'Cardigan' or 'cardigan'" in result.notes


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="on images, not on codes"):
        evaluate("codes.h5", "imagenet")
    for verb in (evaluate, predict):
        with pytest.raises(SettingError, match="has its own network"):
            verb(tmp_path, "model.safetensors", backbone="resnet18")
