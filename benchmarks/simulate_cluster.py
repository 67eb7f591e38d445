"""How long does an extraction over many machines take, what is done twice, and where is the single writer the limit?

    python benchmarks/simulate_cluster.py --images 1e6 --nodes 16 --rate 280 --deaths 0.05
    python benchmarks/simulate_cluster.py --table

A discrete-event simulation: no network runs and nothing is written. Nodes pull units of rows. A node has up to two of
them at once, computes one after the other at its own rate, and sends the results to the driver, whose network card
takes one transfer at a time; there one writer writes them at its own rate. A node gets another unit when one of its
results is written, so that no queue grows. The nodes' rates are drawn around `--rate`; a share of them (`--stragglers`)
is ten times slower. Nodes die at random, each on average `--deaths` times an hour; the driver notices after `--notice`
seconds, and the node is back `--rejoin` seconds later. Which rows a node gets, what is given to two nodes near the end
and what happens to lost units is decided by the class that `extract --ray` uses.

Printed are hours, the share of the ideal (all rows at the sum of the rates of all nodes, without deaths), the rows that
were computed more often than once, and the share of the time in which the network card and the writer were busy: what
is near 1 is the limit.
"""

from __future__ import annotations

import argparse
import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import numpy as np

SLOWDOWN = 10  # of a straggler
UNITS_AT_ONCE = 2  # of a node: one is computed while the other travels and is written
SECONDS_PER_CALL = 0.005  # to hand a unit to a node
SPREAD = 0.1  # standard deviation of the logarithm of the nodes' rates
ROW_BYTES = 7_500  # codes of the five default layers of mobilenet_v2, picture and digest
IMAGE_BYTES = 110_000  # a photograph of 500 × 375 pixels, where the driver sends the images themselves


class Units(Protocol):
    """The bookkeeping of an extraction: what is to do, under way and done."""

    def take(self, node: int) -> Any:
        """Return a unit for a node, an object with a length; None if there is nothing for it now."""

    def done(self, node: int, unit: Any) -> int:
        """Note that a result has arrived; return how many of its rows are new."""

    def lost(self, node: int) -> None:
        """Note that a node is dead: what it had goes back."""


@dataclass(frozen=True)
class Cluster:
    """What is simulated.

    Attributes
    ----------
    n : int
        Rows to compute.
    rates : ndarray of float, shape (n_nodes,)
        Rows a second of each node.
    deaths : float
        Mean number of deaths of a node in an hour.
    notice, rejoin : float
        Seconds until the driver notices a death, and from then until the node works again.
    writer : float
        Rows a second that the writer takes.
    network : float
        Bytes a second that the driver's network card takes.
    sent, received : int
        Bytes a row from the driver to a node, and back.
    seed : int
        Seed of the deaths.
    """

    n: int
    rates: np.ndarray
    deaths: float = 0.0
    notice: float = 5.0
    rejoin: float = 60.0
    writer: float = 50_000.0
    network: float = 1.25e9
    sent: int = 200
    received: int = ROW_BYTES
    seed: int = 0


@dataclass
class Outcome:
    """What came of a simulated extraction; seconds, and rows."""

    seconds: float = 0.0
    written: int = 0
    handed: int = 0  # to nodes; more than there are where units were handed out twice
    died: int = 0  # of units that were under way on a node when it died
    deaths: int = 0
    network: float = 0.0
    writer: float = 0.0

    def row(self, cluster: Cluster) -> str:
        """Return a row of the table."""
        ideal = cluster.n / cluster.rates.sum()
        twice = self.handed - self.written - self.died
        return (
            f"| {cluster.n:.0e} | {len(cluster.rates):,} | {cluster.rates.sum():,.0f} | {cluster.deaths:g} "
            f"| {self.seconds / 3600:.2f} | {ideal / self.seconds:.2f} | {self.deaths:,} "
            f"| {twice / cluster.n:.2%} | {self.died / cluster.n:.2%} "
            f"| {self.network / self.seconds:.2f} | {self.writer / self.seconds:.2f} |"
        )


HEADER = (
    "| images | nodes | sum of rates | deaths an hour | hours | of the ideal | deaths | computed twice "
    "| under way at a death | network busy | writer busy |\n" + "|--:" * 11 + "|"
)


@dataclass
class _Node:
    """A node: the units that it has, and which life it is in; what a former life does is void."""

    rate: float
    life: int = 0
    alive: bool = True
    queue: deque[Any] = field(default_factory=deque)
    computing: bool = False
    held: list[int] = field(default_factory=list)  # rows of the units that were handed out and are not written yet


class PulledUnits:
    """Units of 256 rows that become smaller near the end; then those under way are given to a second node as well."""

    def __init__(self, n: int, n_nodes: int, rows: int = 256, least: int = 16) -> None:
        self.n, self.next, self.rows, self.least, self.n_nodes = n, 0, rows, least, n_nodes
        self.back: deque[range] = deque()
        self.under_way: dict[range, list[int]] = {}
        self.finished = set()

    def take(self, node: int) -> range | None:
        if self.back:
            unit = self.back.popleft()
        elif self.next < self.n:
            size = min(self.rows, max(self.least, (self.n - self.next) // (4 * self.n_nodes)))
            unit = range(self.next, min(self.n, self.next + size))
            self.next = unit.stop
        else:
            others = (unit for unit, nodes in self.under_way.items() if len(nodes) == 1 and node not in nodes)
            unit = next(others, None)
        if unit is not None:
            self.under_way.setdefault(unit, []).append(node)
        return unit

    def done(self, node: int, unit: range) -> int:
        return 0 if self.under_way.pop(unit, None) is None else len(unit)

    def lost(self, node: int) -> None:
        for unit, nodes in list(self.under_way.items()):
            if node in nodes:
                nodes.remove(node)
                if not nodes:
                    del self.under_way[unit]
                    self.back.append(unit)


class Simulation:
    """Runs one extraction.

    Parameters
    ----------
    cluster : Cluster
    units : Units
        The bookkeeping that is tried.
    """

    def __init__(self, cluster: Cluster, units: Units) -> None:
        self.cluster, self.units, self.outcome = cluster, units, Outcome()
        self.nodes = [_Node(rate) for rate in cluster.rates.tolist()]
        self.rng = np.random.default_rng(cluster.seed)
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()  # of events at the same time
        self._card_free = self._writer_free = 0.0  # when they have done what they were given

    def run(self) -> Outcome:
        """Simulate until every row is written."""
        for node in range(len(self.nodes)):
            self._at(0.0, self._feed, node)
            self._plan_death(node)
        while self.outcome.written < self.cluster.n:
            self.now, _, act, about = heapq.heappop(self._events)
            act(*about)
        self.outcome.seconds = self.now
        return self.outcome

    def _at(self, when: float, act: Callable[..., None], *about: Any) -> None:
        heapq.heappush(self._events, (when, next(self._order), act, about))

    def _plan_death(self, node: int) -> None:
        if self.cluster.deaths:
            self._at(self.now + self.rng.exponential(3600 / self.cluster.deaths), self._die, node)

    def _feed(self, number: int) -> None:
        """Give a node units until it has enough."""
        node = self.nodes[number]
        while node.alive and len(node.held) < UNITS_AT_ONCE and (unit := self.units.take(number)) is not None:
            node.held.append(len(unit))
            self.outcome.handed += len(unit)
            seconds = self._through_card(len(unit) * self.cluster.sent)
            self._at(seconds + SECONDS_PER_CALL, self._arrive, number, node.life, unit)

    def _through_card(self, n_bytes: int) -> float:
        """Send bytes to or from the driver; return when they have arrived."""
        seconds = n_bytes / self.cluster.network
        self.outcome.network += seconds
        self._card_free = max(self.now, self._card_free) + seconds
        return self._card_free

    def _arrive(self, number: int, life: int, unit: Any) -> None:
        node = self.nodes[number]
        if node.life == life:
            node.queue.append(unit)
            if not node.computing:
                self._compute(number)

    def _compute(self, number: int) -> None:
        node = self.nodes[number]
        node.computing = bool(node.queue)
        if node.queue:
            unit = node.queue.popleft()
            self._at(self.now + len(unit) / node.rate, self._computed, number, node.life, unit)

    def _computed(self, number: int, life: int, unit: Any) -> None:
        if self.nodes[number].life == life:
            arrived = self._through_card(len(unit) * self.cluster.received)
            self._at(arrived, self._received, number, life, unit)
            self._compute(number)

    def _received(self, number: int, life: int, unit: Any) -> None:
        if self.nodes[number].life != life:
            return
        new = self.units.done(number, unit)
        self.outcome.writer += new / self.cluster.writer
        self._writer_free = max(self.now, self._writer_free) + new / self.cluster.writer
        self._at(self._writer_free, self._written, number, life, len(unit), new)

    def _written(self, number: int, life: int, rows: int, new: int) -> None:
        self.outcome.written += new
        if self.nodes[number].life == life:
            self.nodes[number].held.remove(rows)
            self._feed(number)

    def _die(self, number: int) -> None:
        node = self.nodes[number]
        if node.alive:
            self.outcome.deaths += 1
            self.outcome.died += sum(node.held)
            self._at(self.now + self.cluster.notice, self._noticed, number)
            self.nodes[number] = _Node(node.rate, node.life + 1, alive=False)
        self._plan_death(number)

    def _noticed(self, number: int) -> None:
        self.units.lost(number)
        self._at(self.now + self.cluster.rejoin, self._rejoin, number)
        for other in range(len(self.nodes)):  # there may be work again for those that had none
            self._feed(other)

    def _rejoin(self, number: int) -> None:
        self.nodes[number].alive = True
        self._feed(number)


def draw_rates(n_nodes: int, rate: float, stragglers: float, seed: int) -> np.ndarray:
    """Draw the rates of nodes; a share of them is much slower."""
    rng = np.random.default_rng(seed)
    rates = rate * np.exp(SPREAD * rng.standard_normal(n_nodes))
    rates[rng.permutation(n_nodes)[: round(stragglers * n_nodes)]] /= SLOWDOWN
    return rates


if __name__ == "__main__":
    import time

    print(HEADER)
    for n, nodes, rate, strag, deaths in [
        (1e6, 16, 280, 0, 0),
        (1e6, 16, 280, 0.1, 0),
        (1e6, 16, 280, 0.1, 0.05),
        (1e6, 16, 280, 0.1, 1),
        (1e7, 16, 3600, 0.1, 0.05),
        (1e7, 100, 280, 0.05, 0.05),
        (1e8, 16, 3600, 0.1, 0.05),
        (1e8, 64, 3600, 0.02, 0.05),
    ]:
        c = Cluster(int(n), draw_rates(nodes, rate, strag, 0), deaths=deaths)
        t = time.time()
        o = Simulation(c, PulledUnits(c.n, nodes)).run()
        print(o.row(c), round(time.time() - t, 1))
