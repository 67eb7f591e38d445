"""A full disk: found before the first image is read, or one line and a file that a second run finishes exactly."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnncodes import extract
from cnncodes.errors import CodesFileError
from cnncodes.images.loading import ImageSet

FILL = """
import os, resource, sys
from cnncodes import extract
from cnncodes.errors import CodesFileError

images, out = sys.argv[1:]

def no_more_room(done, total, failed):
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(out) // 2, resource.RLIM_INFINITY))

try:
    extract(images, out, layers=["layer1"], precision="fp32", workers=1, progress=no_more_room)
except CodesFileError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(extract(images, out, layers=["layer1"], precision="fp32").computed)
"""


@pytest.fixture
def no_image_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(images: ImageSet, row: int) -> bytes:
        pytest.fail(f"{images.ids[row]} is read before the place for its codes is sure")

    monkeypatch.setattr(ImageSet, "read_bytes", read)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        subprocess.run(words, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a file system can be mounted by root alone")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.usefixtures("no_image_is_read")
def test_a_full_disk_shows_before_the_first_image_is_read(small_sample: Path, small_disk: Path) -> None:
    with pytest.raises(CodesFileError, match=r"codes\.h5: cannot be written \(No space left on device\); make room"):
        extract(small_sample, small_disk / "codes.h5", layers=["penultimate"])
    assert list(small_disk.iterdir()) == []


@pytest.mark.usefixtures("no_image_is_read")
def test_the_room_of_the_whole_file_is_claimed_first(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, offset: int, size: int) -> None:
        assert size > 45 * 1280 * 2
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(CodesFileError, match="No space left on device"):
        extract(small_sample, tmp_path / "codes.h5", layers=["penultimate"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_image_is_read")
def test_maps_that_the_disk_does_not_hold_are_said_and_refused(
    small_sample: Path, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"layers": ["layer1"], "image_size": 64, "thumbnails": False}
    for maps in (["layer1"], ["layer4"]):
        with pytest.raises(
            CodesFileError, match=r"codes\.h5: cannot be written \(No space left on device\); make room"
        ):
            extract(small_sample, small_disk / "codes.h5", maps=maps, **settings)
    assert "maps of layer1, 24×16×16 in float16: 12.3 kB an image, 0.6 MB for 45 images" in caplog.text
    assert "maps of layer4, 1280×2×2 in float16: 10.2 kB an image, 0.5 MB for 45 images" in caplog.text
    assert list(small_disk.iterdir()) == []


def test_a_file_to_which_maps_cannot_be_added_stays_as_it_is(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, settings = tmp_path / "codes.h5", {"layers": ["layer1"], "image_size": 64}
    extract(small_sample, out, **settings)
    before = out.read_bytes()

    def full(handle: int, offset: int, size: int) -> None:
        assert size > len(before) + 45 * 24 * 16 * 16 * 2
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(CodesFileError, match="No space left on device"):
        extract(small_sample, out, maps="layer1", **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["codes.h5"]
    assert out.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="no limits for a process")
def test_a_write_that_the_system_refuses_is_an_error_and_the_file_is_finished_later(
    small_sample: Path, tmp_path: Path
) -> None:
    """The system itself refuses the writes; the process lives on, and can finish the file."""
    out, whole = tmp_path / "codes.h5", tmp_path / "whole.h5"
    done = subprocess.run(
        [sys.executable, "-c", FILL, small_sample, out], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    error, computed = done.stdout.splitlines()
    assert error == (
        f"{out}: cannot be written ({os.strerror(errno.EFBIG)}); what was written before is kept. Make room on the "
        "disk, then run the same command again"
    )
    assert 0 < int(computed) < 45
    extract(small_sample, whole, layers=["layer1"], precision="fp32")
    assert out.read_bytes() == whole.read_bytes()


def test_a_full_disk_has_no_journal_and_kills_nobody(small_disk: Path) -> None:
    out = small_disk / "codes.h5"
    script = """
import sys, os
from cnncodes.extraction.journal import Journal
from pathlib import Path
with Journal(Path(sys.argv[1]), 2) as journal:
    journal.enter(1, b"x" * 32)
"""
    with (small_disk / "rest").open("wb", buffering=0) as rest, contextlib.suppress(OSError):
        while True:
            rest.write(bytes(4096))
    done = subprocess.run([sys.executable, "-c", script, out], check=False)
    assert done.returncode == 0  # and not by SIGBUS
    assert [path.name for path in small_disk.iterdir()] == ["rest"]
