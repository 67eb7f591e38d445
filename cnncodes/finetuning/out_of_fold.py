"""Trains on the folds of the probe, and answers what each fold holds out: whether fine-tuning pays is seen there."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch

from cnncodes.finetuning.cached_maps import CachedMaps
from cnncodes.finetuning.head import ProbeHead, TunedNetwork
from cnncodes.finetuning.schedule import Recipe
from cnncodes.finetuning.state import State
from cnncodes.finetuning.training import Epoch, Training, decide, mixed
from cnncodes.networks.cut import Cut
from cnncodes.probes.calibration import fit_temperature, log_loss
from cnncodes.probes.decision_values import winner
from cnncodes.probes.folds import Folds
from cnncodes.probes.intervals import paired_interval
from cnncodes.probes.scaling import Scaling
from cnncodes.probes.search import Search, fit_chosen

__all__ = ["SHARES", "OutOfFold", "Task", "Trained", "answer_folds", "folds_to_answer", "train_on_all"]

# Training begins with this multiple of the temperature that calibrates answers to new images. With less, images that
# the probe has learned from have nearly no loss left, and teach nothing
SOFTENING = 10.0
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the way from the probe to the trained network; 0 is the probe
STANDARD_ERROR = 0.68  # chance with which a mean is within one standard error
ENOUGH_ANSWERS = 2000  # held-out images, after which no further fold is trained

OnStep = Callable[[Training, int], None]  # takes a training, and the number of its job
OnEpoch = Callable[[str, Epoch], None]


@dataclass
class Task:
    """Images with their codes, maps and classes, and how a network is trained on them.

    Attributes
    ----------
    X : ndarray, shape (n, n_features) or (n, n_views, n_features)
        Codes that the probe takes.
    maps : CachedMaps
        Those of these images first; others may follow.
    truth : ndarray of int, shape (n,)
        Positions in `classes`.
    classes : ndarray of str, shape (k,)
    groups : ndarray of str, shape (n,)
    search : Search
        The cross-validation of the probe. The last images are not in it if their classes have too few for folds.
    clf : {"svm", "logreg"}
    scale : str
        Name of the scaling.
    scaling : Scaling
    cut : Cut
    pooling : str
    recipe : Recipe
    device : torch.device
    """

    X: np.ndarray
    maps: CachedMaps
    truth: np.ndarray
    classes: np.ndarray
    groups: np.ndarray
    search: Search
    clf: str
    scale: str
    scaling: Scaling
    cut: Cut
    pooling: str
    recipe: Recipe
    device: torch.device

    @property
    def temperature(self) -> float:
        """What the decision values of the probe are divided by when training begins."""
        return SOFTENING * self.search.temperature

    @property
    def n_scored(self) -> int:
        """Number of images that the folds deal out."""
        return len(self.search.decision)

    def of_folds(self) -> Task:
        """Return the task of the images that the folds deal out, and of their classes."""
        n, classes = self.n_scored, self.search.classes
        truth = np.searchsorted(classes, self.classes[self.truth[:n]])
        return replace(self, X=self.X[:n], truth=truth, classes=classes, groups=self.groups[:n])

    def network(self, rows: np.ndarray) -> TunedNetwork:
        """Return the upper part of the network with the probe that these images give: what training begins with."""
        search = replace(self.search, notes=[])
        y = self.classes[self.truth[rows]]
        probe = fit_chosen(self.X[rows], y, search, clf=self.clf, scale=self.scaling)
        head = ProbeHead(probe, self.scale, self.temperature)
        return TunedNetwork(copy.deepcopy(self.cut.top), head, self.pooling, self.recipe.batchnorm, self.cut.prefix)

    def training(self, rows: np.ndarray) -> Training:
        """Return a training that begins with the probe of these rows."""
        depths = self.cut.depths
        return Training(self.network(rows), self.maps, self.truth, rows, self.recipe, depths, device=self.device)


@dataclass
class OutOfFold:
    """Answers to the images that folds hold out.

    Attributes
    ----------
    rows : ndarray of int, shape (m,)
        Images that were answered, ascending.
    decision : dict of float to ndarray, shape (m, k)
        Decision values for each share of the way from the probe (0) to the trained network (1).
    truth : ndarray of int, shape (m,)
    groups : ndarray of str, shape (m,)
    trained : list of dict of str to Tensor
        Parameters of the trained network of each fold, by their names in the network.
    """

    rows: np.ndarray
    decision: dict[float, np.ndarray]
    truth: np.ndarray
    groups: np.ndarray
    trained: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def right(self, share: float) -> np.ndarray:
        """Return which images are answered right, shape (m,)."""
        return winner(self.decision[share]) == self.truth

    def best_share(self, *, tuned: bool = False) -> float:
        """Return the share with the best accuracy; of equal ones that with the smallest calibrated log loss.

        It is 0, which is the probe, where that answers more images right by more than the standard error. To ask more
        of fine-tuning than not to be worse would keep a worse probe far more often than it would keep a better one:
        benchmarks/README.md counts both on small sets.

        Parameters
        ----------
        tuned : bool, default=False
            Never return 0.
        """
        shares = [share for share in self.decision if share]
        best = max(shares, key=lambda share: (self.right(share).sum(), -self.log_loss(share)))
        return best if tuned or self.gain(best, STANDARD_ERROR)[2] > 0 else 0.0

    def temperature(self, share: float) -> float:
        """Return the temperature that is fitted to the decision values."""
        return fit_temperature(self.decision[share], self.truth)

    def log_loss(self, share: float) -> float:
        """Return the calibrated log loss."""
        return log_loss(self.decision[share], self.truth, self.temperature(share))

    def gain(self, share: float, confidence: float = 0.95) -> tuple[float, float, float]:
        """Return what a share adds to the accuracy of the probe, and an interval of that, paired by images.

        As the share was the best of several, the lower end allows for what it owes to chance.
        """
        probe, tuned = self.right(0.0), self.right(share)
        low, high = paired_interval(probe, tuned, confidence, best_of=len(self.decision), groups=self.groups)
        return float(tuned.mean() - probe.mean()), -high, -low

    def pays(self, share: float) -> bool:
        """Whether a share adds more than its standard error, with allowance for the choice among several."""
        return share > 0 and self.gain(share, STANDARD_ERROR)[1] > 0


def folds_to_answer(folds: Folds) -> int:
    """Return how many of the folds are enough to answer `ENOUGH_ANSWERS` images."""
    answered = np.cumsum([len(test) for _, test in folds])
    return min(len(folds), int(np.searchsorted(answered, ENOUGH_ANSWERS)) + 1)


def answer_folds(task: Task, state: State, on_step: OnStep | None = None, on_epoch: OnEpoch | None = None) -> OutOfFold:
    """Train on folds, and answer the images that they hold out.

    Parameters
    ----------
    task : Task
    state : State
        Folds that it has are not trained again; it is written as training goes on.
    on_step : callable, optional
        Called with the training and the number of the fold, before the first step and after each.
    on_epoch : callable, optional
        Called with what is trained, and what an epoch came to.
    """
    task = task.of_folds()
    folds, shares, n = task.search.folds, (0.0, *SHARES), folds_to_answer(task.search.folds)
    for i, (train, test) in enumerate(folds[:n]):
        if i < state.n_done:
            continue
        # To the end: while the rate is large, answers get worse, and better as it falls. Against too much training,
        # there are the smaller shares of the way
        training = task.training(train)
        start = training.network.tensors()
        _run(training, i, f"fold {i + 1} of {n}", state, on_step, on_epoch)
        end = training.network.tensors()
        decisions = [task.search.decision[test] / task.temperature]
        decisions += [
            decide(training.network, task.maps, test, task.device, mixed(start, end, share)) for share in SHARES
        ]
        arrays = {f"end/{name}": one.cpu() for name, one in end.items()}
        arrays["decision"] = torch.from_numpy(np.stack(decisions))
        state.finish_job(arrays)
    rows = np.concatenate([test for _, test in folds[:n]])
    order = np.argsort(rows)
    stacked = np.concatenate([state.arrays[f"{i}/decision"].numpy() for i in range(n)], axis=1)[:, order]
    rows = rows[order]
    decision = dict(zip(shares, stacked, strict=True))
    trained = [state.arrays_of(f"{i}/end/") for i in range(n)]
    return OutOfFold(rows, decision, task.truth[rows], task.groups[rows], trained)


class Trained(NamedTuple):
    """The network that all training images gave, and after how many complete epochs it was stopped, if it was."""

    network: TunedNetwork
    stopped_after: int | None


def train_on_all(
    task: Task,
    share: float,
    state: State,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> Trained:
    """Return the network that all training images give, a share of the way from the probe.

    Ctrl-C ends the training after the last complete epoch, not the program.

    Parameters
    ----------
    task : Task
    share : float
    state, on_step, on_epoch
        As for `answer_folds`.
    """
    job = folds_to_answer(task.search.folds)
    training = task.training(np.arange(len(task.truth)))
    start = training.network.tensors()
    if job < state.n_done:
        end = state.arrays_of(f"{job}/")
    else:
        try:
            _run(training, job, "all images", state, on_step, on_epoch)
        except KeyboardInterrupt:
            stopped_after = max(0, len(training.curve) - 1)
            training.network.put(mixed(start, training.complete or start, share))
            return Trained(training.network, stopped_after)
        end = training.network.tensors()
        state.finish_job(end)
    training.network.put(mixed(start, {name: one.to(task.device) for name, one in end.items()}, share))
    return Trained(training.network, None)


def _run(
    training: Training, job: int, what: str, state: State, on_step: OnStep | None, on_epoch: OnEpoch | None
) -> None:
    """Run a training from the state on, and write the state now and then."""
    if state.job is not None:
        training.restore(*state.job)
        state.job = None
    told = len(training.curve)

    def after_step(training: Training) -> None:
        nonlocal told
        if state.is_due():
            state.job = training.state()
            state.write()
            state.job = None
        if on_epoch is not None and len(training.curve) > told:
            on_epoch(what, training.curve[-1])
        told = len(training.curve)
        if on_step is not None:
            on_step(training, job)

    training.run(after_step)
