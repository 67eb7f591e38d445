"""Workers that die leave a folder, which the next one on their node takes away and learns from."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cnncodes.cluster.worker_folder import worker_folder

DIE = """
import os, sys, tempfile
from cnncodes.cluster.worker_folder import worker_folder

tempfile.tempdir = sys.argv[1]
with worker_folder(sys.argv[2]) as (folder, _):
    (folder / ".codes.decoding").write_bytes(bytes(32) + sys.argv[2][:1].encode() * 32)
    os._exit(9)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def die(folder: Path, job: str) -> None:
    done = subprocess.run([sys.executable, "-c", DIE, str(folder), job], check=False, timeout=60)
    assert done.returncode == 9


def test_folders_of_dead_workers_are_taken_away_with_what_they_tell(folder: Path) -> None:
    die(folder, "a-1")
    (folder / "cnncodes-job-a-1").rename(folder / "elsewhere")
    die(folder, "b-2")
    (folder / "elsewhere").rename(folder / "cnncodes-job-a-1")
    (folder / "cnncodes-job-c").mkdir()  # nothing else is touched
    (folder / "cnncodes-job-c" / "photo.jpg").write_bytes(b"mine")
    assert len(list(folder.iterdir())) == 3
    with worker_folder("b-2") as (own, suspects):
        assert suspects == {b"a" * 32}
        assert (own / ".codes.decoding").read_bytes().endswith(b"b" * 32)  # a journal tells it of its own predecessor
        assert sorted(path.name for path in folder.iterdir()) == ["cnncodes-job-b-2", "cnncodes-job-c"]
        with worker_folder("d-4") as (_, others):  # `b-2` lives
            assert not others
            assert own.is_dir()
        (own / ".codes.decoding").unlink()
    assert [path.name for path in folder.iterdir()] == ["cnncodes-job-c"]


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs owners of files")
def test_a_link_in_the_place_of_its_folder_is_not_followed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = tmp_path_factory.mktemp("target")
    (folder / "cnncodes-job-a").symlink_to(target)
    with worker_folder("a") as (own, _):
        assert own.name.startswith("cnncodes-job-a-")
        (own / "x").write_bytes(b"")
        assert list(target.iterdir()) == []
        (own / "x").unlink()
    assert not own.exists()
