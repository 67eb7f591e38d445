"""Deals rows out in units: which rows wait, who works on which, and which are done."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import numpy as np

__all__ = ["UNIT_ROWS", "Unit", "Units"]

UNIT_ROWS = 256
SHARES = 4  # parts that the rows which wait are cut into for each worker, so that all end at about the same time
MAX_COPIES = 2  # workers that may have a row at the same time
SPLIT_AT = 2  # losses of a worker after which the rows of its unit are dealt out in smaller units
APART_AT = 3  # and after which each image is decoded in a process of its own
SUSPECT_AT = 5  # and after which each image is tried last, by a worker that has nothing else: so the killer is found
SUSPECT_SECONDS = 600.0  # after which another worker may try it, too: a worker that is frozen does not die


@dataclass(eq=False)
class Unit:
    """Rows that a worker computes together.

    Attributes
    ----------
    rows : ndarray of int
    losses : int, default=0
        How many workers have died of it, or while they had it.
    by_bytes : bool, default=False
        Whether the bytes of its images are sent, as a worker could not read their files.
    """

    rows: np.ndarray
    losses: int = 0
    by_bytes: bool = False
    holder: Hashable = None
    since: float = 0.0

    @property
    def apart(self) -> bool:
        """Whether each of its images is tried in a process of its own first."""
        return self.losses >= APART_AT

    @property
    def is_suspect(self) -> bool:
        """Whether it is one image that may kill its worker, which has nothing else meanwhile."""
        return self.losses >= SUSPECT_AT


@dataclass
class _Pace:
    """How fast a worker is."""

    rows: int = 0
    since: float = 0.0
    units: list[Unit] = field(default_factory=list)  # that it has, the oldest first

    def per_second(self, now: float) -> float:
        return self.rows / max(now - self.since, 1e-9)


class Units:
    """The rows of an extraction.

    While many rows wait, a unit has `size` of them; when few are left, units become smaller. When none wait, an idle
    worker takes rows over that another has, if it would be done with them sooner; the first result of a row counts.

    Parameters
    ----------
    rows : ndarray of int
        What is to be done, each once.
    multiple : int, default=1
        Units have a multiple of so many rows, which a network takes at once.
    size : int, default=256
        Most rows of a unit.
    limit : callable, optional
        Takes rows, and whether the bytes of their images are sent; returns how many of the first of them may be in one
        unit.
    clock : callable, optional
        Returns seconds.
    """

    def __init__(
        self,
        rows: np.ndarray,
        *,
        multiple: int = 1,
        size: int = UNIT_ROWS,
        limit: Callable[[np.ndarray, bool], int] = lambda rows, by_bytes: len(rows),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.multiple, self.limit, self.clock = multiple, limit, clock
        self.size = _round_up(size, multiple)
        self._fresh, self._at = rows, 0  # those from `_at` on were given to nobody yet
        self._again: deque[Unit] = deque()  # that were lost, and go first
        self._suspects: deque[Unit] = deque()  # that were lost too often, and go last
        self._n_open = len(rows)
        self._is_open = np.zeros(int(rows.max(initial=-1)) + 1, bool)
        self._is_open[rows] = True
        self._copies = np.zeros(len(self._is_open), np.uint8)  # how many workers have each row
        self._paces: dict[Hashable, _Pace] = {}

    def __len__(self) -> int:
        return self._n_open

    def take(self, worker: Hashable, n_workers: int, *, by_bytes: bool = False) -> Unit | None:
        """Return a unit for a worker, or None if there is nothing that it could do sooner than others.

        Parameters
        ----------
        worker : hashable
        n_workers : int
            How many workers share what waits.
        by_bytes : bool, default=False
            Whether it is sent the bytes of all images.
        """
        pace = self._paces.setdefault(worker, _Pace(since=self.clock()))
        if any(unit.is_suspect for unit in pace.units):
            return None
        unit = self._lost_unit(by_bytes) or self._fresh_unit(n_workers, by_bytes)
        if unit is None and not pace.units:  # only a worker without work risks its life, or takes over
            unit = self._suspects.popleft() if self._suspects else None
            unit = unit or self._copied_unit(worker, pace, n_workers, by_bytes)
        if unit is None:
            return None
        unit.holder, unit.since = worker, self.clock()
        if not pace.units and not pace.rows:
            pace.since = unit.since
        pace.units.append(unit)
        self._copies[unit.rows] += 1
        return unit

    def held(self, worker: Hashable) -> int:
        """Return how many units a worker has."""
        return len(self._paces[worker].units) if worker in self._paces else 0

    def finish(self, unit: Unit, done: AbstractSet[int], unread: AbstractSet[int] = frozenset()) -> set[int]:
        """Note that rows of a unit are done; return those that no other worker had done before.

        Parameters
        ----------
        unit : Unit
        done : set of int
        unread : set of int, optional
            Rows of files that the worker could not read: they are done again, by the bytes of their files.
        """
        self._release(unit)
        self._paces[unit.holder].rows += len(unit.rows)
        rows = np.fromiter(done, np.int64, len(done))
        first = rows[self._is_open[rows]]
        self._is_open[first] = False
        self._n_open -= len(first)
        if unread:
            self._requeue(unit.rows[np.isin(unit.rows, list(unread))], unit.losses, True)
        return set(first.tolist())

    def give_back(self, unit: Unit, *, lost: bool = False) -> None:
        """Let others have the rows of a unit, before all that waits.

        Parameters
        ----------
        unit : Unit
        lost : bool, default=False
            The worker died while it had the unit.
        """
        self._release(unit)
        if lost and unit.is_suspect:  # whoever has the same image, too, counts it
            for other in [other for pace in self._paces.values() for other in pace.units if other.is_suspect]:
                other.losses += int(other.rows[0] == unit.rows[0])
        self._requeue(unit.rows, unit.losses + lost, unit.by_bytes)

    def forget(self, worker: Hashable) -> None:
        """Forget the pace of a worker that is gone; its units were given back."""
        self._paces.pop(worker, None)

    def _release(self, unit: Unit) -> None:
        self._paces[unit.holder].units.remove(unit)
        self._copies[unit.rows] -= 1

    def _requeue(self, rows: np.ndarray, losses: int, by_bytes: bool) -> None:
        """Put those rows first that are not done, and that nobody has."""
        left = rows[self._is_open[rows] & (self._copies[rows] == 0)]
        if losses >= SUSPECT_AT:
            # the newest first, so that one that kills is known before the next one is tried
            self._suspects.extendleft(Unit(left[i : i + 1], losses, by_bytes) for i in reversed(range(len(left))))
            return
        parts = max(1, len(left) // max(1, self.multiple)) if losses >= SPLIT_AT else 1
        for part in reversed(np.array_split(left, parts)):
            if len(part):
                self._again.appendleft(Unit(part, losses, by_bytes))

    def _lost_unit(self, by_bytes: bool) -> Unit | None:
        if not self._again:
            return None
        unit = self._again.popleft()
        if (n := max(1, self.limit(unit.rows, by_bytes or unit.by_bytes))) < len(unit.rows):
            self._again.appendleft(Unit(unit.rows[n:], unit.losses, unit.by_bytes))
            unit.rows = unit.rows[:n]
        return unit

    def _fresh_unit(self, n_workers: int, by_bytes: bool) -> Unit | None:
        rows = self._fresh[self._at : self._at + self._share(len(self._fresh) - self._at, n_workers)]
        rows = rows[: max(1, self.limit(rows, by_bytes))]
        self._at += len(rows)
        return Unit(rows) if len(rows) else None

    def _share(self, n_rows: int, n_workers: int) -> int:
        """Return how many of the rows that are left make a unit."""
        return min(self.size, _round_up(max(1, n_rows // (SHARES * max(1, n_workers))), self.multiple))

    def _copied_unit(self, worker: Hashable, pace: _Pace, n_workers: int, by_bytes: bool) -> Unit | None:
        """Return rows that another worker has, and that this one would be done with sooner."""
        now = self.clock()
        rate = pace.per_second(now) if pace.rows else None
        best: tuple[float, Unit, np.ndarray] | None = None
        for holder, other in self._paces.items():
            if holder == worker:
                continue
            ahead = 0
            for unit in other.units:
                ahead += len(unit.rows)
                rows = unit.rows[self._is_open[unit.rows] & (self._copies[unit.rows] < MAX_COPIES)]
                if not len(rows) or (unit.is_suspect and now - unit.since < SUSPECT_SECONDS):
                    continue
                rows = rows[-self._share(len(rows), n_workers) :]  # the last are the ones that are done last
                left = _seconds_left(other, ahead, now)
                needed = len(rows) / rate if rate else now - unit.since  # unknown: about as long as it has waited
                if needed < left and (best is None or left > best[0]):
                    best = left, unit, rows
        if best is None:
            return None
        _, unit, rows = best
        rows = rows[-max(1, self.limit(rows[::-1], by_bytes or unit.by_bytes)) :]
        return Unit(rows, unit.losses, unit.by_bytes)


def _seconds_left(pace: _Pace, ahead: int, now: float) -> float:
    """Estimate when a worker is done with so many rows; one that is late counts as needing as long again."""
    waited = now - pace.units[0].since
    if not pace.rows:
        return waited
    left = ahead / pace.per_second(now) - waited
    return left if left > 0 else waited


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
