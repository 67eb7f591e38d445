"""Threads that need much memory take turns, and what cannot fit is refused with both figures."""

from __future__ import annotations

import threading
import time

import pytest

from cnncodes.system import claims
from cnncodes.system.claims import SMALL_BYTES, SPARE_BYTES, Claim

MB = 10**6


@pytest.fixture(autouse=True)
def one_gigabyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "available_memory", lambda: 1000 * MB + SPARE_BYTES)
    monkeypatch.setattr(claims, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(claims, "POLL_SECONDS", 0.01)


def test_what_does_not_fit_is_refused_with_the_figures() -> None:
    with Claim() as claim, pytest.raises(MemoryError, match=r"it takes 1\.20 GB, and 1\.00 GB are left"):
        claim.add(1200 * MB)
    with Claim() as claim:
        claim.add(900 * MB)  # and the place is free again
        assert claim.is_tight


def test_small_claims_are_not_counted() -> None:
    with Claim() as first, Claim() as second:
        first.add(1000 * MB)
        second.add(SMALL_BYTES)
        assert not second.is_tight


def test_large_claims_wait_for_each_other() -> None:
    most, n_bytes, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal most, n_bytes
        with Claim() as claim:
            claim.add(100 * MB)  # the file
            claim.add(300 * MB)  # its pixels
            claim.settle()
            with lock:
                n_bytes += 400
                most = max(most, n_bytes)
            time.sleep(0.02)
            with lock:
                n_bytes -= 400

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert most == 800


def test_a_claim_alone_waits_for_all_others_and_tells_so() -> None:
    first, second = Claim(), Claim()
    first.add(100 * MB)
    first.settle()
    thread = threading.Thread(target=lambda: second.add(0, alone=True))
    thread.start()
    time.sleep(0.1)
    assert second.is_waiting
    first.close()
    thread.join(20)
    assert not second.is_waiting
    assert second.is_tight
    assert second.admitted > 0
    second.close()
