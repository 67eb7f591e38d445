"""What runs on a node of a cluster: a network, worker threads that feed it, and a journal of what is decoded."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes import __version__
from cnncodes.errors import CnnCodesError
from cnncodes.images.image_set import ImageSet
from cnncodes.images.stored_file import StoredFile
from cnncodes.system.process import own_process

if TYPE_CHECKING:
    from cnncodes.extraction.engine import NetworkFacts, Work
    from cnncodes.extraction.settings import Settings
    from cnncodes.extraction.worker_thread import Batch
    from cnncodes.runtime.workload import Workload

__all__ = ["Load", "NodeWorker", "Opened", "ProcessWorker", "Ready", "Sample", "SentBytes"]


@dataclass(frozen=True)
class Ready:
    """What a worker tells of its network.

    Attributes
    ----------
    facts : NetworkFacts
    notes : tuple of str
    photo_digest : str
        SHA-256 of the codes of the reference photographs: other kinds of processor give other bits.
    processor : str
    """

    facts: NetworkFacts
    notes: tuple[str, ...]
    photo_digest: str
    processor: str


@dataclass(frozen=True)
class Sample:
    """A file of the images, by which a worker finds out whether it can read them."""

    source: Path | StoredFile
    sha256: bytes


@dataclass(frozen=True)
class SentBytes(StoredFile):
    """An image file whose bytes were read elsewhere."""

    content: bytes = field(repr=False)

    def read_bytes(self) -> bytes:
        """Return the whole file."""
        return self.content

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self.content)

    @property
    def changed(self) -> int:
        """No time is known."""
        return -1


@dataclass
class Load:
    """The images of a unit, as they are sent to a worker.

    Attributes
    ----------
    rows : ndarray of int
        Their rows in the codes file.
    ids : list of str
    sources : list
        Paths as text, stored files, bytes that were read elsewhere, or pixels.
    failures : dict of str to str
    suspects : frozenset of bytes
        Digests of images that may have killed workers.
    apart : bool
        Whether every image is a suspect.
    """

    rows: np.ndarray
    ids: list[str]
    sources: list[Any]
    failures: dict[str, str]
    suspects: frozenset[bytes] = frozenset()
    apart: bool = False


class NodeWorker:
    """Runs a network on a node; its methods are called from elsewhere, `run` by several threads at a time."""

    def __init__(self) -> None:
        self._exit = contextlib.ExitStack()

    def hello(self) -> dict[str, str]:
        """Return the versions of what decides the codes, without loading any of it."""
        return {"cnncodes": __version__, "torch": version("torch"), "host": platform.node()}

    def build(self, settings: Settings, workload: Workload, *, warm: bool) -> Ready:
        """Build the network."""
        from cnncodes.extraction.engine import facts_of
        from cnncodes.extraction.settings import build_network
        from cnncodes.system.process import inference_settings

        self.network = build_network(settings, workload)
        if warm:
            self.network.warm_up()
        with inference_settings():
            codes = self.network.photo_codes()
        digest = hashlib.sha256(b"".join(codes[name].tobytes() for name in sorted(codes))).hexdigest()
        notes = (*self.network.backbone.notes, *self.network.notes)
        return Ready(facts_of(self.network), notes, digest, _processor())

    def open(self, keys: Sequence[str], work: Work, threads: int, job: str, samples: Sequence[Sample]) -> Opened:
        """Make ready for images.

        Parameters
        ----------
        keys : sequence of str
            Layers, and keys of maps, to compute.
        work : Work
        threads : int
        job : str
            Names the journal of this worker and of those that take its place.
        samples : sequence of Sample
        """
        from cnncodes.cluster.worker_folder import CODES, worker_folder
        from cnncodes.extraction.journal import Journal
        from cnncodes.extraction.workers import Pool
        from cnncodes.system.process import inference_settings

        self._exit.close()
        self.network = self.network.restricted(keys)
        self._exit.enter_context(inference_settings())
        folder, suspects = self._exit.enter_context(worker_folder(job))
        self.journal = self._exit.enter_context(Journal(folder / CODES, threads))
        self.journal.warn_of(suspects)
        self.network.warm_up()
        self.pool = Pool(
            self.network,
            self.journal,
            threads,
            image_timeout=work.image_timeout,
            max_pixels=work.max_pixels,
            thumbnails=work.thumbnails,
        )
        self._exit.callback(self.pool.close)
        return Opened(all(map(_reads, samples)), self.journal.all_suspects(), self.network.plan.compiled)

    def run(self, load: Load) -> Batch:
        """Compute the codes of a unit."""
        self.journal.warn_of(load.suspects)
        sources = [Path(source) if isinstance(source, str) else source for source in load.sources]
        images = ImageSet(load.ids, sources, failures=load.failures)
        return _joined(list(self.pool.run(images, np.arange(len(load.rows)), apart=load.apart)), load.rows)

    def notes(self) -> list[str]:
        """Return what has become known of the network since it was built."""
        return self.network.notes

    def close(self) -> None:
        """End the threads, and remove the journal."""
        self._exit.close()


class ProcessWorker(NodeWorker):
    """A worker that has its process to itself."""

    def __init__(self) -> None:
        super().__init__()
        own_process()


@dataclass(frozen=True)
class Opened:
    """What a worker tells when it is ready for images.

    Attributes
    ----------
    reads : bool
        Whether it can read the files of the images.
    suspects : frozenset of bytes
        Digests of the images that workers on its node were decoding when they died.
    compiled : bool
        Whether the network runs compiled.
    """

    reads: bool
    suspects: frozenset[bytes]
    compiled: bool


def _reads(sample: Sample) -> bool:
    """Whether a file is here, with the same bytes."""
    with contextlib.suppress(OSError, CnnCodesError):  # as without credentials, or without the library for such URLs
        return hashlib.sha256(sample.source.read_bytes()).digest() == sample.sha256
    return False


def _joined(batches: Sequence[Batch], rows: np.ndarray) -> Batch:
    """Return one batch for several, in the order of rows; those of the several are positions in `rows`."""
    full = [batch for batch in batches if len(batch.rows)]
    full.sort(key=lambda batch: int(batch.rows[0]))  # so that the rows are written together
    first = (full or batches)[0]
    codes = {name: np.concatenate([batch.codes[name] for batch in full]) for name in first.codes} if full else {}
    failures, remarks = dict[int, Any](), dict[int, list[str]]()
    for batch in batches:
        failures |= {int(rows[at]): failure for at, failure in batch.failures.items()}
        remarks |= {int(rows[at]): words for at, words in batch.remarks.items()}
    thumbnails = None
    if first.thumbnails is not None:
        thumbnails = np.concatenate([first.thumbnails[:0], *(batch.thumbnails for batch in full)])
    return replace(
        first,
        rows=rows[np.concatenate([first.rows[:0], *(batch.rows for batch in full)])],
        codes=codes,
        sha256=np.concatenate([first.sha256[:0], *(batch.sha256 for batch in full)]),
        failures=failures,
        remarks=remarks,
        thumbnails=thumbnails,
    )


def _processor() -> str:
    """Return the name of the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
