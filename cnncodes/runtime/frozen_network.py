"""Makes a frozen network fast on this device: eval mode, folded batch normalisation, channels-last, precision."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx, nn

from cnncodes.errors import DeviceError, SettingError, first_line, nearest
from cnncodes.networks.pooling import POOLINGS
from cnncodes.runtime.compilation import FEWEST, compiled, pays
from cnncodes.runtime.devices import devices_of, resolve_device
from cnncodes.runtime.first_pass import first_pass
from cnncodes.runtime.forward import Forward, fold
from cnncodes.runtime.fusion import can_be_fused, fused
from cnncodes.runtime.precision import (
    LEADING,
    MIN_COSINE,
    PRECISIONS,
    fits_float16,
    has_fast_bf16,
    largest_difference,
    lowered,
    lowest_cosine,
    reference_photos,
)

if TYPE_CHECKING:
    from cnncodes.networks.backbone import Backbone

__all__ = ["FrozenNetwork"]

logger = logging.getLogger(__name__)

DTYPES = ("auto", "float16", "float32")
BATCH_SIZES = {"cpu": 8, "cuda": 64, "mps": 32}  # on a CPU a batch whose maps stay in the cache is the fastest
# Bytes. In a worker thread, glibc takes new memory from the system for each map that is larger, all of it zeroed first.
LARGEST_MAP = 32 << 20
# By how much fused codes may differ, relative to the largest: in float32 they are only summed in another order.
SAME_FUSED = {"fp32": 1e-3, "bf16": 0.25}
SAME_COMPILED = 0.9995  # cosine; in bfloat16 the compiler rounds at other places


class FrozenNetwork:
    """A backbone, cut after its deepest wanted layer, that turns a batch of pixels into pooled codes.

    The code of an image depends on that image alone: each batch is padded to `batch_size`, so the same kernels run
    whatever the other images are.

    Parameters
    ----------
    backbone : Backbone
    layers : sequence of str
    pooling : str
        One of `POOLINGS`, for all layers.
    device : str
        Of ``cuda`` without a number, all GPUs are used.
    precision : {"auto", "fp32", "bf16", "fp16"}
        ``auto`` is bfloat16 where the device is fast at it and the codes agree with those in float32.
    batch_size : int, optional
        8 on a CPU, or fewer where the maps are large; 64 on a GPU, halved until a batch fits into its memory.
    dtype : {"auto", "float16", "float32"}
        Of the codes; ``auto`` is float16 for each layer whose codes it holds.
    compiled : bool
        Compile the forward pass before the first batch.

    Attributes
    ----------
    layers : dict of str to dict
        ``n_features``, ``pooling``, ``map_shape`` (before pooling) and ``dtype`` of each layer.
    links : dict of str to str
        Layers whose codes are those of another layer, which stands in for them.
    notes : list of str
        What a user should know about precision and compilation.
    """

    def __init__(
        self,
        backbone: Backbone,
        layers: Sequence[str],
        pooling: str = "avg",
        *,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | None = None,
        dtype: str = "auto",
        compiled: bool = False,
    ) -> None:
        for value, known, what in (
            (pooling, POOLINGS, "pooling"),
            (precision, ("auto", *PRECISIONS), "precision"),
            (dtype, DTYPES, "type of codes"),
        ):
            if value not in known:
                raise SettingError(f"no {what} {value!r}.{nearest(value, known)} There are {', '.join(known)}")
        self.backbone = backbone
        self.pooling = pooling
        self.devices = devices_of(resolve_device(device))
        self.device = self.devices[0]
        self.batch_size = batch_size or BATCH_SIZES[self.device.type]
        self._batch_size_is_free = batch_size is None and self.device.type == "cpu"
        self._largest_map = 0  # numbers an image
        self.dtype = dtype
        self.compiled = compiled
        self.notes: list[str] = []
        self._halving = threading.Lock()
        self.precision, self.leading = "fp32", 0
        self._may_fuse = False  # not before there are codes to compare with
        self._wanted: list[str] = []
        self._load(layers)
        try:  # in float32: rounding must not tell equal layers apart
            first = first_pass(self._full, backbone.preprocessing, pooling, self.device)
        except torch.OutOfMemoryError as error:
            raise self._too_small() from error
        self.layers, self.links, self._largest_map = first.layers, first.links, first.largest_map
        self._load([name for name in self.layers if name not in self.links])
        photos = reference_photos(backbone.preprocessing)
        reference = self._codes(photos)
        self._settle_dtypes(dtype, reference)
        self._settle_precision(precision, photos, reference)

    def restrict(self, layers: Sequence[str]) -> None:
        """Compute only these layers from now on, and nothing behind the deepest of them."""
        if layers and set(layers) != set(self._wanted):
            self._load(layers, self.precision, self.leading)

    def _load(self, layers: Sequence[str], precision: str = "fp32", leading: int = 0) -> None:
        if list(layers) != self._wanted:
            self._wanted = list(layers)
            extractor, self.folded = fold(self.backbone.extractor(layers))
            self._full = extractor.to(self.device).to(memory_format=torch.channels_last)
        self._lower(precision, leading)

    def _lower(self, precision: str, leading: int) -> None:
        dtype = PRECISIONS[precision]
        if self._batch_size_is_free:
            fitting = LARGEST_MAP // max(1, self._largest_map * dtype.itemsize)
            self.batch_size = min(BATCH_SIZES["cpu"], 2 ** int(math.log2(max(1, fitting))))
        module = self._full if dtype == torch.float32 else lowered(self._full, dtype, leading)
        self.fused = self._may_fuse and can_be_fused(module, self.device, dtype)
        about = self.backbone.preprocessing, self.pooling, dtype
        self._unfused = Forward(module, *about)
        self._plain: list[nn.Module] = [Forward(fused(module), *about) if self.fused else self._unfused]
        self._forwards = self._plain  # or compiled
        self._is_warm = False

    def __call__(self, pixels: torch.Tensor, replica: int = 0) -> dict[str, np.ndarray]:
        """Compute the codes of images. Safe to call from several threads.

        Parameters
        ----------
        pixels : Tensor of uint8, shape (n, 3, S, S) or (n, n_views, 3, S, S)
        replica : int
            After `warm_up`, the network is on several GPUs: this one of `devices` is used, counted in a circle.

        Returns
        -------
        dict of str to ndarray, shape (n, n_features) or (n, n_views, n_features)
            One entry for each layer that is no link, or that `restrict` left; of the layer's dtype, or of float32
            where a code is too large for it.
        """
        codes = self._codes(pixels.flatten(0, -4), replica % len(self._forwards))
        return {
            name: _rounded(values, self.layers[name]["dtype"]).reshape(*pixels.shape[:-3], -1)
            for name, values in codes.items()
        }

    def _codes(self, pixels: torch.Tensor, replica: int = 0) -> dict[str, np.ndarray]:
        while True:
            size = self.batch_size
            with contextlib.suppress(torch.OutOfMemoryError):  # and forgotten, as it keeps the memory of what failed
                batches = [self._batch(part, size, replica) for part in pixels.split(size)]
                return {name: np.concatenate([batch[name] for batch in batches]) for name in self._wanted}
            self._halve(size)

    def _batch(self, pixels: torch.Tensor, size: int, replica: int) -> dict[str, np.ndarray]:
        n, on_gpu = len(pixels), self.device.type == "cuda"
        batch = torch.zeros((size, *pixels.shape[1:]), dtype=torch.uint8, pin_memory=on_gpu)
        batch[:n] = pixels
        with torch.inference_mode():
            codes = self._forwards[replica](batch.to(self.devices[replica], non_blocking=on_gpu))
        return {name: codes[name][:n].cpu().numpy() for name in self._wanted}

    def _halve(self, size: int) -> None:
        """Take half of `size` images at once from now on, uncompiled: a compiled network is of one size."""
        if size == 1:
            raise self._too_small()
        torch.cuda.empty_cache()
        with self._halving:
            if self.batch_size != size:  # another thread has been here
                return
            if self._forwards is not self._plain:
                self._forwards, self.compiled = self._plain, False
            self.batch_size = size // 2
            self.notes.append(f"{size} images at once are too many for the memory of {self.device}: now {size // 2}")
            logger.warning(self.notes[-1])

    def _too_small(self) -> DeviceError:
        return DeviceError(
            f"{self.device}: its memory does not hold one image of {self.backbone.preprocessing.image_size} pixels "
            "a side on its way through the network; free it, or try a smaller --image-size, or --device cpu"
        )

    def describe(self) -> dict[str, Any]:
        """Return what decides the bits of the codes beside the weights, ready for JSON."""
        return {
            "layers": self.layers,
            "links": self.links,
            "pooling": self.pooling,
            "precision": self.precision,
            "dtype": self.dtype,
            "runtime": {
                "device": self.device.type,
                "batch_size": self.batch_size,
                "memory_format": "channels_last",
                "folded": self.folded,
                "leading_float32": self.leading,
                "fused": self.fused and not self.compiled,
                "compiled": self.compiled,
            },
        }

    def compile_where_it_pays(self, n_images: int, workers: int) -> None:
        """Decide whether to compile, from the time that a batch takes as it is.

        Parameters
        ----------
        n_images, workers : int
            To be run, and that run at the same time.
        """
        preprocessing = self.backbone.preprocessing
        n_squares = n_images * math.prod(preprocessing.middle_axis)
        if not self.can_be_compiled or n_squares < FEWEST:
            why = f"fewer than {FEWEST} images" if self.can_be_compiled else "the network cannot be traced"
            logger.info("not compiled: %s", why)
            return
        size = preprocessing.image_size
        noise = torch.zeros((self.batch_size, 3, size, size), dtype=torch.uint8)
        at_once = workers if self.device.type == "cpu" else len(self.devices)
        self.compiled = pays(lambda: self._codes(noise), n_squares / self.batch_size, at_once, fused=self.fused)

    @property
    def can_be_compiled(self) -> bool:
        """Whether it is worth a try: the compiler stops at the hooks of a network that could not be traced."""
        return isinstance(self._full, fx.GraphModule)

    def warm_up(self) -> None:
        """Take up all devices, and compile if that was decided; on the thread count that the network is to run with.

        Where compiling fails, a note says so, and the network runs uncompiled: the codes differ by rounding only.
        """
        if self._is_warm:
            return
        self._is_warm = True
        self._plain += [copy.deepcopy(self._plain[0]).to(device) for device in self.devices[1:]]
        if self.compiled:
            self._compile()

    def _compile(self) -> None:
        started = time.perf_counter()
        plain = self._plain
        photos = reference_photos(self.backbone.preprocessing)
        example = photos[:1].repeat(self.batch_size, 1, 1, 1)
        expected = self._codes(photos)
        try:
            sources = [self._unfused, *plain[1:]]  # the compiler fuses by itself
            self._forwards = [
                compiled(forward, example.to(device)) for forward, device in zip(sources, self.devices, strict=True)
            ]
            agreement = min(lowest_cosine(expected, self._codes(photos, i)) for i in range(len(plain)))
            if agreement < SAME_COMPILED:
                raise RuntimeError(f"its codes agree with the uncompiled ones only to cosine {agreement:.5f}")
            logger.info("compiled in %.0f s", time.perf_counter() - started)
        except Exception as error:  # a missing compiler, an operation that cannot be compiled, …
            self._forwards, self.compiled = plain, False
            self.notes.append(f"the network could not be compiled, and runs as it is ({first_line(error)})")
            logger.warning(self.notes[-1])

    def _settle_dtypes(self, asked: str, reference: Mapping[str, np.ndarray]) -> None:
        for name, layer in self.layers.items():
            layer["dtype"] = asked
            if asked == "auto":
                fits = fits_float16(reference[self.links.get(name, name)])
                layer["dtype"] = "float16" if fits else "float32"
                if not fits:
                    self.notes.append(f"the codes of {name} are kept in float32: float16 does not hold their range")

    def _settle_precision(self, asked: str, photos: torch.Tensor, reference: Mapping[str, np.ndarray]) -> None:
        """Choose how many of the first layers need float32, if the rest is to run in fewer bits.

        The `penultimate` codes decide, whatever layers are wanted: so those of all files agree.
        """
        if asked == "fp32" or (asked == "auto" and not has_fast_bf16(self.device)):
            logger.info("fp32: %s", "as asked" if asked == "fp32" else f"{self.device} is not fast at bf16")
            self._settle_fusion(photos, reference)
            return
        precision = "bf16" if asked == "auto" else asked
        wanted = self._wanted
        if wanted != ["penultimate"]:
            self._load(["penultimate"])
            reference = self._codes(photos)
        self._may_fuse = True
        leading, agreement = self._lower_until_agreed(precision, photos, reference)
        if not agreement >= MIN_COSINE:
            self._settle_fusion(photos, reference)
            if not self._may_fuse or not agreement:  # that may have been the reason
                self._may_fuse = False
                leading, agreement = self._lower_until_agreed(precision, photos, reference)
        if agreement >= MIN_COSINE or asked != "auto":
            self.precision, self.leading = precision, leading
        if not agreement >= MIN_COSINE:
            agrees = f"the codes in {precision} agree with float32 to cosine {agreement:.4f} only"
            self.notes.append(f"computed in {self.precision}; {agrees}")
        self._load(wanted, self.precision, self.leading)

    def _lower_until_agreed(
        self, precision: str, photos: torch.Tensor, reference: Mapping[str, np.ndarray]
    ) -> tuple[int, float]:
        """Keep more and more of the first layers in float32 until codes agree; return how many, and the cosine."""
        for leading in LEADING:
            self._lower(precision, leading)
            agreement = self._agreement(precision, photos, reference)
            logger.info("%s, %d first layers in float32: lowest cosine %.5f", precision, leading, agreement)
            if agreement >= MIN_COSINE:
                break
        return leading, agreement

    def _settle_fusion(self, photos: torch.Tensor, reference: Mapping[str, np.ndarray]) -> None:
        """Fuse in float32, unless that changes the codes by more than another order of summation does."""
        self._may_fuse = True
        self._lower("fp32", 0)
        if self.fused and not self._agreement("fp32", photos, reference):
            self._may_fuse = False
            self._lower("fp32", 0)
            self.notes.append("convolutions run by themselves: fused with what follows them, the codes would be others")

    def _agreement(self, precision: str, photos: torch.Tensor, reference: Mapping[str, np.ndarray]) -> float:
        """Return the lowest cosine to the codes in float32; 0 where fusing has gone wrong."""
        try:
            codes = self._codes(photos)
        except RuntimeError as error:  # of an operation of oneDNN
            if not self.fused:
                raise
            logger.info("fused convolutions do not run: %s", error)
            return 0.0
        if self.fused and not largest_difference(reference, codes) <= SAME_FUSED[precision]:
            return 0.0
        return lowest_cosine(reference, codes)


def _rounded(codes: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        rounded = codes.astype(dtype)
    return codes if np.isinf(rounded).any() else rounded
