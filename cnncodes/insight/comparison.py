"""What a comparison of layers, classifiers and scalings found: a table, a recommendation, a plot."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from cnncodes.display import html_table
from cnncodes.errors import SettingError
from cnncodes.probes.intervals import paired_interval
from cnncodes.system.optional import require

__all__ = ["Comparison", "key_of", "name_of"]

HEADERS = ("layer", "probe", "scaling", "features", "C", "accuracy", "95 % interval", "to the best, points", "seconds")
BASELINES = {"majority": "majority class", "neighbour": "nearest neighbour"}


@dataclass
class Comparison:
    """Probes on several layers, cross-validated on the same folds, best first.

    Attributes
    ----------
    rows : list of dict
        ``codes``, ``backbone``, ``pooling``, ``layers``, ``depth`` (place of the layer in the network, from 0),
        ``clf``, ``scale``, ``C``, ``n_features``, ``cv_accuracy``, ``cv_interval``, ``cv_balanced_accuracy``,
        ``cv_balanced_interval``, ``cv_log_loss``, ``difference`` (of the accuracy to that of the best row),
        ``difference_interval`` (which allows for the choice of the best row), ``recommended``, ``n``, ``classes``,
        ``baseline_accuracy``, ``repeats`` (cross-validations that the figures are the mean of), ``seconds``. The
        majority class and the nearest neighbour (by the codes of the best row, its ``by_layers``) are rows whose
        ``clf`` is ``"majority"`` and ``"neighbour"``.
    notes : list of str
    finished : bool
        Nothing was left out by an interruption.
    shares : dict of tuple to ndarray of float, shape (n,)
        How often each image was labelled right, from 0 to 1, by codes file, layers, classifier and scaling.
    """

    rows: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    finished: bool = True
    shares: dict[tuple[Any, ...], np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.rows = sorted(self.rows, key=lambda row: (-row["cv_accuracy"], row["n_features"]))

    @property
    def recommended(self) -> dict[str, Any]:
        """The simplest row that is not significantly worse than the best: fewest layers, then shortest codes.

        Tested is the pair alone: `difference_interval` is wider, and may reach 0 where this test says worse.
        """
        return next(row for row in self.rows if row["recommended"])

    def interval(self, row: dict[str, Any], other: dict[str, Any]) -> tuple[float, float]:
        """Return the 95 % interval of the accuracy of a row less that of another, on the same images."""
        return paired_interval(self.shares[key_of(row)], self.shares[key_of(other)])

    @property
    def command(self) -> str:
        """What to type to fit the recommended probe."""
        row = self.recommended
        layers = " ".join(f"--layer {quote(name)}" for name in row["layers"])
        scale = "" if row["scale"] == "standard" else f" --scale {row['scale']}"
        return f"cnncodes fit {quote(row['codes'])} --clf {row['clf']} {layers}{scale}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {"rows": self.rows, "command": self.command, "finished": self.finished}

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return headers and rows of text; of several codes files, each row names its own."""
        files = list(dict.fromkeys(row["codes"] for row in self.rows))
        names = [Path(file).name for file in files]
        shown = dict(zip(files, names if len(set(names)) == len(names) else files, strict=True))
        if len(files) == 1:
            return list(HEADERS), [_shown_row(row) for row in self.rows]
        # the majority class is the same in all
        of_row = ["" if row["clf"] == "majority" else shown[row["codes"]] for row in self.rows]
        return ["codes", *HEADERS], [[name, *_shown_row(row)] for name, row in zip(of_row, self.rows, strict=True)]

    def to_frame(self) -> Any:
        """Return the rows as a pandas DataFrame."""
        rows = [{**row, "layers": " + ".join(row["layers"])} for row in self.rows]
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
        single = sorted((row for row in self.rows if len(row["layers"]) == 1), key=lambda row: row["depth"])
        if not single:
            raise SettingError("there is no layer by itself to draw; compare some that are not concatenated")
        names = list(dict.fromkeys(row["layers"][0] for row in single))
        lines: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for row in single:
            lines.setdefault((row["codes"], row["clf"], row["scale"]), []).append(row)
        differing = [i for i, values in enumerate(zip(*lines, strict=True)) if len(set(values)) > 1] or [1]
        files = {about[0] for about in lines}
        by_name = len({Path(file).name for file in files}) == len(files)
        for number, (about, rows) in enumerate(lines.items()):
            at = np.array([names.index(row["layers"][0]) for row in rows]) + 0.06 * (number - (len(lines) - 1) / 2)
            accuracy = np.array([row["cv_accuracy"] for row in rows])
            low, high = np.array([row["cv_interval"] for row in rows]).T
            label = ", ".join(Path(about[i]).name if i == 0 and by_name else about[i] for i in differing)
            ax.errorbar(at, accuracy, (accuracy - low, high - accuracy), marker="o", capsize=3, label=label)
        for row in self.rows:
            if row["clf"] in BASELINES:
                style = ":" if row["clf"] == "majority" else "--"
                ax.axhline(row["cv_accuracy"], color="0.5", linestyle=style, label=BASELINES[row["clf"]])
        ax.set_xticks(range(len(names)), names)
        ax.set_xlabel("layer, from the first to the last")
        ax.set_ylabel("cross-validated accuracy")
        # outside: a baseline or a bar may be anywhere within
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, fontsize="small", frameon=False)
        return ax

    def _repr_html_(self) -> str:
        return html_table(*self.table(), f"Recommended: {self.command}")


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what tells a probe from the others: codes file, layers, classifier, scaling."""
    return row["codes"], tuple(row["layers"]), row["clf"], row["scale"]


def name_of(row: dict[str, Any]) -> str:
    """Return the layers of a row, or what it is instead of a probe."""
    by = f" by {' + '.join(row['by_layers'])}" if row["clf"] == "neighbour" else ""
    return " + ".join(row["layers"]) or BASELINES[row["clf"]] + by


def _shown_row(row: dict[str, Any]) -> list[str]:
    """Return a row as the texts that are below `HEADERS`."""
    low, high = row["cv_interval"]
    to_best = f"{100 * row['difference']:+.1f}"
    if row["difference_interval"] is not None and row["difference"] < 0:
        to_best += " ({:+.1f} to {:+.1f})".format(*(100 * end for end in row["difference_interval"]))
    return [
        name_of(row) + (" *" if row["recommended"] else ""),
        row["clf"] if row["layers"] else "",
        row["scale"],
        str(row["n_features"]),
        f"{row['C']:.3g}" if row["C"] is not None else "",
        f"{100 * row['cv_accuracy']:.1f} %",
        f"{100 * low:.1f} to {100 * high:.1f} %",
        to_best,
        f"{row['seconds']:.1f}",
    ]
