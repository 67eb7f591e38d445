"""Says which case of transfer learning a data set is, from evidence, and what to do about it."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cnncodes.codes.views import averaged
from cnncodes.display import html_table
from cnncodes.errors import CnnCodesError, ProbeError
from cnncodes.images.image_set import Images
from cnncodes.insight.compare import compare
from cnncodes.insight.comparison import Comparison, Row
from cnncodes.insight.evidence import (
    UNDECIDED,
    Evidence,
    best_by_log_loss,
    by_depth,
    by_log_loss,
    by_pretrained_head,
    by_slope,
    by_spread,
    images_per_class,
    similarity_of,
    size_of,
)
from cnncodes.insight.learning_curve import LearningCurve, learning_curve
from cnncodes.insight.next_commands import finetuning_commands, fit_commands
from cnncodes.insight.pretrained_head import PretrainedHead
from cnncodes.probes.protocol import Codes, TrainingData
from cnncodes.system.optional import require
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import AUTO, PENULTIMATE

if TYPE_CHECKING:
    from cnncodes.insight.finetuning_trial import FinetuningTrial

__all__ = ["Advice", "advise"]

MAX_IMAGES_FOR_HEAD = 5000  # images that the pretrained head judges, and whose spread is measured
MEANING = {
    ("small", "similar"): "a linear classifier on the top codes",
    ("small", "dissimilar"): "a linear SVM on the codes of an earlier layer",
    ("large", "similar"): "fine-tuning",
    ("large", "dissimilar"): "fine-tuning much of the network, from its pretrained weights on",
}


@dataclass
class Advice:
    """Which case a data set is, and what to do.

    Attributes
    ----------
    size : {"small", "large", "undecided"}
    similarity : {"similar", "dissimilar", "undecided"}
        To the photographs of ImageNet, on which the network was trained.
    layers : list of str
        The layer that `compare` recommends: that of the smallest log loss, whose cross-validated probabilities are
        nearest to the labels, or its default where that is as good within the noise.
    evidence : list of Evidence
    commands : list of str
        To type next.
    comparison : Comparison
        The layers compared one by one, by linear SVMs.
    curve : LearningCurve or None
        For the recommended layer, where there are images enough.
    notes : list of str
    trial : FinetuningTrial or None
        What a short run of fine-tuning came to, if there was one.
    """

    size: str
    similarity: str
    layers: list[str]
    evidence: list[Evidence]
    commands: list[str]
    comparison: Comparison
    curve: LearningCurve | None
    notes: list[str] = field(default_factory=list)
    trial: FinetuningTrial | None = None

    @property
    def recommended(self) -> Row:
        """The row of the comparison for the layer that is recommended."""
        return next(row for row in self.comparison.rows if row.layers == self.layers)

    @property
    def reason(self) -> str:
        """Why the layer is recommended, in a few words."""
        loss, least = (row.log_loss or 0.0 for row in (self.recommended, best_by_log_loss(self.comparison.probes)))
        if loss == least:
            return f"its log loss is the smallest, {loss:.3f}"
        return f"its log loss, {loss:.3f}, is as good as the smallest, {least:.3f}, within the noise"

    @property
    def summary(self) -> str:
        """The case, what it asks for, the layer that is recommended, and whether fine-tuning pays, in one sentence.

        The case is a rule of thumb, and the rest is measured: where they disagree, the sentence says so.
        """
        tried = "" if self.trial is None else f"; {self.trial.answer}"
        return self._case + tried

    @property
    def _case(self) -> str:
        layer = f"{' + '.join(self.layers)} is recommended ({self.reason})"
        if meaning := MEANING.get((self.size, self.similarity)):
            case = f"{self.size} and {self.similarity} to ImageNet"
            if self.size == "large":
                return f"{case}, which usually asks for {meaning}; of the layers here, {layer}"
            other_end = (self.layers == [PENULTIMATE]) != (self.similarity == "similar")
            if len(self.layers) == 1 and other_end:
                return f"{case}, which usually asks for {meaning}; but of the layers here, {layer}"
            return f"{case}: {meaning}; of the layers here, {layer}"
        verdicts = {"the size": self.size, "the similarity": self.similarity}
        open_ = [name for name, value in verdicts.items() if value == UNDECIDED]
        decided = [value for value in verdicts.values() if value != UNDECIDED]
        rest = f" (it is {decided[0]})" if decided else ""
        return f"the evidence does not decide on {' and '.join(open_)}{rest}; of the layers here, {layer}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {
            "summary": self.summary,
            "size": self.size,
            "similarity": self.similarity,
            "layers": self.layers,
            "evidence": [asdict(item) for item in self.evidence],
            "commands": self.commands,
            "curve": self.curve and asdict(self.curve),
            "finetuning": self.trial and self.trial.to_dict(),
            "rows": [row.to_dict() for row in self.comparison.rows],
        }

    def to_frame(self) -> Any:
        """Return the evidence as a pandas DataFrame."""
        return require("pandas", "to_frame").DataFrame([asdict(item) for item in self.evidence])

    def plot(self, axes: Any = None) -> Any:
        """Draw accuracy by depth, and the learning curve.

        Parameters
        ----------
        axes : two matplotlib Axes, optional
            One is enough where there is no learning curve.

        Returns
        -------
        array of matplotlib Axes
        """
        if axes is None:
            figures, size = (1, (7, 4)) if self.curve is None else (2, (12, 4))
            plots = require("matplotlib.pyplot", "plot").subplots(1, figures, figsize=size, layout="constrained")[1]
            axes = np.atleast_1d(plots)
        self.comparison.plot(axes[0])
        if self.curve is not None:
            self.curve.plot(axes[1])
        return axes

    def _repr_html_(self) -> str:
        rows = [(item.what, item.found, item.says) for item in self.evidence]
        return html_table(["evidence", "found", "says"], rows, f"{self.summary}. Next: {'; '.join(self.commands)}")


def advise(
    codes: Codes = "codes.h5",
    *,
    images: Images | None = None,
    finetune: bool | None = None,
    cv: int = 5,
    seed: int = 0,
    n_jobs: int | str | None = AUTO,
    allow_outside: bool = False,
    weights: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Advice:
    """Say which of the four cases of transfer learning the images are, with the evidence, and what to do.

    The evidence: images of each class, the slope of the learning curve, accuracy by depth, and how sure the pretrained
    head is of these images, beside how sure it is of photographs. Whether fine-tuning pays for a large set is tried
    on a sample of up to 2,000 images, which takes a minute or a few.

    Parameters
    ----------
    codes : path, CodesFile or TrainingData, default="codes.h5"
        Codes of several layers.
    images : path, sequence, ndarray or ImageSet, optional
        The images that the codes file was made from. They are read only to try fine-tuning, and only if the file keeps
        no maps of the layer below (``extract(…, maps="layer3")``).
    finetune : bool, optional
        Whether to try fine-tuning; by default if the set is large, and images or maps are at hand.
    cv, seed, n_jobs
        As for `fit`.
    allow_outside : bool, default=False
        Let a manifest name files outside its folder.
    weights : path, optional
        Path of the weights file, if it has moved since the codes were made.
    progress : callable, optional
        Called with (done, total, 0) before the first fit of a step, and after each.

    Returns
    -------
    Advice

    Raises
    ------
    ProbeError
        There are no labels, or too few images to cross-validate; or fine-tuning was asked for, and there are neither
        images nor maps.

    Examples
    --------
    >>> advice = advise("codes.h5")  # doctest: +SKIP
    >>> advice.size, advice.similarity, advice.layers  # doctest: +SKIP
    ('small', 'dissimilar', ['layer3'])
    """
    with TrainingData.open(codes) as data:
        advice = _advise(data, weights, cv=cv, seed=seed, n_jobs=n_jobs, progress=progress)
        running = {"allow_outside": allow_outside, "weights": weights, "seed": seed, "progress": progress}
        at_hand = images is not None or bool(data.file.map_layers)
        if finetune or (finetune is None and advice.size == "large" and at_hand):
            _try_finetuning(advice, data, images, running, required=bool(finetune))
        advice.commands[:0] = finetuning_commands(advice.size, advice.trial, data.file, images)
        return advice


def _try_finetuning(
    advice: Advice, data: TrainingData, images: Images | None, running: dict[str, Any], *, required: bool
) -> None:
    from cnncodes.insight.finetuning_trial import try_finetuning  # which takes time to import

    try:
        advice.trial = try_finetuning(data, images, layers=advice.layers, **running)
    except CnnCodesError as error:
        if required:
            raise
        advice.notes.append(f"fine-tuning was not tried: {error}")
        return
    advice.evidence.append(advice.trial.evidence)
    advice.notes.append(advice.trial.not_tried)


def _advise(data: TrainingData, weights: str | os.PathLike[str] | None, **options: Any) -> Advice:
    comparison = compare(data, clfs=["svm"], **options)
    if not comparison.finished:
        raise KeyboardInterrupt
    best = comparison.recommended
    notes = list(comparison.notes)
    curve = None
    try:
        C = cast("float", best.C)  # only a baseline has none
        scale = data.scaling(best.layers)
        groups = data.groups()
        scored = data.scorable(groups).rows
        X, y = data.codes(best.layers, data.train[scored]), data.labels[scored]
        curve = learning_curve(X, y, C=C, scale=scale, groups=groups[scored], **options)
    except ProbeError as error:
        notes.append(str(error))
    size = [images_per_class(data.labels)]
    if curve is not None:
        size.append(by_slope(curve, decided=size[0].says != UNDECIDED))
    depth = by_depth(comparison)
    heads: list[Evidence] = []
    spread: list[Evidence] = []
    if PENULTIMATE in data.file.finished_layers:
        rows = data.train
        some = rows[np.linspace(0, len(rows) - 1, min(len(rows), MAX_IMAGES_FOR_HEAD)).astype(int)]
        try:
            head, top = PretrainedHead(data.file.provenance, weights), averaged(data.file.codes(PENULTIMATE, some))
            heads, spread = [by_pretrained_head(top, head)], [by_spread(top, head)]
        except CnnCodesError as error:
            notes.append(f"the pretrained head was not asked: {error}")
    return Advice(
        size=size_of(size),
        similarity=similarity_of(depth + heads, spread),
        layers=best.layers,
        evidence=[*size, *depth, *heads, *spread, by_log_loss(comparison)],
        commands=fit_commands(comparison),
        comparison=comparison,
        curve=curve,
        notes=notes,
    )
