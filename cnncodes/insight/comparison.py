"""What a comparison of layers, classifiers and scalings found: a table, a recommendation, a plot."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from cnncodes.display import for_terminal, html_table, points
from cnncodes.errors import SettingError
from cnncodes.probes.estimate import Accuracies, Estimate
from cnncodes.probes.intervals import error_bars, paired_interval
from cnncodes.system.optional import require
from cnncodes.vocabulary import DEFAULT_SCALING

__all__ = ["Comparison", "Row"]

HEADERS = ("layer", "probe", "scaling", "features", "C", "accuracy", "95 % interval", "to the best, points", "seconds")
BASELINES = {"majority": "majority class", "neighbour": "nearest neighbour"}
TUNED = "tuned"  # stands for a classifier in the row of a fine-tuned model


@dataclass(frozen=True)
class Row:
    """A probe of a comparison, or beside the probes a baseline, or a fine-tuned model.

    Attributes
    ----------
    codes : str
        Codes file.
    backbone, pooling : str
        Network and pooling that made the codes.
    layers : list of str
        Layers whose codes the probe joins; a baseline and a fine-tuned model have none.
    depth : int
        Place of the last of the layers in the network, from 0.
    n : int
        Images that were cross-validated.
    classes : list of str
    n_features : int
        Length of the codes.
    baseline_accuracy : float
        Accuracy of the most frequent class.
    clf : str
        ``"svm"`` or ``"logreg"``; or one of the baselines: ``"neighbour"`` is the nearest training image,
        ``"majority"`` the most frequent class; ``"tuned"`` is a fine-tuned model.
    scale : str
        Scaling of the codes; empty for the most frequent class.
    C : float or None
        Geometric mean of the C that each cross-validation chose; None for what is no probe.
    cross_validated : Accuracies
        Accuracy and balanced accuracy, each with its 95 % interval.
    log_loss : float or None
        Cross-validated log loss; None for what is no probe.
    repeats : int
        Cross-validations that the figures are the mean of.
    seconds : float
        Time that the row took.
    by_layers : list of str, optional
        Layers by whose codes the nearest neighbour is looked for.
    model, tuned_from : str, optional
        File of a fine-tuned model, and the first part of the network that was trained.
    difference : float, default=0.0
        Accuracy less that of the best probe.
    difference_interval : list of float, optional
        95 % interval of the difference, which allows for the choice of the best probe; None for a baseline.
    recommended : bool, default=False
        The probe of the smallest log loss, or the default where that is as good within the noise.
    """

    codes: str
    backbone: str
    pooling: str
    layers: list[str]
    depth: int
    n: int
    classes: list[str]
    n_features: int
    baseline_accuracy: float
    clf: str
    scale: str
    C: float | None
    cross_validated: Accuracies
    log_loss: float | None
    repeats: int
    seconds: float
    by_layers: list[str] | None = None
    model: str | None = None
    tuned_from: str | None = None
    difference: float = 0.0
    difference_interval: list[float] | None = None
    recommended: bool = False

    @property
    def accuracy(self) -> Estimate:
        """Cross-validated accuracy, with its 95 % interval."""
        return self.cross_validated.accuracy

    @property
    def key(self) -> tuple[str, tuple[str, ...], str, str]:
        """What tells a probe from the others: codes file, layers, classifier, scaling."""
        return self.codes, tuple(self.layers), self.clf, self.scale

    @property
    def name(self) -> str:
        """The layers, or the name of the baseline or of the fine-tuned model."""
        if self.tuned_from is not None:
            return f"fine-tuned from {self.tuned_from}"
        by = f" by {' + '.join(self.by_layers)}" if self.by_layers else ""
        return " + ".join(self.layers) or BASELINES[self.clf] + by

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON.

        Only the nearest neighbour has ``by_layers``, and only a fine-tuned model ``model`` and ``from``.
        """
        return {
            "codes": self.codes,
            "backbone": self.backbone,
            "pooling": self.pooling,
            "layers": self.layers,
            "depth": self.depth,
            "n": self.n,
            "classes": self.classes,
            "n_features": self.n_features,
            "baseline_accuracy": self.baseline_accuracy,
            **({} if self.by_layers is None else {"by_layers": self.by_layers}),
            **({} if self.model is None else {"model": self.model, "from": self.tuned_from}),
            "clf": self.clf,
            "scale": self.scale,
            "C": self.C,
            **self.cross_validated.to_dict("cv_"),
            "cv_log_loss": self.log_loss,
            "repeats": self.repeats,
            "seconds": self.seconds,
            "difference": self.difference,
            "difference_interval": self.difference_interval,
            "recommended": self.recommended,
        }


@dataclass
class Comparison:
    """Probes on several layers, cross-validated on the same folds, best first.

    Attributes
    ----------
    rows : list of Row
        The majority class, the nearest neighbour (by the codes of the best probe) and fine-tuned models are rows, too.
    notes : list of str
    finished : bool
        Nothing was left out by an interruption.
    shares : dict of tuple to ndarray of float, shape (n,)
        How often each image was labelled right, from 0 to 1, by codes file, layers, classifier and scaling.
    groups : ndarray of str, shape (n,), optional
        Images that are not independent; an empty string means a group of its own.
    """

    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    finished: bool = True
    shares: dict[tuple[str, tuple[str, ...], str, str], np.ndarray] = field(default_factory=dict, repr=False)
    groups: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.rows = sorted(self.rows, key=lambda row: (-row.accuracy.value, row.n_features))

    @property
    def recommended(self) -> Row:
        """The row of the smallest log loss, or the default where that is as good within one standard error.

        The default is a linear SVM on two layers, the last one among them, or on the last one alone.
        """
        return next(row for row in self.rows if row.recommended)

    @property
    def probes(self) -> list[Row]:
        """The rows that are neither a baseline nor a fine-tuned model, best first."""
        return [row for row in self.rows if row.layers]

    def interval(self, row: Row, other: Row) -> tuple[float, float]:
        """Return the 95 % interval of the accuracy of a row less that of another, on the same images."""
        return paired_interval(self.shares[row.key], self.shares[other.key], groups=self.groups)

    @property
    def command(self) -> str:
        """What to type to fit the recommended probe."""
        row = self.recommended
        layers = " ".join(f"--layer {quote(name)}" for name in row.layers)
        scale = "" if row.scale == DEFAULT_SCALING else f" --scale {row.scale}"
        return f"cnncodes fit {quote(row.codes)} --clf {row.clf} {layers}{scale}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {"rows": [row.to_dict() for row in self.rows], "command": self.command, "finished": self.finished}

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return headers and rows of text; of several codes files, each row names its own."""
        files = list(dict.fromkeys(row.codes for row in self.rows))
        names = [Path(file).name for file in files]
        shown = dict(zip(files, names if len(set(names)) == len(names) else files, strict=True))
        if len(files) == 1:
            return list(HEADERS), [_shown_row(row) for row in self.rows]
        # the majority class is the same in all
        of_row = ["" if row.clf == "majority" else shown[row.codes] for row in self.rows]
        return ["codes", *HEADERS], [[name, *_shown_row(row)] for name, row in zip(of_row, self.rows, strict=True)]

    def to_frame(self) -> Any:
        """Return the rows as a pandas DataFrame."""
        rows = [{**row.to_dict(), "layers": " + ".join(row.layers)} for row in self.rows]
        return require("pandas", "to_frame").DataFrame(rows)

    def plot(self, ax: Any = None) -> Any:
        """Draw the accuracy of single layers by their depth, with 95 % intervals.

        Parameters
        ----------
        ax : matplotlib Axes, optional

        Returns
        -------
        matplotlib Axes
        """
        if ax is None:
            ax = require("matplotlib.pyplot", "plot").subplots(figsize=(7, 4), layout="constrained")[1]
        single = sorted((row for row in self.rows if len(row.layers) == 1), key=lambda row: row.depth)
        if not single:
            raise SettingError("there is no layer by itself to draw; compare some that are not concatenated")
        names = list(dict.fromkeys(row.layers[0] for row in single))
        lines: dict[tuple[str, ...], list[Row]] = {}
        for row in single:
            lines.setdefault((row.codes, row.clf, row.scale), []).append(row)
        differing = [i for i, values in enumerate(zip(*lines, strict=True)) if len(set(values)) > 1] or [1]
        files = {file for file, _, _ in lines}
        by_name = len({Path(file).name for file in files}) == len(files)
        for number, (line, rows) in enumerate(lines.items()):
            at = np.array([names.index(row.layers[0]) for row in rows]) + 0.06 * (number - (len(lines) - 1) / 2)
            accuracy = np.array([row.accuracy.value for row in rows])
            label = for_terminal(", ".join(Path(line[i]).name if i == 0 and by_name else line[i] for i in differing))
            bars = error_bars(accuracy, [row.accuracy.interval for row in rows])
            ax.errorbar(at, accuracy, bars, marker="o", capsize=3, label=label)
        for row in self.rows:
            if row.clf in BASELINES:
                style = ":" if row.clf == "majority" else "--"
                ax.axhline(row.accuracy.value, color="0.5", linestyle=style, label=BASELINES[row.clf])
            elif row.clf == TUNED:
                ax.axhline(row.accuracy.value, color="0.2", linestyle="-.", label=for_terminal(row.name))
        ax.set_xticks(range(len(names)), list(map(for_terminal, names)))
        ax.set_xlabel("layer, from the first to the last")
        ax.set_ylabel("cross-validated accuracy")
        # outside: a baseline or a bar may be anywhere within
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, fontsize="small", frameon=False)
        return ax

    def _repr_html_(self) -> str:
        return html_table(*self.table(), f"Recommended: {self.command}")


def _shown_row(row: Row) -> list[str]:
    """Return a row as the texts that are below `HEADERS`."""
    low, high = row.accuracy.interval
    to_best = points(row.difference)
    if row.difference_interval is not None and (row.difference < 0 or row.clf == TUNED):
        to_best += " ({} to {})".format(*map(points, row.difference_interval))
    return [
        row.name + (" *" if row.recommended else ""),
        row.clf if row.layers else "",
        row.scale,
        str(row.n_features),
        f"{row.C:.3g}" if row.C is not None else "",
        f"{100 * row.accuracy.value:.1f} %",
        f"{100 * low:.1f} to {100 * high:.1f} %",
        to_best,
        f"{row.seconds:.1f}",
    ]
