"""The row of a fine-tuned model: its own out-of-fold answers, paired with those of the best probe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tuned_models import staged_images, tuned_by_hand

from cnncodes import CodesFile, ProbeModel, compare, extract, fit
from cnncodes.errors import MismatchError, SettingError
from cnncodes.models.answered import Answered
from cnncodes.probes.intervals import paired_interval
from cnncodes.probes.scores import score

LABELS = np.repeat(["bright", "dark", "grey"], 12)
AT = np.r_[0:20, 24:36]  # images that were answered
QUICK: dict[str, Any] = {"clfs": ["svm"], "layers": ["layer4", "penultimate"], "cv": 3, "repeats": 1}


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tuned") / "codes.h5"
    extract(staged_images(), path, backbone="staged", precision="fp32")
    return path


@pytest.fixture(scope="module")
def tuned(codes: Path) -> ProbeModel:
    """A fine-tuned model that answers every eighth image wrong."""
    model = tuned_by_hand(fit(codes, C=1.0, cv=3))
    truth = np.repeat(np.arange(3), 12)[AT]
    answers = np.where(np.arange(len(AT)) % 8 == 7, (truth + 1) % 3, truth)
    with CodesFile.open(codes) as file:
        answered = Answered.of(file.sha256[AT], answers, np.full(len(AT), 0.7))
    scores = replace(model.scores, n_cv=len(AT), cross_validated=score(LABELS[AT], np.unique(LABELS)[answers]))
    return replace(model, answered=answered, scores=scores)


def test_row_has_the_figures_of_the_model_and_the_difference_is_paired(codes: Path, tuned: ProbeModel) -> None:
    comparison, alone = compare(codes, models=tuned, **QUICK), compare(codes, **QUICK)
    (row,) = (row for row in comparison.rows if row.clf == "tuned")
    assert [other.to_dict() | {"seconds": 0} for other in comparison.rows if other is not row] == [
        other.to_dict() | {"seconds": 0} for other in alone.rows
    ]
    assert comparison.command == alone.command
    assert row not in comparison.probes
    assert (row.accuracy.value, row.n, row.name) == (0.875, 32, "fine-tuned from layer3")
    assert row.cross_validated == tuned.scores.cross_validated
    right, best = np.arange(32) % 8 != 7, comparison.shares[comparison.probes[0].key][AT]
    assert row.difference == pytest.approx(0.875 - best.mean())
    assert row.difference_interval is not None
    low, high = row.difference_interval
    assert low < row.difference < high
    assert high == paired_interval(right, best, best_of=2)[1]
    assert low == -paired_interval(best, right, best_of=5)[1]
    values = row.to_dict()
    assert (values["model"], values["from"], values["layers"], values["C"]) == ("the model", "layer3", [], None)
    note = "32 of 36 images, each answered by a network that was trained on the other of 3 folds"
    assert comparison.notes[-1].endswith(note)
    text = "\n".join(" ".join(cells) for cells in comparison.table()[1])
    assert "fine-tuned from layer3" in text
    assert f"({100 * low:+.1f} to {100 * high:+.1f})" in text
    assert not comparison._repr_html_().count("fine-tuned from layer3 *")


def test_plot_draws_it_as_a_line(codes: Path, tuned: ProbeModel) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    ax = compare(codes, models=[tuned], **QUICK).plot()
    lines = {line.get_label(): line.get_ydata()[0] for line in ax.lines if not line.get_label().startswith("_")}
    assert lines["fine-tuned from layer3"] == 0.875
    plt.close(ax.figure)


def test_models_that_cannot_be_compared_are_refused_by_name(codes: Path, tuned: ProbeModel, tmp_path: Path) -> None:
    def refused(model: ProbeModel, error: type[Exception], message: str) -> None:
        model.save(tmp_path / "a.safetensors", overwrite=True)
        with pytest.raises(error, match=rf"a\.safetensors {message}"):
            compare(codes, models=[tmp_path / "a.safetensors"], **QUICK)

    refused(fit(codes, C=1.0, cv=3), SettingError, "is not fine-tuned: .* svm on penultimate")
    refused(replace(tuned, answered=None), SettingError, "keeps no out-of-fold answers")
    other = replace(tuned, trained_on=tuned.trained_on[16:] + "0" * 16)
    message = "was fitted on other images than the training images of .*: on {}, here are 36, {} of which"
    refused(other, MismatchError, message.format(36, 1))
    fewer = replace(tuned, scores=replace(tuned.scores, n=40))
    refused(fewer, MismatchError, message.format(40, 0))
    refused(replace(tuned, classes=["bright", "dark", "green"]), MismatchError, "knows other classes than")
    nothing = Answered.of(np.zeros((1, 32), np.uint8), np.zeros(1, int), np.ones(1))
    with pytest.raises(MismatchError, match="the model: none of the images that are compared was answered"):
        compare(codes, models=replace(tuned, answered=nothing), **QUICK)


def test_model_belongs_to_the_codes_file_of_its_network(codes: Path, tuned: ProbeModel, tmp_path: Path) -> None:
    extract(staged_images(), tmp_path / "pad.h5", backbone="staged", precision="fp32", resize="pad")
    comparison = compare([tmp_path / "pad.h5", codes], models=tuned, **QUICK | {"cv": 4})
    assert comparison.notes[-1].endswith("of 3 folds, and so on fewer images than the probes here, which have 4")
    assert [row.codes for row in comparison.rows if row.clf == "tuned"] == [str(codes)]
    with pytest.raises(MismatchError, match="mode is 'pad' there and 'crop' in the model"):
        compare(tmp_path / "pad.h5", models=tuned, **QUICK)
