"""The journal tells the next run which images were being decoded when a run died."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnncodes.errors import DecodeError
from cnncodes.extraction import journal
from cnncodes.extraction.journal import Journal

SUSPECT = bytes([1]) * 32


def test_suspects_stay_until_they_were_tried(tmp_path: Path) -> None:
    codes = tmp_path / "codes.h5"
    digests = [bytes([i]) * 32 for i in (1, 2)]
    left = tmp_path / ".codes.h5.decoding"
    left.write_bytes(b"".join(digests) + b"\1cut short")
    with Journal(codes, 2) as journal:
        journal.enter(0, bytes([3]) * 32)
        journal.try_suspect(b"P3 1 1 255 1 2 3", digests[0], 60.0)
        journal.leave(1)
        seen = left.read_bytes()
    assert [seen[i] for i in range(0, len(seen), 32)] == [3, 0, 0, 2]
    assert not left.exists()


def test_without_a_codes_file_nothing_is_kept(tmp_path: Path) -> None:
    with Journal(None, 1) as kept:
        kept.enter(0, SUSPECT)
        kept.try_suspect(b"", SUSPECT, 60.0)
        kept.leave(0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
            "its decoder crashes .signal 11.: the file is damaged",
        ),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "for lack of memory as it seems; give more",
        ),
        ("import time; time.sleep(60)", "it was not decoded within 0.5 seconds; give it more by image_timeout"),
    ],
)
def test_a_suspect_that_fails_alone_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, reason: str
) -> None:
    monkeypatch.setattr(journal, "DECODE", code)
    (tmp_path / ".codes.h5.decoding").write_bytes(SUSPECT)
    with Journal(tmp_path / "codes.h5", 1) as kept:
        for _ in range(2):  # tried once: it stays a suspect, for the next run too if this one dies
            with pytest.raises(DecodeError, match=reason):
                kept.try_suspect(b"", SUSPECT, 0.5)
            monkeypatch.setattr(journal, "DECODE", "")
        assert kept.suspects(SUSPECT)
        assert SUSPECT in (tmp_path / ".codes.h5.decoding").read_bytes()


def test_modules_in_the_working_folder_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "contextlib.py").write_text("open('was here', 'w')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".codes.h5.decoding").write_bytes(SUSPECT)
    with Journal(tmp_path / "codes.h5", 1) as kept:
        kept.try_suspect(b"P3 1 1 255 1 2 3", SUSPECT, 60.0)
    assert not (tmp_path / "was here").exists()
