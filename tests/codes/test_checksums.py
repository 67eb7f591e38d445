"""A row counts only while everything that its checksum covers is as it was written."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from plain_codes import CODES, DIGESTS

from cnncodes.codes.checksums import Checksums, checksums, seeds
from cnncodes.codes.columns import bytes_of_rows
from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import FAILED, OK
from cnncodes.codes.writer import CodesWriter

PENULTIMATE = 1  # its column: the stored layers are layer1 and penultimate


def checksums_of(rows: list[int], states: list[int], errors: list[bytes], codes: np.ndarray) -> list[int]:
    digests = np.full((len(rows), 32), 7, np.uint8)
    of_rows = seeds(b"settings", np.array(rows), np.array(states), digests, errors)
    return checksums(of_rows, bytes_of_rows(codes)).tolist()


def test_a_checksum_is_the_crc_32_of_settings_row_state_digest_reason_and_codes() -> None:
    codes = np.array([[1.0, -2.0], [0.0, 0.0]], np.float32)
    failed = b"settings" + b"\x03\x01\0\0\0\0\0\0" + b"\x02" + b"\x07" * 32 + b"broken" + b"\0\0\x80\x3f\0\0\0\xc0"
    good = b"settings" + b"\x05\0\0\0\0\0\0\0" + b"\x01" + b"\x07" * 32 + bytes(8)
    sums = checksums_of([259, 5], [FAILED, OK], [b"broken", b""], codes)
    assert sums == [zlib.crc32(failed), zlib.crc32(good)]


def test_zero_is_no_checksum_of_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zlib, "crc32", lambda *_: 0)
    assert checksums_of([0], [OK], [b""], np.zeros((1, 1), np.float32)) == [1]


def test_rows_match_in_the_states_that_are_accepted(path: Path) -> None:
    rows = np.arange(12)  # 5 failed, 6 is pending
    with CodesFile.open(path) as file:
        checksums = Checksums(file._columns, file.fingerprint)
        stored = file._columns["codes/penultimate"][:]
        matches = checksums.match(PENULTIMATE, rows, stored)
        assert np.flatnonzero(~matches).tolist() == [5, 6]
        matches = checksums.match(PENULTIMATE, rows, stored, states=(OK, FAILED))
        assert np.flatnonzero(~matches).tolist() == [6]
        stored[3, 0] += 1
        assert np.flatnonzero(~checksums.match(PENULTIMATE, rows, stored)).tolist() == [3, 5, 6]
        others = Checksums(file._columns, b"other settings")
        assert not others.match(PENULTIMATE, rows, stored).any()


def test_only_rows_whose_checksums_have_changed_are_compared_again(path: Path) -> None:
    rows = np.array([0, 2, 9])
    codes, wrong = CODES["penultimate"][rows], np.zeros((3, 5), np.float32)
    with CodesFile.open(path) as file:
        checksums = Checksums(file._columns, file.fingerprint, remember=True)
        assert checksums.match(PENULTIMATE, rows, wrong).tolist() == [False] * 3
        assert checksums.match(PENULTIMATE, rows, codes).tolist() == [True] * 3
        assert checksums.match(PENULTIMATE, rows, wrong).tolist() == [True] * 3
        with CodesWriter(path) as writer:
            writer.write(np.array([2]), {"penultimate": np.ones((1, 5), np.float32)}, DIGESTS[[2]])
        assert checksums.match(PENULTIMATE, rows, codes).tolist() == [True, False, True]
        assert not Checksums(file._columns, file.fingerprint).match(PENULTIMATE, rows, wrong).any()
