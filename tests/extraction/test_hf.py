"""Extraction from a Hugging Face Hub on this machine: the codes are those of the folder, bit for bit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from archive_files import folder_tar, folder_zip
from hub_server import TOKEN, running_hub
from remote_images import OPTIONS, same_codes, save_images, wait_for_readers

from cnncodes.errors import ImagesError
from cnncodes.extraction.extract import Extraction, extract
from cnncodes.images import network
from cnncodes.images.loading import load_images

pytestmark = pytest.mark.slow

N = 16  # eight in a folder: two pages of its list


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with running_hub() as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [f"{'ab'[i % 2]}/{i:02d} é#?%20.png" for i in range(N)]
    return save_images(tmp_path_factory.mktemp("hf"), names)


@pytest.fixture(scope="module")
def local(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("local") / "codes.h5"
    extract(folder, path, **OPTIONS)
    return path


@pytest.fixture
def hub(server: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Hub with a dataset; HF_ENDPOINT would name it as well, to a process that has not imported the library yet."""
    monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": server.url})
    monkeypatch.setattr(network, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(network, "_waits", {})
    server.datasets.clear()
    server.upload(folder, "o/n", "photos/")
    server.forget()
    network._file_system.cache_clear()
    yield server
    network._file_system.cache_clear()


def again(hub: Any, source: str, path: Path) -> tuple[Extraction, int]:
    """Extract without faults; return how many files were read."""
    wait_for_readers()
    hub.forget()
    return extract(source, path, **OPTIONS), hub.count("/resolve/")


def test_codes_are_those_of_the_folder_and_only_what_has_changed_is_read(
    hub: Any, folder: Path, local: Path, tmp_path: Path
) -> None:
    url, codes = "hf://datasets/o/n/photos", tmp_path / "codes.h5"
    result = extract(url, codes, **OPTIONS)
    assert (result.ok, result.failed, result.computed, hub.count("/resolve/")) == (N, 0, N, N)
    assert hub.count("/tree/") <= 6  # is it a folder, itself, two pages of each class, and nothing for each image
    same_codes(codes, local)
    done, reads = again(hub, url, codes)
    assert (done.computed, reads) == (0, 0)
    files = hub.datasets["o/n"]["main"]
    first, second = (f"photos/{name}" for name in load_images(folder).ids[:2])
    files[first] = files[second]
    result, reads = again(hub, url, codes)
    assert (result.computed, reads) == (0, 1)
    assert hub.count(first) == 1


def test_a_revision_is_a_set_of_its_own(hub: Any, folder: Path, local: Path, tmp_path: Path) -> None:
    hub.upload(folder / "a", "o/n", "old/a/", revision="v1")
    hub.upload(folder / "b", "o/n", "old/b/", revision="v1")
    extract("hf://datasets/o/n@v1/old/", tmp_path / "codes.h5", **OPTIONS)
    same_codes(tmp_path / "codes.h5", local)
    with pytest.raises(ImagesError, match=r"^hf://datasets/o/n@v2/: no such file \(404 Not Found\)$"):
        load_images("hf://datasets/o/n@v2/")


@pytest.mark.parametrize("place", ["here", "there"])
def test_a_table_asks_for_each_folder_once(hub: Any, folder: Path, local: Path, tmp_path: Path, place: str) -> None:
    images = load_images(folder)
    rows = [f'"hf://datasets/o/n/photos/{name}",{y}' for name, y in zip(images.ids, images.labels, strict=True)]
    (tmp_path / "images.csv").write_text("\n".join(["path,label", *rows]))
    hub.datasets["o/n"]["main"]["images.csv"] = (tmp_path / "images.csv").read_bytes()
    source = str(tmp_path / "images.csv") if place == "here" else "hf://datasets/o/n/images.csv"
    codes = tmp_path / "codes.h5"
    assert extract(source, codes, **OPTIONS).ok == N
    same_codes(codes, local)
    result, reads = again(hub, source, codes)
    assert (result.computed, reads) == (0, place == "there")  # the table alone
    assert hub.count("/tree/") <= 5  # two pages of each class, and where the table lies
    files = hub.datasets["o/n"]["main"]
    files[f"photos/{images.ids[0]}"] = files[f"photos/{images.ids[1]}"]
    assert again(hub, source, codes)[1] == 1 + (place == "there")


@pytest.mark.parametrize("archive", ["a.zip", "a.tar"])
def test_archives_are_read_by_parts(hub: Any, folder: Path, local: Path, tmp_path: Path, archive: str) -> None:
    make = folder_zip if archive.endswith("zip") else folder_tar
    make(tmp_path / archive, folder)
    hub.datasets["o/n"]["main"][archive] = (tmp_path / archive).read_bytes()
    hub.fault = lambda path, n: (503, {}) if "/resolve/" in path and n % 3 == 0 else None
    assert extract(f"hf://datasets/o/n/{archive}", tmp_path / "codes.h5", **OPTIONS).failed == 0
    same_codes(tmp_path / "codes.h5", local)
    result, reads = again(hub, f"hf://datasets/o/n/{archive}", tmp_path / "codes.h5")
    assert result.computed == 0
    assert reads <= 4  # lists, and no image


def test_a_pattern_sees_what_was_added_since(hub: Any, folder: Path, tmp_path: Path) -> None:
    files = hub.datasets["o/n"]["main"]
    data = folder_tar(tmp_path / "a.tar", folder).read_bytes()
    for i in (1, 2):
        files[f"shards/{i}.tar"] = data
        assert len(load_images("hf://datasets/o/n/shards/*.tar")) == i * N
    files["shards/README.md"] = b"a line"
    images = load_images("hf://datasets/o/n/shards/")
    assert (len(images), images.notes[0]) == (2 * N, "files beside the archives, not read: README.md")


@pytest.mark.parametrize("header", [{"Retry-After": "2"}, {"RateLimit": '"resolvers";r=0;t=2'}])
def test_a_service_that_names_a_time_is_left_alone_until_then_and_no_image_is_lost(
    hub: Any, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: dict[str, str]
) -> None:
    monkeypatch.setattr(network, "PATIENCE_SECONDS", 0.5)
    times: list[float] = []

    def fault(path: str, n: int) -> tuple[int, dict[str, str]] | None:
        if "/resolve/" not in path:
            return None
        times.append(time.monotonic())
        return (429, header) if times[-1] < times[0] + 1.5 else None

    hub.fault = fault
    result = extract("hf://datasets/o/n/photos/", tmp_path / "codes.h5", image_timeout=1, **OPTIONS)
    assert result.failures == {}
    assert not [at for at in times if times[0] + 1 < at < times[0] + 1.9]
    same_codes(tmp_path / "codes.h5", local)


def test_what_is_private_gated_or_not_there_is_one_line(
    hub: Any, folder: Path, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.upload(folder, "o/private")
    hub.upload(folder, "o/gated")
    for name in ("private", "none"):
        with pytest.raises(ImagesError, match=rf"/o/{name}/: not there, or private \(401 .*; credentials .* HF_TOKEN"):
            load_images(f"hf://datasets/o/{name}/")
    with pytest.raises(ImagesError, match=r"/o/gated/: no permission to read it \(403 .*; credentials .* HF_TOKEN"):
        load_images("hf://datasets/o/gated/")
    with pytest.raises(ImagesError, match=r"^hf://datasets/o/n/none/: no such file$"):
        load_images("hf://datasets/o/n/none/")
    monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": hub.url, "token": TOKEN})
    network._file_system.cache_clear()
    extract("hf://datasets/o/private/", tmp_path / "codes.h5", **OPTIONS)
    same_codes(tmp_path / "codes.h5", local)
