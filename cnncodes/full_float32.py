"""Products of float32 numbers in float32: not rounded to TF32 or bfloat16 on the way, as GPUs do by default."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

__all__ = ["full_float32"]

T = TypeVar("T")


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Let no convolution or matrix product of this process round float32 inputs; what was set before is set again.

    From Ampere on, cuDNN's convolutions take TF32, with ten bits of mantissa, unless they are told not to. What was set
    for one operation by itself (``torch.backends.cudnn.conv.fp32_precision``) stays: who did that wants it.
    """
    with (
        _set(lambda: torch.backends.cudnn.allow_tf32, _allow_tf32, False),
        _set(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
    ):
        yield


def _allow_tf32(allow: bool) -> None:
    torch.backends.cudnn.allow_tf32 = allow


@contextlib.contextmanager
def _set(read: Callable[[], T], write: Callable[[T], object], value: T) -> Iterator[None]:
    try:
        before = read()
    except RuntimeError:  # torch refuses to tell where operations differ
        yield
        return
    write(value)
    try:
        yield
    finally:
        write(before)
