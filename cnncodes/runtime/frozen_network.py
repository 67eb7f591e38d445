"""Runs a frozen network by a plan: batches of pixels in, pooled codes out, from any thread."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from cnncodes.errors import DeviceError, first_line, parameter
from cnncodes.runtime.compilation import compile_forward
from cnncodes.runtime.forward import Forward, channels_last, fold
from cnncodes.runtime.fusion import can_be_fused, fused
from cnncodes.runtime.plan import Plan
from cnncodes.runtime.precision import PRECISIONS, lowered, lowest_cosine, reference_photos
from cnncodes.system.process import inference_settings
from cnncodes.vocabulary import MAPS

if TYPE_CHECKING:
    from cnncodes.networks.backbone import Backbone

__all__ = ["FrozenNetwork"]

logger = logging.getLogger(__name__)

MIN_COSINE_COMPILED = 0.9995  # in bfloat16 the compiler rounds at other places
SET_UP_FIELDS = ("devices", "pooling", "batch_size", "precision", "leading", "fused")  # of a plan, with `computed`
PHOTOS_ALONE = 2  # photographs on which an image alone is compared with the same image in a batch


class FrozenNetwork:
    """A backbone, cut after its deepest wanted layer, that turns a batch of pixels into pooled codes.

    The code of an image depends on that image alone: each batch is padded to the batch size of the plan, so the same
    kernels run whatever the other images are. Few images run one at a time where that gives the same bits (`warm_up`).

    Parameters
    ----------
    backbone : Backbone
    plan : Plan
        What `cnncodes.runtime.tuning` chose, or any other plan.

    Attributes
    ----------
    plan : Plan
        The plan as it is followed: if batches had to be halved, or the compiler refused the network, it says so, with
        a note.
    extractor : Module
        The network in float32, cut and folded, on the first device.
    folded : bool
        Whether batch normalisation is folded into convolutions.
    """

    def __init__(self, backbone: Backbone, plan: Plan) -> None:
        self.backbone, self.plan = backbone, plan
        self._halving, self._warming = threading.Lock(), threading.Lock()
        self._cut(plan)
        self._set_up(plan)

    @property
    def layers(self) -> Mapping[str, dict[str, Any]]:
        """``n_features``, ``pooling``, ``map_shape`` (before pooling) and ``dtype`` of each layer."""
        return self.plan.layers

    @property
    def links(self) -> Mapping[str, str]:
        """Layers whose codes are those of another layer, which stands in for them."""
        return self.plan.links

    @property
    def batch_size(self) -> int:
        """Images of each forward pass."""
        return self.plan.batch_size

    @property
    def notes(self) -> list[str]:
        """What a user should know about precision, memory and compilation."""
        return list(self.plan.notes)

    def apply(self, plan: Plan) -> None:
        """Run by another plan from now on; not while other threads run the network."""
        if plan.computed != self.plan.computed:
            self._cut(plan)
        elif not self._is_warm and all(getattr(plan, name) == getattr(self.plan, name) for name in SET_UP_FIELDS):
            self.plan = plan
            return
        self._set_up(plan)

    def restricted(self, layers: Sequence[str]) -> FrozenNetwork:
        """Return a network that computes only these layers, and nothing behind the deepest: itself if it does so."""
        if not layers or set(layers) == set(self.plan.computed):
            return self
        return FrozenNetwork(self.backbone, replace(self.plan, computed=tuple(layers)))

    def _cut(self, plan: Plan) -> None:
        extractor, self.folded = fold(self.backbone.extractor(_layers(plan.computed)))
        self.extractor = channels_last(extractor.to(plan.devices[0]))

    def _set_up(self, plan: Plan) -> None:
        dtype = PRECISIONS[plan.precision]
        module = self.extractor if dtype == torch.float32 else lowered(self.extractor, dtype, plan.leading)
        self.plan = replace(plan, fused=plan.fused and can_be_fused(module, plan.devices[0], dtype))
        pooled = [name for name in plan.computed if not name.startswith(MAPS)]
        prefixes = self.backbone.prefixes(pooled, plan.pooling)
        rest = self.backbone.preprocessing, plan.pooling, dtype, plan.computed, prefixes
        self._unfused = Forward(module, *rest)
        self._plain: list[nn.Module] = [Forward(fused(module), *rest) if self.plan.fused else self._unfused]
        self._forwards = self._plain  # or compiled
        self._is_warm: bool = False
        self._runs_alone: bool | None = None  # None: not tried yet
        self._photo_codes: dict[str, np.ndarray] | None = None

    def __call__(self, pixels: torch.Tensor, replica: int = 0) -> dict[str, np.ndarray]:
        """Compute the codes of images. Safe to call from several threads.

        Parameters
        ----------
        pixels : Tensor of uint8, shape (n, 3, S, S) or (n, n_views, 3, S, S)
        replica : int, default=0
            After `warm_up`, the network is on all devices of the plan: this is the index of the one to use, modulo
            their number.

        Returns
        -------
        dict of str to ndarray, shape (n, n_features) or (n, n_views, n_features)
            One entry for each computed layer; of the layer's dtype, or of float32 where a code is too large for it. And
            one for each computed map, (n, C, H, W) or (n, n_views, C, H, W), of float16: what is too large is infinite.

        Raises
        ------
        DeviceError
            The memory of the device does not hold a single image.
        """
        codes = self.unrounded(pixels.flatten(0, -4), replica)
        return {
            name: (values if name.startswith(MAPS) else _rounded(values, self.layers[name]["dtype"])).reshape(
                *pixels.shape[:-3], *values.shape[1:]
            )
            for name, values in codes.items()
        }

    def unrounded(self, pixels: torch.Tensor, replica: int = 0) -> dict[str, np.ndarray]:
        """Return float32 codes of pixels (n, 3, S, S), before they are rounded to the type of their layer; and maps."""
        replica %= len(self._forwards)
        while True:
            size = self.batch_size
            with contextlib.suppress(torch.OutOfMemoryError):  # dropped: the error would keep the memory of the batch
                batches = [self._batch(part, padded, replica) for part, padded in self._parts(pixels, size)]
                return {name: np.concatenate([batch[name] for batch in batches]) for name in self.plan.computed}
            self._halve(size)

    def outputs(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what the network gives for pixels (n, 3, S, S) before pooling, in float32, one image at a time.

        It runs uncompiled on the first device, by the precision of the plan.
        """
        device = self.plan.devices[0]
        with torch.inference_mode():
            parts = [self._unfused.outputs(part.to(device)) for part in pixels.split(1)]
        return {name: torch.cat([part[name].float().cpu() for part in parts]) for name in self.plan.computed}

    def photo_codes(self) -> dict[str, np.ndarray]:
        """Return the float32 codes of `reference_photos`; they are computed once for a plan."""
        if self._photo_codes is None:
            self._photo_codes = self.unrounded(reference_photos(self.backbone.preprocessing))
        return self._photo_codes

    def _parts(self, pixels: torch.Tensor, size: int) -> list[tuple[torch.Tensor, int]]:
        """Split pixels into batches, each with the size that it is to be padded to."""
        parts = [(part, size) for part in pixels.split(size)]
        last, _ = parts[-1]
        if self._runs_alone and len(last) <= size // 2:
            parts[-1:] = [(image, 1) for image in last.split(1)]
        return parts

    def _batch(self, pixels: torch.Tensor, size: int, replica: int) -> dict[str, np.ndarray]:
        n, device = len(pixels), self.plan.devices[replica]
        on_gpu = device.type == "cuda"
        batch = torch.zeros((size, *pixels.shape[1:]), dtype=torch.uint8, pin_memory=on_gpu)
        batch[:n] = pixels
        with torch.inference_mode():
            codes = self._forwards[replica](batch.to(device, non_blocking=on_gpu))
        return {name: _kept(name, codes[name][:n]).cpu().numpy() for name in self.plan.computed}

    def _halve(self, size: int) -> None:
        """Halve the batch size from now on, and run uncompiled: compiled code is for one batch size."""
        device = self.plan.devices[0]
        if size == 1:
            raise too_little_memory(device, self.backbone)
        torch.cuda.empty_cache()
        with self._halving:
            if self.batch_size != size:  # another thread has halved it
                return
            compiled = self.plan.compiled and self._forwards is self._plain  # is still to be compiled
            self._forwards, self._photo_codes = self._plain, None
            note = f"{size} images at once are too many for the memory of {device}: now {size // 2}"
            self._note(note, batch_size=size // 2, compiled=compiled)

    def _note(self, text: str, **changes: Any) -> None:
        self.plan = replace(self.plan, **changes, notes=(*self.plan.notes, text))
        logger.warning(text)

    def describe(self) -> dict[str, Any]:
        """Return what decides the bits of the codes beside the weights, ready for JSON."""
        plan = self.plan
        return {
            "layers": dict(plan.layers),
            "links": dict(plan.links),
            **({"maps": {name: list(shape) for name, shape in plan.maps.items()}} if plan.maps else {}),
            "pooling": plan.pooling,
            "precision": plan.precision,
            "dtype": plan.dtype,
            "runtime": {
                "device": plan.devices[0].type,
                "batch_size": plan.batch_size,
                "memory_format": "channels_last",
                "folded": self.folded,
                "leading_float32": plan.leading,
                "fused": plan.fused and not plan.compiled,
                "compiled": plan.compiled,
            },
        }

    def warm_up(self, n_images: int | None = None) -> None:
        """Make ready for images: copy the network to all devices, compile it if the plan says so. Safe to call again.

        Where compiling fails, a note says so, and the network runs uncompiled: the codes differ by rounding only.

        Parameters
        ----------
        n_images : int, optional
            Number of images to come. For few of them it is tried, once, whether an image alone has the same bits as in
            a batch; if so, few images are no longer padded to a batch.
        """
        with self._warming, inference_settings():
            if not self._is_warm:
                self._plain += [copy.deepcopy(self._plain[0]).to(device) for device in self.plan.devices[1:]]
                if self.plan.compiled:
                    self._compile()
                self._is_warm = True
            if n_images is not None and self._runs_alone is None and self._are_few(n_images):
                self._runs_alone = self._try_alone()

    def _are_few(self, n_images: int) -> bool:
        """Whether so many images take less time one by one: on a processor, where the time grows with their number."""
        on_cpu = [device.type for device in self.plan.devices] == ["cpu"]
        is_plain = self._forwards is self._plain  # compiled code has one size
        return (
            on_cpu
            and is_plain
            and n_images * math.prod(self.backbone.preprocessing.middle_axis) <= self.batch_size // 2
        )

    def _try_alone(self) -> bool:
        """Whether photographs have the same bits alone as in a batch: kernels are chosen by shape, not by content."""
        expected = self.photo_codes()
        photos = reference_photos(self.backbone.preprocessing)[:PHOTOS_ALONE]
        alone = [self._batch(photo, 1, 0) for photo in photos.split(1)]
        return all(np.array_equal(codes[name][0], expected[name][i]) for i, codes in enumerate(alone) for name in codes)

    def _compile(self) -> None:
        started = time.perf_counter()
        plain = self._plain
        photos = reference_photos(self.backbone.preprocessing)
        expected = self.photo_codes()  # before the example: batches may be halved here
        example = photos[:1].repeat(self.batch_size, 1, 1, 1)
        try:
            sources = [self._unfused, *plain[1:]]  # the compiler fuses by itself
            self._forwards = [
                compile_forward(forward, example.to(device))
                for forward, device in zip(sources, self.plan.devices, strict=True)
            ]
            agreement = min(lowest_cosine(expected, self.unrounded(photos, i)) for i in range(len(plain)))
            if not agreement >= MIN_COSINE_COMPILED:  # also if it is NaN
                raise RuntimeError(f"its codes agree with the uncompiled ones only to cosine {agreement:.5f}")
            logger.info("compiled in %.0f s", time.perf_counter() - started)
        except Exception as error:  # a missing compiler, an operation that cannot be compiled, …
            self._forwards = plain
            self._note(f"the network could not be compiled, and runs as it is ({first_line(error)})", compiled=False)


def too_little_memory(device: torch.device, backbone: Backbone) -> DeviceError:
    """Return the error for a device whose memory does not hold one image."""
    return DeviceError(
        f"{device}: its memory does not hold one image of {backbone.preprocessing.image_size} pixels "
        f"a side on its way through the network; free it, or try a smaller {parameter('image_size')}, or "
        f"{parameter('device', 'cpu')}"
    )


def _kept(key: str, values: torch.Tensor) -> torch.Tensor:
    """Return maps in float16, with rows and columns last; codes as they are. The compiler would warn of two types."""
    return values.to(torch.float16, memory_format=torch.contiguous_format) if key.startswith(MAPS) else values


def _layers(keys: Sequence[str]) -> list[str]:
    """Return the layers whose codes or maps have these keys, each once."""
    return list(dict.fromkeys(key.removeprefix(MAPS) for key in keys))


def _rounded(codes: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        rounded = codes.astype(dtype)
    return codes if np.isinf(rounded).any() else rounded
