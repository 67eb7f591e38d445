"""The workers of a cluster: started on its nodes, compared with the first one, and replaced when they die."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cnncodes import __version__
from cnncodes.cluster.places import Place, kind_of, mismatch, places_of
from cnncodes.cluster.transport import Call, Transport, WorkerLostError
from cnncodes.cluster.worker import Opened, Ready, Sample
from cnncodes.errors import ClusterError, CnnCodesError
from cnncodes.extraction.engine import Work
from cnncodes.extraction.settings import Settings, settings_of
from cnncodes.runtime.workload import Workload

__all__ = ["Crew", "Event", "Member"]

logger = logging.getLogger(__name__)

WAIT_SECONDS = 0.5  # between two looks at the calls
LOOK_SECONDS = 2.0  # between two lists of the nodes
START_SECONDS = 60.0  # for a process to begin; where processors are free, it takes a few
FREE_SECONDS = 15.0  # for processors to become free that a former run had
LATECOMER_SECONDS = 120.0  # for the others, once the first worker is ready; later they join while the work goes on
MAX_RETRY_SECONDS = 30.0  # between two workers of a place
MAX_DEATHS = 6  # of workers of a place without a unit that was done
NOBODY_SECONDS = 90.0  # that a cluster may be without workers: machines start again
CLOSING_SECONDS = 3.0


@dataclass(eq=False)
class Member:
    """A worker, and what is known of it.

    Attributes
    ----------
    place : Place
    handle : object
        By which the transport calls it.
    stage : {"begins", "begun", "builds", "built", "opens", "works"}
    since : float
        When the stage began.
    ready : Ready or None
    opened : Opened or None
    """

    place: Place
    handle: Any
    since: float
    stage: str = "begins"
    ready: Ready | None = None
    opened: Opened | None = None


@dataclass
class Event:
    """A unit that is done, or that was lost with its worker.

    Attributes
    ----------
    member : Member
    unit : object
    value : object
        What `run` gave; None if the unit was lost.
    error : Exception or None
        Why it was lost.
    """

    member: Member
    unit: Any
    value: Any = None
    error: Exception | None = None


@dataclass
class _Seat:
    """A place, whoever has it."""

    place: Place
    member: Member | None = None
    deaths: int = 0  # since the last unit that was done
    not_before: float = 0.0
    is_left_out: bool = False


class Crew:
    """Workers on all nodes that can work, now and later.

    Parameters
    ----------
    transport : Transport
    settings : Settings
        What was asked for. The first worker chooses the rest, and the others do as it did.
    mixed : bool, default=False
        Whether other kinds of processor may take part.
    clock : callable, optional
        Returns seconds.

    Attributes
    ----------
    notes : list of str
        What a user should know about the nodes.
    suspects : set of bytes
        Digests of images that were being decoded when a worker died.
    lead : Ready
        The network of the first worker; known once the crew is assembled.
    """

    lead: Ready

    def __init__(
        self,
        transport: Transport,
        settings: Settings,
        *,
        mixed: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.transport, self.settings, self.mixed, self.clock = transport, settings, mixed, clock
        self.notes: list[str] = []
        self.suspects: set[bytes] = set()
        self.kind = kind_of(settings.device, transport.nodes())
        self._seats: dict[str, _Seat] = {}
        self._calls: dict[Call, tuple[Member, str, Any]] = {}
        self._reasons: dict[str, str] = {}  # node -> why it does not work
        self._refusals: list[str] = []
        self._has_lead = self._is_assembled = False
        self._first: tuple[Settings, Workload, bool] = (settings, Workload(), False)
        self._task: tuple[Sequence[str], Work, str, Sequence[Sample]] | None = None
        self._looked = self._had_workers = -1e9

    # -------------------------------------------------------------------------------------------------- for the caller

    @property
    def members(self) -> list[Member]:
        """The workers that live, whatever they do."""
        return [seat.member for seat in self._seats.values() if seat.member]

    @property
    def working(self) -> list[Member]:
        """The workers that take units."""
        return [member for member in self.members if member.stage == "works"]

    def assemble(self, workload: Workload, *, warm: bool) -> None:
        """Start all workers; return when the first one has built the network, and the others the same.

        Raises
        ------
        CnnCodesError
            The network cannot be built.
        ClusterError
            No node can work; or some have other versions, weights or processors: they are named.
        """
        started, deadline = self.clock(), float("inf")
        self._look()
        self._first = (self.settings, replace(workload, n_images=workload.n_images // max(1, len(self._seats))), warm)
        while self.clock() < deadline:
            self.events()
            if self._has_lead and deadline == float("inf"):
                deadline = self.clock() + LATECOMER_SECONDS
            is_empty = all(seat.is_left_out for seat in self._seats.values())
            if is_empty and (self._refusals or self.clock() > started + FREE_SECONDS):
                break
            if self._has_lead and not any(member.stage in ("begins", "begun", "builds") for member in self.members):
                break
        if self._refusals:
            raise ClusterError(
                f"{'; '.join(self._refusals)}. Give these machines what the others have, or leave them out of the "
                "cluster"
            )
        if not self._has_lead:
            raise ClusterError(self._nobody())
        self._is_assembled = True

    def open(self, keys: Sequence[str], work: Work, job: str, samples: Sequence[Sample]) -> None:
        """Let all workers make ready for images; see `NodeWorker.open`."""
        self._task = (keys, work, job, samples)
        for member in self.members:
            if member.stage in ("built", "works"):
                self._begin_open(member)

    def run(self, member: Member, unit: Any, load: Any) -> None:
        """Give a worker a unit; an event will tell what became of it."""
        self._call(member, "run", load, tag=unit)

    def events(self, seconds: float = WAIT_SECONDS) -> list[Event]:
        """Return the units that have been done or lost since the last time; wait for the first of them.

        In between, workers are started, make ready, and are replaced.

        Raises
        ------
        ClusterError
            There has been no worker for a while.
        """
        now = self.clock()
        if now > self._looked + LOOK_SECONDS:
            self._look()
        if self.members:
            self._had_workers = now
        elif self._is_assembled and now > self._had_workers + NOBODY_SECONDS:
            raise ClusterError(self._nobody())
        if not self._calls:
            time.sleep(min(seconds, WAIT_SECONDS))
            return []
        return [event for call in self.transport.wait(list(self._calls), seconds) for event in self._ended(call)]

    def done(self, member: Member) -> None:
        """Note that a worker has done a unit: its place is not to blame for what went wrong before."""
        if (seat := self._seats.get(member.place.key)) is not None:
            seat.deaths = 0

    def leave_out(self, member: Member, reason: str) -> list[Event]:
        """End a worker for good, and return the units that it had."""
        seat = self._seats[member.place.key]
        seat.is_left_out = True
        words = f"{member.place.name}: {reason}"
        if self._is_assembled:
            self._note(f"{words}. It is left out")
        elif words not in self._refusals:
            self._refusals.append(words)
        self._reasons[member.place.node] = words
        return self._dismiss(member, None)

    def close(self) -> None:
        """Let the workers remove what they have on their nodes, then end them."""
        calls = [self.transport.call(member.handle, "close") for member in self.working]
        deadline = self.clock() + CLOSING_SECONDS
        while calls and self.clock() < deadline:
            ended = set(self.transport.wait(calls, max(0.0, deadline - self.clock())))
            calls = [call for call in calls if call not in ended]
        for member in self.members:
            self.transport.end(member.handle)
        self._seats, self._calls = {}, {}

    # ------------------------------------------------------------------------------------------------ what workers tell

    def _ended(self, call: Call) -> list[Event]:
        """Look at a call that has ended; return what became of a unit, if it was of one."""
        if call not in self._calls:  # its worker has been dismissed in the meantime
            return []
        member, method, tag = self._calls.pop(call)
        try:
            value = self.transport.result(call)
        except WorkerLostError as error:
            self._calls[call] = member, method, tag
            return self._lost(member, error)
        except CnnCodesError as error:
            return self._failed(member, method, error)
        except Exception as error:  # a library on that node is at its end, as CUDA may be
            self._calls[call] = member, method, tag
            return self._lost(member, error)
        if method == "run":
            return [Event(member, tag, value)]
        return getattr(self, f"_after_{method}")(member, value)

    def _after_hello(self, member: Member, versions: dict[str, str]) -> list[Event]:
        self._enter(member, "begun")
        if versions["cnncodes"] != __version__:
            other = f"it has cnncodes {versions['cnncodes']}, and this machine {__version__}"
            return self.leave_out(member, f"{other}: pip install cnncodes=={__version__} there")
        self._build_next()
        return []

    def _after_build(self, member: Member, ready: Ready) -> list[Event]:
        self._enter(member, "built")
        member.ready = ready
        if not self._has_lead:
            self._has_lead, self.lead = True, ready
        elif reason := mismatch(self.lead, ready, mixed=self.mixed):
            return self.leave_out(member, reason)
        elif ready.photo_digest != self.lead.photo_digest:
            other = f"another processor ({ready.processor}), whose codes differ in their last bits"
            self._note(f"{member.place.name}: {other}")
        self._build_next()
        if self._task:
            self._begin_open(member)
        return []

    def _after_open(self, member: Member, opened: Opened) -> list[Event]:
        self._enter(member, "works")
        member.opened = opened
        self.suspects |= opened.suspects
        if opened.compiled != self.lead.facts.provenance.runtime.compiled and not self.mixed:
            return self.leave_out(member, "its network could not be compiled as that of the first machine was")
        return []

    def _build_next(self) -> None:
        """Let workers build the network: one of the best kind first, and when it is ready, all others as it did."""
        begun = [member for member in self.members if member.stage == "begun"]
        if self._has_lead:
            like_lead = settings_of(self.lead.facts.provenance)
            for member in begun:
                self._begin_build(member, like_lead, Workload(), warm=False)
        elif not any(member.stage == "builds" for member in self.members):
            settings, workload, warm = self._first
            for member in [one for one in begun if one.place.device == self.kind][:1]:
                threads = _threads(member, workload.workers)
                self._begin_build(member, settings, replace(workload, workers=threads), warm=warm)

    def _begin_build(self, member: Member, settings: Settings, workload: Workload, *, warm: bool) -> None:
        self._enter(member, "builds")
        self._call(member, "build", replace(settings, device=member.place.device), workload, warm=warm)

    def _begin_open(self, member: Member) -> None:
        assert self._task is not None
        keys, work, job, samples = self._task
        self._enter(member, "opens")
        self._call(member, "open", keys, work, _threads(member, work.workers), f"{job}-{member.place.key}", samples)

    def _failed(self, member: Member, method: str, error: CnnCodesError) -> list[Event]:
        """Leave a worker out that cannot build what the first one could; any other error is the user's."""
        if method != "build" or not self._has_lead:
            raise error
        return self.leave_out(member, str(error))

    # ----------------------------------------------------------------------------------------------- who comes and goes

    def _look(self) -> None:
        """Start workers where there are none: on new nodes, and in place of those that died."""
        self._looked = now = self.clock()
        nodes = {node.key: node for node in self.transport.nodes()}
        self._seats = {key: seat for key, seat in self._seats.items() if seat.member or seat.place.node in nodes}
        known = {seat.place.node for seat in self._seats.values()}
        for node in nodes.values():
            if node.key not in known:
                places, reason = places_of(node, self.kind, mixed=self.mixed)
                self._seats |= {place.key: _Seat(place) for place in places}
                if reason:
                    self._reasons[node.key] = f"{node.name}: {reason}"
        for seat in self._seats.values():
            if seat.member is None and not seat.is_left_out and now >= seat.not_before and seat.place.node in nodes:
                place = seat.place
                seat.member = Member(place, self.transport.start(place.node, place.cpus, place.gpus), now)
                self._call(seat.member, "hello")
            elif seat.member and seat.member.stage == "begins" and now > seat.member.since + START_SECONDS:
                self._lost(seat.member, WorkerLostError(f"no process began within {START_SECONDS:.0f} s"))

    def _lost(self, member: Member, error: Exception) -> list[Event]:
        """Dismiss a worker that died, and return the units that it had."""
        logger.info("%s: a worker is gone in the stage %r (%s)", member.place.name, member.stage, error)
        if "No module named" in str(error):
            return self.leave_out(member, f"{error}: pip install 'cnncodes[ray]' there")
        seat = self._seats[member.place.key]
        seat.deaths += 1
        seat.not_before = self.clock() + min(2.0 ** (seat.deaths - 1) - 1, MAX_RETRY_SECONDS)
        self._reasons[member.place.node] = f"{member.place.name}: its workers die ({error})"
        if seat.deaths >= MAX_DEATHS:
            seat.is_left_out = True
            deaths = f"{seat.deaths} workers died, one after the other ({error})"
            self._note(f"{member.place.name}: {deaths}. It is left out")
        events = self._dismiss(member, error)
        self._looked = -1e9  # another worker can take its place at once
        return events

    def _dismiss(self, member: Member, error: Exception | None) -> list[Event]:
        own = {call: tag for call, (one, method, tag) in self._calls.items() if one is member}
        for call in own:
            del self._calls[call]
        self.transport.end(member.handle)
        self._seats[member.place.key].member = None
        return [Event(member, unit, error=error) for unit in own.values() if unit is not None]

    # ----------------------------------------------------------------------------------------------------------- small

    def _call(self, member: Member, method: str, *arguments: Any, tag: Any = None, **options: Any) -> None:
        self._calls[self.transport.call(member.handle, method, *arguments, **options)] = (member, method, tag)

    def _enter(self, member: Member, stage: str) -> None:
        member.stage, member.since = stage, self.clock()

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            logger.warning(text)

    def _nobody(self) -> str:
        reasons = "; ".join(self._reasons.values()) or "it has no machines"
        return f"no machine of the cluster can work ({reasons}). What was done is kept; run the same command again"


def _threads(member: Member, workers: int | None) -> int:
    return workers or max(1, member.place.cpus)
