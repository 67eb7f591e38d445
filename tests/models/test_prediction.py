"""The answer for one image: what its status says."""

from __future__ import annotations

import numpy as np
import pytest
from digit_codes import X_DIGITS, Y_DIGITS

from cnncodes import ImageSet, ProbeModel
from cnncodes.extraction.in_memory import Computed
from cnncodes.models.prediction import Prediction, make_predictions


@pytest.mark.parametrize(
    ("label", "guess", "status"), [("a", "a", "labelled"), (None, "a", "unsure"), (None, None, "failed")]
)
def test_the_status_follows_from_label_and_guess(label: str | None, guess: str | None, status: str) -> None:
    assert Prediction("1.png", label, 0.5, guess=guess).status == status


def test_predictions_are_in_the_order_of_the_images_and_say_what_failed(model: ProbeModel) -> None:
    images = ImageSet(["a.png", "broken.png", "b.png"], [b""] * 3)
    X = X_DIGITS[:2, 24:]
    computed = Computed({"penultimate": X}, np.array([2, 0]), np.zeros((2, 32), np.uint8), {1: "no image"})
    predictions = make_predictions(model, images, computed, 0.0)
    assert [one.path for one in predictions] == images.ids
    assert [one.status for one in predictions] == ["labelled", "failed", "labelled"]
    assert (predictions[1].reason, predictions[1].probability) == ("no image", None)
    assert [predictions[2].label, predictions[0].label] == [f"digit {digit}" for digit in Y_DIGITS[:2]]
    assert [predictions[2].label, predictions[0].label] == model.predict(X).tolist()
    assert predictions[0].probability == pytest.approx(model.predict_proba(X)[1].max())
    assert predictions[0].novelty == model.novelty(X)[1]
    unsure = make_predictions(model, images, computed, 1.1)
    assert [one.status for one in unsure] == ["unsure", "failed", "unsure"]
