"""What a network runs in: freed memory is kept, and torch has one thread."""

from __future__ import annotations

import ctypes
import os

import pytest
import torch

from cnncodes.allocation import freed_memory_kept
from cnncodes.one_thread import one_thread

BLOCK = 48 << 20
PAGES = BLOCK // 4096


def new_pages(times: int) -> int:
    """Fill and free a block some times; return how many pages the system had to give for that."""
    resource = pytest.importorskip("resource")
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = (
        ctypes.c_void_p,
        [ctypes.c_size_t],
        [ctypes.c_void_p],
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        block = libc.malloc(BLOCK)
        ctypes.memset(block, 1, BLOCK)
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(
    os.name != "posix" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="this is no glibc"
)
def test_freed_memory_is_used_again_and_given_back_at_the_end():
    least = PAGES / 512  # where the system gives pages of 2 MiB
    with freed_memory_kept():
        new_pages(1)
        assert new_pages(5) < least
    assert new_pages(5) >= 5 * least


def test_torch_has_one_thread_and_then_what_it_had():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
