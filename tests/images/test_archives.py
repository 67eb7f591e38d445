"""Archives mean what the folders mean that they were made of, and WebDatasets what their files say."""

from __future__ import annotations

import contextlib
import functools
import gzip
import pickle
import shutil
import tarfile
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import fsspec
import numpy as np
import pytest
from archive_files import folder_tar, folder_zip, pngs, tar_of, zip_of
from image_files import fill, table

from cnncodes.errors import DecodeError, ImagesError
from cnncodes.images import network
from cnncodes.images.image_set import ImageSet
from cnncodes.images.loading import load_images

PACKERS = {
    "a.zip": folder_zip,
    "a.tar": folder_tar,
    "a.tar.gz": lambda path, folder: folder_tar(path, folder, "w:gz"),
    "a.tar.bz2": lambda path, folder: folder_tar(path, folder, "w:bz2"),
    "a.tar.xz": lambda path, folder: folder_tar(path, folder, "w:xz"),
}
LAYOUTS = {
    "classes": ["cat/1.png", "cat/2.PNG", "dog/1.png", "dog/deep/3.png", "bird/"],
    "splits": ["train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/2.png"],
    "wrapper": ["photos/cat/1.png", "photos/dog/1.png"],
    "masks": ["images/1.png", "images/2.png", "masks/1.png", "masks/2.png"],
    "flat": ["2.png", "1.png", "readme.md", "more.txt"],
    "hidden": [
        "cat/1.png",
        "dog/1.png",
        "__MACOSX/cat/._1.png",
        ".git/x/y.png",
        "dog/.DS_Store",
        "dog/.2.png",
        "Thumbs.db",
    ],
    "unicode": ["caf\u00e9/1.png", "cafe\u0301/2.png", "dog/1.png"],
}


def _by_id(images: ImageSet) -> dict[str, tuple]:
    columns = [column or [None] * len(images) for column in (images.labels, images.splits, images.groups)]
    data = [images.read_bytes(row) if name not in images.failures else b"" for row, name in enumerate(images.ids)]
    return dict(zip(images.ids, zip(data, *columns, strict=True), strict=True))


@pytest.mark.parametrize("first", ["PK/1.png", "BZ/1.png", "PK.png", "BZhang/1.png"])
def test_a_tar_archive_whose_first_name_begins_as_other_archives_do_is_a_tar_archive(tmp_path, first):
    members = pngs(first, "GT/2.png")
    images = load_images(tar_of(tmp_path / "flags.tar", members), labelled=False)
    assert {name: images.read_bytes(row) for row, name in enumerate(images.ids)} == members


@pytest.mark.parametrize("mark", [b"PK\7\x08", b"PK00"])
def test_a_zip_archive_that_was_to_have_several_volumes_and_has_one_is_read(tmp_path, mark):
    members = pngs("a/1.png", "b/2.png")
    path = zip_of(tmp_path / "a.zip", members)
    path.write_bytes(mark + path.read_bytes())
    images = load_images(path)
    assert {name: images.read_bytes(row) for row, name in enumerate(images.ids)} == members


@pytest.mark.parametrize("archive", PACKERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_archive_means_what_its_folder_means(tmp_path, layout, archive):
    folder = tmp_path / "folder"
    for name, data in zip(LAYOUTS[layout], pngs(*LAYOUTS[layout]).values(), strict=True):
        fill(folder, name, data=data)
    PACKERS[archive](tmp_path / archive, folder)
    packed, plain = load_images(tmp_path / archive), load_images(folder)
    assert _by_id(packed) == _by_id(plain)
    assert (packed.notes, packed.root) == (plain.notes, tmp_path / archive)
    assert packed.left_out.keys() == plain.left_out.keys()
    if not archive.startswith("a.tar."):  # these are in the order in which they can be read
        assert packed.ids == plain.ids
    assert load_images(tmp_path / archive, labelled=False).labels is None


def test_a_folder_or_an_image_in_an_archive(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    zip_of(tmp_path / "a.zip", pngs("x/cat/1.png", "x/dog/1.png", "y/other.png"))
    images = load_images("zip://x::a.zip")
    assert (images.ids, images.labels) == (["cat/1.png", "dog/1.png"], ["cat", "dog"])
    assert load_images("zip://x/cat/1.png::a.zip").ids == ["1.png"]
    with pytest.raises(ImagesError, match=r"zip://z::a\.zip: no images in z in it"):
        load_images("zip://z::a.zip")


def test_names_are_only_names(tmp_path):
    members = pngs("/etc/a.png", "../../b/c.png", "./d//e.png", "..", "/", "x" * 5000 + "/f.png")
    images = load_images(zip_of(tmp_path / "a.zip", members), labelled=False)
    assert images.ids == ["b/c.png", "d/e.png", "etc/a.png"]
    assert [images.read_bytes(row) for row in range(3)] == [
        members[f] for f in ("../../b/c.png", "./d//e.png", "/etc/a.png")
    ]
    assert "files skipped, their names are longer than 4,096 letters: 1" in images.notes
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a.zip"]
    images = load_images(
        tar_of(tmp_path / "a.tar", {"caf\udce9/1.png": b"1", "dog/1.png": b"2"}, file_format=tarfile.GNU_FORMAT)
    )
    assert (images.ids, images.labels) == (["caf\\xe9/1.png", "dog/1.png"], ["caf\\xe9", "dog"])


def test_the_last_of_several_with_one_name_counts(tmp_path):
    tar_of(tmp_path / "a.tar", {"a.png": b"old", "b.png": b"b"})
    tar_of(tmp_path / "a.tar", {"./a.png": b"new"}, "a")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for data in (b"old", b"new"):
            with pytest.warns(UserWarning, match="Duplicate") if data == b"new" else contextlib.nullcontext():
                archive.writestr("a.png", data)
    for name in ("a.tar", "a.zip"):
        images = load_images(tmp_path / name)
        assert images.read_bytes(0) == b"new"
        assert "names that an archive has more than once, the last counts: a.png" in images.notes


def test_links_lead_to_files_of_the_archive(tmp_path):
    folder = fill(tmp_path / "f", "cat/1.png", "dog/", "blobs/ab12", "dog/real/")
    links = {
        "cat/2.png": "1.png",
        "dog/1.png": "../cat/2.png",  # a link to a link
        "dog/blob.png": "../blobs/ab12",
        "dog/lost.png": "gone.png",
        "dog/out.png": "../../../etc/passwd",
        "dog/loop.png": "loop.png",
        "dog/absolute.png": "/etc/passwd",
        "dog/lost.txt": "gone.txt",
        "dog/folder": "../cat",
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_symlink():
                header = zipfile.ZipInfo(str(file.relative_to(folder)))
                header.external_attr = 0o120777 << 16
                archive.writestr(header, str(file.readlink()))
            else:
                archive.write(file, file.relative_to(folder))
    for path in (
        folder_tar(tmp_path / "a.tar", folder),
        folder_tar(tmp_path / "a.tgz", folder, "w:gz"),
        tmp_path / "a.zip",
    ):
        images = load_images(path)
        good = {name: images.read_bytes(row) for row, name in enumerate(images.ids) if name not in images.failures}
        assert sorted(good) == ["cat/1.png", "cat/2.png", "dog/1.png", "dog/blob.png"]
        assert set(good.values()) == {(folder / "cat/1.png").read_bytes()}
        assert images.failures == dict.fromkeys(
            ["dog/absolute.png", "dog/loop.png", "dog/lost.png", "dog/out.png"],
            "a link to a file that is not in the archive",
        )
        assert "links that lead nowhere: dog/lost.txt" in images.notes
        assert "links to a folder that is read already, not followed: dog/folder" in images.notes


@pytest.mark.parametrize(("content", "words"), [(b"", "0 bytes"), (b"nothing of the kind" * 99, "no tar archive")])
def test_what_is_no_archive_is_refused(tmp_path, content, words):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(ImagesError, match=words):
        load_images(tmp_path / "a.tar")


def test_an_archive_without_images_says_what_it_has(tmp_path):
    inner = zip_of(tmp_path / "inner.zip", pngs("a.png")).read_bytes()
    with pytest.raises(
        ImagesError, match=r"no images in it \(files skipped, not images by their names: 1 \.txt, 1 \.zip\)"
    ):
        load_images(zip_of(tmp_path / "a.zip", {"inner.zip": inner, "a.txt": b""}))
    with pytest.raises(ImagesError, match="no images in it"):
        load_images(tar_of(tmp_path / "empty.tar", {}))


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_an_archive_that_is_cut_off_stands_for_what_is_missing(tmp_path, suffix):
    members = {f"{label}/{i}.png": np.random.default_rng(i).bytes(50_000) for label in "ab" for i in range(5)}
    path = tar_of(tmp_path / f"x.{suffix}", members, "w:gz" if suffix == "tar.gz" else "w")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    images = load_images(path)
    assert images.ids[-1] == path.name
    assert images.failures[path.name].startswith("the archive cannot be read to its end, its images are missing: it ")
    assert (images.labels[-1], images.classes) == ("", ["a", "b"])
    whole = [name for row, name in enumerate(images.ids) if _is_readable(images, row)]
    assert 6 <= len(whole) <= 7
    assert all(images.read_bytes(images.ids.index(name)) == members[name] for name in whole)
    assert any(
        note.startswith(f"{path.name}: it ") and note.endswith("what comes after it is missing")
        for note in images.notes
    )


def _is_readable(images: ImageSet, row: int) -> bool:
    try:
        images.read_bytes(row)
    except DecodeError:
        return False
    return True


def _shards(folder: Path, names=("train-000.tar", "train-001.tar"), suffix=".cls", **members) -> dict[str, bytes]:
    """Write shards of two samples each; keys are the same in all of them."""
    folder.mkdir(exist_ok=True)
    pictures = {}
    for number, name in enumerate(names):
        images = pngs(*(f"000{i}.png" for i in range(3)))
        labels = {f"000{i}{suffix}": (b"%d" % (i + number)) for i in (1, 2)}
        if suffix == ".json":
            labels = {key: b'{"label": %s}' % label for key, label in labels.items()}
        texts = {f"000{i}.txt": b"a caption" for i in (1, 2)}
        chosen = {key: images[key] for key in ("0001.png", "0002.png")}
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        tar_of(folder / name, dict(sorted({**chosen, **labels, **texts, **members}.items())))
        pictures |= {f"{name}/{key}": data for key, data in chosen.items()}
    return pictures


@pytest.mark.parametrize("suffix", [".cls", ".json"])
@pytest.mark.parametrize("source", ["train-*.tar", "train-{000..001}.tar", "", None])
def test_webdataset_shards(tmp_path, source, suffix):
    pictures = _shards(tmp_path / "s", suffix=suffix)
    given = sorted((tmp_path / "s").iterdir()) if source is None else str(tmp_path / "s" / source)
    images = load_images(given)
    assert {name: data for name, (data, *_) in _by_id(images).items()} == pictures
    assert (images.labels, images.splits, images.groups) == (["1", "2", "2", "3"], ["train"] * 4, None)
    assert images.notes == [
        "files skipped, not images by their names: 4 .txt",
        f"labels are those of the {suffix} files beside the images",
    ]


def test_one_shard_has_the_names_of_its_members(tmp_path):
    _shards(tmp_path)
    images = load_images(tmp_path / "train-000.tar")
    assert (images.ids, images.labels, images.splits) == (["0001.png", "0002.png"], ["1", "2"], None)


def test_shards_in_folders_of_splits_and_samples_without_a_label(tmp_path):
    _shards(tmp_path / "s", names=("train/0.tar", "validation/0.tar"), **{"0009.png": b"9"})
    images = load_images(tmp_path / "s")
    assert images.ids[2:4] == ["train/0.tar/0009.png", "validation/0.tar/0001.png"]
    assert images.labels == ["1", "2", "", "2", "3", ""]
    assert images.splits == ["train"] * 3 + ["val"] * 3
    assert (
        "images without such a file, which have no label: train/0.tar/0009.png, validation/0.tar/0009.png"
        in images.notes
    )


def test_several_images_of_a_sample_are_a_group_and_masks_are_left_out(tmp_path):
    _shards(tmp_path, names=("a.tar",), **{"0001.seg.png": b"mask", "0001.right.png": b"right"})
    images = load_images(tmp_path / "a.tar")
    assert images.ids == ["0001.png", "0001.right.png", "0002.png"]
    assert (images.labels, images.groups) == (["1", "1", "2"], ["0001", "0001", "0002"])
    assert images.left_out.keys() == {"0001.seg.png"}
    assert "masks left out: 1, as 0001.seg.png" in images.notes


def test_shards_of_class_folders(tmp_path):
    tar_of(tmp_path / "0.tar", pngs("cat/1.png", "dog/1.png"))
    tar_of(tmp_path / "1.tar", pngs("cat/1.png", "bird/2.png"))
    images = load_images(tmp_path)
    assert images.ids == ["0.tar/cat/1.png", "0.tar/dog/1.png", "1.tar/bird/2.png", "1.tar/cat/1.png"]
    assert images.labels == ["cat", "dog", "bird", "cat"]
    tar_of(tmp_path / "1.tar", pngs("1.png"))
    with pytest.raises(ImagesError, match="1 images lie beside the folders"):
        load_images(tmp_path)


def test_gzip_is_known_whatever_the_name(tmp_path):
    data = tar_of(tmp_path / "a.tar", pngs("a.png")).read_bytes()
    (tmp_path / "b.tar").write_bytes(gzip.compress(data))
    (tmp_path / "c.tar.gz").write_bytes(data)
    shutil.copy(zip_of(tmp_path / "a.zip", pngs("a.png")), tmp_path / "d.tar")
    for name in ("a.tar", "b.tar", "c.tar.gz", "d.tar"):
        images = load_images(tmp_path / name)
        assert (images.ids, images.read_bytes(0)) == (["a.png"], pngs("a.png")["a.png"])


@pytest.mark.parametrize("archive", ["a.zip", "a.tar", "a.tar.gz"])
def test_a_remote_archive_is_listed_in_few_requests_and_each_image_is_one(tmp_path, monkeypatch, archive):
    folder = tmp_path / "f"
    members = pngs(*(f"{label}/{i}.png" for label in ("cat", "dog") for i in range(20)))
    for name, data in members.items():
        fill(folder, name, data=data)
    files = fsspec.filesystem("memory")
    url = f"memory://{tmp_path.name}/{archive}"
    files.pipe(url, PACKERS[archive](tmp_path / archive, folder).read_bytes())
    asked = []
    plain = type(files).cat_file

    def cat_file(self, path, start=None, end=None, **options):
        asked.append((start, end))
        return plain(self, path, start, end, **options)

    monkeypatch.setattr(type(files), "cat_file", cat_file)
    images = load_images(url)
    assert len(asked) <= 4
    assert (dict(zip(images.ids, images.labels, strict=True)), images.root) == ({n: n[:3] for n in members}, url)
    asked.clear()
    again = pickle.loads(pickle.dumps(images.sources))
    assert {name: file.read_bytes() for name, file in zip(images.ids, again, strict=True)} == members
    assert len(asked) == (1 if archive == "a.tar.gz" else len(members))
    assert [file.changed for file in images.sources] == [file.changed for file in load_images(url).sources]
    assert load_images(f"tar://cat/7.png::{url}").read_bytes(0) == members["cat/7.png"]
    assert load_images(url.replace("a.", "*.")).ids[0].startswith(f"{archive}/cat/")


@pytest.mark.parametrize("archive", ["a.zip", "a.tar", "a.tar.gz"])
def test_a_remote_archive_whose_list_cannot_be_read_is_named(tmp_path, monkeypatch, archive):
    monkeypatch.setattr(network, "PATIENCE_SECONDS", 0.0)
    files = fsspec.filesystem("memory")
    url = f"memory://{tmp_path.name}/{archive}"
    files.pipe(url, PACKERS[archive](tmp_path / archive, fill(tmp_path / "f", "a.png")).read_bytes())
    plain, n_reads = type(files).cat_file, count()

    def cat_file(self, path, start=None, end=None):
        if next(n_reads):
            raise TimeoutError
        return plain(self, path, start, end)

    monkeypatch.setattr(type(files), "cat_file", cat_file)
    with pytest.raises(ImagesError, match=rf"^{url}: no answer in time \(1 tries in 0 s\)$"):
        load_images(url)


class _Ranges(SimpleHTTPRequestHandler):
    """Answers requests for a part of a file with the part, and others not at all."""

    def do_GET(self) -> None:
        data = Path(self.translate_path(self.path)).read_bytes()
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        self.wfile.write(data[first : last + 1])

    def log_message(self, *words: object) -> None:
        pass


def test_signed_archives_of_a_web_server(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    members = pngs("cat/1.png", "dog/2.png")
    zip_of(tmp_path / "a.zip", members)
    tar_of(tmp_path / "b.tar", members)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Ranges, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    base, query = f"http://127.0.0.1:{server.server_port}", "?X-Amz-Signature=5ecre7"
    one = load_images(f"{base}/a.zip{query}")
    several = load_images([f"{base}/a.zip{query}", f"{base}/b.tar{query}"])
    inner = load_images([f"zip://cat/1.png::{base}/a.zip{query}"])
    assert (one.ids, one.root, one.labels) == ([*members], f"{base}/a.zip", ["cat", "dog"])
    assert several.ids == [f"{archive}/{name}" for archive in ("a.zip", "b.tar") for name in members]
    assert inner.ids == [f"zip://cat/1.png::{base}/a.zip"]
    expected = [*members.values()]
    for images, contents in ((one, expected), (several, 2 * expected), (inner, expected[:1])):
        assert [images.read_bytes(row) for row in range(len(images))] == contents
    server.shutdown()
    server.server_close()


def test_a_server_that_gives_no_parts_is_refused(tmp_path, monkeypatch):
    files = fsspec.filesystem("memory")
    files.pipe(f"memory://{tmp_path.name}/a.zip", zip_of(tmp_path / "a.zip", pngs("a.png")).read_bytes())
    plain = type(files).cat_file
    monkeypatch.setattr(type(files), "cat_file", lambda self, path, start=None, end=None: plain(self, path))
    with pytest.raises(ImagesError, match=r"a\.zip: its server gives no parts of files; fetch the archive"):
        load_images(f"memory://{tmp_path.name}/a.zip")
    with pytest.raises(ImagesError, match=r"b\.zip: no such file"):
        load_images(f"memory://{tmp_path.name}/b.zip")


def test_images_in_archives_are_named_one_by_one_in_lists_and_tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    members = pngs("cat/1.png", "dog/2.png", "dog/3.png")
    (tmp_path / "t").mkdir()
    zip_of(tmp_path / "t" / "a.zip", members)
    tar_of(tmp_path / "b.tar", members)
    names = ["zip://dog/2.png::t/a.zip", "tar://cat/1.png::b.tar"]
    images = load_images(names, labels=["x", "y"])
    assert (images.ids, images.labels) == (names, ["x", "y"])
    assert [images.read_bytes(row) for row in (0, 1)] == [members["dog/2.png"], members["cat/1.png"]]
    table(tmp_path / "t", "path,label\nzip://cat/1.png::a.zip,x\n")
    images = load_images("t/images.csv")
    assert (images.ids, images.read_bytes(0)) == (["zip://cat/1.png::a.zip"], members["cat/1.png"])
    table(tmp_path / "t", "path,label\ntar://cat/1.png::../b.tar,x\n")
    with pytest.raises(ImagesError, match=r"line 2: outside of the folder of the table"):
        load_images("t/images.csv")
    assert load_images("t/images.csv", allow_outside=True).read_bytes(0) == members["cat/1.png"]
    with pytest.raises(ImagesError, match=r"zip://no\.png::t/a\.zip: the archive has no such image"):
        load_images(["zip://no.png::t/a.zip"])
    with pytest.raises(ImagesError, match=r"c\.zip: no such file"):
        load_images(["zip://no.png::c.zip"])
