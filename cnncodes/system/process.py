"""Settings of the process that a network needs while it runs, and that are restored afterwards.

Most of them hold for the whole process, where others may work at the same time. So the first use sets them and the last
one restores the values of before. Only a program that owns its process changes more than that: `own_process`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

__all__ = [
    "core_count",
    "has_workers",
    "inference_settings",
    "is_own_process",
    "own_process",
    "register_worker",
    "use_one_thread",
]

T = TypeVar("T")
Settings = Callable[[], contextlib.AbstractContextManager[None]]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
THRESHOLD_WHILE_RUNNING = 1 << 30
THRESHOLD_AFTERWARDS = 32 << 20  # glibc raises M_MMAP_THRESHOLD by itself up to this, and the other to twice that


class _Shared(contextlib.AbstractContextManager[None]):
    """Settings that begin with the first of several uses and end with the last one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lock, self.uses = threading.Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            if not self.uses:
                self.current = self.settings()
                self.current.__enter__()
            self.uses += 1

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.uses -= 1
            if not self.uses:
                self.current.__exit__(None, None, None)


@contextlib.contextmanager
def inference_settings() -> Iterator[None]:
    """Let networks run on one torch thread per thread of ours, with full float32, and without warnings of Pillow.

    Several threads may enter it at a time. Afterwards each of them, and the process, has its former settings again.
    """
    with _this_thread.single, _whole_process:
        yield


def core_count() -> int:
    """Return how many cores this process may use, as joblib counts them: affinity and limits of a container count."""
    from joblib import cpu_count  # takes a tenth of a second, for which one image must not wait

    return int(cpu_count())


# ------------------------------------------------------------------------------------------------------- of a thread


def use_one_thread() -> None:
    """Let operations of the calling thread run on one core.

    If another process occupies a core, two threads wait for each other: to set up a network took 10 s instead of 1.5 s.
    """
    _set_threads(1)


_default = threading.Lock()


def _set_threads(number: int) -> int:
    """Set the number of torch's threads for this thread alone, and return the one before.

    `torch.set_num_threads` also sets that of all threads that begin later.
    """
    import torch

    with _default:
        before = torch.get_num_threads()  # with this a new thread takes up the number of all: later would be too late
        for_later_ones = _in_new_thread(torch.get_num_threads)
        torch.set_num_threads(number)
        _in_new_thread(lambda: torch.set_num_threads(for_later_ones))
    return before


def _in_new_thread(function: Callable[[], T]) -> T:
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    thread, before = threading.current_thread(), _set_threads(1)
    try:
        yield
    finally:
        if threading.current_thread() is thread:  # a generator may be closed by another
            _set_threads(before)


class _ThisThread(threading.local):
    def __init__(self) -> None:
        self.single = _Shared(_one_thread)


_this_thread = _ThisThread()


# ------------------------------------------------------------------------------------------------------ of all threads


@contextlib.contextmanager
def _process_wide() -> Iterator[None]:
    with _full_float32(), _pillow_silent(), _freed_memory_kept():
        yield


_whole_process = _Shared(_process_wide)


@contextlib.contextmanager
def _full_float32() -> Iterator[None]:
    """Let no convolution or matrix product round float32 inputs to TF32 or bfloat16.

    From Ampere on, cuDNN's convolutions take TF32, with ten bits of mantissa, unless they are told not to. torch has
    two sets of switches for that: older ones for all operations of a kind, and one for each operation, which inherits
    from those above it where it is ``"none"``. Each is set, and then what it was.
    """
    import torch

    backends: Any = torch.backends
    above = [(backends.cuda.matmul, [backends])]
    above += [(operation, [backends.cudnn, backends]) for operation in (backends.cudnn.conv, backends.cudnn.rnn)]
    mkldnn = backends.mkldnn
    above += [(operation, [mkldnn, backends]) for operation in (mkldnn.matmul, mkldnn.conv, mkldnn.rnn)]
    before = []
    for operation, parents in above:
        inherited = next((one.fp32_precision for one in parents if one.fp32_precision != "none"), None)
        own = operation.fp32_precision  # or, where it has none of its own, what it inherits
        before.append((operation, "none" if own == inherited else own))

    def allow_tf32(allow: bool) -> None:
        backends.cudnn.allow_tf32 = allow

    try:
        with (
            _set(lambda: backends.cudnn.allow_tf32, allow_tf32, False),
            _set(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
        ):
            for operation, _ in above:
                if operation.fp32_precision != "ieee":
                    operation.fp32_precision = "ieee"
            yield
    finally:
        for operation, precision in before:
            operation.fp32_precision = precision


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


@contextlib.contextmanager
def _pillow_silent() -> Iterator[None]:
    """Ignore what Pillow warns of in odd files; other filters stay, and so do those that are set in the meantime.

    `warnings.catch_warnings` would take back what other threads set.
    """
    before = list(warnings.filters)
    warnings.filterwarnings("ignore", module="PIL")
    ours = warnings.filters[0]
    try:
        yield
    finally:
        if ours not in before:
            with contextlib.suppress(ValueError):  # somebody has set back all of them
                warnings.filters.remove(ours)  # type: ignore[attr-defined]


# -------------------------------------------------------------------------------------- of a process that is ours alone

# As a power of two. Until then they look for work: with the default of 26 that costs 0.3 s of the start of a command.
IDLE_CYCLES = "20"
_owned = False


def own_process() -> None:
    """Allow changes that only a program may make that has its process to itself, as the command line does.

    From now on glibc keeps freed memory while a network runs (nothing happens with other C libraries). torchvision is
    imported without torch's compiler (`cnncodes.networks.torchvision_zoo`), and torch and scikit-learn sooner
    (`cnncodes.system.imports`). Threads of OpenBLAS that have nothing to do go to sleep sooner, where numpy is imported
    after this. The codes are the same.
    """
    global _owned
    _owned = True
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", IDLE_CYCLES)


def is_own_process() -> bool:
    """Whether `own_process` was called."""
    return _owned


@contextlib.contextmanager
def _freed_memory_kept() -> Iterator[None]:
    """Keep glibc from giving freed memory back to the system at once, in a process of our own.

    The maps of a batch are tens of megabytes, allocated and freed with each layer. Pages that are new each time must be
    zeroed by the system first: that took a quarter of the time of mobilenet_v2 in two threads, and half of it in one.
    """
    libc = ctypes.CDLL(None) if _owned and os.name == "posix" else None
    if libc is None or not hasattr(libc, "gnu_get_libc_version"):
        yield
        return
    _set_thresholds(libc, THRESHOLD_WHILE_RUNNING, THRESHOLD_WHILE_RUNNING)
    try:
        yield
    finally:
        _set_thresholds(libc, THRESHOLD_AFTERWARDS, 2 * THRESHOLD_AFTERWARDS)
        libc.malloc_trim(0)


def _set_thresholds(libc: ctypes.CDLL, mapped: int, trimmed: int) -> None:
    libc.mallopt(M_MMAP_THRESHOLD, mapped)
    libc.mallopt(M_TRIM_THRESHOLD, trimmed)


_workers: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def register_worker(thread: threading.Thread) -> None:
    """Register a thread that the program does not wait for at its end."""
    _workers.add(thread)


def has_workers() -> bool:
    """Whether a worker is left: inside a decoder that hangs, or inside torch."""
    return any(thread.is_alive() for thread in list(_workers))
