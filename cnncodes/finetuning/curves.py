"""How accuracy grows while the same images train a network in several ways, beside the frozen one."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cnncodes.codes import checks
from cnncodes.codes.provenance_parts import Record
from cnncodes.display import for_terminal, percent
from cnncodes.errors import CnnCodesError, MismatchError
from cnncodes.probes.intervals import error_bars
from cnncodes.system.files import head_of, refuse_foreign, writing_text
from cnncodes.system.optional import require
from cnncodes.system.places import refuse_url

__all__ = ["ALL", "CURVES", "PROCESSOR", "SCRATCH", "TUNED", "WALL", "Curves", "Point", "is_curves"]

FORMAT, FORMAT_VERSION = "cnncodes-curves", 1
CURVES = "curves of cnncodes finetune"
TUNED, ALL, SCRATCH = "tuned", "all", "scratch"  # names of the lines
PROCESSOR, WALL = "processor", "wall"
MAX_BYTES = 1 << 24  # of a file of curves

_share = checks.exactly(float, "a number from 0 to 1", lambda value: 0 <= value <= 1)
_seconds = checks.exactly(float, "a number of seconds", lambda value: math.isfinite(value) and value >= 0)
_count = checks.exactly(int, "a count", lambda value: 0 <= value < 2**63)


@dataclass(frozen=True, kw_only=True, eq=False)
class Point(Record):
    """What a network came to after an epoch.

    Parameters
    ----------
    epoch : int
        Epochs that were trained.
    seconds : float
        Time that all of its computations took so far, without those that score it.
    accuracy : float
        Accuracy on the images that are held out.
    low, high : float
        Ends of its 95 % interval.
    """

    epoch: int
    seconds: float
    accuracy: float
    low: float
    high: float

    CHECKS: ClassVar[Mapping[str, checks.Check]] = {
        "epoch": _count,
        "seconds": _seconds,
        "accuracy": _share,
        "low": _share,
        "high": _share,
    }


def _point(name: str, value: Any) -> Point:
    return Point.from_dict(value, name)


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves(Record):
    """Accuracy on held-out images after each epoch of several trainings on the same images.

    Parameters
    ----------
    first : str
        The first part of the network that was fine-tuned, with all above it.
    n_train, n_answers : int
        Images that were trained on, and that were answered.
    held_out : bool
        Whether these were the held-out images of the split; otherwise they are the first fold.
    seed : int
    device : str
    clock : {"processor", "wall"}
        Whose seconds are counted: those of all cores together, or those on the wall, where a GPU computes.
    probe : Point
        The probe on codes of the frozen network; its seconds are one pass of the training images, and the fit.
    lines : dict of str to tuple of Point
        ``tuned``: fine-tuned from `first` on. ``all``: the whole network from the probe on, unless `first` is that.
        ``scratch``: the whole network from random weights. The first two begin when the probe is fitted.

    Examples
    --------
    >>> at = {"accuracy": 0.8, "low": 0.7, "high": 0.9}
    >>> lines = {"scratch": [{**at, "epoch": i, "seconds": 50.0 * i, "accuracy": 0.2 * i} for i in range(5)]}
    >>> facts = {"first": "layer4", "n_train": 90, "n_answers": 45, "held_out": False, "seed": 0}
    >>> facts |= {"device": "cpu", "clock": "processor"}
    >>> curves = Curves.from_dict({**facts, "probe": {**at, "epoch": 0, "seconds": 5.0}, "lines": lines})
    >>> curves.saving
    (0.975, True)
    """

    first: str
    n_train: int
    n_answers: int
    held_out: bool
    seed: int
    device: str
    clock: str
    probe: Point
    lines: Mapping[str, tuple[Point, ...]]

    CHECKS: ClassVar[Mapping[str, checks.Check]] = {
        "first": checks.text,
        "n_train": _count,
        "n_answers": _count,
        "held_out": checks.flag,
        "seed": _count,
        "device": checks.text,
        "clock": checks.exactly(str, f"{PROCESSOR} or {WALL}", lambda value: value in (PROCESSOR, WALL)),
        "probe": _point,
        "lines": checks.table_of(checks.list_of(_point)),
    }

    def seconds_to_probe(self, name: str) -> float | None:
        """Return after how many seconds a line was as accurate as the probe; None if it never was."""
        reached = (point.seconds for point in self.lines[name] if point.accuracy >= self.probe.accuracy)
        return next(reached, None)

    @property
    def saving(self) -> tuple[float, bool]:
        """Share of the time to the accuracy of the probe that the frozen network saves, against random weights.

        With it, whether that accuracy was reached at all from random weights. If not, the share is what is saved at
        least. It is 0 where random weights were faster.
        """
        reached = self.seconds_to_probe(SCRATCH)
        seconds = self.lines[SCRATCH][-1].seconds if reached is None else reached
        return max(0.0, 1 - self.probe.seconds / seconds) if seconds else 0.0, reached is not None

    def name(self, line: str) -> str:
        """Return what a line is called."""
        names = {TUNED: f"fine-tuned from {self.first}", ALL: "all of it fine-tuned", SCRATCH: "from random weights"}
        return names.get(line, line)

    @property
    def answer(self) -> str:
        """What the frozen network saves, in one sentence."""
        share, reached = self.saving
        best, last = max(point.accuracy for point in self.lines[SCRATCH]), self.lines[SCRATCH][-1]
        probe = f"the probe takes {self.probe.seconds:.1f} s to {percent(self.probe.accuracy)}"
        if reached:
            return (
                f"{probe}, random weights {self.seconds_to_probe(SCRATCH):.1f} s: {percent(share)} of the time is saved"
            )
        return (
            f"{probe}; from random weights that was not reached within {last.seconds:.1f} s (best {percent(best)}): at "
            f"least {percent(share)} of the time is saved"
        )

    @property
    def summary(self) -> list[tuple[str, Point]]:
        """The probe, and what each line came to at its end, with their names."""
        ends = [(self.name(name), points[-1]) for name, points in self.lines.items()]
        return [("probe, frozen network", self.probe), *ends]

    def plot(self, axes: Any = None) -> Any:
        """Draw accuracy by seconds and by epochs, with 95 % intervals.

        Parameters
        ----------
        axes : two matplotlib Axes, optional

        Returns
        -------
        two matplotlib Axes
        """
        if axes is None:
            plt = require("matplotlib.pyplot", "plot")
            axes = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True, layout="constrained")[1]
        for ax, by_time in zip(axes, (True, False), strict=True):
            ax.axhline(self.probe.accuracy, color="0.5", linestyle="--", label="probe, frozen network")
            ax.axhspan(self.probe.low, self.probe.high, color="0.5", alpha=0.15, linewidth=0)
            for number, (name, points) in enumerate(self.lines.items()):
                places = [point.seconds if by_time else point.epoch for point in points]
                accuracy = [point.accuracy for point in points]
                bars = error_bars(accuracy, [(point.low, point.high) for point in points])
                style = {"marker": ".", "capsize": 2, "elinewidth": 0.8, "color": f"C{number}"}
                ax.errorbar(places, accuracy, bars, label=for_terminal(self.name(name)), **style)
            ax.set_xlabel(f"seconds ({self.clock})" if by_time else "epochs")
        end = max(point.seconds for points in self.lines.values() for point in points)
        ticks = [0, *(tick for power in range(9) for tick in (10**power, 3 * 10**power) if tick <= end)]
        axes[0].set_xscale("symlog", linthresh=1, linscale=0.4)
        axes[0].set_xticks(ticks, list(map(str, ticks)))
        axes[0].minorticks_off()
        axes[0].set_xlim(-0.1, 1.25 * end)
        axes[0].set_ylabel(f"accuracy on {self.n_answers} held-out images")
        axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize="small", frameon=False)
        return axes

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the points as JSON, which `load` reads.

        Parameters
        ----------
        path : path
        overwrite : bool, default=False
            Replace a file that holds no curves, too.

        Raises
        ------
        CnnCodesError
            Another program's file is there, or it cannot be written.
        """
        refuse_foreign(path, CURVES, is_curves, overwrite=overwrite)
        with writing_text(Path(path)) as stream:
            json.dump({FORMAT: FORMAT_VERSION, **self.to_dict()}, stream, indent=1)
            stream.write("\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Curves:
        """Read what `save` wrote.

        Raises
        ------
        MismatchError
            The file holds no curves, or something is wrong with them.
        """
        try:
            refuse_url(path, "a file of curves")
            with Path(path).open("rb") as stream:
                values = json.loads(stream.read(MAX_BYTES))
            if not isinstance(values, dict) or values.pop(FORMAT, None) != FORMAT_VERSION:
                raise MismatchError(f"holds no {CURVES}, or those of a later version")
            curves = cls.from_dict(values)
            if not curves.lines.get(SCRATCH) or not all(curves.lines.values()):
                raise MismatchError("lines has no points")
        except OSError as error:
            raise CnnCodesError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValueError, RecursionError) as error:
            raise MismatchError(
                f"{path}: is no JSON; give what `cnncodes finetune --curves FILE.json` wrote"
            ) from error
        except MismatchError as error:
            raise MismatchError(f"{path}: {error}") from error
        return curves


def is_curves(path: Path) -> bool:
    """Whether a file holds curves that `save` wrote."""
    return f'"{FORMAT}"' in head_of(path)
