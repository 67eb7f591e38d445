"""Extraction from an emulated Google Cloud Storage, which fails: the codes are those of the folder, bit for bit."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive_files import folder_tar, folder_zip
from PIL import Image
from remote_images import OPTIONS, same_codes, save_images, wait_for_readers

from cnncodes.codes.file import CodesFile
from cnncodes.errors import ImagesError
from cnncodes.extraction.extract import Extraction, extract
from cnncodes.images import network
from cnncodes.images.loading import load_images

pytestmark = pytest.mark.slow

N = 12

_bucket_numbers = count()


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    from gs_server import running_gs

    with running_gs() as server:
        yield server


@pytest.fixture
def gs(server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The server, which counts from 0 and has no faults; whoever reads ``gs://`` finds it by the environment."""
    server.forget()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    monkeypatch.setattr("cnncodes.images.google_storage._credentials", lambda settings: {"token": "anon"})
    monkeypatch.setattr(network, "FIRST_PAUSE_SECONDS", 0.01)
    network._file_system.cache_clear()
    yield server
    network._file_system.cache_clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [f"{'ab'[i % 2]}/{i:02d} é#?%20.png" for i in range(N)]
    return save_images(tmp_path_factory.mktemp("gs"), names)


@pytest.fixture(scope="module")
def local(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("local") / "codes.h5"
    extract(folder, path, **OPTIONS)
    return path


@pytest.fixture
def bucket(gs: Any, folder: Path) -> str:
    bucket = f"bucket{next(_bucket_numbers)}"
    gs.upload(folder, bucket, "photos/")
    gs.forget()
    return bucket


def again(gs: Any, source: str, path: Path) -> tuple[Extraction, int]:
    """Extract without faults; return how many objects were read."""
    wait_for_readers()
    gs.forget()
    return extract(source, path, **OPTIONS), gs.gets.total()


def test_codes_are_those_of_the_folder_and_only_what_has_changed_is_read(
    gs: Any, bucket: str, folder: Path, local: Path, tmp_path: Path
) -> None:
    url, codes = f"gs://{bucket}/photos/", tmp_path / "codes.h5"
    result = extract(url, codes, **OPTIONS)
    assert (result.ok, result.failed, result.computed, gs.gets.total()) == (N, 0, N, N)
    assert gs.lists <= 5  # is it a folder, its two folders, and nothing for each file
    same_codes(codes, local)
    with CodesFile.open(codes) as made:
        assert made.ids.tolist() == load_images(folder).ids
    done, reads = again(gs, url, codes)
    assert (done.computed, reads) == (0, 0)
    first, second, third = load_images(folder).ids[:3]
    gs.put(bucket, f"photos/{first}", (folder / first).read_bytes())  # the same bytes: only generation and etag change
    gs.put(bucket, f"photos/{second}", (folder / third).read_bytes())
    result, reads = again(gs, url, codes)
    assert (result.computed, reads, set(gs.gets)) == (0, 1, {f"{bucket}/photos/{second}"})  # it is as the third
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "new.png")
    gs.put(bucket, f"photos/{second}", (tmp_path / "new.png").read_bytes())
    result, reads = again(gs, url, codes)
    assert (result.computed, set(gs.gets)) == (1, {f"{bucket}/photos/{second}"})


def test_a_table_of_urls_is_asked_for_changes_and_not_read_again(
    gs: Any, bucket: str, folder: Path, local: Path, tmp_path: Path
) -> None:
    images = load_images(folder)
    rows = [f'"gs://{bucket}/photos/{name}",{label}' for name, label in zip(images.ids, images.labels, strict=True)]
    (tmp_path / "images.csv").write_text("\n".join(["path,label", *rows]))
    gs.put(bucket, "images.csv", (tmp_path / "images.csv").read_bytes())
    for source, n_tables in ((str(tmp_path / "images.csv"), 0), (f"gs://{bucket}/images.csv", 1)):
        codes = tmp_path / f"{n_tables}.h5"
        assert extract(source, codes, **OPTIONS).ok == N
        same_codes(codes, local)
        result, reads = again(gs, source, codes)
        assert (result.computed, reads, len(gs.infos)) == (0, n_tables, N + n_tables)
        assert max(gs.infos.values()) <= 2  # gcsfs also asks if it is a folder, and again if that is answered first
    gs.put(bucket, f"photos/{images.ids[0]}", (folder / images.ids[1]).read_bytes())
    assert again(gs, source, codes)[1] == 2  # the table, and what has changed


@pytest.mark.parametrize("archive", ["a.zip", "a.tar"])
def test_archives_are_read_by_parts(
    gs: Any, bucket: str, folder: Path, local: Path, tmp_path: Path, archive: str
) -> None:
    make = folder_zip if archive.endswith("zip") else folder_tar
    make(tmp_path / archive, folder)
    gs.put(bucket, archive, (tmp_path / archive).read_bytes())
    gs.fault = lambda path, n: ("", "503", "", "reset", "truncated")[n % 5]
    assert extract(f"gs://{bucket}/{archive}", tmp_path / "codes.h5", **OPTIONS).failed == 0
    same_codes(tmp_path / "codes.h5", local)
    result, reads = again(gs, f"gs://{bucket}/{archive}", tmp_path / "codes.h5")
    assert result.computed == 0
    assert reads <= 4  # lists, and no image


def test_what_is_kept_compressed_is_read(gs: Any, bucket: str, folder: Path) -> None:
    data = next(folder.rglob("*.png")).read_bytes()
    gs.put(bucket, "zipped/1.png", gzip.compress(data), encoding="gzip")
    images = load_images(f"gs://{bucket}/zipped/", labelled=False)
    assert images.read_bytes(0) == data
    assert gs.gets.total() == 1


def test_a_silent_server_is_asked_again(gs: Any, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "SILENCE_SECONDS", 0.5)
    network._file_system.cache_clear()
    gs.fault = lambda path, n: "silent" if path != "list" and n == 1 else ""
    images = load_images(f"gs://{bucket}/photos/")
    started = time.monotonic()
    assert images.read_bytes(0).startswith(b"\x89PNG")
    assert time.monotonic() - started < 4
    assert gs.gets.total() == 2


@pytest.mark.parametrize("fault", ["503", "502", "429", "reset", "truncated"])
def test_what_fails_for_a_while_is_read_again(gs: Any, bucket: str, local: Path, tmp_path: Path, fault: str) -> None:
    gs.fault = lambda path, n: fault if n <= 2 else ""
    started = time.monotonic()
    result = extract(f"gs://{bucket}/photos/", tmp_path / "codes.h5", **OPTIONS)
    assert (result.ok, result.failed) == (N, 0)
    assert min(gs.gets.values()) == 3
    assert time.monotonic() - started < 10  # gcsfs alone would wait a second, and then two
    same_codes(tmp_path / "codes.h5", local)


def test_what_is_not_there_and_what_is_forbidden_is_one_line(gs: Any, bucket: str, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ImagesError, match=r"^gs://nowhere/photos/: no such file( \(404 Not Found\))?$"):
        load_images("gs://nowhere/photos/")
    with pytest.raises(ImagesError, match=r"^gs://.*/nothing/: no such file$"):
        load_images(f"gs://{bucket}/nothing/")
    images = load_images(f"gs://{bucket}/photos/")
    gs.fault = lambda path, n: "403"
    for url in (f"gs://{bucket}/photos/", f"gs://{bucket}", f"gs://{bucket}/*.tar"):
        with pytest.raises(
            ImagesError, match=r"no permission to read it \(403 Forbidden\); credentials are taken from"
        ):
            load_images(url)
    result = extract(images, tmp_path / "codes.h5", **OPTIONS)
    assert set(result.failures.values()) == {"no permission to read it (403 Forbidden)"}
    assert max(gs.gets.values()) == 1
    assert time.monotonic() - started < 10  # without any pause
