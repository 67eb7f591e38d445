"""Tables at fixed places in a file: read and written as plain bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cnncodes.codes.columns import Columns, Place, bytes_of_rows, slice_of


def test_a_file_that_became_shorter_is_named(tmp_path):
    path = tmp_path / "short.h5"
    path.write_bytes(bytes(8))
    columns = Columns(path)
    with pytest.raises(OSError, match="the file ends at byte 8") as caught:
        columns.read(4, 8)
    columns.close()
    assert caught.value.filename == str(path)


@pytest.fixture
def numbers(tmp_path: Path) -> Iterator[Columns]:
    """Ten rows of three numbers behind four other bytes: row i is 3 i, 3 i + 1, 3 i + 2."""
    path = tmp_path / "numbers"
    path.write_bytes(b"head" + np.arange(30, dtype="<i4").tobytes() + b"tail")
    columns = Columns(path, writable=True)
    columns.add("x", Place(4, (10, 3), np.dtype("<i4")))
    yield columns
    columns.close()


def test_a_slice_of_rows_is_read_and_written(numbers: Columns) -> None:
    table = numbers["x"]
    np.testing.assert_array_equal(table[2:4], [[6, 7, 8], [9, 10, 11]])
    assert (len(table), len(table[5:5]), len(table[8:])) == (10, 0, 2)
    table[2:4] = -table[2:4]
    data = Path(numbers.file.name).read_bytes()
    expected = np.arange(30).reshape(10, 3)
    expected[2:4] *= -1
    assert data == b"head" + expected.astype("<i4").tobytes() + b"tail"
    with pytest.raises(ValueError, match=r"values of shape \(1, 3\) for 2 rows of \(3,\)"):
        table[2:4] = np.zeros((1, 3))


@pytest.mark.parametrize("max_bytes", [1, 24, 50, 10**6])
def test_pieces_are_all_rows_in_bounded_reads(
    numbers: Columns, max_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    read = Columns.read
    monkeypatch.setattr(Columns, "read", lambda self, at, size: sizes.append(size) or read(self, at, size))
    rows = np.array([7, 0, 1, 9, 2, 7])
    out = np.zeros((len(rows), 3), int)
    for positions, values in numbers["x"].pieces(rows, max_bytes):
        out[positions] = values
    np.testing.assert_array_equal(out, np.arange(30).reshape(10, 3)[rows])
    assert max(sizes) <= max(max_bytes, 12)


def test_consecutive_numbers_are_a_slice() -> None:
    assert slice_of(np.array([3, 4, 5])) == slice(3, 6)
    assert slice_of(np.array([3])) == slice(3, 4)
    np.testing.assert_array_equal(slice_of(np.array([3, 5])), [3, 5])


@pytest.mark.parametrize("offset", [0, 5, 4096, 70_001])
def test_a_table_is_mapped_wherever_it_lies(tmp_path: Path, offset: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, (40, 3, 7)).astype("<u2")
    (tmp_path / "x").write_bytes(bytes(offset) + values.tobytes() + b"behind")
    columns = Columns(tmp_path / "x")
    columns.add("values", Place(offset, values.shape, values.dtype))
    columns.add("none", Place(0, (0, 3), values.dtype))
    mapped, none = columns["values"].mapped(), columns["none"].mapped()
    columns.close()
    np.testing.assert_array_equal(mapped, values)
    assert (none.shape, mapped.flags.writeable) == ((0, 3), False)


def test_the_bytes_of_each_row_are_those_that_are_stored() -> None:
    values = np.arange(12, dtype="<i2").reshape(2, 3, 2)
    assert [bytes(row) for row in bytes_of_rows(values)] == [row.tobytes() for row in values]
    assert list(bytes_of_rows(values[:0])) == []
    reversed_rows = values[::-1]  # not in one piece
    assert [bytes(row) for row in bytes_of_rows(reversed_rows)] == [row.tobytes() for row in reversed_rows]
