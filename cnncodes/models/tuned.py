"""How the network of a model was fine-tuned, as the model file records it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from cnncodes.codes import checks
from cnncodes.codes.provenance_parts import Record

__all__ = ["Tuned"]

_share = checks.exactly(float, "a number above 0, and at most 1", lambda value: 0 < value <= 1)
_accuracy = checks.exactly(float, "a number from 0 to 1", lambda value: 0 <= value <= 1)
_finite = checks.exactly(float, "a number", math.isfinite)
_count = checks.exactly(int, "a count", lambda value: 0 <= value < 2**63)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuned(Record):
    """How the upper part of a network was fine-tuned.

    Parameters
    ----------
    first : str
        The first part that was trained: ``layer4``, ``head``, ``all`` or the path of a module.
    below : str
        Layer whose map enters it; ``pixels`` for the whole network.
    epochs : int
        Epochs of training.
    share : float
        How far the parameters are on the way from those of the probe to the trained ones, above 0 and at most 1.
    probe_accuracy : float
        Accuracy of the probe on the images that the cross-validated accuracy of the model is of.
    gain : float
        What fine-tuning adds to that.
    gain_interval : tuple of float
        95 % interval of the gain, paired by images.
    seed : int

    Examples
    --------
    >>> record = {"first": "layer4", "below": "layer3", "epochs": 6, "share": 0.75, "probe_accuracy": 0.81}
    >>> Tuned.from_dict({**record, "gain": 0.03, "gain_interval": [0.01, 0.05], "seed": 0}).first
    'layer4'
    """

    first: str
    below: str
    epochs: int
    share: float
    probe_accuracy: float
    gain: float
    gain_interval: tuple[float, ...]
    seed: int

    CHECKS: ClassVar[Mapping[str, checks.Check]] = {
        "first": checks.text,
        "below": checks.text,
        "epochs": _count,
        "share": _share,
        "probe_accuracy": _accuracy,
        "gain": _finite,
        "gain_interval": checks.list_of(_finite, 2),
        "seed": _count,
    }
