"""The first worker chooses how the network runs; the others follow, and are replaced."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tiny_network import Staged, own
from worker_threads import Threads, joined, node

from cnncodes.cluster import crew as module
from cnncodes.cluster.crew import Crew
from cnncodes.cluster.transport import WorkerLostError
from cnncodes.cluster.worker import NodeWorker
from cnncodes.errors import ClusterError, DeviceError, ImagesError
from cnncodes.extraction.engine import Work
from cnncodes.extraction.settings import Settings
from cnncodes.runtime.workload import Workload

SETTINGS = Settings(backbone="own", layers="layer2", compile=False)


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> Any:
    own(Staged)
    with joined(Threads(), monkeypatch):
        yield


def test_the_others_do_as_the_first_one_chose() -> None:
    transport = Threads(node("a"), node("b"), node("c"))
    crew = Crew(transport, SETTINGS)
    crew.assemble(Workload(9), warm=True)
    digests = {member.ready.photo_digest for member in crew._seats.members if member.ready}
    assert len(crew._seats.members) == 3
    assert digests == {crew.lead.photo_digest}
    crew.close()


def test_another_worker_leads_if_the_first_one_dies() -> None:
    transport = Threads(node("a"), node("b"))
    deaths: list[str] = []

    def die(key: str, method: str, value: Any, n: int) -> Any:
        if method == "build" and not deaths:
            deaths.append(key)
            raise WorkerLostError("killed")
        return value

    transport.answer = die
    crew = Crew(transport, SETTINGS)
    crew.assemble(Workload(9), warm=True)
    assert crew.lead.facts.provenance.backbone == "own"
    assert len(transport.started) == 3
    crew.close()


@pytest.mark.parametrize("error", [WorkerLostError("its node died"), DeviceError("too little memory")])
def test_another_worker_leads_if_the_node_of_the_first_one_dies_or_cannot(error: Exception) -> None:
    transport = Threads(node("a"), node("b"))
    failed: list[str] = []

    def fail(key: str, method: str, value: Any, n: int) -> Any:
        if method == "build" and not failed:
            time.sleep(0.5)  # the other one has begun meanwhile
            failed.append(key)
            if isinstance(error, WorkerLostError):
                transport.living = [one for one in transport.living if one.key != key]
            raise error
        return value

    transport.answer = fail
    crew = Crew(transport, SETTINGS)
    if isinstance(error, DeviceError):
        with pytest.raises(ClusterError, match=r"^box-.: too little memory\."):
            crew.assemble(Workload(9), warm=True)
    else:
        crew.assemble(Workload(9), warm=True)
    assert crew.lead.facts.provenance.backbone == "own"
    crew.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("free_gpus", "message"), [(1, "^box-a: too little memory"), (0, r"can work \(box-a: others use its 1 GPU")]
)
def test_processors_beside_gpus_do_not_wait_for_ever_for_one_that_leads(free_gpus: int, message: str) -> None:
    def refuse(key: str, method: str, value: Any, n: int) -> Any:
        if key == "a" and method == "build":
            raise DeviceError("too little memory")
        return value

    transport = Threads(node("a", gpus=free_gpus, all_gpus=1), node("b"))
    transport.answer = refuse
    transport.make = _OnProcessors
    crew = Crew(transport, SETTINGS, mixed=True)
    with pytest.raises(ClusterError, match=message):
        crew.assemble(Workload(9), warm=True)
    crew.close()


class _OnProcessors(NodeWorker):
    """Builds no network for a GPU, which the machine of the tests may lack."""

    def build(self, settings: Settings, workload: Workload, *, warm: bool) -> Any:
        return super().build(replace(settings, device="cpu"), workload, warm=warm)


def test_a_machine_without_the_package_is_named_with_what_to_type() -> None:
    def die(key: str, method: str, value: Any, n: int) -> Any:
        if key == "b":
            raise WorkerLostError("ModuleNotFoundError: No module named 'cnncodes'")
        return value

    transport = Threads(node("a"), node("b"))
    transport.answer = die
    with pytest.raises(ClusterError, match=r"^box-b: .*'cnncodes': pip install 'cnncodes\[ray\]' there"):
        Crew(transport, SETTINGS).assemble(Workload(9), warm=True)


def test_what_is_done_is_told_before_an_error_that_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Together(Threads):
        """Tells of calls when all of them have ended, errors first."""

        def wait(self, calls: Sequence[Any], seconds: float) -> list[Any]:
            concurrent.futures.wait(calls, 30)
            return sorted(calls, key=lambda call: call.exception() is None)

    def run(self: NodeWorker, load: str) -> str:
        if load == "bad":
            raise ImagesError("the store is down")
        return load

    monkeypatch.setattr(NodeWorker, "run", run)
    crew = Crew(Together(node("a"), node("b")), SETTINGS)
    crew.assemble(Workload(9), warm=True)
    crew.open(("layer2",), Work(), "job", [])
    while len(crew.working) < 2:
        assert not crew.events()
    for member, load in zip(crew.working, ("good", "bad"), strict=True):
        crew.run(member, object(), load)
    assert [event.value for event in crew.events()] == ["good"]
    with pytest.raises(ImagesError, match="the store is down"):
        crew.events()
    crew.close()


def test_a_process_that_never_begins_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_SECONDS", -1.0)
    monkeypatch.setattr("cnncodes.cluster.seats.MAX_DEATHS", 1)
    with pytest.raises(ClusterError, match="no process began within"):
        Crew(Threads(node("a")), SETTINGS).assemble(Workload(9), warm=True)
