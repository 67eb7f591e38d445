"""The figures that `fit` and `evaluate` show: how good a model is, one figure per line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnncodes.cli.output import print_line
from cnncodes.display import percent

if TYPE_CHECKING:
    from cnncodes.models.evaluation import EvaluationResult
    from cnncodes.models.scores import Scores
    from cnncodes.probes.estimate import Accuracies

__all__ = ["evaluation_lines", "print_lines", "score_lines"]

Line = tuple[str, str]  # a title and a figure
C_CHOSEN = "C was chosen on the same folds; --nested includes that choice"


def print_lines(lines: list[Line]) -> None:
    """Print figures on stdout, one below the other."""
    for title, value in lines:
        print_line(f"{title:<25} {value}")


def score_lines(scores: Scores, *, chosen: str = C_CHOSEN) -> list[Line]:
    """Return the lines that `fit` shows; `chosen` says what was chosen on the folds of the score."""
    lines = _probe_lines(scores.n, scores.classes, scores.clf, scores.layers, scores.C)
    lines += _accuracy_lines("cross-validated", scores.cross_validated)
    if scores.nested is not None:
        lines += _accuracy_lines("nested", scores.nested)
    elif scores.C_searched:
        lines.append(("", chosen))
    if scores.held_out is not None:
        lines += _accuracy_lines("held-out", scores.held_out)
    lines += _baseline_lines(scores)
    if scores.n_duplicates is not None:
        lines.append(("near-duplicates", _duplicates(scores)))
    if scores.n_test_grouped:
        text = _left_out(scores.n_test_grouped) + _with_them(scores, scores.ungrouped_test_accuracy)
        lines.append(("groups in train and test", text))
    return lines


def evaluation_lines(result: EvaluationResult) -> list[Line]:
    """Return the lines that `evaluate` shows above its tables of classes."""
    about = result.about
    if about["C"] is None:
        lines = [("images", str(len(result.y))), ("network", f"{about['backbone']}, by its own head")]
    else:
        lines = _probe_lines(len(result.y), result.classes, **about)
    lines += _accuracy_lines("TRAINING-image" if result.only_seen else "held-out", result.accuracies)
    lines += _baseline_lines(result)
    if result.n_grouped:
        lines.append(("groups in train and test", _left_out(result.n_grouped)))
    return [*lines, ("seconds", f"{result.seconds:.1f}")]


def _probe_lines(
    n: int, classes: list[str], clf: str, layers: list[str], C: float, tuned_from: str | None = None
) -> list[Line]:
    images, probe = f"{n} in {len(classes)} classes", f"{clf} on {' + '.join(layers)}, C = {C:.3g}"
    tuned = "" if tuned_from is None else f", fine-tuned from {tuned_from} on"
    return [("images", images), ("probe", f"{probe}{tuned}")]


def _accuracy_lines(name: str, accuracies: Accuracies) -> list[Line]:
    pairs = ((f"{name} accuracy", accuracies.accuracy), ("  balanced over classes", accuracies.balanced))
    return [
        (title, f"{percent(estimate.value)}  [{percent(estimate.low)}, {percent(estimate.high)}]  95 % interval")
        for title, estimate in pairs
    ]


def _baseline_lines(scores: Scores | EvaluationResult) -> list[Line]:
    lines = [("majority class", percent(scores.baseline_accuracy))]
    if scores.neighbour_accuracy is not None:
        lines.append(("nearest neighbour", percent(scores.neighbour_accuracy)))
    return lines


def _duplicates(scores: Scores) -> str:
    text = f"{scores.n_duplicates} images"
    if scores.duplicates_by_codes is False:
        text = f"not looked for by codes (exact copies only): {text}"
    if scores.n_test_duplicates:
        text += f"; {_left_out(scores.n_test_duplicates)}{_with_them(scores, scores.unguarded_test_accuracy)}"
    return text


def _left_out(n: int) -> str:
    return f"{n} held-out ones left out"


def _with_them(scores: Scores, accuracy: float | None) -> str:
    """Say what the held-out accuracy would be with the images that are left out, if it is known."""
    if accuracy is None:
        return ""
    text = f", with which held-out accuracy would look like {percent(accuracy)}"
    if scores.held_out is None:
        return f"{text}; none is left, so there is no held-out accuracy"
    same = percent(accuracy) == percent(scores.held_out.accuracy.value)
    return ", with which held-out accuracy would look the same" if same else text
