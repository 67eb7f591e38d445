"""How many threads BLAS takes for small matrices."""

from __future__ import annotations

import contextlib
import math
import threading
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from cnncodes.solvers.matrix import Matrix

__all__ = ["few_threads"]

SMALL_ENTRIES = 4_000_000  # with 320 x 1280 and the other core busy, two threads took 70 s for what one did in 3 s


class _OneBlasThread(contextlib.AbstractContextManager[None]):
    """Keeps BLAS on one thread while any of several threads is inside: the limit is one of the whole process."""

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.limits = threadpool_limits(limits=1, user_api="blas")
            self.inside += 1

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.limits.restore_original_limits()


_one_blas_thread = _OneBlasThread()


def few_threads(X: Matrix) -> contextlib.AbstractContextManager[None]:
    """Keep BLAS on one thread where X is small: its threads would wait for each other longer than they compute."""
    return _one_blas_thread if math.prod(X.shape) < SMALL_ENTRIES else contextlib.nullcontext()
