"""The maps of the frozen lower part of a network, kept in a codes file or computed once for all epochs."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cnncodes.codes.file import CodesFile
from cnncodes.codes.maps import Maps
from cnncodes.codes.provenance import Provenance
from cnncodes.errors import MismatchError, ProbeError, parameter
from cnncodes.extraction.in_memory import images_named, matching_network
from cnncodes.extraction.workers import run_batches
from cnncodes.images.image_set import Images
from cnncodes.images.loading import ImageSet, load_images
from cnncodes.networks.backbone import Backbone
from cnncodes.networks.cut import Cut
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.runtime.workload import Workload
from cnncodes.system.memory import memory_left
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import PENULTIMATE, PIXELS

__all__ = ["CachedMaps", "cached_maps", "computed_maps"]

logger = logging.getLogger(__name__)

PIXEL_BATCH = 32  # images that are decoded for a batch, where there is no lower part


@dataclass(frozen=True)
class CachedMaps:
    """What enters the upper part of a network, for each image and view.

    Attributes
    ----------
    values : ndarray or Maps, shape (n, n_views, *map_shape)
        Maps in float16, pixels in uint8, codes in float32. Where there is one view, its axis may be left out.
    map_shape : tuple of int
        Shape of what enters the network for one view of an image.
    preprocessing : Preprocessing, optional
        Normalises pixels; None for maps.
    notes : tuple of str, default=()
        What the user of a model that was trained on them should know.
    """

    values: np.ndarray | Maps
    map_shape: tuple[int, ...]
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()

    @property
    def n_views(self) -> int:
        """Number of views of each image."""
        return math.prod(self.values.shape[1:]) // math.prod(self.map_shape)

    def batch(self, rows: np.ndarray, views: np.ndarray | None = None) -> torch.Tensor:
        """Return what enters the network, in float32.

        Parameters
        ----------
        rows : ndarray of int, shape (m,)
        views : ndarray of int, shape (m,), optional
            The view of each; by default all of them, one image after the other.

        Returns
        -------
        Tensor, shape (m, *map_shape) or (m * n_views, *map_shape)
        """
        picked = self.values[rows] if views is None or self.n_views == 1 else self.values[rows, views]
        tensor = torch.from_numpy(np.ascontiguousarray(picked.reshape(-1, *self.map_shape)))
        tensor = tensor.float() if self.preprocessing is None else self.preprocessing.normalise(tensor)
        return tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def cached_maps(
    file: CodesFile,
    rows: np.ndarray,
    cut: Cut,
    images: Images | None,
    *,
    allow_outside: bool = False,
    weights: str | os.PathLike[str] | None = None,
    device: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> CachedMaps:
    """Return the maps of some images of a codes file: those that it keeps, or else computed from the images.

    What the file keeps is read when a batch asks for it, and takes no memory. The codes of `penultimate` are the maps
    of a network whose head alone is trained, unless that takes maps.

    Parameters
    ----------
    file : CodesFile
    rows : ndarray of int, shape (n,)
    cut : Cut
        Says of which layer.
    images : path, sequence, ndarray or ImageSet, or None
        The images that the codes file was made from; they are read only if the file does not keep the maps.
    allow_outside, weights, device, workers, progress
        As for `cnncodes.finetuning.finetune.finetune`.

    Raises
    ------
    MismatchError
        The images are not those of the file.
    ProbeError
        Memory does not hold the maps, or there is nothing to compute them from.
    CodesFileError
        Maps that the file keeps are damaged.
    """
    if (kept := _kept_maps(file, rows, cut)) is not None:
        return kept
    keep = parameter("maps", [cut.below], of="extract")
    if images is None:
        or_keep = "" if cut.below == PIXELS else f", or let the file keep them: {keep}"
        raise ProbeError(
            f"{file.path}: keeps no maps of {cut.below}; name the images that it was made from "
            f"({parameter('images', 'photos/')}){or_keep}"
        )
    if cut.below != PIXELS:
        logger.warning("the maps of %s are computed from the images; to keep them for other runs: %s", cut.below, keep)
    image_set = load_images(images, labelled=False, allow_outside=allow_outside)
    chosen = images_named(image_set, file.ids[rows].tolist(), file.path)
    options: dict[str, Any] = {"weights": weights, "device": device, "workers": workers, "progress": progress}
    return computed_maps(chosen, file.provenance, cut, digests=file.sha256[rows], source=str(file.path), **options)


def computed_maps(
    images: ImageSet,
    provenance: Provenance,
    cut: Cut,
    *,
    digests: np.ndarray | None = None,
    source: str = "memory",
    weights: str | os.PathLike[str] | None = None,
    device: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> CachedMaps:
    """Return the maps of images that have codes, computed by the network of the codes.

    Parameters
    ----------
    images : ImageSet
    provenance : Provenance
        Provenance of the codes.
    cut : Cut
        Says of which layer.
    digests : ndarray of uint8, shape (n, 32), optional
        Digests of the images that the codes are of.
    source : str, default="memory"
        Where the codes are, for messages.
    weights, device, workers, progress
        As for `cached_maps`.

    Raises
    ------
    MismatchError, ProbeError
        As for `cached_maps`.
    """
    n_views = math.prod(provenance.preprocessing.middle_axis)
    dtype = np.dtype(np.uint8 if cut.below == PIXELS else np.float16)
    shape = (len(images), n_views, *cut.map_shape)
    needed = math.prod(shape) * dtype.itemsize
    if needed > (left := memory_left()):
        raise ProbeError(
            f"the maps of {cut.below} of {len(images)} images take {needed / 1e9:.1f} GB, and {left / 1e9:.1f} GB "
            "of memory are free; train fewer layers, or take smaller images (--image-size)"
        )
    as_maps: dict[str, Any] = {"layers": (cut.below,), "maps": (), "pooling": "flatten"}
    as_maps |= {"precision": "fp32", "dtype": "float16"}
    network = matching_network(
        provenance,
        Workload(len(images), workers),
        weights=weights,
        device=device,
        changes={"maps": ()} if cut.below == PIXELS else as_maps,
    )
    runner = _PixelsOnly(network.backbone) if cut.below == PIXELS else network
    values = np.empty(shape, dtype)
    for batch in run_batches(images, np.arange(len(images)), runner, workers=workers, progress=progress):  # type: ignore[arg-type]
        for row, (reason, _) in batch.failures.items():
            raise MismatchError(f"{images.ids[row]}: {reason}; {source} has codes of it")
        if digests is not None and (changed := (batch.sha256 != digests[batch.rows]).any(axis=1)).any():
            raise MismatchError(
                f"{images.ids[batch.rows[changed][0]]} is another image than in {source}; extract again"
            )
        maps = batch.codes[cut.below]
        if maps.dtype.itemsize > dtype.itemsize:
            raise ProbeError(f"the map of {cut.below} is too large for float16 numbers; train from another layer")
        values[batch.rows] = _in_shape(maps, n_views, cut.map_shape)
    return CachedMaps(values, cut.map_shape, network.backbone.preprocessing if cut.below == PIXELS else None)


def _kept_maps(file: CodesFile, rows: np.ndarray, cut: Cut) -> CachedMaps | None:
    """Return the maps that a codes file keeps, each row compared with its checksum; None without any."""
    values: np.ndarray | Maps
    notes: tuple[str, ...] = ()
    if cut.below == PENULTIMATE and len(cut.map_shape) == 1:
        name, values = PENULTIMATE, file.codes(PENULTIMATE, rows)
    elif name := next((name for name in file.map_layers if name in cut.names), ""):
        values = file.maps(name, rows)
        values.check()
        if (precision := file.provenance.precision) != "fp32":
            notes = (f"trained on maps of {name} that were computed in {precision}; the model computes them in fp32",)
    else:
        return None
    shape = values.shape[1 + len(file.views) :]
    if shape != cut.map_shape:
        raise MismatchError(f"{file.path}: {name} has the shape {shape}, and the network gives {cut.map_shape} there")
    return CachedMaps(values, cut.map_shape, notes=notes)


def _in_shape(maps: np.ndarray, n_views: int, map_shape: tuple[int, ...]) -> np.ndarray:
    """Give flat maps their shape; tokens were turned to (D, tokens), as their channels come first."""
    if len(map_shape) != 2:
        return maps.reshape(-1, n_views, *map_shape)
    return maps.reshape(-1, n_views, *map_shape[::-1]).swapaxes(-1, -2)


class _PixelsOnly:
    """Stands for a network whose lower part is empty: its maps are the pixels."""

    batch_size = PIXEL_BATCH

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    def warm_up(self, n_images: int) -> None:
        """Do nothing."""

    def __call__(self, pixels: torch.Tensor, replica: int) -> dict[str, np.ndarray]:
        return {PIXELS: pixels.numpy()}
