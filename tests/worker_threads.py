"""A cluster whose workers are threads of this process, and die when a test wants it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from cnncodes.cluster import crew, ray_cluster
from cnncodes.cluster.transport import Node, WorkerLostError
from cnncodes.cluster.worker import NodeWorker


def node(key: str, cpus: float = 1, gpus: float = 0, **changes: Any) -> Node:
    """Return a node that nobody uses."""
    return replace(Node(key, f"box-{key}", cpus, gpus, cpus, gpus), **changes)


class Threads:
    """A transport to workers in threads.

    Attributes
    ----------
    living : list of Node
    started : list of str
        Key of the node of each worker that was started.
    is_pickled : bool
        Whether arguments and answers are pickled on their way, as between machines.
    answer : callable
        Takes the key of a node, a method, what the worker answers, and how often it was asked; returns the answer, or
        raises.
    """

    def __init__(self, *nodes: Node) -> None:
        self.living = list(nodes)
        self.started: list[str] = []
        self.is_pickled = False
        self.answer: Callable[[str, str, Any, int], Any] = lambda key, method, value, n: value
        self.make: Callable[[], Any] = NodeWorker
        self._asked: dict[tuple[str, str], int] = {}
        self._pool = concurrent.futures.ThreadPoolExecutor(16)
        self._dead: set[int] = set()

    def nodes(self) -> list[Node]:
        return list(self.living)

    def start(self, node: str, cpus: float, gpus: float) -> Any:
        self.started.append(node)
        return node, self.make()

    def call(self, worker: Any, method: str, *arguments: Any, **options: Any) -> Any:
        key, target = worker

        if self.is_pickled:
            arguments = pickle.loads(pickle.dumps(arguments))

        def run() -> Any:
            value = getattr(target, method)(*arguments, **options)
            value = pickle.loads(pickle.dumps(value)) if self.is_pickled else value
            n = self._asked[key, method] = self._asked.get((key, method), -1) + 1
            value = self.answer(key, method, value, n)
            if id(target) in self._dead:
                raise WorkerLostError("it was ended")
            return value

        return self._pool.submit(run)

    def wait(self, calls: Sequence[Any], seconds: float) -> list[Any]:
        done, _ = concurrent.futures.wait(calls, seconds, concurrent.futures.FIRST_COMPLETED)
        return list(done)

    def result(self, call: Any) -> Any:
        return call.result()

    def end(self, worker: Any) -> None:
        self._dead.add(id(worker[1]))
        if isinstance(worker[1], NodeWorker):
            worker[1].close()


@contextlib.contextmanager
def joined(transport: Threads, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let `RayCluster` join these threads."""

    @contextlib.contextmanager
    def connected(address: str) -> Iterator[Threads]:
        yield transport

    with monkeypatch.context() as patch:
        patch.setattr(ray_cluster, "connected", connected)
        patch.setattr(crew, "WAIT_SECONDS", 0.01)
        patch.setattr(crew, "LOOK_SECONDS", 0.01)
        patch.setattr(crew, "FREE_SECONDS", 0.0)
        yield
