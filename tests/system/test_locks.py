"""A file has one writer at a time, and what a killed one left is nobody's."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cnncodes.errors import CnnCodesError, CodesFileError, ModelFileError
from cnncodes.system.files import replacing
from cnncodes.system.locks import lock_new, remove_abandoned, waiting_lock, writer_lock


@pytest.mark.parametrize("kind", [CodesFileError, ModelFileError, CnnCodesError])
def test_the_second_writer_is_refused_with_an_error_of_its_kind(tmp_path: Path, kind: type[CnnCodesError]) -> None:
    path = tmp_path / "file"
    path.write_text("theirs")
    with writer_lock(path), pytest.raises(kind, match="is writing to it") as caught:
        writer_lock(path, error_type=kind).__enter__()
    assert type(caught.value) is kind
    with writer_lock(path):  # it is free again
        pass


def test_a_new_file_of_ours_needs_no_second_lock(tmp_path: Path) -> None:
    with replacing(tmp_path / "file") as partial, writer_lock(partial):
        partial.write_text("new")


def test_only_a_file_that_nobody_locks_is_abandoned(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("w+") as handle:
        assert lock_new(path, handle.fileno())
        remove_abandoned(path)
        assert path.exists()
    remove_abandoned(path)
    assert not path.exists()
    remove_abandoned(path)


def test_a_new_file_that_was_removed_before_it_was_locked_is_known(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+") as handle:
        (tmp_path / "file").unlink()
        assert not lock_new(tmp_path / "file", handle.fileno())


def test_a_waiting_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    events: list[str] = []
    inside, first_is_in = threading.Event(), threading.Event()

    def second() -> None:
        first_is_in.wait()
        with waiting_lock(tmp_path / "cache.h5"):
            events.append("second")
        inside.set()

    thread = threading.Thread(target=second)
    thread.start()
    with waiting_lock(tmp_path / "cache.h5"):
        first_is_in.set()
        assert not inside.wait(0.2)
        events.append("first")
    thread.join()
    assert events == ["first", "second"]
    assert [path.name for path in tmp_path.iterdir()] == [".cache.h5.lock"]
