"""Runs each image once through a frozen network: images in, a codes file out, resumable at any moment."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ImageTable, to_json
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import CodesFileError, CodesRangeError, SettingError
from cnncodes.extraction.reuse import Reuse, copy_rows, file_stamp, image_table, match_rows
from cnncodes.extraction.settings import (
    Settings,
    build_network,
    describe_network,
    fill_in,
    held_description,
    in_float32,
    inherited,
    refuse_mismatch,
)
from cnncodes.extraction.workers import IMAGE_TIMEOUT, Progress, run_batches
from cnncodes.images.decoding import MAX_PIXELS
from cnncodes.images.loading import ImageSet, load_images
from cnncodes.runtime.compilation import Workload
from cnncodes.runtime.frozen_network import FrozenNetwork

__all__ = ["Extraction", "describe_images", "extract", "fill"]

SYNC_SECONDS = 30.0


@dataclass
class Extraction:
    """What `extract` did.

    Attributes
    ----------
    path : Path
        The codes file.
    n, ok, failed : int
        Images, those with codes, and those that could not be read.
    computed : int
        Images that were run through the network now; the others' codes were there already.
    seconds : float
    layers : dict of str to int
        Code length of each layer.
    notes : list of str
        What a user should know: skipped files, remarks about the weights.
    failures : dict of str to str
        Reason by id.
    """

    path: Path
    n: int
    ok: int
    failed: int
    computed: int
    seconds: float
    layers: dict[str, int]
    notes: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def extract(
    images: Any,
    out: str | os.PathLike[str] = "codes.h5",
    *,
    labels: Sequence[str] | None = None,
    shard: tuple[int, int] | None = None,
    prune: bool = False,
    add: bool = False,
    workers: int | None = None,
    image_timeout: float = IMAGE_TIMEOUT,
    max_pixels: int = MAX_PIXELS,
    retry_failed: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Extraction:
    """Compute the codes of images and keep them in a codes file.

    An existing `out` is continued: codes that it holds are kept, those of new or changed images and of added layers
    are computed, and what is not asked for is as it was made, if it is of the same images (at least one, byte by byte).
    A renamed image keeps its codes. Where codes would go, of images that are not given, it is refused.

    Parameters
    ----------
    images : path, sequence, ndarray or ImageSet
        Folder of class folders, ``train`` and ``test`` folders of those, CSV or TSV manifest, one file, ``.npy`` or
        ``.npz``; or paths, PIL images, or uint8 arrays.
    out : path
    labels : sequence of str, optional
        For images given as a sequence or array.
    workers : int, optional
        Threads, each of which decodes and runs whole batches; one a core by default. Does not change the codes.
    image_timeout : float
        Seconds for one image to be decoded; one that takes longer is recorded as failed.
    max_pixels : int
        An image file of more pixels is recorded as failed before they are decoded.
    retry_failed : bool
        Try the images again that are recorded as failed.
    shard : (int, int), optional
        Extract only part i of n, counted from 1; `merge` joins the parts.
    prune : bool, default=False
        Drop the rows of `out` whose images are not given.
    add : bool, default=False
        Keep all rows of `out` that hold codes, with their labels, groups and splits, and add those of the images. A
        name that would stand for two images is refused.
    progress : callable, optional
        Called with (done, total, failed) after each batch.
    **settings
        Fields of `Settings`: backbone, weights, layers, pooling, image_size, resize, views, precision, device,
        batch_size, dtype, exact_decode, compile, allow_partial.

    Returns
    -------
    Extraction

    Raises
    ------
    ImagesError, BackboneError, WeightsError, SettingError, DeviceError, MissingLibraryError
        Before anything is written.
    MismatchError
        `out` was made with other settings.
    CodesFileError
        `out` is no codes file, is being written by another process, or cannot be written; or codes of images that are
        not given would go.

    Examples
    --------
    >>> extract("photos/", "codes.h5", backbone="resnet50", layers=["layer3", "penultimate"])  # doctest: +SKIP
    """
    started = time.perf_counter()
    out = Path(out)
    image_set = load_images(images, labels=labels)
    n_all = len(image_set)
    image_set, about_shard = _shard_of(image_set, shard) if shard is not None else (image_set, {})
    held, plan = held_description(out), None
    if held is not None:
        _refuse_part(out, held, about_shard, prune, add)
        plan = match_rows(out, image_set, prune=prune, add=add)
        held = held if plan.same_set or prune or add else None
    plan = plan or Reuse(image_set, image_table(image_set))
    asked = fill_in(Settings(**settings), held)
    workload = Workload(n_all, workers or joblib.cpu_count(), parts=shard and shard[1])
    network = build_network(asked, workload)
    if held is None:
        network.warm_up()  # so that the file says truly whether it could be compiled
    _prepare(out, plan, {**describe_network(network), **about_shard}, held)
    options: dict[str, Any] = {
        "workers": workers,
        "image_timeout": image_timeout,
        "max_pixels": max_pixels,
        "progress": progress,
    }
    try:
        with CodesWriter(out) as file:
            rows, missing = file.todo(retry_failed=retry_failed)
            rows = rows[[plan.images.sources[row] is not None for row in rows.tolist()]]
            network.restrict(missing)
            remarks = fill(file, plan.images, rows, network, **options)
            counts, errors = file.counts, file.errors
            layers = {name: file.n_features(name) for name in file.layers}
    except CodesRangeError:
        if asked.dtype not in (None, "auto"):
            raise
        _widen(out)
        settings["dtype"] = "float32"
        same: dict[str, Any] = {"labels": labels, "shard": shard, "prune": prune, "add": add}
        done = extract(images, out, **same, retry_failed=retry_failed, **options, **settings)
        done.notes.append(
            "float16 does not hold the codes of some images: the file now has float32; codes that were there before "
            "stay rounded to float16"
        )
        return done
    return Extraction(
        path=out,
        n=len(plan.images),
        ok=counts["ok"],
        failed=counts["failed"],
        computed=len(rows),
        seconds=time.perf_counter() - started,
        layers=layers,
        notes=[
            *image_set.notes,
            *plan.notes,
            *inherited(out, Settings(**settings), held, network),
            *network.backbone.notes,
            *network.notes,
            *_summary(remarks, plan.images),
        ],
        failures={plan.images.ids[i]: str(errors[i]) for i in np.flatnonzero(errors != "")},
    )


def _refuse_part(out: Path, held: Mapping[str, Any], about_shard: Mapping[str, Any], prune: bool, add: bool) -> None:
    """Refuse what would make a part of a sharded extraction another one; and options that exclude each other."""
    if prune and add:
        raise CodesFileError(f"{out}: --prune and --add exclude each other")
    refuse_mismatch(out, {name: held[name] for name in ("shard",) if name in held}, about_shard)
    if about_shard and add:
        raise CodesFileError(
            f"{out}: a part of a sharded extraction holds that part alone; merge the parts, then --add"
        )


def _shard_of(images: ImageSet, shard: tuple[int, int]) -> tuple[ImageSet, dict[str, Any]]:
    """Deal the images out to the parts in turn; return one part, and what its file says of it."""
    part, of = shard
    if not 1 <= part <= of:
        raise SettingError(f"there is no part {part} of {of}; parts are counted from 1")
    if of > len(images):
        raise SettingError(f"{len(images)} images do not make {of} parts; ask for fewer")
    digest = describe_images(ImageTable(images.ids, images.labels, images.groups, images.splits))
    return images.take(range(part - 1, len(images), of)), {"shard": {"part": part, "of": of, "images": digest}}


def describe_images(table: ImageTable) -> str:
    """Return the SHA-256 of which images there are, with their labels, groups and splits."""
    return hashlib.sha256(to_json([table.ids, table.labels, table.groups, table.splits]).encode()).hexdigest()


def _prepare(out: Path, plan: Reuse, description: dict[str, Any], held: dict[str, Any] | None) -> None:
    """Make `out` a codes file of these images and layers, keeping the codes that it has."""
    if file_stamp(out) != plan.stamp:
        raise CodesFileError(f"{out}: another process has changed it in the meantime; run the same command again")
    if held is None:
        CodesWriter.create(out, plan.table, description)
        return
    refuse_mismatch(out, held, description)
    if plan.kept and (extra := [name for name in description["layers"] if name not in held["layers"]]):
        raise CodesFileError(
            f"{out}: {plan.kept} of its rows are of other images, which would lack {', '.join(extra)}; --add takes the "
            "layers of the file, and a layer is added with all its images given"
        )
    with CodesFile.open(out) as old:
        if not plan.unchanged or old.layers != list(description["layers"]):
            CodesWriter.create(out, plan.table, description, fill=lambda new: copy_rows(old, new, plan.twins))


def fill(
    file: CodesWriter,
    images: ImageSet,
    rows: np.ndarray,
    network: FrozenNetwork,
    **options: Any,
) -> dict[int, str]:
    """Compute `rows` of a codes file and write them, synced about every 30 seconds; return remarks by row.

    `options` are those of `run_batches`.
    """
    synced = time.monotonic()
    remarks: dict[int, str] = {}
    for batch in run_batches(images, rows, network, codes=file.path, **options):
        with _writing(file):
            file.write(batch.rows, batch.codes, batch.sha256)
            for row, (reason, digest) in batch.failures.items():
                file.fail(row, reason, digest)
            if time.monotonic() - synced > SYNC_SECONDS:
                file.sync()
                synced = time.monotonic()
        remarks |= batch.remarks
    with _writing(file):
        file.sync()
    return remarks


def _widen(out: Path) -> None:
    """Make it a codes file of float32, with the codes that it has."""
    with CodesFile.open(out) as old:
        same = {row: row for row in range(old.n) if not old.failed[row]}
        CodesWriter.create(out, old.table, in_float32(old.description), fill=lambda new: copy_rows(old, new, same))


@contextlib.contextmanager
def _writing(file: CodesWriter) -> Iterator[None]:
    """Say in one line why rows cannot be written, and how to go on."""
    try:
        yield
    except OSError as error:
        raise CodesFileError(
            f"{file.path}: cannot be written ({error.strerror or error}); what was written before is kept. Make room "
            "on the disk, then run the same command again"
        ) from error


def _summary(remarks: Mapping[int, str], images: ImageSet) -> list[str]:
    """Tell a remark once, with its first image and how many there are."""
    rows: dict[str, list[int]] = {}
    for row, remark in sorted(remarks.items()):
        rows.setdefault(remark, []).append(row)
    more = {remark: f" and {len(of)} more" for remark, (_, *of) in rows.items() if of}
    return [f"{images.ids[first]}{more.get(remark, '')}: {remark}" for remark, (first, *_) in rows.items()]
