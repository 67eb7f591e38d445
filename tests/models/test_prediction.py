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


def test_predictions_are_in_the_order_of_the_images_and_say_what_failed(
    model: ProbeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, X = ["a.png", "broken.png", "b.png"], X_DIGITS[:2, 24:]
    computed = Computed({"penultimate": X}, np.array([2, 0]), np.zeros((2, 32), np.uint8), {1: "no image"})
    monkeypatch.setattr(ProbeModel, "compute_codes", lambda *_, **options: computed)
    images = ImageSet(ids, [b""] * 3)
    predictions = model.predict_images(images)
    assert [one.path for one in predictions] == ids
    assert [one.status for one in predictions] == ["labelled", "failed", "labelled"]
    assert (predictions[1].reason, predictions[1].probability) == ("no image", None)
    assert [predictions[2].label, predictions[0].label] == [f"digit {digit}" for digit in Y_DIGITS[:2]]
    assert [predictions[2].label, predictions[0].label] == model.predict(X).tolist()
    assert predictions[0].probability == pytest.approx(model.predict_proba(X)[1].max())
    assert predictions[0].novelty == model.novelty(X)[1]
    unsure = model.predict_images(images, min_confidence=1.0)
    assert [one.status for one in unsure] == ["unsure", "failed", "unsure"]
    given = make_predictions(ids, computed, ["p", "q"], np.array([0.5, 0.25]), None, 0.5)
    assert given == [
        Prediction("a.png", None, 0.25, guess="q"),
        Prediction("broken.png", None, None, "no image"),
        Prediction("b.png", "p", 0.5, guess="p"),
    ]
