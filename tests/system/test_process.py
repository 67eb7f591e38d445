"""What networks run in, when several uses overlap, too; and what the process has again afterwards."""

from __future__ import annotations

import ctypes
import inspect
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cnncodes.extraction.worker_thread
import cnncodes.extraction.workers
import cnncodes.runtime.forward
import cnncodes.system.process
from cnncodes import CNNCodes, extract
from cnncodes.extraction.in_memory import in_memory
from cnncodes.extraction.settings import Settings, build_network
from cnncodes.images.loading import load_images
from cnncodes.system.process import inference_settings, own_process

BLOCK = 48 << 20
PAGES = BLOCK // 4096
LEAST = PAGES / 512  # where the system gives pages of 2 MiB

needs_glibc = pytest.mark.skipif(
    os.name != "posix" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="this is no glibc"
)


def switches() -> tuple[Any, ...]:
    """What this thread and the process have."""
    return (
        torch.get_num_threads(),
        torch.backends.cudnn.allow_tf32,
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_grad_enabled(),
        list(warnings.filters),
        warnings.showwarning,
    )


@pytest.fixture(scope="module", autouse=True)
def shipped_network_is_tried_once() -> None:
    """Each network is tried anew: the trials, too, run with the switches of this module."""


def in_new_thread(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function).result()


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision(), torch.get_num_threads()
    yield
    torch.backends.cudnn.allow_tf32 = before[0]
    torch.set_float32_matmul_precision(before[1])
    torch.set_num_threads(before[2])


class Other:
    """A thread that does what it is told, step by step."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(1)
        self.stack = ExitStack()

    def enter(self, context: AbstractContextManager[None]) -> None:
        self.pool.submit(self.stack.enter_context, context).result()

    def leave(self) -> None:
        self.pool.submit(self.stack.close).result()

    def ask(self, function: Callable[[], Any]) -> Any:
        return self.pool.submit(function).result()


@pytest.fixture
def other() -> Iterator[Other]:
    other = Other()
    yield other
    other.leave()
    other.pool.shutdown()


@pytest.mark.parametrize(("tf32", "products"), [(True, "highest"), (True, "medium"), (False, "high")])
def test_nothing_is_rounded_inside_and_all_is_as_before_afterwards(tf32: bool, products: str) -> None:
    torch.backends.cudnn.allow_tf32 = tf32
    torch.set_float32_matmul_precision(products)
    with inference_settings():
        assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cudnn.allow_tf32 is tf32
    assert torch.get_float32_matmul_precision() == products


def precisions() -> list[str]:
    """What each operation rounds to; and what products would, if the switch of all operations were another one."""
    backends = torch.backends
    products = [backends.cuda.matmul, backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]
    answers = [one.fp32_precision for one in (*products, backends.cudnn.conv, backends.cudnn.rnn)]
    of_all = backends.fp32_precision
    backends.fp32_precision = "ieee"
    answers += [one.fp32_precision for one in products]
    backends.fp32_precision = of_all
    return answers


@pytest.mark.parametrize(
    "host",
    [
        "pass",
        "torch.backends.fp32_precision = 'tf32'",
        pytest.param("torch.backends.cudnn.conv.fp32_precision = 'ieee'", marks=pytest.mark.slow),
        pytest.param("torch.backends.mkldnn.fp32_precision = 'bf16'", marks=pytest.mark.slow),
        pytest.param("torch.backends.cuda.matmul.allow_tf32 = True", marks=pytest.mark.slow),
        pytest.param("torch.set_float32_matmul_precision('high')", marks=pytest.mark.slow),
    ],
)
def test_each_operation_has_full_float32_inside_and_its_own_setting_afterwards(host: str) -> None:
    code = f"""
import torch
from cnncodes.system.process import inference_settings
{inspect.getsource(precisions)}
{host}
before = precisions()
with inference_settings():
    assert set(precisions()) == {{"ieee"}}, precisions()
assert precisions() == before, (before, precisions())
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_torch_has_one_thread_and_then_what_it_had() -> None:
    torch.set_num_threads(3)
    with inference_settings():
        assert torch.get_num_threads() == 1
        with inference_settings():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    assert in_new_thread(torch.get_num_threads) == 3


def test_threads_of_others_keep_their_number_of_threads(other: Other) -> None:
    torch.set_num_threads(3)
    assert other.ask(torch.get_num_threads) == 3
    other.ask(lambda: torch.set_num_threads(2))
    torch.set_num_threads(3)  # what threads get that have not computed yet
    with inference_settings():
        assert other.ask(torch.get_num_threads) == 2
        assert in_new_thread(torch.get_num_threads) == 3
        other.enter(inference_settings())
        assert other.ask(torch.get_num_threads) == 1
    assert torch.get_num_threads() == 3
    assert other.ask(torch.get_num_threads) == 1
    other.leave()
    assert other.ask(torch.get_num_threads) == 2
    assert in_new_thread(torch.get_num_threads) == 3


@pytest.mark.parametrize("first_to_leave", ["this", "other"])
def test_overlapping_uses_keep_theirs_until_they_leave(first_to_leave: str, other: Other) -> None:
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("medium")
    torch.set_num_threads(3)
    before, of_other = switches(), other.ask(switches)
    assert before == of_other
    inside = (1, False, "highest")
    with ExitStack() as this:
        this.enter_context(inference_settings())
        other.enter(inference_settings())
        assert switches()[:3] == other.ask(switches)[:3] == inside
        if first_to_leave == "this":
            this.close()
            assert other.ask(switches)[:3] == inside
            other.leave()
        else:
            other.leave()
            assert switches()[:3] == inside
    assert switches() == before
    assert other.ask(switches) == of_other


def test_uses_of_one_thread_may_end_in_any_order() -> None:
    torch.set_num_threads(3)
    first, second = inference_settings(), inference_settings()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert torch.get_num_threads() == 1
    second.__exit__(None, None, None)
    assert torch.get_num_threads() == 3


def test_threads_that_begin_at_once_all_get_their_number_back() -> None:
    torch.set_num_threads(3)
    seen: list[tuple[int, int]] = []

    def use() -> None:
        with inference_settings():
            inside = torch.get_num_threads()
        seen.append((inside, torch.get_num_threads()))

    for _ in range(30):
        threads = [threading.Thread(target=use) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(seen) == {(1, 3)}


def test_a_use_that_another_thread_ends_leaves_that_one_alone(other: Other) -> None:
    """A generator that is thrown away is closed by whatever thread collects it."""
    torch.set_num_threads(3)
    context = inference_settings()
    other.enter(context)
    other.stack.pop_all().close()
    assert torch.get_num_threads() == 3
    assert torch.get_float32_matmul_precision() == "highest"


def test_warnings_of_pillow_are_ignored_and_filters_of_others_stay(other: Other) -> None:
    def warn_as_pillow() -> None:
        warnings.warn_explicit("odd", UserWarning, "PIL/Image.py", 1, "PIL.Image")

    before = list(warnings.filters)
    with inference_settings():
        other.enter(inference_settings())
    warn_as_pillow()
    warnings.filterwarnings("ignore", message="by somebody else")
    mine = warnings.filters[0]
    other.leave()
    assert list(warnings.filters) == [mine, *before]
    with pytest.raises(UserWarning, match="odd"):
        warn_as_pillow()


def test_a_filter_like_ours_that_was_there_stays() -> None:
    warnings.filterwarnings("ignore", module="PIL")
    before = list(warnings.filters)
    with inference_settings():
        pass
    assert list(warnings.filters) == before


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> set[tuple[Any, ...]]:
    """The switches that forward passes run with."""
    seen: set[tuple[Any, ...]] = set()
    plain = cnncodes.runtime.forward.Forward.forward

    def forward(self: cnncodes.runtime.forward.Forward, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.add(switches()[:3])
        return plain(self, batch)

    monkeypatch.setattr(cnncodes.runtime.forward.Forward, "forward", forward)
    return seen


def test_networks_run_with_float32_in_full(small_sample: Path, seen: set[tuple[Any, ...]]) -> None:
    torch.set_float32_matmul_precision("medium")  # products on a processor with bfloat16, too
    network = build_network(Settings(layers="layer1", precision="fp32"))
    in_memory(load_images(small_sample / "test" / "Bag"), network)
    assert seen == {(1, False, "highest")}
    assert torch.get_float32_matmul_precision() == "medium"


def test_codes_in_several_threads_at_once(small_sample: Path, tmp_path: Path, seen: set[tuple[Any, ...]]) -> None:
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("medium")
    torch.set_num_threads(3)
    before = switches()
    paths = sorted((small_sample / "test").rglob("*.png"))
    start = threading.Barrier(4)

    def transform(layer: str) -> np.ndarray:
        start.wait()
        codes = CNNCodes(layer=layer, image_size=64, precision="fp32").fit(paths[:2]).transform(paths[:5])
        assert torch.get_num_threads() == 3
        return codes

    def write(name: str, **settings: Any) -> int:
        start.wait()
        done = extract(small_sample / "test", tmp_path / name, layers=["layer1"], workers=2, **settings)
        assert torch.get_num_threads() == 3
        return done.ok

    with ThreadPoolExecutor(4) as pool:
        codes = [pool.submit(transform, "layer2"), pool.submit(transform, "layer2")]
        files = [
            pool.submit(write, "a.h5", image_size=64, precision="fp32"),
            pool.submit(write, "b.h5", image_size=96, precision="auto"),
        ]
        assert [file.result() for file in files] == [len(paths)] * 2
        assert np.array_equal(codes[0].result(), codes[1].result())
    assert seen == {(1, False, "highest")}
    assert switches() == before
    assert in_new_thread(torch.get_num_threads) == 3


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


@needs_glibc
def test_freed_memory_is_used_again_and_given_back_at_the_end(monkeypatch: pytest.MonkeyPatch, other: Other) -> None:
    monkeypatch.setattr(cnncodes.system.process, "_owned", False)
    own_process()
    with inference_settings():
        other.enter(inference_settings())
        new_pages(1)
        assert new_pages(5) < LEAST
    assert new_pages(5) < LEAST
    other.leave()
    assert new_pages(5) >= 5 * LEAST


@needs_glibc
def test_the_allocator_of_somebody_elses_process_is_left_alone() -> None:
    code = f"""
import ctypes, pytest
from cnncodes.system.process import inference_settings, is_own_process
BLOCK = {BLOCK}
{inspect.getsource(new_pages)}
assert not is_own_process()
with inference_settings():
    assert new_pages(5) >= {5 * LEAST}, new_pages(5)
"""
    subprocess.run([sys.executable, "-c", code], check=True)  # what freed blocks leave behind decides, too


PROGRAM = """
import sys, threading
from cnncodes.cli.main import main as cli
from cnncodes import __main__
from cnncodes.system.process import is_own_process
assert not is_own_process()
def main():
    print(is_own_process())
    {what}
    sys.exit(3)
cli.main = main
__main__.run()
"""
HANGING_WORKER = """
    import ctypes, time
    from cnncodes.system.process import register_worker
    class End:
        def __del__(self, exit=lambda: print("torn down")):
            exit()
    global end
    end = End()
    worker = threading.Thread(target=time.sleep, args=(60,), name="any name", daemon=True)
    {register}
    worker.start()
"""


@pytest.mark.parametrize(
    ("what", "torn_down"),
    [
        ("", False),
        (HANGING_WORKER.format(register=""), True),
        (HANGING_WORKER.format(register="register_worker(worker)"), False),
    ],
)
def test_the_program_owns_its_process_and_does_not_wait_for_workers(what: str, torn_down: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("{what}", what)], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 3, done.stderr
    assert done.stdout.split("\n") == ["True", *(["torn down"] if torn_down else []), ""]


END = """
    import atexit{torch}
    class End:
        def __del__(self, exit=lambda: print("torn down")):
            exit()
    global end
    end = End()
    atexit.register(lambda: print("registered"))
    {thread}
"""
WORKING = "threading.Thread(target=__import__('time').sleep, args=(0.5,)).start()"


@pytest.mark.parametrize(
    ("torch", "thread", "torn_down"),
    [("", "", True), (", torch", "", False), (", torch", WORKING, True)],
    ids=["no torch", "torch", "torch and a thread"],
)
def test_torch_is_not_torn_down_at_the_end_of_the_program(torch: str, thread: str, torn_down: bool) -> None:
    program = PROGRAM.replace("{what}", END.format(torch=torch, thread=thread))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.splitlines() == ["True", "registered", *["torn down"] * torn_down]


def test_cores_are_counted_as_joblib_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert cnncodes.system.process.core_count() == 1


def test_workers_of_the_pool_are_known_to_the_program(small_sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoding, end = threading.Event(), threading.Event()

    def hang(*args: Any, **options: Any) -> np.ndarray:
        decoding.set()
        end.wait(30)
        return np.zeros((3, 8, 8), np.uint8)

    monkeypatch.setattr(cnncodes.extraction.worker_thread, "decode", hang)
    monkeypatch.setattr(cnncodes.extraction.workers, "WATCH_SECONDS", 0.05)
    images = load_images(small_sample / "test" / "Bag").take(range(1))
    network = build_network(Settings(layers=["layer1"], image_size=32, precision="fp32"))
    batches = list(cnncodes.extraction.workers.run_batches(images, np.arange(1), network, workers=1, image_timeout=0.2))
    assert re.search("not decoded", batches[0].failures[0][0])
    assert decoding.is_set()
    assert cnncodes.system.process.has_workers()
    end.set()
    for thread in list(cnncodes.system.process._workers):
        thread.join()
    assert not cnncodes.system.process.has_workers()


@pytest.mark.parametrize("ours", ["", "24"])
def test_idle_threads_of_openblas_sleep_soon_unless_the_user_says_otherwise(ours: str) -> None:
    code = """
import os, sys
from cnncodes.system.process import own_process
assert "numpy" not in sys.modules
own_process()
print(os.environ["OPENBLAS_THREAD_TIMEOUT"])
"""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}
    environment |= {"OPENBLAS_THREAD_TIMEOUT": ours} if ours else {}
    run = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert run.stdout.strip() == (ours or "20")
