"""The workers of a cluster: started on its nodes, compared with the first one, and replaced when they die."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cnncodes import __version__
from cnncodes.cluster.places import kind_of, mismatch
from cnncodes.cluster.seats import MAX_DEATHS, Member, Seats
from cnncodes.cluster.transport import Call, Transport, WorkerLostError
from cnncodes.cluster.worker import Opened, Ready, Sample
from cnncodes.errors import ClusterError, CnnCodesError, DeviceError
from cnncodes.extraction.engine import Work
from cnncodes.extraction.settings import Settings, settings_of
from cnncodes.runtime.workload import Workload

__all__ = ["Crew", "Event"]

logger = logging.getLogger(__name__)

WAIT_SECONDS = 0.5  # between two looks at the calls
LOOK_SECONDS = 2.0  # between two lists of the nodes
START_SECONDS = 60.0  # for a process to begin; where processors are free, it takes a few
FREE_SECONDS = 15.0  # for processors to become free that a former run had
LATECOMER_SECONDS = 120.0  # for the others, once the first worker is ready; later they join while the work goes on
CLOSING_SECONDS = 3.0
NO_MODULE = "No module named"  # what Python says where a package is not installed


@dataclass
class Event:
    """A unit that is done, or that was lost with its worker.

    Attributes
    ----------
    member : Member
    unit : object
    value : object
        What `NodeWorker.run` gave; None if the unit was lost.
    error : Exception or None
        Why the worker died; None if it was dismissed.
    """

    member: Member
    unit: Any
    value: Any = None
    error: Exception | None = None


class Crew:
    """Workers on all nodes that can work, now and later.

    Parameters
    ----------
    transport : Transport
    settings : Settings
        What was asked for. The first worker chooses the rest, and the others do as it did.
    mixed : bool, default=False
        Whether other kinds of processor may take part.

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

    def __init__(self, transport: Transport, settings: Settings, *, mixed: bool = False) -> None:
        self.transport, self.settings, self.mixed = transport, settings, mixed
        self.notes: list[str] = []
        self.suspects: set[bytes] = set()
        self._seats = Seats(kind_of(settings.device, transport.nodes()), mixed=mixed)
        self._calls: dict[Call, tuple[Member, str, Any]] = {}  # with the unit, if it is of one
        self._refusals: list[str] = []
        self._has_lead, self._is_assembled, self._looked = False, False, float("-inf")
        self._first: tuple[Workload, bool] = (Workload(), False)
        self._task: tuple[Sequence[str], Work, str, Sequence[Sample]] | None = None

    @property
    def working(self) -> list[Member]:
        """The workers that take units."""
        return [member for member in self._seats.members if member.stage == "works"]

    def assemble(self, workload: Workload, *, warm: bool) -> None:
        """Start all workers; return when the first one has built the network, and the others the same.

        Raises
        ------
        CnnCodesError
            The network cannot be built.
        ClusterError
            No node can work; or some have other versions, weights or processors: they are named.
        """
        started, deadline = time.monotonic(), float("inf")
        self._look()
        self._first = (replace(workload, n_images=workload.n_images // max(1, len(self._seats))), warm)
        while time.monotonic() < deadline:
            self.events()
            if self._has_lead:
                deadline = min(deadline, time.monotonic() + LATECOMER_SECONDS)
                if not any(member.stage in ("begins", "begun", "builds") for member in self._seats.members):
                    break
            is_hopeless = self._seats.are_hopeless if self._has_lead else self._seats.cannot_lead
            if is_hopeless and (self._refusals or time.monotonic() > started + FREE_SECONDS):
                break
        if self._refusals:
            compared = f" They were compared with {self._lead_name}, which was ready first." if self._has_lead else ""
            raise ClusterError(f"{'; '.join(self._refusals)}.{compared} Make them alike, or leave these machines out")
        if not self._has_lead:
            raise ClusterError(f"{self._seats.nobody}; nothing was begun. Free a machine, or add one")
        self._is_assembled = True

    def open(self, keys: Sequence[str], work: Work, job: str, samples: Sequence[Sample]) -> None:
        """Let all workers make ready for images; see `NodeWorker.open`."""
        self._task = (keys, work, job, samples)
        for member in self._seats.members:
            if member.stage in ("built", "works"):
                self._begin_open(member)

    def run(self, member: Member, unit: Any, load: Any) -> None:
        """Give a worker a unit; an event tells what became of it."""
        self._call(member, "run", load, unit=unit)

    def events(self, seconds: float = WAIT_SECONDS) -> list[Event]:
        """Return the units that have been done or lost since the last time; wait for the first of them.

        In between, workers are started, make ready, and are replaced.

        Raises
        ------
        ClusterError
            There has been no machine that can work for a long time.
        """
        now, events, errors = time.monotonic(), list[Event](), list[CnnCodesError]()
        if now > self._looked + LOOK_SECONDS:
            events += self._look()
        if self._is_assembled:
            self._seats.refuse_to_wait_for_ever(now)
        if not self._calls:
            time.sleep(seconds)
            return events
        for call in self.transport.wait(list(self._calls), seconds):
            try:
                events += self._ended(call)
            except CnnCodesError as error:
                errors.append(error)
        if errors and not events:  # what is done is kept first; then the same calls raise it again
            raise errors[0]
        return events

    def done(self, member: Member, *, is_explained: bool = False) -> None:
        """Note that a worker has done a unit, or that its death is explained: its place is not to blame."""
        if is_explained or member in self._seats.members:
            self._seats.acquit(member)

    def close(self) -> None:
        """Let the workers remove what they have on their nodes, then end them."""
        calls = [self.transport.call(member.handle, "close") for member in self.working]
        deadline = time.monotonic() + CLOSING_SECONDS
        while calls and (left := deadline - time.monotonic()) > 0:
            ended = set(self.transport.wait(calls, left))
            calls = [call for call in calls if call not in ended]
        for member in self._seats.members:
            self.transport.end(member.handle)

    # ----------------------------------------------------------------------------------------------- what workers tell

    def _ended(self, call: Call) -> list[Event]:
        """Look at a call that has ended; return what became of a unit."""
        if call not in self._calls:  # its worker has been dismissed in the meantime
            return []
        member, method, unit = self._calls[call]
        try:
            value = self.transport.result(call)
        except CnnCodesError as error:
            is_its_own = isinstance(error, DeviceError) and len(self._seats.members) > 1
            if not is_its_own and (method != "build" or not self._has_lead):
                raise  # it is the user's, as it would be here
            return self._leave_out(member, str(error))
        except Exception as error:  # its process or its node died, or a library is at its end, as CUDA may be
            return self._lost(member, error)
        del self._calls[call]
        if method == "run":
            return [Event(member, unit, value)]
        return list[Event](getattr(self, f"_after_{method}")(member, value))

    def _after_hello(self, member: Member, versions: dict[str, str]) -> list[Event]:
        self._enter(member, "begun")
        if versions["cnncodes"] != __version__:
            other = f"it has cnncodes {versions['cnncodes']}, and this machine {__version__}"
            return self._leave_out(member, f"{other}: pip install cnncodes=={__version__} there")
        self._build_next()
        return []

    def _after_build(self, member: Member, ready: Ready) -> list[Event]:
        self._enter(member, "built")
        member.ready = ready
        if not self._has_lead:
            self._has_lead, self.lead, self._lead_name = True, ready, member.place.name
        elif reason := mismatch(self.lead, ready, mixed=self.mixed):
            return self._leave_out(member, reason)
        elif ready.photo_digest != self.lead.photo_digest:
            self._note(f"{member.place.name}: another processor ({ready.processor}): the last bits of its codes differ")
        self._build_next()
        if self._task:
            self._begin_open(member)
        return []

    def _after_open(self, member: Member, opened: Opened) -> list[Event]:
        self._enter(member, "works")
        member.opened = opened
        self.suspects |= opened.suspects
        if opened.compiled != self.lead.facts.provenance.runtime.compiled and not self.mixed:
            return self._leave_out(member, "its network could not be compiled as that of the first machine was")
        return []

    # ------------------------------------------------------------------------------------------- what workers are to do

    def _build_next(self) -> None:
        """Let workers build the network: one of the best kind first, and when it is ready, all others as it did."""
        begun = [member for member in self._seats.members if member.stage == "begun"]
        if self._has_lead:
            for member in begun:
                self._begin_build(member, settings_of(self.lead.facts.provenance), Workload(), warm=False)
        elif not any(member.stage == "builds" for member in self._seats.members):
            workload, warm = self._first
            for member in [one for one in begun if one.place.device == self._seats.kind][:1]:
                workload = replace(workload, workers=member.threads(workload.workers))
                self._begin_build(member, self.settings, workload, warm=warm)

    def _begin_build(self, member: Member, settings: Settings, workload: Workload, *, warm: bool) -> None:
        self._enter(member, "builds")
        self._call(member, "build", replace(settings, device=member.place.device), workload, warm=warm)

    def _begin_open(self, member: Member) -> None:
        assert self._task is not None
        keys, work, job, samples = self._task
        self._enter(member, "opens")
        self._call(member, "open", keys, work, member.threads(work.workers), f"{job}-{member.place.key}", samples)

    def _call(self, member: Member, method: str, *arguments: Any, unit: Any = None, **options: Any) -> None:
        self._calls[self.transport.call(member.handle, method, *arguments, **options)] = (member, method, unit)

    def _enter(self, member: Member, stage: str) -> None:
        member.stage, member.since = stage, time.monotonic()

    # ---------------------------------------------------------------------------------------------- who comes and goes

    def _look(self) -> list[Event]:
        """Start workers where there are none: on new nodes, and in place of those that died."""
        self._looked = now = time.monotonic()
        for seat in self._seats.look(self.transport.nodes(), now):
            place = seat.place
            seat.member = Member(place, self.transport.start(place.node, place.cpus, place.gpus), now)
            self._call(seat.member, "hello")
        late = [one for one in self._seats.members if one.stage == "begins" and now > one.since + START_SECONDS]
        reason = WorkerLostError(f"no process began within {START_SECONDS:.0f} s")
        return [event for member in late for event in self._lost(member, reason)]

    def _lost(self, member: Member, error: Exception) -> list[Event]:
        """Dismiss a worker that died, and return the units that it had."""
        logger.info("%s: a worker is gone in the stage %r (%s)", member.place.name, member.stage, error)
        if NO_MODULE in str(error):
            return self._leave_out(member, f"{error}: pip install 'cnncodes[ray]' there")
        if self._seats.vacate(member, f"its workers die ({error})", time.monotonic()).deaths == MAX_DEATHS:
            self._note(f"{member.place.name}: {MAX_DEATHS} workers died in a row ({error}); it is tried more rarely")
        self._looked = float("-inf")  # another worker can take its place at once
        return self._dismiss(member, error)

    def _leave_out(self, member: Member, reason: str) -> list[Event]:
        """End a worker for good, and return the units that it had."""
        words = f"{member.place.name}: {reason}"
        if self._is_assembled:
            self._note(f"{words}. It is left out")
        elif words not in self._refusals:
            self._refusals.append(words)
        self._seats.vacate(member, reason, time.monotonic(), for_good=True)
        return self._dismiss(member, None)

    def _dismiss(self, member: Member, error: Exception | None) -> list[Event]:
        units = {call: unit for call, (one, _, unit) in self._calls.items() if one is member}
        for call in units:
            del self._calls[call]
        self.transport.end(member.handle)
        self._build_next()  # if it was to be the first, another one is
        return [Event(member, unit, error=error) for unit in units.values() if unit is not None]

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            logger.warning(text)
