"""Finds where in an image an answer comes from: what `ProbeModel.explain` does.

A pooled code is a sum over the places of a feature map, and a linear classifier is a sum over the code, so that its
decision value is a sum over places. With scalings that divide a row by its length this holds, too: for one image the
length is one number.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from cnncodes.errors import SettingError, nearest
from cnncodes.extraction.in_memory import matching_network
from cnncodes.extraction.worker_thread import Batch
from cnncodes.extraction.workers import run_batches
from cnncodes.images.loading import ImageSet
from cnncodes.models.explanation import Explanation
from cnncodes.models.linear_probe import LinearProbe
from cnncodes.models.map_source import MapSource, source_of
from cnncodes.networks.pooling import NO_PREFIX, POOLINGS
from cnncodes.probes.decision_values import winner
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.runtime.workload import Workload
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import NO_VIEWS

__all__ = ["constants", "explain"]

MIRRORED = "flip"  # views whose second one is the mirror image of the first
PICTURE, DECISION, CONSTANT, LABEL = "picture", "decision", "constant", "label"  # beside the maps of a batch


# Networks that give maps, by the network that gives the codes, and by layers and pooling
_prepared: WeakKeyDictionary[FrozenNetwork, dict[Any, tuple[dict[str, MapSource], FrozenNetwork]]] = WeakKeyDictionary()


def explain(
    model: LinearProbe,
    images: ImageSet,
    *,
    label: str | None = None,
    against: str | None = None,
    owner: object | None = None,
    weights: str | os.PathLike[str] | None = None,
    device: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Explanation]:
    """Return where the answer of a model comes from, for each image that can be read, in their order.

    What cannot be explained is an error at once; images are read as the explanations are asked for.

    Parameters
    ----------
    model : LinearProbe
    images : ImageSet
    label, against, weights, device, workers, progress
        As for `ProbeModel.explain`.
    owner : object, optional
        Whose network it is, if another model has the same one; see `cnncodes.extraction.kept_network.ready_network`.

    Raises
    ------
    BackboneError, SettingError
        As for `ProbeModel.explain`.
    """
    if against is not None and (label is None or against == label):
        raise SettingError("`against` is another class than `label`, which is to be named, too")
    views = model.provenance.preprocessing.views
    if views not in (NO_VIEWS, MIRRORED):
        raise SettingError(f"the views {views} show parts of an image; an answer by them is not drawn on one picture")
    network = matching_network(
        model.provenance.only(model.layers),
        Workload(len(images), workers),
        weights=weights,
        device=device,
        owner=owner or model,
        tensors=model.tensors,
    )
    runner = _Explainer(model, network, label, against)
    batches = run_batches(images, np.arange(len(images)), runner, workers=workers, progress=progress)  # type: ignore[arg-type]
    return _in_order(model, images.ids, batches)


def _in_order(model: LinearProbe, ids: Sequence[str], batches: Iterable[Batch]) -> Iterator[Explanation]:
    waiting: dict[int, Explanation | None] = {}
    wanted = 0
    for batch in batches:
        waiting |= dict.fromkeys(batch.failures)
        waiting |= {row: _explanation(model, ids[row], batch, i) for i, row in enumerate(batch.rows.tolist())}
        while wanted in waiting:
            if (one := waiting.pop(wanted)) is not None:
                yield one
            wanted += 1


def _explanation(model: LinearProbe, path: str, batch: Batch, i: int) -> Explanation:
    computed = batch.codes
    maps = {layer: computed[layer][i] for layer in model.layers}
    label = model.classes[int(computed[LABEL][i])]
    return Explanation(
        path, label, float(computed[DECISION][i]), float(computed[CONSTANT][i]), maps, computed[PICTURE][i]
    )


class _Explainer:
    """Stands for a network: it gives what each place adds to a decision value instead of codes."""

    def __init__(self, model: LinearProbe, network: FrozenNetwork, label: str | None, against: str | None) -> None:
        self.model, self.backbone, self.batch_size = model, network.backbone, network.batch_size
        self.label, self.against = _position(model, label), _position(model, against)
        layers, pooling = tuple(model.layers), model.provenance.pooling
        kept = _prepared.setdefault(network, {})
        if (layers, pooling) not in kept:
            sources = {layer: source_of(self.backbone, layer, pooling) for layer in layers}
            computed = tuple(dict.fromkeys(source.layer for source in sources.values()))
            plan = replace(network.plan, computed=computed, compiled=False)
            kept[layers, pooling] = sources, FrozenNetwork(self.backbone, plan)
        self.sources, self.network = kept[layers, pooling]

    def warm_up(self, n_images: int) -> None:
        """Do nothing: the network runs as it is."""

    def __call__(self, pixels: torch.Tensor, replica: int) -> dict[str, np.ndarray]:
        views = pixels if pixels.ndim == 5 else pixels[:, None]
        n, n_views = views.shape[:2]
        outputs = self.network.outputs(views.flatten(0, 1))
        maps = {layer: source.values(outputs) for layer, source in self.sources.items()}
        codes = {layer: POOLINGS[self.sources[layer].pooling](one, NO_PREFIX) for layer, one in maps.items()}
        X = self.model.concatenated({layer: one.numpy() for layer, one in codes.items()})
        decision = self.model.decision_function(X.reshape(n, n_views, -1) if pixels.ndim == 5 else X)
        labels = winner(decision) if self.label is None else np.full(n, self.label)
        contrasts = _contrasts(self.model, labels, self.against)
        slopes, constants = _linear(self.model, X, contrasts.repeat(n_views, axis=0))
        added = {
            layer: _over_places(one, slope, self.sources[layer].pooling).reshape(n, n_views, *one.shape[2:])
            for (layer, one), slope in zip(maps.items(), slopes, strict=True)
        }
        for one in added.values():
            one[:, 1:] = one[:, 1:].flip(-1)  # the mirror image, turned back
        return {
            **{layer: one.sum(1).numpy() for layer, one in added.items()},
            PICTURE: views[:, 0].permute(0, 2, 3, 1).numpy(),
            DECISION: (contrasts * decision).sum(axis=1),
            CONSTANT: constants.reshape(n, n_views).sum(1),
            LABEL: labels,
        }


def _position(model: LinearProbe, label: str | None) -> int | None:
    if label is not None and label not in model.classes:
        raise SettingError(f"the model has no class {label!r}.{nearest(label, model.classes)}")
    return None if label is None else model.classes.index(label)


def _contrasts(model: LinearProbe, labels: np.ndarray, against: int | None) -> np.ndarray:
    """Return what each decision value counts, shape (n, k): that of the label against those of other classes.

    The most probable class is the one whose value is above the others. A value alone says little: those of a linear SVM
    with a small C are all below 0.
    """
    n, k = len(labels), len(model.classes)
    if k == 2:
        return np.where(labels == 1, 1.0, -1.0)[:, None]
    contrasts = np.full((n, k), 0.0 if against is not None else -1 / (k - 1))
    if against is not None:
        contrasts[:, against] = -1.0
    contrasts[np.arange(n), labels] = 1.0
    return contrasts


def _linear(model: LinearProbe, X: np.ndarray, contrasts: np.ndarray) -> tuple[list[torch.Tensor], np.ndarray]:
    """Return slopes and constants so that the contrast of decision values is ``slopes · x + constant`` for each row.

    Parameters
    ----------
    model : LinearProbe
    X : ndarray, shape (n, n_features)
    contrasts : ndarray, shape (n, k)

    Returns
    -------
    slopes : list of Tensor, shape (n, n_features of the layer)
        One for each layer.
    constants : ndarray, shape (n,)
    """
    weights = contrasts @ (model.coef / model.deviation)
    ends = np.cumsum([model.provenance.layers[layer].n_features for layer in model.layers])[:-1]
    parts, rows = np.split(weights, ends, axis=1), np.split(X, ends, axis=1)
    if model.scale == "shrunk":
        parts = [part / _lengths(one) for part, one in zip(parts, rows, strict=True)]
    elif model.scale == "l2":
        parts = [part / _lengths(X) for part in parts]
    return [torch.from_numpy(np.ascontiguousarray(part)) for part in parts], contrasts @ constants(model)


def constants(model: LinearProbe) -> np.ndarray:
    """Return the part of each decision value that comes from no place, shape (k,)."""
    found: np.ndarray = model.intercept - (model.coef / model.deviation) @ model.mean
    return found


def _lengths(X: np.ndarray) -> np.ndarray:
    return np.maximum(np.linalg.norm(X, axis=1, keepdims=True), np.finfo(X.dtype).tiny)


def _over_places(maps: torch.Tensor, slopes: torch.Tensor, pooling: str) -> torch.Tensor:
    """Return what each place adds to ``slopes · pooled maps``, times the number of places, shape (n, H, W).

    Each pooling grows in proportion to its map, so that by Euler's theorem its value is the sum over the map of number
    times derivative.
    """
    with torch.enable_grad():
        maps = maps.detach().requires_grad_(True)
        (derivative,) = torch.autograd.grad((POOLINGS[pooling](maps, NO_PREFIX) * slopes).sum(), maps)
    return (maps.detach() * derivative).sum(1) * (maps.shape[2] * maps.shape[3])
