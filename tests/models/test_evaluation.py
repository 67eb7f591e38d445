"""What an evaluation has found: values worked out by hand, as a table, as a plot, in a notebook."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest

from cnncodes.errors import MissingLibraryError
from cnncodes.models.evaluation import EvaluationResult


@pytest.fixture
def result() -> EvaluationResult:
    return EvaluationResult(
        y=np.array(["ant", "ant", "ant", "bee", "bee", "wasp"]),
        predicted=np.array(["ant", "ant", "bee", "bee", "ant", "bee"]),
        classes=["ant", "bee", "moth", "wasp"],
        baseline_accuracy=0.5,
        about={"clf": "svm", "layers": ["layer3"], "C": 0.1},
        seconds=0.25,
        notes=["a note"],
    )


def test_confusion_has_a_row_for_each_true_class(result):
    assert result.confusion.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]]


def test_precision_and_recall_of_each_class(result):
    figures = result.per_class
    assert figures["ant"] == pytest.approx({"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "n": 3})
    assert figures["bee"] == pytest.approx({"precision": 1 / 3, "recall": 1 / 2, "f1": 0.4, "n": 2})
    assert figures["moth"] == {"precision": 0, "recall": 0, "f1": 0, "n": 0}
    assert figures["wasp"] == {"precision": 0, "recall": 0, "f1": 0, "n": 1}


def test_result_as_json_has_the_keys_scripts_rely_on(result):
    about = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    promised = {"n", "classes", "clf", "layers", "C", "test_accuracy", "test_interval", "baseline_accuracy", "seconds"}
    assert promised <= about.keys()
    assert about["n"] == 6
    assert about["test_accuracy"] == 0.5
    assert about["test_balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert about["confusion"][0] == [2, 1, 0, 0]


def test_result_as_frame_has_a_row_for_each_class(result):
    frame = result.to_frame()
    assert frame.index.tolist() == result.classes
    assert frame.loc["bee", "recall"] == 0.5
    assert frame["n"].tolist() == [3, 2, 0, 1]


def test_missing_pandas_is_named_with_the_way_out(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingLibraryError, match=r"to_frame needs pandas: pip install 'cnncodes\[notebook\]'"):
        result.to_frame()


def result_of_three() -> EvaluationResult:
    y = np.array(["<i>", "<i>", "<i>", "b", "b", "$c$"])
    predicted = np.array(["<i>", "<i>", "b", "b", "b", "b"])
    return EvaluationResult(y, predicted, ["$c$", "<i>", "b"], 0.5, {"clf": "svm", "layers": ["layer3"], "C": 1.0}, 0.1)


def test_the_plot_of_an_evaluation_is_its_confusion_matrix():
    from matplotlib.figure import Figure

    ax = result_of_three().plot(Figure().subplots())
    expected = np.array([[0, 0, 1], [0, 2 / 3, 1 / 3], [0, 0, 1]])
    np.testing.assert_allclose(ax.get_images()[0].get_array(), expected)
    written = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in ax.texts}
    assert written == {(0, 2): "1", (1, 1): "2", (1, 2): "1", (2, 2): "2"}
    assert [label.get_text() for label in ax.get_xticklabels()] == ["$c$", "<i>", "b"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")
    ax.figure.savefig(io.BytesIO())  # a dollar sign begins no formula


def test_an_evaluation_shows_itself_in_a_notebook_escaped():
    shown = result_of_three()._repr_html_()
    assert "Accuracy 66.7 % (30.0 to 90.3 %) of 6 images" in shown
    assert "<th>&lt;i&gt;</th><td>1.000</td><td>0.667</td><td>0.800</td><td>3</td>" in shown
    assert "<i>" not in shown
