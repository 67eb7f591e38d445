"""Runs each image once through a frozen network: images in, a codes file out, resumable at any moment."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cnncodes.errors import CodesFileError, CodesRangeError
from cnncodes.extraction.engine import Cluster, ThisProcess, Work
from cnncodes.extraction.prepare import widen
from cnncodes.extraction.settings import Settings
from cnncodes.extraction.task import Extraction, Task
from cnncodes.extraction.workers import IMAGE_TIMEOUT
from cnncodes.images.decoding import MAX_PIXELS
from cnncodes.images.image_set import Images
from cnncodes.images.loading import load_images
from cnncodes.system.places import refuse_device, refuse_folder_name, refuse_url
from cnncodes.system.progress import Progress

__all__ = ["Extraction", "extract"]


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
    task = Task(Path(out), image_set, settings, **rest, work=work, cluster=cluster or ThisProcess())
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
