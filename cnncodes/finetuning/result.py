"""What fine-tuning came to: the model that is kept, and whether it pays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from cnncodes.display import points
from cnncodes.finetuning.curves import Curves
from cnncodes.finetuning.familiarity import learn_tuned_familiarity
from cnncodes.finetuning.head import HEAD, TunedNetwork
from cnncodes.finetuning.out_of_fold import OutOfFold, Task, Trained
from cnncodes.finetuning.training import decide
from cnncodes.models.answered import Answered
from cnncodes.models.model import ProbeModel
from cnncodes.models.model_file import NOVELTY_ARRAYS
from cnncodes.models.tuned import Tuned
from cnncodes.probes.decision_values import softmax, winner
from cnncodes.probes.estimate import Estimate
from cnncodes.probes.scores import score

__all__ = ["Finetuning", "HeldOut", "StoppedError", "make_result"]

PROTOCOL = (
    "; the network was then fine-tuned from {first} on: the accuracy is that of networks that were trained on the same "
    "folds from the probe of the fold on; how far the parameters are on the way from the probe, {share:g}, was chosen "
    "on the same answers"
)
STOPPED = "the training on all images was stopped after {after} complete epochs: {kept}"
STOPPED_EARLY = "the probe is kept so far"
STOPPED_LATER = "the accuracy is that of networks that the folds trained to the end, and may be more than that of this"


@dataclass(frozen=True)
class Finetuning:
    """What fine-tuning came to.

    Attributes
    ----------
    model : ProbeModel
        The fine-tuned model, or the probe where that answers more images right by more than the standard error.
    first : str
        The first part of the network that was trained.
    pays : bool
        Whether the gain is larger than its standard error. It may still be none: see `gain`.
    gain : Estimate
        What fine-tuning adds to the accuracy of the probe, out of fold, with a 95 % interval, paired by images.
    share : float
        How far the parameters are on the way from those of the probe to the trained ones.
    epochs : int
        How often the networks of the folds saw each image.
    probe_accuracy : float
        Accuracy of the probe on the images that the gain was found on.
    n_answers : int
        Number of these images.
    seconds : float
        Duration.
    curves : Curves, optional
        Accuracy after each epoch, beside training from random weights, where that was asked for.
    probe_test_accuracy : Estimate or None
        Accuracy of the probe on the held-out images, beside that in the scores of the model; None without any.
    stopped_after : int or None
        Epochs of the training on all images after which it was stopped; None where it went to the end.
    """

    model: ProbeModel
    first: str
    pays: bool
    gain: Estimate
    share: float
    epochs: int
    probe_accuracy: float
    n_answers: int
    seconds: float
    curves: Curves | None = None
    probe_test_accuracy: Estimate | None = None
    stopped_after: int | None = None

    @property
    def answer(self) -> str:
        """What it gains, in one sentence: how sure that is, and which model is kept."""
        low, high, gain = points(self.gain.low), points(self.gain.high), points(self.gain.value)
        if self.pays or (self.gain.value > 0 and self.model.tuned is not None):
            gains = "may gain" if not self.pays else "gains" if float(low) > 0 else "likely gains"
            return f"fine-tuning from {self.first} {gains} {gain} points ({low} to {high})"
        if self.model.tuned is not None:
            return f"fine-tuning from {self.first} shows no gain: {low} to {high} points; it is kept nevertheless"
        return f"fine-tuning from {self.first} does not pay: {low} to {high} points; the probe is kept"

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON: the scores of the model that is kept, and what fine-tuning came to."""
        return {
            **self.model.scores.to_dict(),
            "finetuned": self.model.tuned is not None,
            "from": self.first,
            "pays": self.pays,
            "gain": self.gain.value,
            "gain_interval": self.gain.interval,
            "share": self.share,
            "epochs": self.epochs,
            "stopped_after": self.stopped_after,
            "probe_accuracy": self.probe_accuracy,
            "probe_test_accuracy": None if self.probe_test_accuracy is None else self.probe_test_accuracy.value,
            "probe_test_interval": None if self.probe_test_accuracy is None else self.probe_test_accuracy.interval,
            "n_answers": self.n_answers,
            "seconds": self.seconds,
            **self._curves(),
        }

    def _curves(self) -> dict[str, Any]:
        if self.curves is None:
            return {}
        saving, reached = self.curves.saving
        return {"curves": self.curves.to_dict(), "saving": saving, "saving_is_bound": not reached}


class StoppedError(KeyboardInterrupt):
    """Ctrl-C while the network was trained on all images: what there is by then is worth keeping.

    Attributes
    ----------
    result : Finetuning
        With the network after the last epoch that was complete, or else with the probe.
    """

    def __init__(self, result: Finetuning) -> None:
        super().__init__()
        self.result = result


class HeldOut(NamedTuple):
    """Labels and groups of the held-out images, whose maps follow those of the training images."""

    labels: np.ndarray
    groups: np.ndarray


def make_result(
    fitted: ProbeModel,
    task: Task,
    answers: OutOfFold,
    trained: Trained | None,
    share: float,
    train_from: str,
    held_out: HeldOut,
    seconds: float,
    digests: np.ndarray | None = None,
) -> Finetuning:
    """Put together the model that is kept, and what there is to say about it.

    Parameters
    ----------
    fitted : ProbeModel
        The probe.
    task : Task
    answers : OutOfFold
    trained : Trained or None
        The network; None if the probe is kept.
    share : float
        How far its parameters are on the way from the probe.
    train_from : str
    held_out : HeldOut
    seconds : float
    digests : ndarray of uint8, shape (n, 32), optional
        SHA-256 of the images of the task, by which the model knows its answers to them again.
    """
    stopped_after = None if trained is None else trained.stopped_after
    network = None if trained is None or stopped_after == 0 else trained.network
    gain = Estimate(*answers.gain(share or answers.best_share(tuned=True)))
    share = share or answers.best_share(tuned=True)
    model, probe_accuracy = fitted, float(answers.right(0.0).mean())
    if network is not None:
        tuned = Tuned(
            first=train_from,
            below=task.cut.below,
            epochs=stopped_after or task.recipe.epochs,
            share=share,
            probe_accuracy=probe_accuracy,
            gain=gain.value,
            gain_interval=(gain.low, gain.high),
            seed=task.recipe.seed,
        )
        model = _tuned_model(fitted, task, answers, network, tuned, held_out, digests)
    n = len(answers.rows)
    pays, held_out_score = answers.pays(share), fitted.scores.held_out
    probe_test_accuracy = None if held_out_score is None else held_out_score.accuracy
    result = Finetuning(
        model,
        train_from,
        pays,
        gain,
        share,
        task.recipe.epochs,
        probe_accuracy,
        n,
        seconds,
        probe_test_accuracy=probe_test_accuracy,
        stopped_after=stopped_after,
    )
    model.notes.append(result.answer)
    if stopped_after is not None:
        model.notes.append(STOPPED.format(after=stopped_after, kept=STOPPED_LATER if stopped_after else STOPPED_EARLY))
    return result


def _tuned_model(
    fitted: ProbeModel,
    task: Task,
    answers: OutOfFold,
    network: TunedNetwork,
    tuned: Tuned,
    held_out: HeldOut,
    digests: np.ndarray | None,
) -> ProbeModel:
    tensors = {name: one.cpu().numpy() for name, one in network.tensors().items()}
    above_cut = {name: one for name, one in tensors.items() if not name.startswith(HEAD)}
    classes, share = task.search.classes, tuned.share
    decision, temperature = answers.decision[share], answers.temperature(share)
    best = winner(decision)
    y, predicted = classes[answers.truth], classes[best]
    confidence = softmax(decision, temperature)[np.arange(len(best)), best]
    whole = len(answers.rows) == task.n_scored
    scores = replace(
        fitted.scores,
        n_cv=len(y),
        cross_validated=score(y, predicted, folds=task.search.folds if whole else None, groups=answers.groups),
        protocol=fitted.scores.protocol + PROTOCOL.format(first=tuned.first, share=share),
        unguarded_accuracy=None,  # these are known of the probe only
        unguarded_test_accuracy=None,
        ungrouped_test_accuracy=None,
    )
    if n := len(held_out.labels):
        answered = task.classes[winner(decide(network, task.maps, len(task.truth) + np.arange(n), task.device))]
        scores = replace(scores, held_out=score(held_out.labels, answered, groups=held_out.groups))
    provenance = fitted.provenance
    familiar = {name: getattr(fitted, name) for name in NOVELTY_ARRAYS}
    if above_cut:  # otherwise the network is the one that the codes are of, in their precision
        runtime = replace(provenance.runtime, leading_float32=0)
        provenance = replace(provenance, precision="fp32", runtime=runtime)
        familiar = dict(zip(NOVELTY_ARRAYS, learn_tuned_familiarity(task, answers, network, share), strict=True))
    answered = None
    if digests is not None:
        answered = Answered.of(digests[answers.rows], np.searchsorted(task.classes, predicted), confidence)
    return replace(
        fitted,
        coef=tensors[f"{HEAD}weight"].astype(np.float64),
        intercept=tensors[f"{HEAD}bias"].astype(np.float64),
        temperature=temperature,
        scores=scores,
        provenance=provenance,
        notes=[*(f"of the probe: {note}" for note in fitted.notes), *task.maps.notes],
        **familiar,
        tuned=tuned,
        tensors=above_cut,
        answered=answered,
    )
