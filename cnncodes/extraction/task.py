"""One extraction: rows of a codes file matched with images, laid out and computed, and what there is to say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.codes.provenance import Provenance
from cnncodes.codes.provenance_parts import ShardProvenance
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import CodesFileError, parameter
from cnncodes.extraction.engine import Cluster, NodeRate, Work
from cnncodes.extraction.fill import fill, fill_thumbnails
from cnncodes.extraction.prepare import prepare
from cnncodes.extraction.reuse import Reuse, match_rows
from cnncodes.extraction.settings import Settings, fill_in, inherited, provenance_of
from cnncodes.extraction.shards import refuse_other_part, shard_of
from cnncodes.extraction.stamps import image_table
from cnncodes.images.loading import ImageSet
from cnncodes.runtime.workload import Workload
from cnncodes.system.progress import Progress

__all__ = ["Extraction", "Task"]


@dataclass
class Extraction:
    """What `extract` did.

    Attributes
    ----------
    path : Path
        The codes file.
    n, ok, failed : int
        Number of images, of images with codes, and of images that could not be read.
    computed : int
        Number of images that ran through the network now; the other codes were there already.
    layers : dict of str to int
        Code length of each layer.
    seconds : float
    notes : list of str
        What a user should know: skipped files, remarks about the weights.
    failures : dict of str to str
        Reason by id.
    nodes : list of NodeRate
        What each machine of a cluster has computed: ``name``, ``images``, ``images_per_second``. Without a cluster it
        is empty.
    """

    path: Path
    n: int
    ok: int
    failed: int
    computed: int
    layers: dict[str, int]
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    nodes: list[NodeRate] = field(default_factory=list)


@dataclass(frozen=True)
class Task:
    """Which images to extract, how, and into which file."""

    out: Path
    images: ImageSet
    settings: Settings
    shard: tuple[int, int] | None
    prune: bool
    add: bool
    thumbnails: bool | None
    work: Work
    cluster: Cluster

    def run(self, retry_failed: bool, progress: Progress | None) -> Extraction:
        """Lay the file out, compute the rows that it lacks, and say what was done."""
        images, shard = (self.images, None) if self.shard is None else shard_of(self.images, self.shard)
        old, plan = self._plan(images, shard)
        workload = Workload(len(self.images), self.work.workers, parts=self.shard and self.shard[1])
        with self.cluster.start(fill_in(self.settings, old), workload, warm=old is None) as engine:
            facts = engine.facts
            prepare(self.out, plan, facts.provenance.with_shard(shard), old, thumbnails=self.thumbnails)
            with CodesWriter(self.out) as file:
                rows, missing = file.todo(retry_failed=retry_failed)
                rows = _given(rows, plan.images)
                remarks = fill(file, plan.images, rows, engine, missing, self.work, progress=progress)
                bare = _given(file.without_thumbnail(), plan.images)
                shown: dict[str, Any] = {"max_pixels": self.work.max_pixels, "progress": progress}
                picture_notes = (
                    fill_thumbnails(file, plan.images, bare, facts.preprocessing, **shown) if len(bare) else []
                )
                counts, errors = file.counts, file.errors
                lengths = {name: file.n_features(name) for name in file.layers}
        notes = [
            *plan.images.notes,
            *plan.notes,
            *inherited(self.out, self.settings, old, facts.default_layers, facts.default_pooling),
            *engine.notes,
            *_summary(remarks, plan.images),
            *picture_notes,
        ]
        failures = {plan.images.ids[i]: str(errors[i]) for i in np.flatnonzero(errors != "")}
        done = {"n": len(plan.images), "ok": counts["ok"], "failed": counts["failed"], "computed": len(rows)}
        return Extraction(path=self.out, **done, layers=lengths, notes=notes, failures=failures, nodes=[*engine.nodes])

    def _plan(self, images: ImageSet, shard: ShardProvenance | None) -> tuple[Provenance | None, Reuse]:
        """Return the provenance of the file that is continued, or None, and how the images match its rows."""
        if self.prune and self.add:
            raise CodesFileError(
                f"{self.out}: {parameter('prune', True)} and {parameter('add', True)} exclude each other"
            )
        old = provenance_of(self.out)
        if old is None:
            return None, Reuse(images, image_table(images))
        refuse_other_part(self.out, old, shard, add=self.add)
        plan = match_rows(self.out, images, prune=self.prune, add=self.add)
        return old if plan.same_set or self.prune or self.add else None, plan


def _given(rows: np.ndarray, images: ImageSet) -> np.ndarray:
    """Return the rows whose images are at hand."""
    return rows[[images.sources[row] is not None for row in rows.tolist()]]


def _summary(remarks: Mapping[int, Sequence[str]], images: ImageSet) -> list[str]:
    """Return each remark once, with its first image and how many more there are."""
    rows: dict[str, list[int]] = {}
    for row, texts in sorted(remarks.items()):
        for text in texts:
            rows.setdefault(text, []).append(row)
    more = {remark: f" and {len(rest)} more" for remark, (_, *rest) in rows.items() if rest}
    return [f"{images.ids[first]}{more.get(remark, '')}: {remark}" for remark, (first, *_) in rows.items()]
