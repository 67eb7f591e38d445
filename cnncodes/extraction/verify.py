"""Checks a codes file: each row against its checksum, and a sample of rows against the images."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.errors import ImagesError
from cnncodes.extraction.in_memory import compute_codes
from cnncodes.images.image_set import Images
from cnncodes.images.loading import load_images
from cnncodes.system.progress import Progress

__all__ = ["Verification", "verify"]

# Largest relative error of a code that is computed again, on another machine perhaps, where rounding goes another way.
TOLERANCE = {"fp32": 1e-3, "bf16": 0.15, "fp16": 0.03}


@dataclass
class Verification:
    """What `verify` found.

    Attributes
    ----------
    n : int
        Rows of the file.
    pending : int
        Rows that were never written.
    damaged : list of str
        Ids of rows that do not match their checksum.
    recomputed : int
        Rows that were computed again from their images.
    largest_error : float
        Relative, of those.
    wrong : list of str
        Ids of those whose codes differ by more than rounding does.
    changed : list of str
        Ids of sampled images whose file has other bytes by now, or cannot be read.
    absent : list of str
        Ids of images that are not among those given: gone, or of another folder. They are not computed again.
    """

    n: int
    pending: int
    damaged: list[str]
    recomputed: int = 0
    largest_error: float = 0.0
    wrong: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing is damaged, wrong or changed."""
        return not (self.damaged or self.wrong or self.changed)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {**asdict(self), "good": self.good}


def verify(
    path: str | os.PathLike[str],
    images: Images | None = None,
    *,
    sample: int = 64,
    seed: int = 0,
    device: str = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Compare every row of a codes file with its checksum, and a sample with what its images give now.

    Parameters
    ----------
    path : path
        The codes file.
    images : path, sequence, ndarray or ImageSet, optional
        What it was made from, or a part of that.
    sample : int
        Rows that are computed again, chosen at random among those of `images`.
    seed : int
        Of that choice.
    device : str
    workers : int, optional
    progress : callable, optional
        Called with (done, total, failed).

    Returns
    -------
    Verification

    Raises
    ------
    ImagesError
        None of the images belongs to the file.
    """
    with CodesFile.open(path) as file:
        damaged = file.verify()
        found = Verification(file.n, file.counts["pending"], file.ids[damaged].tolist())
        if images is None:
            return found
        image_set = load_images(images)
        there = {name: row for row, name in enumerate(image_set.ids)}
        done = np.setdiff1d(file.rows(labelled=False), damaged)
        given = np.array([name in there for name in file.ids[done].tolist()], bool)
        if len(done) and not given.any():
            raise ImagesError(f"{images}: holds none of the images of {path}; give the folder that it was made from")
        found.absent = file.ids[done[~given]].tolist()
        rows = np.sort(np.random.default_rng(seed).permutation(done[given])[:sample])
        names = file.ids[rows].tolist()
        computed = compute_codes(
            image_set.take([there[name] for name in names]),
            file.provenance,
            device=device,
            workers=workers,
            progress=progress,
        )
        again = rows[computed.rows]
        same = (computed.sha256 == file.sha256[again]).all(axis=1) if len(again) else np.empty(0, bool)
        kept = {names[i] for i, equal in zip(computed.rows.tolist(), same.tolist(), strict=True) if equal}
        found.changed = [name for name in names if name not in kept]
        found.recomputed = int(same.sum())
        errors = np.zeros(found.recomputed)
        for name in file.layers:
            codes, expected = computed.codes[name][same], file.codes(name, again[same])
            length = np.maximum(np.linalg.norm(expected, axis=-1), np.finfo(np.float32).tiny)
            of_views = np.linalg.norm(codes - expected, axis=-1) / length
            errors = np.maximum(errors, of_views.max(axis=1) if file.views else of_views)
        found.largest_error = float(errors.max(initial=0.0))
        bad = errors > TOLERANCE[file.provenance.precision]
        found.wrong = file.ids[again[same][bad]].tolist()
    return found
