"""BLAS keeps to one thread while small matrices are worked on, and gets its threads back."""

from __future__ import annotations

import threading

import numpy as np
from threadpoolctl import threadpool_info

from cnncodes.solvers import threads


def test_fits_that_overlap_keep_one_limit_until_the_last_is_done(monkeypatch):
    events, step = [], threading.Barrier(2)

    class Limits:
        def limit(self, *, limits: int) -> Limits:
            events.append(limits)
            return self

        def restore_original_limits(self) -> None:
            events.append("restored")

    def first() -> None:
        with threads.few_threads(np.zeros((2, 2))):
            step.wait()  # the other one is inside, too
        step.wait()

    monkeypatch.setattr(threads, "_libraries", Limits)
    other = threading.Thread(target=first)
    other.start()
    with threads.few_threads(np.zeros((2, 2))):
        step.wait()
        step.wait()  # the other one is done
        assert events == [1]
    other.join()
    assert events == [1, "restored"]


def test_large_matrices_keep_all_threads():
    before = [library["num_threads"] for library in threadpool_info()]
    with threads.few_threads(np.broadcast_to(0.0, (threads.SMALL_ENTRIES, 1))):
        assert [library["num_threads"] for library in threadpool_info()] == before
