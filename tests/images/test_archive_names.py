"""Which names mean archives."""

from __future__ import annotations

import pytest
from archive_files import pngs, tar_of, zip_of
from image_files import fill

from cnncodes.errors import ImagesError
from cnncodes.images.archive_names import archives_in, archives_named, is_archive_name


def test_suffixes():
    assert all(is_archive_name(f"a{suffix}") for suffix in (".zip", ".TAR", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2"))
    assert not any(map(is_archive_name, ("a.png", "a.gz", "zip", "s3://b/a.zip/", "https://h/a.png?b=a.zip")))


@pytest.mark.parametrize("source", ["photos", "a.csv", "https://h/a.png", ["a.png", "b.tar"], [], [3], b"a", None])
def test_what_is_no_archive(source):
    assert archives_named(source) is None


def test_one_archive_and_a_folder_in_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    zip_of(tmp_path / "a.zip", pngs("b/c.png"))
    for source, within in (("a.zip", ""), ("zip://b::a.zip", "b"), ("zip://b/::a.zip", "b"), ("zip::a.zip", "")):
        names = archives_named(source)
        assert (names.paths, names.names, names.within) == (["a.zip"], [""], within)
    assert archives_named(f"ZIP://b::file://{tmp_path}/a.zip").paths == [f"{tmp_path}/a.zip"]
    assert archives_named("zip://b::s3://bucket/a.zip").paths == ["s3://bucket/a.zip"]
    assert archives_named("s3://bucket/a.zip").paths == ["s3://bucket/a.zip"]
    fill(tmp_path, "folder.zip/a.png", "odd[1].zip", "odd1.zip")
    assert archives_named("folder.zip") is None
    assert archives_named("odd[1].zip").paths == ["odd[1].zip"]  # it is there


def test_patterns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("s/train-000.tar", "s/train-001.tar", "s/val-000.tar"):
        (tmp_path / "s").mkdir(exist_ok=True)
        tar_of(tmp_path / name, pngs("a.png"))
    names = archives_named("s/*.tar")
    assert (names.paths, names.names) == (
        ["s/train-000.tar", "s/train-001.tar", "s/val-000.tar"],
        ["train-000.tar/", "train-001.tar/", "val-000.tar/"],
    )
    assert sorted(archives_named("s/{train-{000..001},val-000}.tar").paths) == names.paths
    assert archives_named(["s/train-000.tar", tmp_path / "s/val-000.tar"]).names[0] == "s/train-000.tar/"
    assert archives_named("**/train-00?.tar").paths == names.paths[:2]
    assert archives_named("tar://x::s/{val,train}-000.tar").within == "x"
    assert archives_named("s/train-{3..1}.tar").names == ["train-3.tar/", "train-2.tar/", "train-1.tar/"]
    for pattern, words in (("t/*.tar", "no archive has such a name"), ("{0..9999999}.tar", "10,000,000 archives")):
        with pytest.raises(ImagesError, match=words):
            archives_named(pattern)
    with pytest.raises(ImagesError, match="the same archive is named twice"):
        archives_named(["a.tar", "a.tar"])


def test_queries_of_urls_are_no_pattern_and_no_name():
    query = "?id=7&X-Amz-Signature=5ecre7"
    names = archives_named(f"https://host/a.zip{query}")
    assert (names.root, names.paths, names.names) == ("https://host/a.zip?id=7", [f"https://host/a.zip{query}"], [""])
    names = archives_named(f"https://me:pw@host/s/{{a,b}}.tar{query}")
    assert (names.root, names.names) == ("https://host/s/{a,b}.tar?id=7", ["a.tar/", "b.tar/"])
    assert names.paths == [f"https://me:pw@host/s/{name}.tar{query}" for name in "ab"]
    assert archives_named([f"https://one/a.tar{query}", "https://two/b.tar"]).names == ["one/a.tar/", "two/b.tar/"]
    with pytest.raises(ImagesError, match=r"named twice: https://host/a\.tar$"):
        archives_named(["https://host/a.tar?sig=1", "https://host/a.tar?sig=2"])


def test_a_folder_that_holds_only_tar_archives(tmp_path):
    fill(tmp_path, "train/0.tar", "val/0.tar", "README.md", ".cache/x.png", "val/.hidden.png")
    names = archives_in(str(tmp_path))
    assert names.names == ["train/0.tar/", "val/0.tar/"]
    assert names.notes == ["files beside the archives, not read: README.md"]
    fill(tmp_path, "train/a.png")
    assert archives_in(str(tmp_path)) is None
    assert archives_in(str(fill(tmp_path / "zips", "a.zip", "b/"))) is None


def test_links_to_folders_are_followed_once(tmp_path):
    fill(tmp_path, "set/a.tar", "photos/x/1.png", "shards/b.tar")
    (tmp_path / "set" / "self").symlink_to(tmp_path)
    assert archives_in(str(tmp_path / "set")) is None  # images are read, as of any folder
    (tmp_path / "photos" / "x" / "1.png").unlink()
    assert archives_in(str(tmp_path / "shards")).names == ["b.tar/"]
    (tmp_path / "shards" / "loop").symlink_to(tmp_path / "shards")
    (tmp_path / "shards" / "more").symlink_to(tmp_path / "set")
    assert sorted(archives_in(str(tmp_path / "shards")).names) == ["b.tar/", "more/a.tar/"]
