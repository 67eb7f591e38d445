"""Torch on one thread of its own: what several workers share the cores with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["one_thread"]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let operations of this thread run on one core, and threads that start in the meantime, too.

    With a core that other work has, two threads wait for each other: 10 s instead of 1.5 s for a network to be set up.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
