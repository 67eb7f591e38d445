"""Makes a frozen network fast on this device: eval mode, folded batch normalisation, channels-last, precision."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from cnncodes.compilation import FEWEST, compiled, pays
from cnncodes.errors import BackboneError, nearest
from cnncodes.precision import (
    LEADING,
    MIN_COSINE,
    PRECISIONS,
    fits_float16,
    has_fast_bf16,
    lowered,
    lowest_cosine,
    reference_photos,
)

if TYPE_CHECKING:
    from cnncodes.backbones import Backbone
    from cnncodes.preprocess import Preprocessing

__all__ = ["POOLINGS", "PRECISIONS", "FrozenNetwork", "pool", "resolve_device"]

logger = logging.getLogger(__name__)

GEM_POWER = 3.0  # Radenović, Tolias, Chum 2018: the generalised mean lies between the average (1) and the maximum (∞)
DTYPES = ("auto", "float16", "float32")
POOLINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {  # (n, C, H, W) -> (n, n_features)
    "avg": lambda maps: maps.mean(dim=(2, 3)),
    "max": lambda maps: maps.amax(dim=(2, 3)),
    "gem": lambda maps: maps.clamp(min=1e-6).pow(GEM_POWER).mean(dim=(2, 3)).pow(1 / GEM_POWER),
    "grid2": lambda maps: nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1),
    "flatten": lambda maps: maps.flatten(1),
}
BATCH_SIZES = {"cpu": 8, "cuda": 64, "mps": 32}  # on a CPU a batch whose maps stay in the cache is the fastest
SAME_COMPILED = 0.9995  # cosine; in bfloat16 the compiler rounds at other places
SAME_CODES = 1e-5  # two layers hold the same codes when they differ by no more than this, relative to the largest


def pool(x: torch.Tensor, pooling: str) -> torch.Tensor:
    """Turn the output of a layer into one float32 vector an image.

    Parameters
    ----------
    x : Tensor, shape (n, C, H, W), (n, tokens, D) or (n, D)
        Vectors are returned as they are.
    pooling : {"avg", "max", "gem", "grid2", "flatten"}
        Mean, maximum, generalised mean (power 3), means of the 2 × 2 quarters, or the whole map in (C, H, W) order.

    Returns
    -------
    Tensor of float32, shape (n, n_features)
    """
    x = x.float()
    if x.ndim == 2:
        return x
    if x.ndim == 3:  # tokens take the place of pixels
        x = x.transpose(1, 2).unsqueeze(-1)
    return POOLINGS[pooling](x)


def resolve_device(device: str) -> torch.device:
    """Return the torch device for ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; never another than was named.

    Raises
    ------
    BackboneError
        The device is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BackboneError(f"device {device!r} cannot be used here ({reason}); try --device auto") from error


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
    precision : {"auto", "fp32", "bf16", "fp16"}
        ``auto`` is bfloat16 where the device is fast at it and the codes agree with those in float32.
    batch_size : int, optional
        8 on a CPU, 64 on a GPU.
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
                raise BackboneError(f"no {what} {value!r}.{nearest(value, known)} There are {', '.join(known)}")
        self.backbone = backbone
        self.pooling = pooling
        self.device = resolve_device(device)
        self.batch_size = batch_size or BATCH_SIZES[self.device.type]
        self.dtype = dtype
        self.compiled = compiled
        self.notes: list[str] = []
        self.precision, self.leading = "fp32", 0
        self._load(layers)
        self.layers, self.links = self._survey()  # in float32: rounding must not tell equal layers apart
        self._load([name for name in self.layers if name not in self.links])
        photos = reference_photos(backbone.preprocessing)
        self._settle_dtypes(dtype, self._all(photos))
        self._settle_precision(precision, photos)

    def restrict(self, layers: Sequence[str]) -> None:
        """Compute only these layers from now on, and nothing behind the deepest of them."""
        if layers and set(layers) != set(self._wanted):
            self._load(layers)
            self._lower(self.precision, self.leading)

    def _load(self, layers: Sequence[str]) -> None:
        self._wanted = list(layers)
        extractor, self.folded = _fold(self.backbone.extractor(layers))
        self._full = extractor.to(self.device).to(memory_format=torch.channels_last)
        self._lower("fp32", 0)

    def _lower(self, precision: str, leading: int) -> None:
        dtype = PRECISIONS[precision]
        module = self._full if dtype == torch.float32 else lowered(self._full, dtype, leading)
        self._forward: nn.Module = _Forward(module, self.backbone.preprocessing, self.pooling, dtype)
        self._is_compiled = False

    def __call__(self, pixels: torch.Tensor) -> dict[str, np.ndarray]:
        """Compute the codes of up to `batch_size` images.

        Parameters
        ----------
        pixels : Tensor of uint8, shape (n, 3, S, S)

        Returns
        -------
        dict of str to ndarray, shape (n, n_features)
            One entry for each layer that is no link, or that `restrict` left; of the layer's dtype, or of float32
            where a code is too large for it.
        """
        return {name: _rounded(codes, self.layers[name]["dtype"]) for name, codes in self._codes(pixels).items()}

    def _codes(self, pixels: torch.Tensor) -> dict[str, np.ndarray]:
        n = len(pixels)
        batch = pixels.new_zeros((self.batch_size, *pixels.shape[1:]))
        batch[:n] = pixels
        with torch.inference_mode():
            codes = self._forward(batch.to(self.device, non_blocking=True))
        return {name: codes[name][:n].cpu().numpy() for name in self._wanted}

    def _all(self, pixels: torch.Tensor) -> dict[str, np.ndarray]:
        batches = [self._codes(batch) for batch in pixels.split(self.batch_size)]
        return {name: np.concatenate([batch[name] for batch in batches]) for name in self._wanted}

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
                "compiled": self.compiled,
            },
        }

    def compile_where_it_pays(self, n_images: int, workers: int) -> None:
        """Decide whether to compile, from the time that a batch takes as it is."""
        if n_images >= FEWEST and isinstance(self._full, torch.fx.GraphModule):
            size = self.backbone.preprocessing.image_size
            noise = torch.zeros((self.batch_size, 3, size, size), dtype=torch.uint8)
            self.compiled = pays(lambda: self._codes(noise), n_images / self.batch_size, workers)

    def warm_up(self) -> None:
        """Compile, if that was decided; on the thread count that the network is to run with.

        Where it fails, a note says so, and the network runs uncompiled: the codes differ by rounding only.
        """
        if not self.compiled or self._is_compiled:
            return
        started = time.perf_counter()
        plain = self._forward
        photos = reference_photos(self.backbone.preprocessing)
        expected = self._all(photos)
        try:
            self._forward = compiled(plain, photos[:1].repeat(self.batch_size, 1, 1, 1).to(self.device))
            agreement = lowest_cosine(expected, self._all(photos))
            if agreement < SAME_COMPILED:
                raise RuntimeError(f"its codes agree with the uncompiled ones only to cosine {agreement:.5f}")
            logger.info("compiled in %.0f s", time.perf_counter() - started)
        except Exception as error:  # a missing compiler, an operation that cannot be compiled, …
            self._forward = plain
            reason = str(error).strip().splitlines() or [type(error).__name__]
            self.notes.append(f"the network could not be compiled, and runs as it is ({reason[0]})")
            logger.warning(self.notes[-1])
        self._is_compiled = True

    def _survey(self) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """Run one batch of noise in float32: code lengths, and which layers hold the same codes."""
        preprocessing = self.backbone.preprocessing
        shape = (2, 3, preprocessing.image_size, preprocessing.image_size)
        noise = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        x = preprocessing.normalise(noise.to(self.device)).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            outputs = self._full(x)
            codes = {name: pool(maps, self.pooling) for name, maps in outputs.items()}
        layers = {
            name: {"n_features": codes[name].shape[1], "pooling": self.pooling, "map_shape": list(maps.shape[1:])}
            for name, maps in outputs.items()
        }
        links: dict[str, str] = {}
        names = list(codes)
        for i, name in enumerate(names):
            for later in names[i + 1 :]:
                a, b = codes[name], codes[later]
                if a.shape == b.shape and float((a - b).abs().max()) <= SAME_CODES * float(b.abs().max()):
                    links[name] = later
        return layers, {name: _last(name, links) for name in links}

    def _settle_dtypes(self, asked: str, reference: Mapping[str, np.ndarray]) -> None:
        for name, layer in self.layers.items():
            layer["dtype"] = asked
            if asked == "auto":
                fits = fits_float16(reference[self.links.get(name, name)])
                layer["dtype"] = "float16" if fits else "float32"
                if not fits:
                    self.notes.append(f"the codes of {name} are kept in float32: float16 does not hold their range")

    def _settle_precision(self, asked: str, photos: torch.Tensor) -> None:
        """Choose how many of the first layers need float32, if the rest is to run in fewer bits.

        The `penultimate` codes decide, whatever layers are wanted: so those of all files agree.
        """
        if asked == "fp32" or (asked == "auto" and not has_fast_bf16(self.device)):
            return
        precision = "bf16" if asked == "auto" else asked
        wanted = self._wanted
        self._load(["penultimate"])
        reference = self._all(photos)
        for leading in LEADING:
            self._lower(precision, leading)
            agreement = lowest_cosine(reference, self._all(photos))
            logger.info("%s, %d first layers in float32: lowest cosine %.5f", precision, leading, agreement)
            if agreement >= MIN_COSINE:
                break
        if agreement >= MIN_COSINE or asked != "auto":
            self.precision, self.leading = precision, leading
        if not agreement >= MIN_COSINE:
            agrees = f"the codes in {precision} agree with float32 to cosine {agreement:.4f} only"
            self.notes.append(f"computed in {self.precision}; {agrees}")
        self._load(wanted)
        self._lower(self.precision, self.leading)


class _Forward(nn.Module):
    """From a batch of pixels to the codes of each layer."""

    def __init__(self, extractor: nn.Module, preprocessing: Preprocessing, pooling: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.extractor, self.preprocessing, self.pooling, self.dtype = extractor, preprocessing, pooling, dtype

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.preprocessing.normalise(batch).to(memory_format=torch.channels_last)  # (n, 3, S, S)
        with torch.autocast(batch.device.type, self.dtype, enabled=self.dtype != torch.float32):
            outputs = self.extractor(x)
        return {name: pool(maps, self.pooling) for name, maps in outputs.items()}


def _rounded(codes: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        rounded = codes.astype(dtype)
    return codes if np.isinf(rounded).any() else rounded


def _last(name: str, links: dict[str, str]) -> str:
    while name in links:
        name = links[name]
    return name


def _fold(extractor: nn.Module) -> tuple[nn.Module, bool]:
    """Copy it, with each batch normalisation folded into the convolution before it where the traced graph allows."""
    if isinstance(extractor, torch.fx.GraphModule):
        from torch.fx.experimental.optimization import fuse

        try:
            return fuse(extractor, no_trace=True).eval(), True
        except Exception as error:  # it refuses what it does not know in many ways
            logger.info("batch normalisation is not folded (%s)", error)
    return copy.deepcopy(extractor).eval(), False
