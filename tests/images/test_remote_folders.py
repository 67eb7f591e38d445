"""Folders, tables and files by their URLs mean what they mean on a disk; in fsspec's memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import fsspec
import pytest
from archive_files import tar_of
from image_files import PNG, fill, table

from cnncodes.errors import ImagesError
from cnncodes.images import loading, remote_folders
from cnncodes.images.image_set import ImageSet
from cnncodes.images.loading import load_images
from cnncodes.images.remote import RemoteFile

LAYOUTS = {
    "classes": ("b/2.png", "b/10.jpg", "a/x.PNG", "a/deep/er/y.tif", "a.b/z.gif"),
    "splits": ("train/a/1.png", "train/b/1.png", "Test/a/2.png", "Test/b/2.png"),
    "splits in classes": ("a/train/1.png", "a/test/2.png", "b/train/1.png", "b/test/2.png"),
    "wrapped": ("set/a/1.png", "set/b/1.png"),
    "masks": ("a/images/1.png", "a/masks/1.png", "b/images/1.png", "b/masks/1.png"),
    "left out": (
        "a/1.png",
        "a/.hidden.png",
        ".git/1.png",
        "b/notes.txt",
        "b/1.png",
        "Thumbs.db",
        "c/x.heif",
        "d/e/f.txt",
    ),
    "odd names": ("ä/ü 1.png", "a#b/1?.png", "a%20b/1.png", "a&b/[1].png", "B/*.png"),
    "two forms": ("e\u0301/1.png", "\u00e9/2.png", "f/1.png"),
    "flat": ("1.png", "2.png"),
}


@pytest.fixture
def upload() -> Iterator[Callable[[Path], str]]:
    """Copy a folder to fsspec's memory; return its URL."""
    files = fsspec.filesystem("memory")

    def copy(folder: Path) -> str:
        for path in folder.rglob("*"):
            if path.is_file():
                files.pipe(f"/bucket/photos/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return "memory://bucket/photos/"

    yield copy
    if files.exists("/bucket"):
        files.rm("/bucket", recursive=True)


def same(images: ImageSet, local: ImageSet) -> None:
    """Compare all that is known of images, but for where they lie."""
    for name in ("ids", "labels", "groups", "splits", "failures", "notes"):
        assert getattr(images, name) == getattr(local, name), name
    assert set(images.left_out) == set(local.left_out)
    for row in range(len(local)):
        assert images.read_bytes(row) == local.read_bytes(row)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_means_what_it_means_on_a_disk(tmp_path: Path, upload: Any, layout: str, labelled: bool) -> None:
    for i, name in enumerate(LAYOUTS[layout]):
        fill(tmp_path, name, data=PNG + bytes([i]))
    url = upload(tmp_path)
    local = load_images(tmp_path, labelled=labelled)
    for given in (url, url.rstrip("/")):
        images = load_images(given, labelled=labelled)
        same(images, local)
        assert images.root == given
        sizes = [path.stat().st_size for path in local.sources]
        assert [file.size for file in images.sources] == sizes
        assert all(file.changed >= 0 for file in images.sources)


@pytest.mark.parametrize("names", [("a.tar", "deep/er/b.tar"), ("train-0.tar", "test-0.tar")])
def test_a_folder_of_tar_archives_is_read_as_on_a_disk(tmp_path: Path, upload: Any, names: tuple[str, ...]) -> None:
    for i, name in enumerate(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        tar_of(tmp_path / name, {f"{label}/{i}.png": PNG + bytes([i]) for label in "xy"})
    fill(tmp_path, "README.md", ".hidden.tar", "more.zip", data=b"x")
    url = upload(tmp_path)
    images = load_images(url)
    same(images, load_images(tmp_path))
    assert images.root == url
    assert images.notes[0] == "files beside the archives, not read: README.md, more.zip"
    assert load_images(upload(fill(tmp_path, "1.png")), labelled=False).ids == ["1.png"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("loose.png", "a/1.png"), r"^memory://bucket/photos/: 1 images lie beside the folders \(loose.png\)"),
        (("a.zip", "b.zip"), r"^memory://bucket/photos/: there are no images in it .*2 \.zip"),
        (("a/notes.txt",), r"^memory://bucket/photos/: there are no images in it .*1 \.txt"),
    ],
)
def test_a_folder_is_refused_as_on_a_disk(tmp_path: Path, upload: Any, names: tuple[str, ...], words: str) -> None:
    with pytest.raises(ImagesError, match=words):
        load_images(upload(fill(tmp_path, *names)))


def test_the_root_of_a_file_system_is_a_folder(tmp_path: Path, upload: Any) -> None:
    upload(fill(tmp_path, "a/1.png", "b/2.png"))
    assert [name for name in load_images("memory://", labelled=False).ids if name.startswith("bucket/")] == [
        *("bucket/photos/a/1.png", "bucket/photos/b/2.png")
    ]
    assert load_images("memory://bucket/photos//").read_bytes(0) == PNG


def test_what_is_not_there_is_one_line() -> None:
    with pytest.raises(ImagesError, match=r"^memory://nowhere/photos/: no such file$"):
        load_images("memory://nowhere/photos/")
    with pytest.raises(ImagesError, match="a URL has two slashes, and is given as text, not as a Path"):
        load_images(Path("s3://bucket/photos"))


def test_a_folder_that_cannot_be_listed_is_recorded(tmp_path: Path, upload: Any, monkeypatch) -> None:
    url = upload(fill(tmp_path, "a/1.png", "b/1.png", "b/2.png"))
    files = type(fsspec.filesystem("memory"))
    listed = files.ls

    def ls(self: Any, path: str, **options: Any) -> Any:
        if path.endswith("/b"):
            raise PermissionError("secret")
        return listed(self, path, **options)

    monkeypatch.setattr(files, "ls", ls)
    images = load_images(url)
    reason = "the folder cannot be listed, its images are missing: no permission to read it"
    assert (images.ids, images.labels, images.failures) == (["a/1.png", "b"], ["a", "b"], {"b": reason})
    monkeypatch.setattr(files, "ls", lambda *_, **__: (_ for _ in ()).throw(PermissionError()))
    with pytest.raises(ImagesError, match=r"photos/: no permission to read it; credentials are taken from"):
        load_images(url)


def test_when_the_network_is_gone_no_other_folder_is_listed(tmp_path: Path, upload: Any, monkeypatch) -> None:
    url = upload(fill(tmp_path, *(f"{i}/1.png" for i in range(100))))
    files, n_listed = type(fsspec.filesystem("memory")), count()
    listed = files.ls

    def ls(self: Any, path: str, **options: Any) -> Any:
        if next(n_listed):
            time.sleep(0.01)
            raise type("NoCredentialsError", (Exception,), {})
        return listed(self, path, **options)

    monkeypatch.setattr(files, "ls", ls)
    monkeypatch.setattr(remote_folders, "LISTERS", 1)
    with pytest.raises(ImagesError, match="credentials are taken from"):
        load_images(url)
    assert next(n_listed) < 50


def test_a_file_of_the_name_of_a_folder_is_no_image(tmp_path: Path, upload: Any, monkeypatch) -> None:
    url = upload(fill(tmp_path, "a/1.png", "b/1.png"))
    files = type(fsspec.filesystem("memory"))
    listed = files.ls

    def ls(self: Any, path: str, **options: Any) -> Any:  # as S3 lists folders that were made in its console
        marker = {"name": f"{path}/", "size": 0, "type": "file"}
        return [marker, *listed(self, path, **options)]

    monkeypatch.setattr(files, "ls", ls)
    assert load_images(url).ids == ["a/1.png", "b/1.png"]
    assert load_images(url).notes == []


def test_a_folder_without_a_name_is_told(tmp_path: Path, upload: Any, monkeypatch) -> None:
    url = upload(fill(tmp_path, "a/1.png", "b/1.png"))
    files = type(fsspec.filesystem("memory"))
    listed = files.ls

    def ls(self: Any, path: str, **options: Any) -> Any:  # as S3 lists keys like a//2.png, which fsspec cannot enter
        nameless = [{"name": f"{path}/", "size": 0, "type": "directory"}] if path.endswith("/a") else []
        return [*nameless, *listed(self, path, **options)]

    monkeypatch.setattr(files, "ls", ls)
    images = load_images(url)
    assert images.ids == ["a/1.png", "b/1.png"]
    assert images.notes == ["folders without a name (two slashes in a row), whose images are not read: in a"]


def test_a_table_beside_its_images(tmp_path: Path, upload: Any) -> None:
    fill(tmp_path, "a/1.png", "b 1.png", "c#1.png")
    rows = "path;label;split;group\na/1.png;x;train;g\n./b 1.png;y;test;h\nc#1.png;y;train;g\n"
    table(tmp_path, rows)
    url = upload(tmp_path)
    same(load_images(f"{url}images.csv"), load_images(tmp_path / "images.csv"))


def test_a_table_names_urls(tmp_path: Path, upload: Any) -> None:
    url = upload(fill(tmp_path / "images", "a/1.png"))
    here = fill(tmp_path / "here", "2.png")
    rows = f"path,label\n2.png,y\n{url}a/1.png,x\nhttps://me:pw@a.org/1.png?sig=pw,x\nfile://{here}/2.png,y\n"
    with pytest.raises(ImagesError, match="line 5: the same file again"):
        load_images(table(here, rows))
    images = load_images(table(here, rows.rpartition("file:")[0]))
    assert images.ids == ["2.png", "memory://bucket/photos/a/1.png", "https://a.org/1.png"]
    assert images.sources[2].url == "https://me:pw@a.org/1.png?sig=pw"
    assert images.read_bytes(0) == images.read_bytes(1) == PNG
    assert images.labels == ["y", "x", "x"]
    upload(here)
    images = load_images(f"{url}images.csv")  # the same table there
    assert images.ids == ["2.png", "a/1.png", "https://a.org/1.png"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("zip://a.png::a.zip,a\n", "line 2: a file of this machine"),
        ("zip:///tmp/a.png,a\n", r"names no archive; write zip://folder::a\.zip"),
        ("zip://a.png::zip://b.zip::file:///c.zip,a\n", "a chain of URLs is not read"),
        ("git:///repository:HEAD@a.png,a\n", "git:// URLs are not read"),
        ("asynclocal:///etc/passwd,a\n", "asynclocal:// URLs are not read"),
        (",a\n1.png,a\n", "line 2: the path is empty; fill it"),
        ("../1.png,a\n", r"line 2: outside of the folder of the table: \.\./1\.png; .*allow_outside=True"),
        ("/etc/passwd,a\n", "line 2: outside of the folder"),
        ("file:///etc/passwd,a\n", "line 2: a file of this machine"),
        ("1.png,a\n./1.png,a\n", r"line 3: the same file again: 1\.png \(as in line 2\)"),
        ("1.png,a\nmemory://bucket/photos/1.png,a\n", r"line 3: the same file again"),
        ("https://a.org/1.png?sig=1,a\nhttps://a.org/1.png?sig=2,a\n", "line 3: the same file again"),
        ("zip://a.png::file:///a.zip,a\n", "line 2: a file of this machine"),
        ("filecache::memory://bucket/photos/1.png,a\n", "a chain of URLs is not read"),
    ],
)
def test_a_remote_table_with_faults(tmp_path: Path, upload: Any, rows: str, words: str) -> None:
    table(tmp_path, f"path,label\n{rows}")
    with pytest.raises(ImagesError, match=words) as error:
        load_images(f"{upload(tmp_path)}images.csv")
    assert "sig" not in str(error.value)


def test_allow_outside_leads_above_the_table_and_never_to_this_machine(tmp_path: Path, upload: Any) -> None:
    table(tmp_path / "tables", "path,label\n../1.png,a\n../../../../etc/passwd,b\n")
    url = upload(fill(tmp_path, "1.png"))
    images = load_images(f"{url}tables/images.csv", allow_outside=True)
    assert [str(file) for file in images.sources] == ["memory://bucket/photos/1.png", "memory://bucket/etc/passwd"]


def test_a_table_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ImagesError, match=r"^memory://bucket/images\.csv: no such file$"):
        load_images("memory://bucket/images.csv")


def test_one_file_and_sequences(tmp_path: Path, upload: Any) -> None:
    here = fill(tmp_path, "1.png", "2.png")
    url = upload(here)
    one = load_images(f"{url}1.png")
    assert (one.ids, one.root, one.read_bytes(0)) == (["1.png"], "memory://bucket/photos", PNG)
    several = load_images([f"{url}1.png", here / "1.png", f"file://{here}/2.png"], labels=["a", "b", "b"])
    assert several.ids == [f"{url}1.png", f"{here}/1.png", f"{here}/2.png"]
    assert [several.read_bytes(row) for row in range(3)] == [PNG] * 3
    again = load_images([*several.sources, f"{url}1.png"])
    assert again.ids == [*several.ids, f"{url}1.png#2"]
    assert load_images(f"file://{here}/1.png").sources == [here / "1.png"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("generic://file:///etc/passwd", "generic:// URLs are not read"),
        ("https://me:pw@a.org/photos/", r"^https://a\.org/photos/: .* a web server lists no folders; give a \.csv"),
        ("https://a.org/x.npy", "files are read from a disk alone"),
        ("filecache::s3://b/c.png", "a chain of URLs"),
    ],
)
def test_what_is_not_read_is_said_without_a_request(url: str, words: str, monkeypatch) -> None:
    monkeypatch.setattr(loading, "kind_of", lambda url: pytest.fail("a request was made"))
    with pytest.raises(ImagesError, match=words):
        load_images(url)


def test_a_page_of_the_web_is_one_image_by_its_suffix() -> None:
    images = load_images("https://me:pw@a.org/x/photo.JPG?sig=1")
    assert (images.ids, images.root) == (["photo.JPG"], "https://a.org/x")
    assert isinstance(images.sources[0], RemoteFile)
    with pytest.raises(ImagesError, match="labels are given beside"):
        load_images("https://a.org/photo.jpg", labels=["a"])
