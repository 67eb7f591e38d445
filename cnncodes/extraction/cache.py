"""A codes file as a cache that grows: rows are found by the digests of their images, and added when they are new."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ImageTable
from cnncodes.codes.provenance import Provenance, refuse_mismatch
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import ImagesError
from cnncodes.extraction.engine import LocalEngine, Work
from cnncodes.extraction.fill import fill
from cnncodes.extraction.kept_network import ready_network
from cnncodes.extraction.prepare import copy_rows
from cnncodes.extraction.settings import (
    Settings,
    describe_network,
    fill_in,
    provenance_of,
    settings_of,
)
from cnncodes.extraction.sources import all_digests
from cnncodes.extraction.worker_thread import NO_DIGEST, Batch
from cnncodes.images.loading import ImageSet
from cnncodes.networks.loading import default_settings, load_backbone
from cnncodes.networks.network import RANDOM
from cnncodes.networks.registry import named_by_weights
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.system.locks import waiting_lock
from cnncodes.vocabulary import DEFAULT_BACKBONE, DEFAULT_POOLING

__all__ = ["cached_codes"]

MAP_AXES = 3  # (C, H, W); tokens have two
HEX_DIGEST = re.compile("[0-9a-f]{64}")
CHANGED_IMAGE = ("it was changed while it was read", NO_DIGEST)  # without a digest it is tried again


def cached_codes(
    cache: Path,
    images: ImageSet,
    layers: Sequence[str],
    settings: Settings,
    *,
    workers: int | None = None,
    owner: object | None = None,
) -> np.ndarray:
    """Return the codes of images, computing only those that the cache does not have.

    The default layers are kept as well when an image is run, so that a search over layers runs no image twice.
    One process at a time extends a cache; the others wait.

    Parameters
    ----------
    cache : Path
        A codes file; it is made if it does not exist.
    images : ImageSet
    layers : sequence of str
        Layers whose codes are returned, concatenated.
    settings : Settings
    workers : int, optional
    owner : object, optional
        Whose codes they are, as for `ready_network`.

    Returns
    -------
    ndarray of float32, shape (n_images, n_features)

    Raises
    ------
    MismatchError
        The cache was made with other settings.
    ImagesError
        An image cannot be read, or changes meanwhile.
    """
    digests = all_digests(images)
    with waiting_lock(cache):
        provenance = provenance_of(cache)
        settings = _explicit(settings, provenance)
        if provenance is None or not _has(cache, provenance, digests, layers, settings):
            _extend(cache, provenance, images, digests, layers, settings, workers, owner)
    with CodesFile.open(cache) as file:
        row_of = _rows_by_digest(file)
        rows = np.array([row_of[digest] for digest in digests], np.int64)
        failed = np.flatnonzero(file.state[rows] == "failed")
        if len(failed):
            raise ImagesError(f"{images.ids[failed[0]]}: {file.errors[rows[failed[0]]]}; leave this image out")
        return file.codes(layers, rows)


def _explicit(settings: Settings, provenance: Provenance | None) -> Settings:
    """Fill in the defaults, so that an estimator does not inherit the settings of whoever made the cache."""
    backbone = settings.backbone or named_by_weights(settings.weights) or DEFAULT_BACKBONE
    weights, preprocessing = default_settings(backbone, settings.weights)
    pooling = settings.pooling
    if pooling is None and provenance is not None:  # a new cache gets it from the network
        pooling = _default_pooling(backbone, settings.weights, provenance)
    return replace(
        settings,
        backbone=backbone,
        weights=weights,
        pooling=pooling,
        image_size=settings.image_size or preprocessing.image_size,
        resize=settings.resize or preprocessing.mode,
        views=settings.views or preprocessing.views,
        exact_decode=bool(settings.exact_decode),
        ignore_profiles=bool(settings.ignore_profiles),
    )


def _default_pooling(backbone: str, weights: str | None, provenance: Provenance) -> str:
    """Return the pooling of a network where none is asked for; one that gave maps of rows and columns is not built."""
    layer4 = provenance.layers.get("layer4")
    if provenance.backbone == backbone and layer4 is not None and len(layer4.map_shape) == MAP_AXES:
        return DEFAULT_POOLING
    # without its parameters, which may have to be fetched; a folder also says how the network is built
    return load_backbone(backbone, weights if named_by_weights(weights) else RANDOM).default_pooling


def _has(
    cache: Path, provenance: Provenance, digests: Sequence[bytes], layers: Sequence[str], settings: Settings
) -> bool:
    """Whether the cache has all these codes, made with these settings: then no network is loaded."""
    if not set(layers) <= set(provenance.layers):
        return False
    old = settings_of(provenance)
    for item in fields(settings):
        value = getattr(settings, item.name)
        if item.name != "layers" and value is not None and value != getattr(old, item.name):
            return False
    with CodesFile.open(cache) as file:
        row_of = _rows_by_digest(file)
        if not row_of.keys() >= set(digests):
            return False
        rows = np.array([row_of[digest] for digest in digests], np.int64)
        return all(file.present(layer)[rows].all() for layer in layers)


def _extend(
    cache: Path,
    old_provenance: Provenance | None,
    images: ImageSet,
    digests: Sequence[bytes],
    layers: Sequence[str],
    settings: Settings,
    workers: int | None,
    owner: object | None,
) -> None:
    settings = fill_in(settings, old_provenance)
    network = ready_network(settings, owner=owner)
    if not set(layers) <= set(network.layers):
        more = tuple(dict.fromkeys([*network.layers, *layers]))
        network = ready_network(replace(settings, layers=more), owner=owner)
    provenance = describe_network(network)
    sources = dict(zip(digests, images.sources, strict=True))
    if old_provenance is None:
        table = ImageTable([digest.hex() for digest in sources])
        CodesWriter.create(cache, table, provenance)
    else:
        refuse_mismatch(cache, old_provenance, provenance)
        with CodesFile.open(cache) as old:
            row_of = _rows_by_digest(old)
            new_ids = [digest.hex() for digest in sources if digest not in row_of]
            if new_ids or old.layers != list(provenance.layers):
                same = {row: row for row in range(old.n) if not old.failed[row]}
                table = _with_more(old.table, new_ids)
                CodesWriter.create(
                    cache,
                    table,
                    provenance,
                    thumbnails=old.has_thumbnails,
                    fill=lambda new: copy_rows(old, new, same),
                )
    with CodesWriter(cache) as file:
        row_of = _rows_by_digest(file)
        here = {row_of[digest]: digest for digest in sources}
        todo, missing = file.todo()
        # None where another run has the image
        every_source: list[Any] = [sources[here[row]] if row in here else None for row in range(file.n)]
        every = ImageSet(ids=file.ids.tolist(), sources=every_source)
        rows = np.array([row for row in todo.tolist() if row in here], np.int64)
        fill(file, every, rows, _KnownImages(network, here), missing, Work(workers))


class _KnownImages(LocalEngine):
    """Computes images whose digests are known; one that has other bytes by the time it is computed counts as failed."""

    def __init__(self, network: FrozenNetwork, digests: Mapping[int, bytes]) -> None:
        super().__init__(network)
        self.digests = digests

    def batches(self, *args: Any, **options: Any) -> Iterator[Batch]:
        """Yield the rows batch by batch, as they are done."""
        for batch in super().batches(*args, **options):
            digests = zip(batch.rows.tolist(), batch.sha256, strict=True)
            same = np.array([digest.tobytes() == self.digests[row] for row, digest in digests], bool)
            failures = {
                row: (reason, digest) if digest.tobytes() == self.digests[row] or not digest.any() else CHANGED_IMAGE
                for row, (reason, digest) in batch.failures.items()
            }
            yield replace(
                batch,
                rows=batch.rows[same],
                codes={name: values[same] for name, values in batch.codes.items()},
                sha256=batch.sha256[same],
                failures=failures | dict.fromkeys(batch.rows[~same].tolist(), CHANGED_IMAGE),
                thumbnails=None if batch.thumbnails is None else batch.thumbnails[same],
            )


def _with_more(table: ImageTable, ids: list[str]) -> ImageTable:
    blank = [""] * len(ids)
    texts = {name: values + blank for name in ("labels", "groups", "splits") if (values := getattr(table, name))}
    none = [-1] * len(ids)
    return ImageTable(table.ids + ids, **texts, sizes=table.sizes + none, changed=table.changed + none)


def _rows_by_digest(file: CodesFile) -> dict[bytes, int]:
    """Map digests to rows; a row of the cache's own that is not computed yet has its digest as its id."""
    rows = {bytes.fromhex(name): row for row, name in enumerate(file.ids.tolist()) if HEX_DIGEST.fullmatch(name)}
    return rows | {digest.tobytes(): row for row, digest in enumerate(file.sha256) if digest.any()}
