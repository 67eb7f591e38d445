"""The maps of the frozen lower part of a network, computed once for all epochs."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cnncodes.codes.file import CodesFile
from cnncodes.errors import MismatchError, ProbeError
from cnncodes.extraction.in_memory import matching_network
from cnncodes.extraction.workers import run_batches
from cnncodes.images.image_set import Images
from cnncodes.images.loading import ImageSet, load_images
from cnncodes.networks.backbone import Backbone
from cnncodes.networks.cut import Cut
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.runtime.workload import Workload
from cnncodes.system.memory import memory_left
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import PIXELS

__all__ = ["CachedMaps", "cached_maps"]

PIXEL_BATCH = 32  # images that are decoded for a batch, where there is no lower part


@dataclass(frozen=True)
class CachedMaps:
    """What enters the upper part of a network, for each image and view.

    Attributes
    ----------
    values : ndarray of float16, shape (n, n_views, *map_shape)
        Maps; pixels are uint8.
    preprocessing : Preprocessing
        Normalises pixels.
    """

    values: np.ndarray
    preprocessing: Preprocessing

    @property
    def n_views(self) -> int:
        """Number of views of each image."""
        return int(self.values.shape[1])

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
        if views is None:
            picked = self.values[rows].reshape(-1, *self.values.shape[2:])
        else:
            picked = self.values[rows, views]
        tensor = torch.from_numpy(np.ascontiguousarray(picked))
        tensor = self.preprocessing.normalise(tensor) if tensor.dtype == torch.uint8 else tensor.float()
        return tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def cached_maps(
    file: CodesFile,
    rows: np.ndarray,
    cut: Cut,
    images: Images | None,
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> CachedMaps:
    """Return the maps of some images of a codes file, computed from these images by the network of the file.

    Parameters
    ----------
    file : CodesFile
    rows : ndarray of int, shape (n,)
    cut : Cut
        Says of which layer.
    images : path, sequence, ndarray or ImageSet, or None
        The images that the codes file was made from.
    weights, device, workers, progress
        As for `cnncodes.finetuning.finetune.finetune`.

    Raises
    ------
    MismatchError
        The images are not those of the file.
    ProbeError
        Memory does not hold the maps, or there is nothing to compute them from.
    """
    if images is None:
        raise ProbeError(
            f"{file.path}: keeps no maps of {cut.below}; name the images that it was made from (--images photos/)"
        )
    n_views = math.prod(file.provenance.preprocessing.middle_axis)
    dtype = np.dtype(np.uint8 if cut.below == PIXELS else np.float16)
    shape = (len(rows), n_views, *cut.map_shape)
    needed = math.prod(shape) * dtype.itemsize
    if needed > (left := memory_left()):
        raise ProbeError(
            f"the maps of {cut.below} of {len(rows)} images take {needed / 1e9:.1f} GB, and {left / 1e9:.1f} GB "
            "of memory are free; train fewer layers, or take smaller images (--image-size)"
        )
    chosen = _images_of(file, rows, images)
    as_maps: dict[str, Any] = {"layers": (cut.below,), "pooling": "flatten", "precision": "fp32", "dtype": "float16"}
    network = matching_network(
        file.provenance,
        Workload(len(rows), workers),
        weights=weights,
        device=device,
        changes={} if cut.below == PIXELS else as_maps,
    )
    runner = _PixelsOnly(network.backbone) if cut.below == PIXELS else network
    values, digests = np.empty(shape, dtype), file.sha256[rows]
    for batch in run_batches(chosen, np.arange(len(rows)), runner, workers=workers, progress=progress):  # type: ignore[arg-type]
        for row, (reason, _) in batch.failures.items():
            raise MismatchError(f"{chosen.ids[row]}: {reason}; {file.path} has codes of it")
        if (batch.sha256 != digests[batch.rows]).any():
            changed = batch.rows[(batch.sha256 != digests[batch.rows]).any(axis=1)]
            raise MismatchError(f"{chosen.ids[changed[0]]} is another image than in {file.path}; extract again")
        maps = batch.codes[cut.below]
        if maps.dtype.itemsize > dtype.itemsize:
            raise ProbeError(f"the map of {cut.below} is too large for float16 numbers; train from another layer")
        values[batch.rows] = _in_shape(maps, n_views, cut.map_shape)
    return CachedMaps(values, network.backbone.preprocessing)


def _images_of(file: CodesFile, rows: np.ndarray, images: Images) -> ImageSet:
    image_set = load_images(images, labelled=False)
    place = {name: i for i, name in enumerate(image_set.ids)}
    wanted = file.ids[rows].tolist()
    if missing := [name for name in wanted if name not in place]:
        raise MismatchError(
            f"{missing[0]!r} and {len(missing) - 1} more images of {file.path} are not among the images that are "
            "given; name the folder or the table that it was made from"
        )
    return image_set.take([place[name] for name in wanted])


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
