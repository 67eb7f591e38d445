"""Labels of new images: from a model file and from a loaded model, by codes and by images."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnncodes import ProbeModel, fit, predict
from cnncodes.errors import ModelFileError


def test_a_model_file_and_a_loaded_model_give_the_same_labels(
    sample_codes: Path, small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images = small_sample / "test" / "Bag"
    model = fit(sample_codes, C=0.01)
    model.save("model.safetensors")
    predictions = predict(images)
    assert [one.path for one in predictions] == sorted(path.name for path in images.iterdir())
    assert sum(one.label == "Bag" for one in predictions) >= 4
    assert predictions == predict(images, model) == ProbeModel.load("model.safetensors").predict_images(images)
    sure = predict(images, model, min_confidence=1.0)
    assert [(one.label, one.guess) for one in sure] == [(None, one.label) for one in predictions]
    with pytest.raises(ModelFileError, match="no such model file"):
        predict(images, "nowhere.safetensors")
