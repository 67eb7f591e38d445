"""Runs each image once through a frozen network: images in, a codes file out, resumable at any moment."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.codes.provenance import Provenance
from cnncodes.codes.provenance_parts import ShardProvenance
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import CodesFileError, CodesRangeError, parameter
from cnncodes.extraction.engine import Cluster, NodeRate, ThisProcess, Work
from cnncodes.extraction.fill import fill, fill_thumbnails
from cnncodes.extraction.prepare import prepare, widen
from cnncodes.extraction.reuse import Reuse, match_rows
from cnncodes.extraction.settings import (
    Settings,
    fill_in,
    inherited,
    provenance_of,
)
from cnncodes.extraction.shards import refuse_other_part, shard_of
from cnncodes.extraction.stamps import image_table
from cnncodes.extraction.workers import IMAGE_TIMEOUT
from cnncodes.images.decoding import MAX_PIXELS
from cnncodes.images.image_set import Images
from cnncodes.images.loading import ImageSet, load_images
from cnncodes.runtime.workload import Workload
from cnncodes.system.places import refuse_device, refuse_folder_name, refuse_url
from cnncodes.system.progress import Progress

__all__ = ["Extraction", "extract"]


@dataclass
class Extraction:
    """What `extract` did.

    Attributes
    ----------
    path : Path
        The codes file.
    n, ok, failed : int
        Number of images, of images with codes, and of images that could not be read.
    computed : int
        Number of images that ran through the network now; the other codes were there already.
    layers : dict of str to int
        Code length of each layer.
    seconds : float
    notes : list of str
        What a user should know: skipped files, remarks about the weights.
    failures : dict of str to str
        Reason by id.
    nodes : list of NodeRate
        What each machine of a cluster has computed: ``name``, ``images``, ``images_per_second``. Without a cluster it
        is empty.
    """

    path: Path
    n: int
    ok: int
    failed: int
    computed: int
    layers: dict[str, int]
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    nodes: list[NodeRate] = field(default_factory=list)


def extract(
    images: Images,
    out: str | os.PathLike[str] = "codes.h5",
    *,
    labels: Sequence[str] | None = None,
    allow_outside: bool = False,
    backbone: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    layers: str | Sequence[str] | None = None,
    maps: str | Sequence[str] | None = None,
    pooling: str | None = None,
    image_size: int | None = None,
    resize: str | None = None,
    views: str | None = None,
    precision: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    exact_decode: bool | None = None,
    ignore_profiles: bool | None = None,
    compile: bool | None = None,
    allow_partial: bool | None = None,
    workers: int | None = None,
    image_timeout: float = IMAGE_TIMEOUT,
    max_pixels: int = MAX_PIXELS,
    retry_failed: bool = False,
    shard: tuple[int, int] | None = None,
    prune: bool = False,
    add: bool = False,
    thumbnails: bool | None = None,
    cluster: Cluster | None = None,
    progress: Progress | None = None,
) -> Extraction:
    """Compute the codes of images and keep them in a codes file.

    An existing `out` is continued: its codes are kept, and those of new or changed images and of added layers are
    computed. A setting that is None is taken from `out` if that holds the same images (at least one, byte by byte);
    otherwise it has the default that is named below. A renamed image keeps its codes. If codes of images that are not
    given would be lost, `out` is refused.

    Parameters
    ----------
    images : path, sequence, ndarray or ImageSet
        Folder of class folders, ``train`` and ``test`` folders of those, CSV or TSV manifest, one file, ``.npy`` or
        ``.npz``; or paths, PIL images, or uint8 arrays. Paths may be URLs, as ``s3://bucket/photos/``.
    out : path, default="codes.h5"
        The codes file to write or to continue.
    labels : sequence of str, optional
        Label of each image, for images given as a sequence or array.
    allow_outside : bool, default=False
        Let a manifest name files outside its folder.
    backbone : str, optional
        A classification network of torchvision, ``timm:NAME``, or one given to `register_backbone`; by default
        ``"mobilenet_v2"``.
    weights : str or path, optional
        A name of weights, or a file; by default the first choice for the backbone.
    layers : str or sequence of str, optional
        Module paths or aliases; ``layer1`` … ``layer4`` and ``penultimate`` by default.
    maps : str or sequence of str, optional
        Layers whose feature maps are kept as they are, too, in float16, from the same pass; none by default. Their
        size is logged before the first image is read. An image whose map float16 does not hold is recorded as failed.
    pooling : {"avg", "max", "gem", "grid2", "flatten", "cls", "patches", "cls+patches"}, optional
        What makes a vector of a feature map, or of tokens; by default ``"avg"``, the average. By default a vision
        transformer is read as its authors do: its class token, the mean of its patches, or both.
    image_size : int, optional
        Side in pixels of the square that enters the network; by default that of the weights, 224 for DINOv2. Vision
        transformers take any multiple of their patches, and their positions are interpolated.
    resize : {"crop", "pad", "squash"}, optional
        How an image becomes square; by default as the weights were evaluated, which is ``"crop"``.
    views : {"none", "flip", "10crop"}, optional
        Keep the codes of the image alone; also of its mirror image; or of ten crops. By default ``"none"``: the image
        alone.
    precision : {"auto", "fp32", "bf16", "fp16"}, optional
        By default ``"auto"``, which lowers the precision if that is faster here and the codes stay the same.
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, optional
        By default ``"auto"``: CUDA devices if there are any, else the processor. ``"cuda"`` uses every GPU;
        ``"cuda:1"`` uses that one.
    batch_size : int, optional
        Images that go through the network together; by default what suits the device.
    dtype : {"auto", "float16", "float32"}, optional
        Storage type of the codes; by default ``"auto"``: float16 for each layer whose codes it holds, else float32.
    exact_decode : bool, optional
        Decode JPEG at full size and resize with Pillow: bit for bit the pixels of the weights' own transform. By
        default False.
    ignore_profiles : bool, optional
        Let the numbers of images count as sRGB, whatever colour profile is embedded in them, as the weights' own
        transform does; by default False: colours are converted to sRGB.
    compile : bool, optional
        Compile the network; by default if that saves more time than it takes.
    allow_partial : bool, optional
        Accept a weights file that lacks parameters; by default False.
    workers : int, optional
        Threads, each of which decodes and runs whole batches; one a core by default. Does not change the codes.
    image_timeout : float, default=60.0
        Seconds for one image to be read, and for it to be decoded; one that takes longer is recorded as failed.
    max_pixels : int, default=120_000_000
        An image file of more pixels is recorded as failed before they are decoded.
    retry_failed : bool, default=False
        Try the images again that are recorded as failed.
    shard : (int, int), optional
        Extract only part i of n, counted from 1; `merge` joins the parts.
    prune : bool, default=False
        Drop the rows of `out` whose images are not given.
    add : bool, default=False
        Keep all rows of `out` that hold codes, with their labels, groups and splits, and add those of the images. A
        name that would stand for two images is refused.
    thumbnails : bool, optional
        Keep a small picture of each image as well (4.6 kB each): by it, near-duplicates are found, and shown, without
        the images. By default as in `out`; a new file keeps them.
    cluster : RayCluster, optional
        Machines that compute the codes; by default this one. `out` is written by this process alone; on machines of one
        kind, it has the same content.
    progress : callable, optional
        Called with (done, total, failed) after each batch.

    Returns
    -------
    Extraction
        What was done: counts, code lengths, remarks and failures.

    Raises
    ------
    ImagesError, BackboneError, WeightsError, SettingError, DeviceError, MissingLibraryError
        Before anything is written.
    MismatchError
        `out` was made with other settings.
    CodesFileError
        `out` is no codes file, is being written by another process, or cannot be written; or codes of images that are
        not given would be lost.

    Examples
    --------
    >>> extract("photos/", "codes.h5", backbone="resnet50", layers=["layer3", "penultimate"])  # doctest: +SKIP
    """
    started = time.perf_counter()
    refuse_url(out, "a codes file", writing=True, error_type=CodesFileError)
    refuse_folder_name(out)
    refuse_device(out)
    settings = Settings(
        backbone=backbone,
        weights=None if weights is None else os.fspath(weights),
        layers=layers,
        maps=maps,
        pooling=pooling,
        image_size=image_size,
        resize=resize,
        views=views,
        precision=precision,
        device=device,
        batch_size=batch_size,
        dtype=dtype,
        exact_decode=exact_decode,
        ignore_profiles=ignore_profiles,
        compile=compile,
        allow_partial=allow_partial,
    )
    image_set = load_images(images, labels=labels, allow_outside=allow_outside)
    work = Work(workers, image_timeout, max_pixels)
    rest: dict[str, Any] = {"shard": shard, "prune": prune, "add": add, "thumbnails": thumbnails}
    task = _Task(Path(out), image_set, settings, **rest, work=work, cluster=cluster or ThisProcess())
    try:
        extraction = task.run(retry_failed, progress)
    except CodesRangeError:
        if not widen(task.out):
            raise
        extraction = replace(task, settings=replace(settings, dtype="float32")).run(retry_failed, progress)
        extraction.notes.append(
            "float16 does not hold the codes of some images: the file now has float32; codes that were there before "
            "stay rounded to float16"
        )
    extraction.seconds = time.perf_counter() - started
    return extraction


@dataclass(frozen=True)
class _Task:
    """Which images to extract, how, and into which file."""

    out: Path
    images: ImageSet
    settings: Settings
    shard: tuple[int, int] | None
    prune: bool
    add: bool
    thumbnails: bool | None
    work: Work
    cluster: Cluster

    def run(self, retry_failed: bool, progress: Progress | None) -> Extraction:
        """Lay the file out, compute the rows that it lacks, and say what was done."""
        images, shard = (self.images, None) if self.shard is None else shard_of(self.images, self.shard)
        old, plan = self._plan(images, shard)
        workload = Workload(len(self.images), self.work.workers, parts=self.shard and self.shard[1])
        with self.cluster.start(fill_in(self.settings, old), workload, warm=old is None) as engine:
            facts = engine.facts
            prepare(self.out, plan, facts.provenance.with_shard(shard), old, thumbnails=self.thumbnails)
            with CodesWriter(self.out) as file:
                rows, missing = file.todo(retry_failed=retry_failed)
                rows = _given(rows, plan.images)
                remarks = fill(file, plan.images, rows, engine, missing, self.work, progress=progress)
                bare = _given(file.without_thumbnail(), plan.images)
                shown: dict[str, Any] = {"max_pixels": self.work.max_pixels, "progress": progress}
                picture_notes = (
                    fill_thumbnails(file, plan.images, bare, facts.preprocessing, **shown) if len(bare) else []
                )
                counts, errors = file.counts, file.errors
                lengths = {name: file.n_features(name) for name in file.layers}
        notes = [
            *plan.images.notes,
            *plan.notes,
            *inherited(self.out, self.settings, old, facts.default_layers, facts.default_pooling),
            *engine.notes,
            *_summary(remarks, plan.images),
            *picture_notes,
        ]
        failures = {plan.images.ids[i]: str(errors[i]) for i in np.flatnonzero(errors != "")}
        done = {"n": len(plan.images), "ok": counts["ok"], "failed": counts["failed"], "computed": len(rows)}
        return Extraction(path=self.out, **done, layers=lengths, notes=notes, failures=failures, nodes=[*engine.nodes])

    def _plan(self, images: ImageSet, shard: ShardProvenance | None) -> tuple[Provenance | None, Reuse]:
        """Return the provenance of the file that is continued, or None, and how the images match its rows."""
        if self.prune and self.add:
            raise CodesFileError(
                f"{self.out}: {parameter('prune', True)} and {parameter('add', True)} exclude each other"
            )
        old = provenance_of(self.out)
        if old is None:
            return None, Reuse(images, image_table(images))
        refuse_other_part(self.out, old, shard, add=self.add)
        plan = match_rows(self.out, images, prune=self.prune, add=self.add)
        return old if plan.same_set or self.prune or self.add else None, plan


def _given(rows: np.ndarray, images: ImageSet) -> np.ndarray:
    """Return the rows whose images are at hand."""
    return rows[[images.sources[row] is not None for row in rows.tolist()]]


def _summary(remarks: Mapping[int, Sequence[str]], images: ImageSet) -> list[str]:
    """Return each remark once, with its first image and how many more there are."""
    rows: dict[str, list[int]] = {}
    for row, texts in sorted(remarks.items()):
        for text in texts:
            rows.setdefault(text, []).append(row)
    more = {remark: f" and {len(rest)} more" for remark, (_, *rest) in rows.items() if rest}
    return [f"{images.ids[first]}{more.get(remark, '')}: {remark}" for remark, (first, *_) in rows.items()]
