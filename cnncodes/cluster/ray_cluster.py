"""Hands the images of an extraction out to the machines of a Ray cluster, and yields their codes as they come back."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cnncodes.cluster.crew import Crew, Event
from cnncodes.cluster.loads import Loader
from cnncodes.cluster.places import check_device
from cnncodes.cluster.seats import Member
from cnncodes.cluster.transport import Transport, connected
from cnncodes.cluster.units import Unit, Units
from cnncodes.codes.provenance import Provenance
from cnncodes.errors import ClusterError, DecodeError
from cnncodes.extraction.engine import Cluster, Engine, NodeRate, Work
from cnncodes.extraction.settings import Settings
from cnncodes.extraction.sources import read_source
from cnncodes.extraction.worker_thread import NO_DIGEST, Batch
from cnncodes.images.image_set import ImageSet
from cnncodes.runtime.workload import Workload
from cnncodes.system.interrupt import patience
from cnncodes.system.progress import Progress

__all__ = ["RayCluster"]

DEPTH = 2  # units that a worker has at a time: while one is on its way, it computes the other
MAX_LOSSES = 8  # workers that may die while they have an image, the last few with nothing else; then it has failed
ENDING_SECONDS = 15.0  # that the workers get after Ctrl-C to be ended


class RayCluster(Cluster):
    """The machines of a Ray cluster that runs, for `extract`.

    There is a worker on each GPU of the cluster; if it has none, one on each machine, with all processors that are
    free. Machines that join later take part, and what a machine had that dies is done by others.

    Parameters
    ----------
    address : str, default="auto"
        ``"auto"``: the cluster that runs on this machine, or the one that ``RAY_ADDRESS`` names; or ``HOST:PORT``
        of its first machine. If Ray is initialised in this process already, that cluster is taken, and left as it is.
    mixed_nodes : bool, default=False
        Let machines take part whose processors give codes that differ in their last bits from those of the others, and
        processors beside GPUs. By default such a machine is refused by name.

    Raises
    ------
    MissingLibraryError
        Ray is not installed; raised when the extraction begins, as are the errors of `extract`.

    Examples
    --------
    >>> cluster = RayCluster("10.0.0.1:6379")
    >>> extract("photos/", "codes.h5", cluster=cluster)  # doctest: +SKIP
    """

    def __init__(self, address: str = "auto", *, mixed_nodes: bool = False) -> None:
        self.address, self.mixed_nodes = address, mixed_nodes

    def __repr__(self) -> str:
        return f"RayCluster({self.address!r}{', mixed_nodes=True' * self.mixed_nodes})"

    @contextlib.contextmanager
    def start(self, settings: Settings, workload: Workload, *, warm: bool) -> Iterator[Engine]:
        """Join the cluster, and build the network on its machines.

        Parameters
        ----------
        settings : Settings
            What is asked for; the first machine chooses the rest.
        workload : Workload
            The images to come, which decide whether to compile the network.
        warm : bool
            Try whether the network can be compiled, if it is to be, before its provenance is told.

        Returns
        -------
        context manager
            Gives the `Engine`; at its end the workers are ended, and the cluster is left.

        Raises
        ------
        ClusterError
            There is no such cluster, or no machine of it can work, or some would give other codes.
        """
        if workload.parts is not None:
            raise ClusterError("parts are not needed on a cluster: its machines share the images; leave shard out")
        check_device(settings.device)
        with connected(self.address) as transport, _crew(transport, settings, self.mixed_nodes) as crew:
            crew.assemble(workload, warm=warm)
            yield Dispatcher(crew)


@contextlib.contextmanager
def _crew(transport: Transport, settings: Settings, mixed: bool) -> Iterator[Crew]:
    crew = Crew(transport, settings, mixed=mixed)
    try:
        yield crew
    finally:
        with patience(ENDING_SECONDS):
            crew.close()


@dataclass
class _Tally:
    """What a node has computed, and since when."""

    name: str
    since: float
    until: float
    computed: int = 0
    counted: int = 0  # without what another node had done before

    @property
    def rate(self) -> float:
        return self.computed / max(self.until - self.since, 1e-9) if self.computed else 0.0


class Dispatcher:
    """The network of a crew; see `Engine`."""

    def __init__(self, crew: Crew) -> None:
        self.crew, self.facts = crew, crew.lead.facts
        self._tallies: dict[str, _Tally] = {}

    @property
    def notes(self) -> list[str]:
        """What a user should know about the weights, the network and the machines."""
        return [*self.crew.lead.notes, *self.crew.notes]

    @property
    def nodes(self) -> list[NodeRate]:
        """What each machine has computed."""
        return [NodeRate(tally.name, tally.counted, tally.rate) for tally in self._tallies.values()]

    def batches(
        self,
        images: ImageSet,
        rows: np.ndarray,
        keys: Sequence[str],
        work: Work,
        *,
        codes: Path | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Batch]:
        """Yield the rows unit by unit, as they come back."""
        if not len(rows):
            return
        provenance = self.facts.provenance
        loader = Loader(images, rows, _row_bytes(provenance))
        units = Units(rows, multiple=provenance.runtime.batch_size, limit=loader.limit)
        self.crew.open(keys, work, _job_of(codes), loader.samples)
        n_failed = 0
        try:
            while len(units):
                self._hand_out(units, loader)
                for event in self.crew.events():
                    batch = self._taken(event, units, loader)
                    if batch is not None and len(batch):
                        n_failed += len(batch.failures)
                        yield batch
                        if progress is not None:
                            progress(len(rows) - len(units), len(rows), n_failed)
                            self._say(progress)
        finally:
            loader.close()

    def _hand_out(self, units: Units, loader: Loader) -> None:
        """Give each worker as many units as it may have, the first one to those that have none."""
        workers = self.crew.working
        for _ in range(DEPTH):
            for member in workers:
                assert member.opened is not None
                reads = member.opened.reads
                if units.held(member) >= DEPTH:
                    continue
                if (unit := units.take(member, len(workers), by_bytes=not reads)) is not None:
                    self._tally(member)
                    self.crew.run(member, unit, loader.load(unit, reads, self.crew.suspects))

    def _taken(self, event: Event, units: Units, loader: Loader) -> Batch | None:
        """Return what is new in a unit that came back; a lost one goes to others, or is returned as failed."""
        unit: Unit = event.unit
        if event.value is None:
            failed = None
            if event.error and unit.losses + 1 >= MAX_LOSSES:
                failed = _failed(loader.images, unit, event.error)
                units.finish(unit, set(failed.failures))
                # Where nothing was ever done, it is the machines: they are tried more rarely, and given up
                self.crew.done(event.member, is_explained=any(tally.counted for tally in self._tallies.values()))
            else:
                units.give_back(unit, lost=event.error is not None)
            if units.held(event.member) == 0:
                units.forget(event.member)
            return failed
        self.crew.done(event.member)
        batch: Batch = event.value
        assert event.member.opened is not None
        was_sent = unit.by_bytes or not event.member.opened.reads
        unread = set() if was_sent else loader.unread(batch.failures)
        done = [*batch.rows.tolist(), *batch.failures]
        first = units.finish(unit, set(done) - unread, unread)
        tally = self._tally(event.member)
        tally.computed, tally.counted = tally.computed + len(done), tally.counted + len(first)
        tally.until = time.monotonic()
        return batch if len(first) == len(done) else _only(batch, first)

    def _tally(self, member: Member) -> _Tally:
        now = time.monotonic()
        return self._tallies.setdefault(member.place.node, _Tally(member.place.name, now, now))

    def _say(self, progress: Progress) -> None:
        """Show the rate of each node, where the progress can show words."""
        if (say := getattr(progress, "say", None)) is not None:
            busy = [tally for tally in self._tallies.values() if tally.computed]
            say(", ".join(f"{tally.name} {tally.rate:.{tally.rate < 10:d}f}/s" for tally in busy))


def _failed(images: ImageSet, unit: Unit, error: Exception) -> Batch:
    """Return the images of a unit as failures: too many workers have died while they had it."""
    reason = f"{MAX_LOSSES} workers died while they had it ({error}); retry_failed of extract tries it again"
    failures = {}
    for row in unit.rows.tolist():
        try:
            failures[row] = reason, read_source(images, row)[1]
        except DecodeError as unreadable:
            failures[row] = str(unreadable), NO_DIGEST
    return Batch(unit.rows[:0], {}, NO_DIGEST[None][:0], failures, {})


def _only(batch: Batch, rows: set[int]) -> Batch:
    """Return some rows of a batch."""
    here = np.array([row in rows for row in batch.rows.tolist()], bool)
    return replace(
        batch,
        rows=batch.rows[here],
        codes={name: values[here] for name, values in batch.codes.items()},
        sha256=batch.sha256[here],
        failures={row: failure for row, failure in batch.failures.items() if row in rows},
        remarks={row: words for row, words in batch.remarks.items() if row in rows},
        thumbnails=None if batch.thumbnails is None else batch.thumbnails[here],
    )


def _row_bytes(provenance: Provenance) -> int:
    """Return what the codes and maps of an image take, in float32."""
    lengths = (int(np.prod(provenance.code_shape(name))) for name in provenance.stored_layers)
    return 4 * sum(lengths) + sum(provenance.map_bytes(name) for name in provenance.maps)


def _job_of(codes: Path | None) -> str:
    """Return what names the journals of a codes file: a run that goes on finds those of one that died."""
    place = os.path.abspath(codes) if codes is not None else str(os.getpid())
    return hashlib.sha256(f"{platform.node()}:{place}".encode(errors="surrogateescape")).hexdigest()[:16]
