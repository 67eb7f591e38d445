"""Checks a codes file: each row against its checksum, and a sample of rows against the images."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.errors import ImagesError
from cnncodes.extraction.in_memory import Computed, compute_codes
from cnncodes.images.image_set import Images, name_of
from cnncodes.images.loading import load_images
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import map_key

__all__ = ["Verification", "verify"]

# Largest relative error of a code that is computed again, perhaps on another machine, which rounds in another way.
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
    damaged_columns : list of str
        Which of ids, labels, groups, splits, file sizes and times do not match their checksums.
    sealed : bool
        Whether they have checksums; those of files of the earlier layout have none.
    recomputed : int
        Rows that were computed again from their images.
    largest_error : float
        Largest relative error of their codes.
    wrong : list of str
        Ids of recomputed rows whose codes differ by more than rounding does.
    changed : list of str
        Ids of sampled images whose bytes have changed, or that cannot be read.
    absent : list of str
        Ids of images that are not among those given, and so are not computed again.
    """

    n: int
    pending: int
    damaged: list[str]
    damaged_columns: list[str] = field(default_factory=list)
    sealed: bool = True
    recomputed: int = 0
    largest_error: float = 0.0
    wrong: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing is damaged, wrong or changed."""
        return not (self.damaged or self.damaged_columns or self.wrong or self.changed)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {**asdict(self), "good": self.good}


def verify(
    path: str | os.PathLike[str],
    images: Images | None = None,
    *,
    allow_outside: bool = False,
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
        The images that the file was made from, or some of them.
    allow_outside : bool, default=False
        Let a manifest name files outside its folder.
    sample : int, default=64
        Rows that are computed again, chosen at random among those of `images`.
    seed : int, default=0
        Seed of that choice; the same seed chooses the same rows.
    device : str, default="auto"
        Where these rows are computed: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    workers : int, optional
        Threads; one a core by default.
    progress : callable, optional
        Called with (done, total, failed) while rows are compared with their checksums, and then after each batch of
        images.

    Returns
    -------
    Verification
        What was compared, and what differs.

    Raises
    ------
    CodesFileError
        There is no such file, or it is no codes file.
    ImagesError
        None of the images belongs to the file.
    MismatchError
        The network, its weights or the preprocessing are not those of the file.

    Examples
    --------
    >>> verify("codes.h5", "photos/").good  # doctest: +SKIP
    """
    with CodesFile.open(path) as file:
        damaged = file.verify(progress)
        columns = file.damaged_columns()
        ids = np.array(file.salvaged_table().ids) if columns else file.ids
        verification = Verification(file.n, file.counts["pending"], ids[damaged].tolist(), columns, file.sealed)
        if images is None or "ids" in columns:
            return verification
        image_set = load_images(images, allow_outside=allow_outside)
        row_of = image_set.row_of
        complete = np.flatnonzero(file.state == "ok")  # rows that lack a layer or a map that is being added are pending
        done = np.setdiff1d(complete, damaged)
        given = np.array([name in row_of for name in file.ids[done].tolist()], bool)
        if len(done) and not given.any():
            raise ImagesError(
                f"{name_of(images)}: holds none of the images of {path}; give the folder that it was made from"
            )
        verification.absent = file.ids[done[~given]].tolist()
        rows = np.sort(np.random.default_rng(seed).permutation(done[given])[:sample])
        sampled = image_set.take([row_of[name] for name in file.ids[rows].tolist()])
        computed = compute_codes(sampled, file.provenance, device=device, workers=workers, progress=progress)
        _compare(file, rows, computed, verification)
    return verification


def _compare(file: CodesFile, rows: np.ndarray, computed: Computed, verification: Verification) -> None:
    """Note which rows differ from the codes that were computed again."""
    again = rows[computed.rows]
    same_bytes = (computed.sha256 == file.sha256[again]).all(axis=1) if len(again) else np.empty(0, bool)
    unchanged = again[same_bytes]
    errors = np.zeros(len(unchanged))
    stored = {name: file.codes(name, unchanged) for name in file.layers}
    stored |= {map_key(name): file.maps(name, unchanged)[:] for name in file.map_layers}
    for key, values in stored.items():
        codes, expected = (_flat(one, 1 + len(file.views)) for one in (computed.codes[key][same_bytes], values))
        length = np.maximum(np.linalg.norm(expected, axis=-1), np.finfo(np.float32).tiny)
        relative = np.linalg.norm(codes - expected, axis=-1) / length
        errors = np.maximum(errors, relative.max(axis=1) if file.views else relative)
    verification.changed = file.ids[np.setdiff1d(rows, unchanged)].tolist()
    verification.recomputed = len(unchanged)
    verification.largest_error = float(errors.max(initial=0.0))
    verification.wrong = file.ids[unchanged[errors > TOLERANCE[file.provenance.precision]]].tolist()


def _flat(values: np.ndarray, n_axes: int) -> np.ndarray:
    """Return values in float32 with their first axes, and one more for the rest: maps become vectors."""
    return values.astype(np.float32, copy=False).reshape(*values.shape[:n_axes], math.prod(values.shape[n_axes:]))
