"""Extraction from a real server of S3, which fails and dawdles: the codes are those of the folder, bit for bit."""

from __future__ import annotations

import shutil
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive_files import folder_tar, folder_zip, tar_of
from command_line import run
from PIL import Image
from remote_images import OPTIONS, save_images, wait_for_readers

from cnncodes import CNNCodes, load_codes
from cnncodes.codes.file import CodesFile
from cnncodes.errors import ImagesError
from cnncodes.extraction.extract import Extraction, extract
from cnncodes.images import network
from cnncodes.images.loading import load_images

pytestmark = pytest.mark.slow

N = 16

_bucket_numbers = count()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small images of two classes in two splits."""
    names = [f"{('train', 'test')[i % 4 == 3]}/{'ab'[i % 2]}/{i:02d} é.png" for i in range(N)]
    return save_images(tmp_path_factory.mktemp("s3"), names)


@pytest.fixture(scope="module")
def local(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The codes of the images on the disk."""
    path = tmp_path_factory.mktemp("local") / "codes.h5"
    extract(folder, path, **OPTIONS)
    return path


@pytest.fixture
def url(s3: Any, folder: Path) -> str:
    """A bucket of its own with the images, and another file."""
    bucket = f"bucket{next(_bucket_numbers)}"
    s3.upload(folder, bucket, "photos/")
    s3.client().put_object(Bucket=bucket, Key="photos/train/notes.txt", Body=b"x")
    s3.client().put_object(Bucket=bucket, Key="photos/test//1.png", Body=b"x")
    s3.forget()
    return f"s3://{bucket}/photos/"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(network, "PATIENCE_SECONDS", 1.0)


def key_of(url: str, name: str) -> tuple[str, str]:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return bucket, prefix + name


def put(s3: Any, url: str, name: str, path: Path) -> None:
    bucket, key = key_of(url, name)
    s3.client().put_object(Bucket=bucket, Key=key, Body=path.read_bytes())


def delete(s3: Any, url: str, name: str) -> None:
    bucket, key = key_of(url, name)
    s3.client().delete_object(Bucket=bucket, Key=key)


def same_codes(path: Path, other: Path) -> None:
    with CodesFile.open(path) as one, CodesFile.open(other) as two:
        for column in ("ids", "labels", "splits", "sha256"):
            np.testing.assert_array_equal(getattr(one, column), getattr(two, column))
        np.testing.assert_array_equal(one.codes("penultimate"), two.codes("penultimate"))


def again(s3: Any, url: str, path: Path) -> tuple[Extraction, int]:
    """Extract without faults; return how many objects were read."""
    wait_for_readers()
    s3.forget()
    result = extract(url, path, **OPTIONS)
    return result, s3.gets.total()


def test_codes_are_those_of_the_folder_and_a_second_run_reads_nothing(
    s3: Any, url: str, local: Path, tmp_path: Path
) -> None:
    result = extract(url, tmp_path / "codes.h5", **OPTIONS)
    assert (result.ok, result.failed, result.computed, s3.gets.total()) == (N, 0, N, N)
    assert result.notes[:2] == [
        "folders without a name (two slashes in a row), whose images are not read: in test",
        "files skipped, not images by their names: 1 .txt",
    ]
    assert s3.heads.total() == 1  # of the folder: sizes and etags come from the listing
    same_codes(tmp_path / "codes.h5", local)
    done, reads = again(s3, url, tmp_path / "codes.h5")
    assert (done.computed, reads) == (0, 0)


def test_a_folder_that_moves_to_s3_and_back_keeps_its_codes(
    s3: Any, url: str, folder: Path, local: Path, tmp_path: Path
) -> None:
    codes = Path(shutil.copy(local, tmp_path))
    for place, n_read in ((url, N), (url, 0), (folder, 0), (url, N)):
        result, reads = again(s3, str(place), codes)
        assert (result.computed, reads) == (0, n_read)
    same_codes(codes, local)


def test_only_what_has_changed_is_computed(s3: Any, url: str, folder: Path, local: Path, tmp_path: Path) -> None:
    codes = tmp_path / "codes.h5"
    extract(url, codes, **OPTIONS)
    first, second, third = load_images(folder).ids[:3]
    put(s3, url, first, folder / second)  # other bytes
    put(s3, url, second, folder / second)  # the same bytes again, whose etag is the same
    put(s3, url, "train/a/renamed.png", folder / third)
    delete(s3, url, third)
    result, reads = again(s3, url, codes)
    assert (result.computed, reads) == (0, 2)  # what came for the first is there: it is the second
    random = np.random.default_rng(9)
    Image.fromarray(random.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / "new.png")
    put(s3, url, first, tmp_path / "new.png")
    result, reads = again(s3, url, codes)
    assert (result.computed, result.n) == (1, N)
    assert sum(count > 0 for count in s3.gets.values()) == 1
    extract(tmp_path / "new.png", tmp_path / "new.h5", **OPTIONS)
    X, ids = load_codes(codes), load_images(url).ids
    np.testing.assert_array_equal(X[ids.index(first)], load_codes(tmp_path / "new.h5")[0])


@pytest.mark.parametrize("fault", ["503", "reset", "truncated"])
def test_what_fails_for_a_while_is_read_again(
    s3: Any, url: str, local: Path, tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "FIRST_PAUSE_SECONDS", 0.01)
    s3.fault = lambda path, n: fault if n <= 2 else ""
    result = extract(url, tmp_path / "codes.h5", **OPTIONS)
    assert (result.ok, result.failed) == (N, 0)
    assert min(s3.gets.values()) == 3
    same_codes(tmp_path / "codes.h5", local)


def test_what_fails_for_long_is_recorded_and_tried_again_by_the_next_run(
    s3: Any, url: str, local: Path, tmp_path: Path, impatient: None
) -> None:
    first, second, third = load_images(url).ids[:3]
    bucket, key = key_of(url, "")
    faults = {f"/{bucket}/{key}{first}": "503", f"/{bucket}/{key}{second}": "403"}
    s3.fault = lambda path, n: faults.get(path, "")
    images = load_images(url)
    delete(s3, url, third)  # after it was listed
    result = extract(images, tmp_path / "codes.h5", **OPTIONS)
    assert set(result.failures) == {first, second, third}
    assert "503 Service Unavailable" in result.failures[first]
    assert "tries" in result.failures[first]
    assert result.failures[second] == "no permission to read it (403 Forbidden)"
    assert result.failures[third] == "no such file (404 Not Found)"
    assert s3.gets[f"/{bucket}/{key}{second}"] == s3.gets[f"/{bucket}/{key}{third}"] == 1  # they do not pass
    s3.forget()
    result, _ = again(s3, url, tmp_path / "codes.h5")
    assert (result.ok, result.failed, result.computed) == (N - 1, 0, 2)
    assert set(s3.gets) == {f"/{bucket}/{key}{name}" for name in (first, second)}


def test_when_the_network_goes_the_run_ends_and_the_next_one_goes_on(
    s3: Any, url: str, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    monkeypatch.setattr(network, "MAX_FAILURES_IN_A_ROW", 6)
    done = load_images(url).ids[: N // 2]
    bucket, key = key_of(url, "")
    s3.fault = lambda path, n: "" if path.removeprefix(f"/{bucket}/{key}") in ["list", *done] else "503"
    with pytest.raises(ImagesError, match=rf"^s3://{bucket}/: 6 files in a row .*503.*run the same command again$"):
        extract(url, tmp_path / "codes.h5", batch_size=4, workers=1, **OPTIONS)
    with CodesFile.open(tmp_path / "codes.h5") as file:
        kept = file.counts["ok"]
    assert kept == len(done)
    result, reads = again(s3, url, tmp_path / "codes.h5")
    assert (result.ok, result.failed, result.computed, reads) == (N, 0, N - kept, N - kept)
    same_codes(tmp_path / "codes.h5", local)


def test_a_listing_that_fails_for_a_while_is_whole(s3: Any, url: str, folder: Path) -> None:
    s3.fault = lambda path, n: "503" if path == "list" and n % 2 else ""
    assert load_images(url).ids == load_images(folder).ids


def test_a_silent_server_is_asked_again(s3: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "SILENCE_SECONDS", 0.5)
    network._file_system.cache_clear()
    s3.fault = lambda path, n: 5.0 if path != "list" and n == 1 else ""
    images = load_images(url)
    started = time.monotonic()
    assert images.read_bytes(0).startswith(b"\x89PNG")
    network._file_system.cache_clear()
    assert time.monotonic() - started < 4
    assert s3.gets.total() == 2


def test_slow_answers_are_waited_for_together(s3: Any, url: str, local: Path, tmp_path: Path) -> None:
    s3.fault = lambda path, n: 0.5 if path != "list" else ""
    started = time.monotonic()
    extract(url, tmp_path / "codes.h5", **OPTIONS, workers=1)
    assert time.monotonic() - started < 0.5 * N  # that is what answers one after the other would take
    same_codes(tmp_path / "codes.h5", local)


def test_a_table_of_objects_is_asked_for_etags_and_not_read_again(
    s3: Any, url: str, folder: Path, local: Path, tmp_path: Path
) -> None:
    images = load_images(folder)
    rows = zip(images.ids, images.labels or [], images.splits or [], strict=True)
    table = "path,label,split\n" + "".join(f"{name},{label},{split}\n" for name, label, split in rows)
    (tmp_path / "images.csv").write_text(table)
    put(s3, url, "images.csv", tmp_path / "images.csv")
    for _ in range(2):
        s3.forget()
        result = extract(f"{url}images.csv", tmp_path / "codes.h5", **OPTIONS)
    assert (result.computed, s3.gets.total(), s3.heads.total()) == (0, 1, N + 1)  # the table alone is read
    same_codes(tmp_path / "codes.h5", local)


@pytest.mark.parametrize("archive", ["a.zip", "a.tar", "a.tar.gz", "train-{000..001}.tar"])
def test_archives_are_read_by_parts_and_what_fails_for_a_while_is_read_again(
    s3: Any, folder: Path, local: Path, tmp_path: Path, archive: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "FIRST_PAUSE_SECONDS", 0.01)
    images = load_images(folder)
    (tmp_path / "a").mkdir()
    if archive == "a.zip":
        folder_zip(tmp_path / "a" / archive, folder)
    elif archive.startswith("a.tar"):
        folder_tar(tmp_path / "a" / archive, folder, "w:gz" if archive.endswith("gz") else "w")
    else:
        for part in (0, 1):
            members = {}
            for row in range(part, N, 2):
                members |= {f"{row}.png": images.read_bytes(row), f"{row}.cls": images.labels[row].encode()}
            tar_of(tmp_path / "a" / f"train-{part:03d}.tar", members)
    bucket = f"bucket{next(_bucket_numbers)}"
    s3.upload(tmp_path / "a", bucket)
    s3.forget()
    s3.fault = lambda path, n: ("", "503", "", "reset", "truncated")[n % 5]
    result = extract(f"s3://{bucket}/{archive}", tmp_path / "codes.h5", **OPTIONS)
    assert (result.ok, result.failed) == (N, 0)
    with CodesFile.open(tmp_path / "codes.h5") as made, CodesFile.open(local) as expected:
        rows = [made.sha256.tolist().index(digest) for digest in expected.sha256.tolist()]
        np.testing.assert_array_equal(made.codes("penultimate")[rows], expected.codes("penultimate"))
        np.testing.assert_array_equal(made.labels[rows], expected.labels)
    done, reads = again(s3, f"s3://{bucket}/{archive}", tmp_path / "codes.h5")
    assert done.computed == 0
    assert reads <= 4 * len(s3.gets)  # lists, and no image


def test_estimators_take_urls(s3: Any, url: str, folder: Path, tmp_path: Path) -> None:
    images = load_images(folder)
    paths = [str(path) for path in images.sources]
    codes = CNNCodes(image_size=32, precision="fp32", cache=tmp_path / "cache.h5")
    expected = codes.fit_transform(paths)
    np.testing.assert_array_equal(codes.transform([url + name for name in images.ids]), expected)
    np.testing.assert_array_equal(codes.transform(np.array([url + name for name in images.ids])), expected)
    assert s3.gets.total() == 2 * N  # for their digests: the codes were there


def test_without_credentials_that_is_one_line(s3: Any, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    network._file_system.cache_clear()
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(ImagesError, match=r"Unable to locate credentials; credentials are taken from .*AWS_ACCESS"):
            load_images(url)
    finally:
        network._file_system.cache_clear()
        s3fs.S3FileSystem.clear_instance_cache()


def test_a_server_that_is_away_for_a_while_is_asked_again(url: str, monkeypatch, impatient: None) -> None:
    monkeypatch.setattr(network, "CONTACT_SECONDS", 2.5)  # the first try may take a second to make its client
    monkeypatch.setattr(network, "PATIENCE_SECONDS", 2.5)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    network._file_system.cache_clear()
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(ImagesError, match=r"^s3://.*Could not connect .*\((?!1 )\d+ tries in \d s\)$"):
            load_images(url)
    finally:
        network._file_system.cache_clear()
        s3fs.S3FileSystem.clear_instance_cache()


def test_every_command_takes_a_url(s3: Any, url: str, folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--layer", "penultimate", "--image-size", "32", "--precision", "fp32")
    made = run("extract", url, "-o", "codes.h5", *words)
    assert f"{N} of {N} images" in made.stdout
    run("extract", folder, "-o", "local.h5", *words)
    same_codes(tmp_path / "codes.h5", tmp_path / "local.h5")
    run("fit", "codes.h5")
    assert run("predict", url).stdout == run("predict", folder).stdout
    one = load_images(folder).ids[0]
    assert f"\n{one.rpartition('/')[2]}," in run("predict", url + one, "--explain", "where").stdout
    assert (tmp_path / "where" / f"{one.rpartition('/')[2]}.png").is_file()
    assert '"recomputed": 16' in run("verify", "codes.h5", url, "--json").stdout
