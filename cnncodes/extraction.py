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

from cnncodes.codes import CodesFile
from cnncodes.codes_layout import ImageTable, to_json
from cnncodes.codes_writer import CodesWriter
from cnncodes.decoding import MAX_PIXELS
from cnncodes.errors import CodesFileError, CodesRangeError, DecodeError, SettingError
from cnncodes.images import ImageSet, load_images
from cnncodes.pipeline import IMAGE_TIMEOUT, Progress, read_source, run_batches
from cnncodes.process import inference_settings
from cnncodes.runtime import FrozenNetwork
from cnncodes.settings import (
    Settings,
    build_network,
    describe_network,
    fill_in,
    held_description,
    in_float32,
    refuse_mismatch,
)

__all__ = [
    "Extraction",
    "copy_rows",
    "describe_images",
    "extract",
    "fill",
    "image_table",
]

SYNC_SECONDS = 30.0
SHARD_COMPILED = 5000  # images of each part, from which networks are compiled
COPY_ROWS = 1024  # copied at a time from an older file
NO_STAMP = (-1, -1)


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
    workers: int | None = None,
    image_timeout: float = IMAGE_TIMEOUT,
    max_pixels: int = MAX_PIXELS,
    retry_failed: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Extraction:
    """Compute the codes of images and keep them in a codes file.

    An existing `out` is continued: codes that it holds are kept, those of new or changed images and of added layers
    are computed.

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
        `out` is no codes file, is being written by another process, or cannot be written.

    Examples
    --------
    >>> extract("photos/", "codes.h5", backbone="resnet50", layers=["layer3", "penultimate"])  # doctest: +SKIP
    """
    started = time.perf_counter()
    out = Path(out)
    image_set = load_images(images, labels=labels)
    n_all = len(image_set)
    image_set, about_shard = _shard_of(image_set, shard) if shard is not None else (image_set, {})
    held = held_description(out)
    asked = fill_in(Settings(**settings), held)
    network = build_network(asked)
    if asked.compile is None and shard is None:
        network.compile_where_it_pays(n_all, workers or joblib.cpu_count())
    elif asked.compile is None and shard is not None:  # without a clock: parts that differ could not be merged
        network.compiled = network.can_be_compiled and not network.fused and n_all // shard[1] >= SHARD_COMPILED
    if held is None:
        with inference_settings():
            network.warm_up()  # so that the file says truly whether it could be compiled
    _prepare(out, image_set, {**describe_network(network), **about_shard}, held)
    options: dict[str, Any] = {
        "workers": workers,
        "image_timeout": image_timeout,
        "max_pixels": max_pixels,
        "progress": progress,
    }
    try:
        with CodesWriter(out) as file:
            rows, missing = file.todo(retry_failed=retry_failed)
            network.restrict(missing)
            remarks = fill(file, image_set, rows, network, **options)
            counts, errors = file.counts, file.errors
            layers = {name: file.n_features(name) for name in file.layers}
    except CodesRangeError:
        if asked.dtype not in (None, "auto"):
            raise
        _widen(out)
        settings["dtype"] = "float32"
        done = extract(images, out, labels=labels, shard=shard, retry_failed=retry_failed, **options, **settings)
        done.notes.append(
            "float16 does not hold the codes of some images: the file now has float32; codes that were there before "
            "stay rounded to float16"
        )
        return done
    return Extraction(
        path=out,
        n=len(image_set),
        ok=counts["ok"],
        failed=counts["failed"],
        computed=len(rows),
        seconds=time.perf_counter() - started,
        layers=layers,
        notes=[*image_set.notes, *network.backbone.notes, *network.notes, *_summary(remarks, image_set)],
        failures={image_set.ids[i]: str(errors[i]) for i in np.flatnonzero(errors != "")},
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


def _prepare(out: Path, images: ImageSet, description: dict[str, Any], held: dict[str, Any] | None) -> None:
    """Make `out` a codes file of these images and layers, keeping the codes that it has."""
    table = image_table(images)
    if held is None:
        CodesWriter.create(out, table, description)
        return
    refuse_mismatch(out, held, description)
    with CodesFile.open(out) as old:
        if old.table != table or old.layers != list(description["layers"]):
            twins = _twins(old, table, images)
            CodesWriter.create(out, table, description, fill=lambda new: copy_rows(old, new, twins))


def _twins(old: CodesFile, table: ImageTable, images: ImageSet) -> dict[int, int]:
    """Find the rows whose image the old file has: the same name, size and time, or else the same bytes."""
    digests, before = old.sha256, old.table
    done = np.flatnonzero(old.good().any(axis=1) & ~old.failed).tolist()
    by_id = {before.ids[row]: row for row in done}
    by_digest = {digests[row].tobytes(): row for row in done}
    twins: dict[int, int] = {}
    for row, name in enumerate(table.ids):
        twin = by_id.get(name)
        if twin is None or table.stamp(row) == NO_STAMP or before.stamp(twin) != table.stamp(row):
            try:
                twin = by_digest.get(read_source(images, row)[1].tobytes())
            except DecodeError:
                continue
        if twin is not None:
            twins[row] = twin
    return twins


def copy_rows(old: CodesFile, new: CodesWriter, twins: Mapping[int, int]) -> None:
    """Copy codes from one file to another; `twins` maps a row of the new file to one of the old."""
    digests, good = old.sha256, old.good()
    for name in old.layers:
        column = old.stored_layers.index(old.links.get(name, name))
        rows = np.array([row for row, twin in twins.items() if good[twin, column]], np.int64)
        for part in np.array_split(rows, len(rows) // COPY_ROWS + 1):
            source = np.array([twins[row] for row in part.tolist()], np.int64)
            new.write(part, {new.links.get(name, name): old.codes(name, source)}, digests[source])


def image_table(images: ImageSet) -> ImageTable:
    stats = [_stat(source) for source in images.sources]
    return ImageTable(
        images.ids,
        images.labels,
        images.groups,
        images.splits,
        sizes=[size for size, _ in stats],
        changed=[changed for _, changed in stats],
    )


def _stat(source: Any) -> tuple[int, int]:
    if isinstance(source, Path):
        try:
            stat = source.stat()
            return stat.st_size, max(stat.st_mtime_ns, stat.st_ctime_ns)  # the second also tells of a file moved here
        except OSError:
            pass
    return NO_STAMP


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
