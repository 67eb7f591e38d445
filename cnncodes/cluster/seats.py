"""Who works where: the places of the nodes that live, their workers, and when a worker that died is replaced."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnncodes.cluster.places import Place, places_of
from cnncodes.cluster.transport import Node
from cnncodes.cluster.worker import Opened, Ready
from cnncodes.errors import ClusterError

__all__ = ["Member", "Seat", "Seats"]

logger = logging.getLogger(__name__)

MAX_RETRY_SECONDS = 300.0  # between two workers of a place
MAX_DEATHS = 6  # in a row, after which a place counts as hopeless; it is tried again all the same
STALL_SECONDS = 900.0  # for which machines may be gone or hopeless: new ones may come
MAX_REASONS = 5  # that an error names


@dataclass(eq=False)
class Member:
    """A worker, and what is known of it.

    Attributes
    ----------
    place : Place
    handle : object
        By which the transport calls it.
    since : float
        When the stage began.
    stage : {"begins", "begun", "builds", "built", "opens", "works"}
    ready : Ready or None
    opened : Opened or None
    """

    place: Place
    handle: Any
    since: float
    stage: str = "begins"
    ready: Ready | None = None
    opened: Opened | None = None

    def threads(self, workers: int | None) -> int:
        """Return how many threads it has: one a processor, unless a number was asked for."""
        return workers or max(1, self.place.cpus)


@dataclass
class Seat:
    """A place, whoever has it.

    Attributes
    ----------
    place : Place
    member : Member or None
    deaths : int
        How many workers died since the last unit that was done.
    not_before : float
        When the next worker may be started.
    is_left_out : bool
        Whether no other worker may have it.
    """

    place: Place
    member: Member | None = None
    deaths: int = 0
    not_before: float = 0.0
    is_left_out: bool = False

    @property
    def is_hopeless(self) -> bool:
        """Whether nothing is to be expected of it: it is left out, or its workers die without having done a unit."""
        return self.is_left_out or self.deaths >= MAX_DEATHS


class Seats:
    """The places of a cluster.

    Parameters
    ----------
    kind : {"cpu", "cuda"}
    mixed : bool
        As for `places_of`.

    Attributes
    ----------
    reasons : dict of str to str
        Why a node does not work, by its key.
    """

    def __init__(self, kind: str, *, mixed: bool) -> None:
        self.kind, self.mixed = kind, mixed
        self.reasons: dict[str, str] = {}
        self._seats: dict[str, Seat] = {}
        self._hopeful = float("-inf")  # when a place was last seen that is not hopeless
        self._is_waiting = False

    def __len__(self) -> int:
        return len(self._seats)

    @property
    def members(self) -> list[Member]:
        """The workers that live, whatever they do."""
        return [seat.member for seat in self._seats.values() if seat.member]

    @property
    def are_hopeless(self) -> bool:
        """Whether no place is left of which anything is to be expected."""
        return all(seat.is_hopeless for seat in self._seats.values())

    @property
    def cannot_lead(self) -> bool:
        """Whether no place is left of which the first worker is to be expected: one on the device of the network."""
        return all(seat.is_hopeless for seat in self._seats.values() if seat.place.device == self.kind)

    @property
    def nobody(self) -> str:
        """Why there is no worker, for an error."""
        reasons = [*self.reasons.values()] or ["it has no machines"]
        more = [f"and {len(reasons) - MAX_REASONS} more"] * (len(reasons) > MAX_REASONS)
        return f"no machine of the cluster can work ({'; '.join([*reasons[-MAX_REASONS:], *more])})"

    def refuse_to_wait_for_ever(self, now: float) -> None:
        """Say so if all places are hopeless.

        Raises
        ------
        ClusterError
            They have been for `STALL_SECONDS`, and nobody works.
        """
        minutes = f"{STALL_SECONDS / 60:.0f} minutes"
        if now > self._hopeful + STALL_SECONDS and all(member.stage != "works" for member in self.members):
            raise ClusterError(
                f"{self.nobody}, for {minutes} by now. What was done is kept; run the same command again"
            )
        if self.are_hopeless and not self._is_waiting:
            logger.warning("%s; one that can is waited for, up to %s", self.nobody, minutes)
        self._is_waiting = self.are_hopeless

    def of(self, member: Member) -> Seat:
        """Return the seat of a worker."""
        return self._seats[member.place.key]

    def acquit(self, member: Member) -> None:
        """Forget how many workers of a place died, which is not to blame; the next one may begin at once."""
        if (seat := self._seats.get(member.place.key)) is not None:
            seat.deaths, seat.not_before = 0, 0.0

    def look(self, nodes: Sequence[Node], now: float) -> list[Seat]:
        """Take up the places of new nodes, and forget those of nodes that are gone; return the seats to be taken."""
        living = {node.key: node for node in nodes}
        self._seats = {key: seat for key, seat in self._seats.items() if seat.member or seat.place.node in living}
        known = {seat.place.node for seat in self._seats.values()}
        for node in nodes:
            if node.key not in known:
                places, reason = places_of(node, self.kind, mixed=self.mixed)
                self._seats |= {place.key: Seat(place) for place in places}
                if reason:
                    self.reasons[node.key] = f"{node.name}: {reason}"
        if not self.are_hopeless:
            self._hopeful = now
        return [
            seat
            for seat in self._seats.values()
            if seat.member is None and not seat.is_left_out and now >= seat.not_before and seat.place.node in living
        ]

    def vacate(self, member: Member, reason: str, now: float, *, for_good: bool = False) -> Seat:
        """Let another worker take the place of one that is gone, later each time; return the place.

        Parameters
        ----------
        member : Member
        reason : str
        now : float
        for_good : bool, default=False
            Let no other worker take the place.
        """
        seat = self.of(member)
        seat.member = None
        seat.deaths += 1
        seat.not_before = now + min(2.0 ** min(seat.deaths - 1, 60) - 1, MAX_RETRY_SECONDS)
        seat.is_left_out = for_good
        self.reasons.pop(member.place.node, None)  # the newest comes last
        self.reasons[member.place.node] = f"{member.place.name}: {reason}"
        return seat
