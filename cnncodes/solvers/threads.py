"""How many threads the libraries of mathematics take for small matrices."""

from __future__ import annotations

import contextlib
import math
import threading
from functools import cache
from typing import TYPE_CHECKING

from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from cnncodes.solvers.matrix import Matrix

__all__ = ["SMALL_FIT", "few_threads", "one_thread"]

SMALL_ENTRIES = 4_000_000  # of a matrix that is multiplied with another one as large
# A fit multiplies its rows with the weights of some classes again and again, and threads wait for each other each time.
# With 10,000 x 1,280 and the other core busy, two threads took 31 s of processor for what one did in 3.6 s.
SMALL_FIT = 64_000_000


class _OneThread(contextlib.AbstractContextManager[None]):
    """Keeps BLAS and OpenMP on one thread while any of several threads is inside: the whole process has one limit."""

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.limits = _libraries().limit(limits=1)
            self.inside += 1

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.limits.restore_original_limits()


@cache
def _libraries() -> ThreadpoolController:
    """Find the libraries that have threads once: that takes 3 ms, and the smallest of fits less."""
    return ThreadpoolController()


one_thread = _OneThread()


def few_threads(X: Matrix, small: int = SMALL_ENTRIES) -> contextlib.AbstractContextManager[None]:
    """Keep BLAS and OpenMP on one thread where X is small: more would wait for each other longer than they compute."""
    return one_thread if math.prod(X.shape) < small else contextlib.nullcontext()
