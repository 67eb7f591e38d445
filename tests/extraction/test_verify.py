"""A codes file against its checksums, and against the images that it was made from."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from cnncodes import verify
from cnncodes.codes.file import CodesFile
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import ImagesError


def test_an_intact_file_agrees_with_its_images(small_sample: Path, sample_codes: Path) -> None:
    result = verify(sample_codes, small_sample, sample=6)
    assert result.good
    assert (result.n, result.recomputed, result.largest_error) == (45, 6, 0.0)  # the same machine: the same bits
    assert verify(sample_codes).recomputed == 0


def test_codes_that_are_not_those_of_their_image_are_named(
    small_sample: Path, sample_codes: Path, tmp_path: Path
) -> None:
    path = shutil.copy(sample_codes, tmp_path / "codes.h5")
    with CodesWriter(path) as file:  # with a right checksum
        codes = {name: file.codes(name, np.array([7])) for name in file.stored_layers}
        codes["penultimate"][0, :20] += 1
        file.write(np.array([7]), codes, file.sha256[[7]])
        name = file.ids[7]
    assert verify(path).good
    result = verify(path, small_sample, sample=45)
    assert not result.good
    assert result.wrong == [name]
    assert 0.15 < result.largest_error < 1


def test_images_that_have_changed_or_are_gone_are_named(small_sample: Path, sample_codes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    shutil.copytree(small_sample, folder)
    with CodesFile.open(sample_codes) as file:
        gone, edited, broken = (str(file.ids[row]) for row in (2, 20, 40))
    (folder / gone).unlink()
    shutil.copy(folder / broken, folder / edited)
    (folder / broken).write_bytes(b"")
    result = verify(sample_codes, folder, sample=45)
    assert sorted(result.changed) == sorted([edited, broken])
    assert result.absent == [gone]
    assert (result.recomputed, result.wrong, result.good) == (42, [], False)


def test_a_folder_of_other_images_is_refused(sample_codes: Path, photos: Path) -> None:
    with pytest.raises(ImagesError, match="holds none of the images"):
        verify(sample_codes, photos)


def test_progress_counts_rows_and_then_images(small_sample: Path, sample_codes: Path) -> None:
    calls: list[tuple[int, int, int]] = []
    verify(sample_codes, small_sample, sample=6, progress=lambda *counts: calls.append(counts))
    assert calls[:4] == [(45 * layers, 180, 0) for layers in (1, 2, 3, 4)]  # one of five is a link
    assert calls[-1] == (6, 6, 0)
