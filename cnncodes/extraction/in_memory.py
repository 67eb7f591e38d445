"""Computes codes in memory, for new images, with the very network that a provenance names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnncodes.codes.provenance import Provenance
from cnncodes.codes.provenance_parts import PreprocessingProvenance
from cnncodes.errors import MismatchError
from cnncodes.extraction.kept_network import ready_network
from cnncodes.extraction.settings import Settings, fill_in
from cnncodes.extraction.workers import run_batches
from cnncodes.images.loading import ImageSet
from cnncodes.networks.backbone import Backbone
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.runtime.workload import Workload
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import PENULTIMATE, map_key

__all__ = ["Computed", "compute_codes", "images_named", "in_memory", "matching_network", "require_same_weights"]


@dataclass
class Computed:
    """Codes in memory.

    Attributes
    ----------
    codes : dict of str to ndarray of float32, shape (n_ok, n_features) or (n_ok, n_views, n_features)
        By layer. Where the provenance has maps, these too, by their keys: float16, (n_ok, C, H, W) or (n_ok, n_views,
        C, H, W).
    rows : ndarray of int, shape (n_ok,)
        Positions of the images that the codes belong to, ascending.
    sha256 : ndarray of uint8, shape (n_ok, 32)
        Digests of those images.
    failures : dict of int to str
        Reason for each image that could not be read.
    """

    codes: dict[str, np.ndarray]
    rows: np.ndarray
    sha256: np.ndarray
    failures: dict[int, str]


def compute_codes(
    images: ImageSet,
    provenance: Provenance,
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    owner: object | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
) -> Computed:
    """Compute codes in memory with the very backbone, weights, preprocessing and layers of a provenance.

    Parameters
    ----------
    images : ImageSet
    provenance : Provenance
        ``CodesFile.provenance`` or ``ProbeModel.provenance``.
    weights : path, optional
        Path of the weights file, if it has moved since; it must be the one of the provenance.
    device : str, optional
        Another device than that of the provenance.
    workers : int, optional
    progress : callable, optional
        Called with (done, total, failed).
    owner : object, optional
        Whose codes they are, as for `ready_network`: its next images find the network ready.
    tensors : mapping of str to ndarray, optional
        Fine-tuned parameters of the network, which take the place of those of its weights.

    Returns
    -------
    Computed

    Raises
    ------
    MismatchError
        The weights are not those of the provenance, or this version prepares images in another way.
    """
    network = matching_network(
        provenance,
        Workload(len(images), workers),
        weights=weights,
        device=device,
        owner=owner,
        tensors=tensors,
    )
    return in_memory(images, network, workers=workers, progress=progress)


def matching_network(
    provenance: Provenance,
    workload: Workload,
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str | None = None,
    owner: object | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> FrozenNetwork:
    """Return the network of a provenance, or refuse to.

    Parameters
    ----------
    provenance, weights, device, owner, tensors
        As for `compute_codes`.
    workload : Workload
    changes : mapping of str to object, optional
        Settings that are to be others than those of the provenance.

    Raises
    ------
    MismatchError
        As for `compute_codes`.
    """
    settings = fill_in(Settings(weights=None if weights is None else os.fspath(weights), device=device), provenance)
    # whether to compile is chosen anew: for a few images it takes longer than it saves
    settings = replace(settings, compile=None, **(changes or {}))
    network = ready_network(settings, workload, owner=owner, tensors=tensors)
    require_same_weights(network.backbone, provenance)
    head_input = network.backbone.describe().get("head_input", "")
    if PENULTIMATE in provenance.layers and head_input != provenance.head_input:
        raise MismatchError(
            f"the {PENULTIMATE} codes of {provenance.backbone} were read at another place, which was wrong; "
            "extract and fit again"
        )
    preprocessing = PreprocessingProvenance.from_dict(network.backbone.preprocessing.to_dict())
    if differences := provenance.preprocessing.differences(preprocessing):
        raise MismatchError(
            f"this version and these weights prepare images otherwise: {'; '.join(differences)}; extract and fit again"
        )
    return network


def require_same_weights(backbone: Backbone, provenance: Provenance) -> None:
    """Raise `MismatchError` if a backbone has other weights than those of a provenance."""
    provenance.require("weights_sha256")
    if backbone.weights_sha256 != provenance.weights_sha256:
        raise MismatchError(
            f"the weights {provenance.weights!r} of {provenance.backbone} found here have SHA-256 "
            f"{backbone.weights_sha256[:12]}…, wanted {provenance.weights_sha256[:12]}…; "
            "put the original file back"
        )


def images_named(images: ImageSet, ids: Sequence[str], path: object) -> ImageSet:
    """Return the images of these ids, in their order.

    Parameters
    ----------
    images : ImageSet
    ids : sequence of str
    path : path
        The codes file that was made from them, for the error.

    Raises
    ------
    MismatchError
        One is not there.
    """
    place = images.row_of
    if missing := [name for name in ids if name not in place]:
        raise MismatchError(
            f"{missing[0]!r} and {len(missing) - 1} more images of {path} are not among the images that are given; "
            "name the folder or the table that it was made from"
        )
    return images.take([place[name] for name in ids])


def in_memory(
    images: ImageSet, network: FrozenNetwork, *, workers: int | None = None, progress: Progress | None = None
) -> Computed:
    """Compute the codes of images with a network that is built already."""
    batches = list(run_batches(images, np.arange(len(images)), network, workers=workers, progress=progress))
    batches.sort(key=lambda batch: batch.rows[0] if len(batch.rows) else -1)
    full = [batch for batch in batches if len(batch.rows)]
    views = network.backbone.preprocessing.middle_axis
    codes = {
        name: np.concatenate(
            [np.empty((0, *views, layer["n_features"]), np.float32)]
            + [batch.codes[network.links.get(name, name)] for batch in full]
        )
        for name, layer in network.layers.items()
    }
    for name, shape in network.plan.maps.items():
        none = np.empty((0, *views, *shape), np.float16)
        codes[map_key(name)] = np.concatenate([none] + [batch.codes[map_key(name)] for batch in full])
    return Computed(
        codes=codes,
        rows=np.concatenate([np.empty(0, np.int64), *(batch.rows for batch in full)]),
        sha256=np.concatenate([np.empty((0, 32), np.uint8), *(batch.sha256 for batch in full)]),
        failures={row: reason for batch in batches for row, (reason, _) in batch.failures.items()},
    )
