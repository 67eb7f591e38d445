"""Lowers the precision of a frozen network, except in its first layers if the codes need that."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cnncodes.images.decoding import decode
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.system.process import inference_settings

__all__ = [
    "LEADING",
    "MIN_COSINE",
    "PRECISIONS",
    "fits_float16",
    "has_fast_bf16",
    "largest_difference",
    "lowered",
    "lowest_cosine",
    "reference_photos",
]

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# How many of the first layers are kept in float32, tried in this order until the codes agree. In mobilenet_v2 nearly
# all that bfloat16 loses is lost in the first depthwise convolution: its folded weights are large, and its bias cancels
# them.
LEADING = (0, 2, 3, 5, 8)
MIN_COSINE = 0.9985  # of the codes of an image, against those in float32
# Left, top, right and bottom of what is cut out of each photograph, in parts of its size.
CROPS = ((0, 0, 1, 1), (0, 0, 0.5, 0.75), (0.5, 0.25, 1, 1), (0.3, 0.3, 0.7, 0.7))
MIN_BF16_GAIN = 1.3  # of products; measured are 0.5 to 0.7 without AMX on Intel's processors, and 2.2 on AMD's
TIMED_SIDE, TIMED_PRODUCTS = 512, 5  # 2 to 4 ms a product
FLOAT16_ERROR = 1e-3  # relative to the largest code: twice what rounding costs where the range fits
FLOAT16_MARGIN = 16  # by which other images' codes may exceed those of the photographs


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 faster than in float32; on CUDA from Ampere on.

    On a processor the instructions say too little, so a product is timed: with avx512_bf16 alone bfloat16 is twice as
    fast as float32 on AMD's processors, and half as fast on Intel's; with AMX it is many times as fast.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    tests = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(test() for test in tests if test is not None) and bf16_gain() >= MIN_BF16_GAIN


@functools.cache
def bf16_gain() -> float:
    """Return how many times as fast as in float32 this processor multiplies matrices in bfloat16."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(TIMED_SIDE, TIMED_SIDE, dtype=dtype)
        runs = []
        with inference_settings():
            for _ in range(TIMED_PRODUCTS):
                started = time.thread_time()  # of this thread alone: what else runs on the machine does not count
                torch.mm(a, a)
                runs.append(time.thread_time() - started)
        seconds[dtype] = min(runs)
    return seconds[torch.float32] / max(seconds[torch.bfloat16], 1e-9)


class _Float32Conv2d(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class _Float32Linear(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


IN_FLOAT32: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: _Float32Conv2d, nn.Linear: _Float32Linear}


def lowered(network: nn.Module, dtype: torch.dtype, leading: int) -> nn.Module:
    """Copy a float32 network, to be run under ``torch.autocast``, with the weights of most of its layers in `dtype`.

    Parameters
    ----------
    network : Module
    dtype : torch.dtype
        Type of convolutions and linear layers; autocast keeps normalisations and softmax in float32.
    leading : int
        How many convolutions and linear layers, counted from the first, compute in float32.

    Returns
    -------
    Module
    """
    network = copy.deepcopy(network)
    layers = [module for module in network.modules() if type(module) in IN_FLOAT32]
    for i, layer in enumerate(layers):
        if i < leading:
            layer.__class__ = IN_FLOAT32[type(layer)]  # a network may ask for the layer's own attributes: no wrapper
        else:
            layer.to(dtype)
    return network


@functools.lru_cache(maxsize=4)
def reference_photos(preprocessing: Preprocessing) -> torch.Tensor:
    """Return crops of the two photographs that come with scikit-learn, on which numbers are compared.

    Parameters
    ----------
    preprocessing : Preprocessing
        Makes squares of the crops.

    Returns
    -------
    Tensor of uint8, shape (8, 3, S, S)
        Not to be changed.
    """
    package = find_spec("sklearn")  # without the seconds that its import takes
    folder = Path(str(package and package.origin)).parent / "datasets" / "images"
    squares = []
    for name in ("china.jpg", "flower.jpg"):
        photo = torch.from_numpy(decode((folder / name).read_bytes()))
        _, height, width = photo.shape
        for left, top, right, bottom in CROPS:
            crop = photo[:, int(top * height) : int(bottom * height), int(left * width) : int(right * width)]
            squares.append(preprocessing.geometry(crop))
    return torch.stack(squares)


def lowest_cosine(expected: Mapping[str, np.ndarray], actual: Mapping[str, np.ndarray]) -> float:
    """Return the smallest cosine between two codes of the same image, over all images and layers.

    Parameters
    ----------
    expected, actual : mapping of str to ndarray, shape (n, n_features) or (n, C, H, W)
        Codes or maps of the same images by key; `actual` may have more.

    Returns
    -------
    float
        1 for equal codes; NaN if a code is NaN.
    """
    lowest = np.float64(1)
    for name, codes in expected.items():
        a, b = (values.reshape(len(values), -1).astype(np.float64) for values in (codes, actual[name]))
        product = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosine = np.where((a == b).all(axis=1), 1.0, (a * b).sum(axis=1) / np.maximum(product, 1e-300))
        lowest = np.minimum(lowest, cosine.min())  # NaN stays NaN
    return float(lowest)


def largest_difference(expected: Mapping[str, np.ndarray], actual: Mapping[str, np.ndarray]) -> float:
    """Return the largest difference between two codes, relative to the largest number of their layer.

    Parameters
    ----------
    expected, actual : mapping of str to ndarray, shape (n, n_features)
        Codes of the same images by layer; `actual` may have more layers.

    Returns
    -------
    float
        0 for equal codes; NaN if a code is NaN.
    """
    differences = [
        np.abs(codes - actual[name].astype(np.float32)).max() / max(float(np.abs(codes).max()), 1e-30)
        for name, codes in expected.items()
    ]
    return float(np.max(differences, initial=0.0))  # NaN stays NaN


def fits_float16(codes: np.ndarray) -> bool:
    """Whether float16 holds codes like these: no overflow, with room to spare, and no loss of small numbers.

    Parameters
    ----------
    codes : ndarray of float32, shape (n, n_features)
        Codes of photographs; those of other images may be `FLOAT16_MARGIN` times as large.

    Returns
    -------
    bool
    """
    largest = float(np.abs(codes).max())
    with np.errstate(over="ignore"):
        error = float(np.abs(codes - codes.astype(np.float16).astype(np.float32)).max())
    return largest * FLOAT16_MARGIN < float(np.finfo(np.float16).max) and error <= FLOAT16_ERROR * largest
