"""How long does an extraction over many machines take, what is done twice, and where is the single writer the limit?

    python benchmarks/simulate_cluster.py --images 1e6 --nodes 4 16 64 --rate 280 --deaths 0 0.05

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
from itertools import count, product
from typing import Any

import numpy as np

from cnncodes.cluster.ray_cluster import DEPTH
from cnncodes.cluster.units import Unit, Units

SLOWDOWN = 10  # of a straggler
LOOP_SECONDS = 0.02  # after which the driver looks for nodes that wait
SECONDS_PER_CALL = 0.005  # to hand a unit to a node
SPREAD = 0.1  # standard deviation of the logarithm of the nodes' rates
ROW_BYTES = 7_500  # codes of the five default layers of mobilenet_v2, picture and digest
PATH_BYTES = 200
IMAGE_BYTES = 110_000  # a photograph of 500 × 375 pixels, where the driver sends the images themselves


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
    multiple : int
        Rows that a network takes at once.
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
    sent: int = PATH_BYTES
    received: int = ROW_BYTES
    multiple: int = 8
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
            f"| {cluster.n:,} | {len(cluster.rates):,} | {cluster.rates.sum():,.0f} | {cluster.deaths:g} "
            f"| {self.seconds / 3600:.3g} | {ideal / self.seconds:.2f} | {self.deaths:,} "
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
    computes: bool = False
    queue: deque[Unit] = field(default_factory=deque)
    held: list[Unit] = field(default_factory=list)  # that were handed out and are not written yet


class Simulation:
    """Runs one extraction.

    Parameters
    ----------
    cluster : Cluster
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.outcome, self.now = cluster, Outcome(), 0.0
        self.units = Units(np.arange(cluster.n), multiple=cluster.multiple, clock=lambda: self.now)
        self.nodes = [_Node(rate) for rate in cluster.rates.tolist()]
        self.rng = np.random.default_rng(cluster.seed)
        self._hungry = dict.fromkeys(range(len(self.nodes)))  # nodes with fewer than two units, longest first
        self._hands_out = False  # whether it is planned
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()  # of events at the same time
        self._card_free = self._writer_free = 0.0  # when they have done what they were given

    def run(self) -> Outcome:
        """Simulate until every row is written."""
        for number in range(len(self.nodes)):
            self._plan_death(number)
        self._plan_hand_out()
        while self.outcome.written < self.cluster.n:
            self.now, _, act, about = heapq.heappop(self._events)
            act(*about)
        self.outcome.seconds = self.now
        return self.outcome

    def _at(self, when: float, act: Callable[..., None], *about: Any) -> None:
        heapq.heappush(self._events, (when, next(self._order), act, about))

    def _plan_death(self, number: int) -> None:
        if self.cluster.deaths:
            self._at(self.now + self.rng.exponential(3600 / self.cluster.deaths), self._die, number)

    def _plan_hand_out(self) -> None:
        if not self._hands_out:
            self._hands_out = True
            self._at(self.now + LOOP_SECONDS, self._hand_out)

    def _hand_out(self) -> None:
        """Give each node as many units as it may have, the first one to those that have none."""
        self._hands_out = False
        n_alive = sum(node.alive for node in self.nodes)
        for wanted in range(DEPTH):
            for number in [number for number in self._hungry if len(self.nodes[number].held) == wanted]:
                if (unit := self.units.take(number, n_alive)) is not None:
                    self._send(number, unit)

    def _send(self, number: int, unit: Unit) -> None:
        node = self.nodes[number]
        node.held.append(unit)
        if len(node.held) == DEPTH:
            del self._hungry[number]
        self.outcome.handed += len(unit.rows)
        arrived = self._through_card(len(unit.rows) * self.cluster.sent) + SECONDS_PER_CALL
        self._at(arrived, self._arrive, number, node.life, unit)

    def _through_card(self, n_bytes: int) -> float:
        """Send bytes to or from the driver; return when they have arrived."""
        seconds = n_bytes / self.cluster.network
        self.outcome.network += seconds
        self._card_free = max(self.now, self._card_free) + seconds
        return self._card_free

    def _arrive(self, number: int, life: int, unit: Unit) -> None:
        node = self.nodes[number]
        if node.life == life:
            node.queue.append(unit)
            if not node.computes:
                self._compute(number)

    def _compute(self, number: int) -> None:
        node = self.nodes[number]
        node.computes = bool(node.queue)
        if node.queue:
            unit = node.queue.popleft()
            self._at(self.now + len(unit.rows) / node.rate, self._computed, number, node.life, unit)

    def _computed(self, number: int, life: int, unit: Unit) -> None:
        if self.nodes[number].life == life:
            arrived = self._through_card(len(unit.rows) * self.cluster.received)
            self._at(arrived, self._received, number, life, unit)
            self._compute(number)

    def _received(self, number: int, life: int, unit: Unit) -> None:
        """Write what is new of a unit; the driver looks at the next one when that is done."""
        if self.nodes[number].life == life:
            start = max(self.now, self._writer_free)
            self._at(start, self._write, number, life, unit)
            self._writer_free = start + len(unit.rows) / self.cluster.writer

    def _write(self, number: int, life: int, unit: Unit) -> None:
        node = self.nodes[number]
        if node.life != life:
            return
        node.held.remove(unit)
        self._hungry[number] = None
        new = len(self.units.finish(unit, set(unit.rows.tolist())))
        seconds = new / self.cluster.writer
        self.outcome.writer += seconds
        self._at(self.now + seconds, self._written, new)

    def _written(self, new: int) -> None:
        self.outcome.written += new
        self._plan_hand_out()

    def _die(self, number: int) -> None:
        node = self.nodes[number]
        if node.alive:
            self.outcome.deaths += 1
            self.outcome.died += sum(len(unit.rows) for unit in node.held)
            self._hungry.pop(number, None)
            self.nodes[number] = _Node(node.rate, node.life + 1, alive=False)
            self._at(self.now + self.cluster.notice, self._noticed, number, node.held)
        self._plan_death(number)

    def _noticed(self, number: int, held: list[Unit]) -> None:
        for unit in held:
            self.units.give_back(unit, lost=True)
        self.units.forget(number)
        self._at(self.now + self.cluster.rejoin, self._rejoin, number)
        self._plan_hand_out()

    def _rejoin(self, number: int) -> None:
        self.nodes[number].alive = True
        self._hungry[number] = None
        self._plan_hand_out()


def draw_rates(n_nodes: int, rate: float, stragglers: float, seed: int) -> np.ndarray:
    """Draw the rates of nodes; a share of them is much slower."""
    rng = np.random.default_rng(seed)
    rates = rate * np.exp(SPREAD * rng.standard_normal(n_nodes))
    rates[rng.permutation(n_nodes)[: round(stragglers * n_nodes)]] /= SLOWDOWN
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=float, nargs="+", default=[1e6])
    parser.add_argument("--nodes", type=int, nargs="+", default=[16])
    parser.add_argument("--rate", type=float, nargs="+", default=[280.0], help="Images a second of a node.")
    parser.add_argument("--stragglers", type=float, default=0.05, help="Share of nodes that are ten times slower.")
    parser.add_argument("--deaths", type=float, nargs="+", default=[0.05], help="Deaths of a node in an hour.")
    parser.add_argument("--notice", type=float, default=5.0, help="Seconds until a death is noticed.")
    parser.add_argument("--rejoin", type=float, default=60.0, help="Seconds until a dead node works again.")
    parser.add_argument("--writer", type=float, default=50_000.0, help="Rows a second of the writer.")
    parser.add_argument("--network", type=float, default=10.0, help="Gigabits a second of the driver's network card.")
    parser.add_argument("--bytes", action="store_true", help="The driver sends the images, as nodes cannot read them.")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(HEADER)
    for n, n_nodes, rate, deaths in product(options.images, options.nodes, options.rate, options.deaths):
        cluster = Cluster(
            n=int(n),
            rates=draw_rates(n_nodes, rate, options.stragglers, options.seed),
            deaths=deaths,
            notice=options.notice,
            rejoin=options.rejoin,
            writer=options.writer,
            network=options.network * 1e9 / 8,
            sent=IMAGE_BYTES if options.bytes else PATH_BYTES,
            seed=options.seed,
        )
        print(Simulation(cluster).run().row(cluster), flush=True)


if __name__ == "__main__":
    main()
