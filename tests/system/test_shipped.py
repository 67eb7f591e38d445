"""The files that ship with cnncodes are found."""

from __future__ import annotations

import hashlib

import pytest

from cnncodes.system.shipped import EMBEDDED_WEIGHTS, SAMPLE, shipped_path


def test_the_weights_are_those_whose_name_tells_their_digest() -> None:
    path = shipped_path(EMBEDDED_WEIGHTS)
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(path.stem.rpartition("-")[2])


def test_the_sample_has_ten_classes_in_both_parts() -> None:
    sample = shipped_path(SAMPLE)
    assert [len(list((sample / part).iterdir())) for part in ("train", "test")] == [10, 10]


def test_a_missing_file_says_what_to_do() -> None:
    with pytest.raises(FileNotFoundError, match="reinstall cnncodes"):
        shipped_path("weights/none.pth")
