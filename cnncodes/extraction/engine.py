"""What computes the codes of images: the threads of this process, or anything else that gives the same batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from cnncodes.codes.provenance import Provenance
from cnncodes.extraction.settings import Settings, build_network, describe_network
from cnncodes.extraction.worker_thread import Batch
from cnncodes.extraction.workers import IMAGE_TIMEOUT, run_batches
from cnncodes.images.decoding import MAX_PIXELS
from cnncodes.images.image_set import ImageSet
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.runtime.workload import Workload
from cnncodes.system.progress import Progress

__all__ = ["Cluster", "Engine", "LocalEngine", "NetworkFacts", "NodeRate", "ThisProcess", "Work", "facts_of"]


@dataclass(frozen=True)
class NetworkFacts:
    """What is known of the network that an engine runs.

    Attributes
    ----------
    provenance : Provenance
        How the codes are made.
    preprocessing : Preprocessing
    default_layers : tuple of str
    default_pooling : str
    """

    provenance: Provenance
    preprocessing: Preprocessing
    default_layers: tuple[str, ...]
    default_pooling: str


@dataclass(frozen=True)
class NodeRate:
    """What one machine of a cluster has computed.

    Attributes
    ----------
    name : str
    images : int
        Images whose codes or failures were written.
    images_per_second : float
        Images that it computed, by the seconds for which it had work.
    """

    name: str
    images: int
    images_per_second: float


@dataclass(frozen=True)
class Work:
    """How images are worked on.

    Attributes
    ----------
    workers : int, optional
        Threads of a machine, or of a GPU of a cluster; one per core by default.
    image_timeout, max_pixels
        As for `extract`.
    thumbnails : bool, default=False
        Whether a small picture of each image is made, too.
    """

    workers: int | None = None
    image_timeout: float = IMAGE_TIMEOUT
    max_pixels: int = MAX_PIXELS
    thumbnails: bool = False


class Engine(Protocol):
    """A network that is ready to run, wherever it does."""

    facts: NetworkFacts

    @property
    def notes(self) -> Sequence[str]:
        """What a user should know about the network and about the machines that run it."""

    @property
    def nodes(self) -> Sequence[NodeRate]:
        """What each machine has computed; empty if there is only this one."""

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
        """Yield each of `rows` once, in any order, in a batch or as a failure of one.

        Parameters
        ----------
        images : ImageSet
        rows : ndarray of int
        keys : sequence of str
            Layers, and keys of maps, to compute; all of them if there are none.
        work : Work
        codes : path, optional
            The codes file that is filled.
        progress : callable, optional
            Called with (done, total, failed) after each batch.
        """


class Cluster(ABC):
    """Machines that can run a network."""

    @abstractmethod
    def start(self, settings: Settings, workload: Workload, *, warm: bool) -> AbstractContextManager[Engine]:
        """Return the network that the settings name, ready on the machines, for as long as the context lasts.

        Parameters
        ----------
        settings : Settings
        workload : Workload
        warm : bool
            Try whether the network can be compiled, if it is to be, before its provenance is told.
        """


class ThisProcess(Cluster):
    """The threads of this process."""

    def start(self, settings: Settings, workload: Workload, *, warm: bool) -> AbstractContextManager[Engine]:
        """Build the network here."""
        network = build_network(settings, workload)
        if warm:
            network.warm_up()
        return nullcontext(LocalEngine(network))


class LocalEngine:
    """A network that worker threads of this process feed.

    Parameters
    ----------
    network : FrozenNetwork
    """

    nodes: Sequence[NodeRate] = ()

    def __init__(self, network: FrozenNetwork) -> None:
        self.network, self.facts = network, facts_of(network)

    @property
    def notes(self) -> list[str]:
        """What a user should know about the weights, and about how the network runs."""
        return [*self.network.backbone.notes, *self.network.notes]

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
        """Yield the rows batch by batch, as they are done."""
        self.network = self.network.restricted(keys)
        return run_batches(
            images,
            rows,
            self.network,
            workers=work.workers,
            progress=progress,
            codes=codes,
            image_timeout=work.image_timeout,
            max_pixels=work.max_pixels,
            thumbnails=work.thumbnails,
        )


def facts_of(network: FrozenNetwork) -> NetworkFacts:
    """Return what is known of a network."""
    backbone = network.backbone
    return NetworkFacts(
        describe_network(network), backbone.preprocessing, tuple(backbone.default_layers), backbone.default_pooling
    )
