"""Extracting into a codes file that exists: no row that holds codes goes unasked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import cnncodes.extraction.engine
import cnncodes.images.folders
import cnncodes.images.labels
from cnncodes import audit, evaluate, extract, fit, verify
from cnncodes.cli.main import main
from cnncodes.codes.file import CodesFile
from cnncodes.codes.load_codes import load_codes
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import CodesFileError, MismatchError
from cnncodes.extraction.stamps import image_table
from cnncodes.images.loading import load_images
from cnncodes.names import composed
from cnncodes.runtime.frozen_network import FrozenNetwork

SMALL = {"layers": ["layer1", "layer2"], "image_size": 64}


def draw(root: Path, classes: str, n: int, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
            pixels[..., ord(name) % 3] //= 8
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """24 images in two classes."""
    return draw(tmp_path / "photos", "ab", 12, seed=0)


@pytest.fixture
def more(tmp_path: Path) -> Path:
    """12 other images in two other classes."""
    return draw(tmp_path / "more", "cd", 6, seed=1)


@pytest.fixture
def codes(tmp_path: Path, photos: Path) -> Path:
    """The codes of `photos`."""
    extract(photos, tmp_path / "codes.h5", **SMALL)
    return tmp_path / "codes.h5"


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def columns(path: Path) -> dict[str, tuple[str, str, str, bytes]]:
    with CodesFile.open(path) as file:
        X = file.codes("layer2")
        rows = file.rows(labelled=False)
        texts = zip(
            *(getattr(file, name)[rows].tolist() for name in ("ids", "labels", "groups", "splits")), strict=True
        )
        return {name: (*rest, code.tobytes()) for (name, *rest), code in zip(texts, X, strict=True)}


def test_another_folder_is_refused_in_one_line(codes: Path, more: Path) -> None:
    before = codes.read_bytes()
    result = run("extract", more, "-o", codes, code=1)
    assert result.stdout == ""
    assert result.stderr == (
        f"error: {codes}: 24 rows with codes would go, of images that are not among those given: 12 of 'a', 12 of 'b'. "
        "Choose another file with -o; or keep both with --add, or drop what is gone with --prune\n"
    )
    assert codes.read_bytes() == before
    assert run("extract", more, "-o", codes, "--add", "--prune", code=2).stdout == ""
    with pytest.raises(CodesFileError, match="exclude each other"):
        extract(more, codes, add=True, prune=True)
    assert codes.read_bytes() == before


def test_one_image_of_many_is_refused(codes: Path, photos: Path) -> None:
    before = codes.read_bytes()
    with pytest.raises(CodesFileError, match=r"23 rows with codes would go.*: 12 of 'b', 11 of 'a'"):
        extract(photos / "a" / "0.png", codes)
    alone = load_images(photos).take([3])
    with pytest.raises(CodesFileError, match=r"23 rows with codes would go.*: 12 of 'b', 11 of 'a'"):
        extract(alone, codes)
    assert codes.read_bytes() == before


def test_a_folder_that_is_away_for_a_moment_costs_nothing(codes: Path, photos: Path, tmp_path: Path) -> None:
    before = codes.read_bytes()
    (photos / "b").rename(tmp_path / "away")
    with pytest.raises(CodesFileError, match=r"12 rows with codes would go.*: 12 of 'b'\. "):
        extract(photos, codes)
    (tmp_path / "away").rename(photos / "b")
    assert extract(photos, codes).computed == 0
    assert codes.read_bytes() == before


def test_images_that_cannot_be_read_for_a_moment_keep_their_rows(codes: Path, photos: Path, tmp_path: Path) -> None:
    before, images = columns(codes), load_images(photos)
    (photos / "b").rename(tmp_path / "away")
    with pytest.raises(CodesFileError, match=r"12 rows with codes would go.*: 12 of 'b'\. "):
        extract(images, codes)
    done = extract(images, codes, add=True)
    assert (done.n, done.ok, done.failed, done.computed) == (24, 24, 0, 0)
    assert "12 rows of other images kept: 12 of 'b'" in done.notes
    assert columns(codes) == before


def test_other_images_of_the_same_names_are_other_images(codes: Path, tmp_path: Path) -> None:
    before, rows = codes.read_bytes(), columns(codes)
    twins = draw(tmp_path / "twins", "ab", 12, seed=2)
    with pytest.raises(CodesFileError, match=r"24 rows with codes would go"):
        extract(twins, codes)
    with pytest.raises(CodesFileError, match=r"24 names, the first is 'a/0.png', would stand for two images"):
        extract(twins, codes, add=True)
    assert codes.read_bytes() == before
    done = extract(twins, codes, prune=True)
    assert (done.n, done.computed) == (24, 24)
    assert not any(row == rows[name] for name, row in columns(codes).items())


def test_arrays_are_told_apart_by_their_pixels(tmp_path: Path) -> None:
    one, other = np.random.default_rng(0).integers(0, 256, (2, 6, 40, 40, 3), np.uint8)
    out = tmp_path / "codes.h5"
    extract(one, out, **SMALL)
    before = out.read_bytes()
    assert extract(one, out).computed == 0
    with pytest.raises(CodesFileError, match=r"6 rows with codes would go.*'000000' and 5 beside it"):
        extract(other, out)
    assert out.read_bytes() == before
    mixed = np.concatenate([one[:5], other[5:]])
    done = extract(mixed, out)
    assert done.computed == 1
    assert any("'000005' changed since" in note for note in done.notes)
    extract(mixed, tmp_path / "fresh.h5", **SMALL)
    assert columns(out) == columns(tmp_path / "fresh.h5")


def test_prune_drops_what_is_gone_and_says_so(codes: Path, photos: Path) -> None:
    before = columns(codes)
    shutil.rmtree(photos / "b")
    result = run("extract", photos, "-o", codes, "--prune")
    assert "note: 12 rows with codes dropped, of images that are not among those given: 12 of 'b'\n" in result.stderr
    assert columns(codes) == {name: row for name, row in before.items() if name.startswith("a/")}


@pytest.mark.parametrize("copies", [1, 2])
def test_renamed_and_changed_images_need_no_option(codes: Path, photos: Path, copies: int) -> None:
    (photos / "a").rename(photos / "e")
    (photos / "e" / "0.png").rename(photos / "b" / "moved.png")
    for i in range(1, copies):
        shutil.copy(photos / "b" / "moved.png", photos / "e" / f"copy{i}.png")
    Image.new("RGB", (40, 40), "red").save(photos / "b" / "1.png")
    done = extract(photos, codes)
    assert (done.n, done.computed) == (23 + copies, 1)
    assert [note for note in done.notes if "since" in note] == [
        "'b/1.png' changed since the codes were computed: computed anew"
    ]


def test_of_two_copies_the_one_that_is_gone_is_a_row(photos: Path, tmp_path: Path) -> None:
    """Its label would be lost."""
    shutil.copy(photos / "a" / "0.png", photos / "b" / "copy.png")
    out = tmp_path / "codes.h5"
    extract(photos, out, **SMALL)
    (photos / "b" / "copy.png").unlink()
    with pytest.raises(CodesFileError, match=r"1 row with codes would go.*'b/copy.png'"):
        extract(photos, out)
    (photos / "a" / "0.png").rename(photos / "b" / "copy.png")
    with pytest.raises(CodesFileError, match=r"1 row with codes would go.*'a/0.png'"):
        extract(photos, out)


def test_rows_without_codes_may_go(photos: Path, tmp_path: Path) -> None:
    (photos / "b" / "broken.png").write_bytes(b"no image")
    out = tmp_path / "codes.h5"
    extract(photos, out, **SMALL)
    (photos / "b" / "broken.png").unlink()
    done = extract(photos, out)
    assert (done.n, done.failed, done.computed) == (24, 0, 0)
    with CodesFile.open(out) as file:
        provenance = file.provenance
    empty = tmp_path / "empty.h5"
    CodesWriter.create(empty, image_table(load_images(photos)), provenance)  # killed before its first row
    resumed = extract(photos, empty)
    assert any("image_size=64" in note for note in resumed.notes)
    assert columns(empty) == columns(out)


def test_settings_are_those_of_the_same_images_only(photos: Path, more: Path, tmp_path: Path) -> None:
    out = tmp_path / "codes.h5"
    options = ["--layer", "layer1", "--image-size", 64, "--pool", "max"]
    assert "note" not in run("extract", photos, "-o", out, *options).stderr
    again = run("extract", photos, "-o", out)
    assert again.stderr == f"note: as {out} was made: --layer layer1 --pool max --image-size 64\n"
    assert "24 of 24 images, 0 failed, 0 computed now" in again.stdout
    assert "note" not in run("extract", photos, "-o", out, *options).stderr
    with CodesFile.open(out) as file:
        provenance = file.provenance
    CodesWriter.create(out, image_table(load_images(photos)), provenance)  # no row holds codes
    done = extract(more, out, layers=["layer1"])
    assert done.n == 12
    with CodesFile.open(out) as file:
        assert (file.provenance.preprocessing.image_size, file.provenance.pooling) == (224, "avg")


def test_add_keeps_both(photos: Path, more: Path, tmp_path: Path) -> None:
    out = tmp_path / "codes.h5"
    table = tmp_path / "table.csv"
    lines = [
        f"photos/{letter}/{i}.png,{letter},g{i % 4},{'test' if i < 3 else 'train'}"
        for letter in "ab"
        for i in range(12)
    ]
    table.write_text("\n".join(["path,label,group,split", *lines]) + "\n")
    extract(table, out, **SMALL)
    before = columns(out)
    (more / "c" / "broken.png").write_bytes(b"no image")
    result = run("extract", more, "-o", out, "--add", code=3)
    assert "note: 24 rows of other images kept: 12 of 'photos/a', 12 of 'photos/b'\n" in result.stderr
    assert f"note: as {out} was made: --layer layer1 --layer layer2 --image-size 64\n" in result.stderr
    assert "36 of 37 images, 1 failed, 13 computed now" in result.stdout
    assert "failed: c/broken.png: " in result.stderr
    after = columns(out)
    extract(more, tmp_path / "fresh.h5", **SMALL)
    assert after == {**before, **columns(tmp_path / "fresh.h5")}
    assert list(after)[:24] == list(before)
    frozen = out.read_bytes()
    for images, code in ((more, 3), (table, 0)):
        run("extract", images, "-o", out, code=1)  # the other's rows would go
        assert out.read_bytes() == frozen
        assert ", 0 computed now" in run("extract", images, "-o", out, "--add", code=code).stdout
        assert columns(out) == after
        frozen = out.read_bytes()
    model = fit(out, layers="layer2", C=0.01, cv=2)
    assert model.classes == ["a", "b"]  # the table has a split, and `more` none


def test_fit_and_the_like_on_what_was_added(codes: Path, photos: Path, more: Path) -> None:
    extract(more, codes, add=True)
    model = fit(codes, layers="layer2", C=0.01, cv=2)
    assert model.classes == ["a", "b", "c", "d"]
    assert evaluate(codes, model, guard=False).confusion.sum() == 36
    assert len(load_codes(codes, "layer1")) == 36
    check = verify(codes, photos, sample=36)
    assert (check.good, check.recomputed, check.largest_error, len(check.absent)) == (True, 24, 0.0, 12)
    result = run("verify", codes, more, "--sample", 5)
    assert (
        f"note: 24 of 36 rows belong to images that are not in {more} (gone, or from another folder)" in result.stderr
    )
    assert "5 computed again" in result.stdout
    report = json.loads(run("verify", codes, more, "--json").stdout)
    assert (len(report["absent"]), report["changed"]) == (24, [])
    audited = audit(codes, more, layers="layer2", cv=2)
    assert audited.n == 36


def test_a_layer_that_kept_rows_would_lack_is_refused(codes: Path, more: Path) -> None:
    before = codes.read_bytes()
    with pytest.raises(CodesFileError, match=r"24 of its rows are of other images, which would lack layer3"):
        extract(more, codes, layers=["layer3"], add=True)
    with pytest.raises(MismatchError, match="pooling is 'avg', asked 'max'"):
        extract(more, codes, pooling="max", add=True)
    assert codes.read_bytes() == before


def test_labels_of_what_is_given_are_the_new_ones(codes: Path, photos: Path, more: Path) -> None:
    extract(more, codes, add=True)
    images = load_images(more)
    images.labels = ["z"] * 12
    assert extract(images, codes, add=True).computed == 0
    with CodesFile.open(codes) as file:
        assert file.labels.tolist() == ["a"] * 12 + ["b"] * 12 + ["z"] * 12


def test_a_part_takes_no_other_images(photos: Path, more: Path, tmp_path: Path) -> None:
    out = tmp_path / "part-1.h5"
    extract(photos, out, shard=(1, 2), **SMALL)
    before = out.read_bytes()
    with pytest.raises(MismatchError, match="shard"):
        extract(more, out, add=True)
    with pytest.raises(CodesFileError, match="holds that part alone"):
        extract(photos, out, shard=(1, 2), add=True)
    assert out.read_bytes() == before


def test_a_file_that_changes_in_the_meantime_is_not_replaced(
    codes: Path, photos: Path, more: Path, monkeypatch
) -> None:
    build = cnncodes.extraction.engine.build_network
    late = codes.with_name("late.h5")

    def build_while_others_write(*arguments: Any) -> FrozenNetwork:
        monkeypatch.setattr("cnncodes.extraction.engine.build_network", build)
        extract(more, target, add=target == codes, **SMALL)
        return build(*arguments)

    for target in (codes, late):
        monkeypatch.setattr("cnncodes.extraction.engine.build_network", build_while_others_write)
        (photos / "a" / "0.png").rename(photos / "a" / f"{target.stem}.png")
        with pytest.raises(CodesFileError, match="another process has changed it in the meantime"):
            extract(photos, target)
        assert {"c/0.png", "d/5.png"} <= columns(target).keys()
        (photos / "a" / f"{target.stem}.png").rename(photos / "a" / "0.png")


NFC, NFD = "\u00e9t\u00e9", "e\u0301te\u0301"


@pytest.fixture
def older(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Names are taken as they are, and masks as images, as earlier versions did; undone by the test."""
    for module in (cnncodes.images.labels, cnncodes.images.folders):
        monkeypatch.setattr(module, "composed", str)
    monkeypatch.setattr(cnncodes.images.folders, "masks_in", lambda names: {})
    yield
    monkeypatch.undo()


def seasons(root: Path, form: str) -> Path:
    """Draw images of two classes, of which one has accents, as have two files."""
    draw(root, "xy", 4, seed=3)
    (root / "x").rename(root / form)
    for name in (form, "y"):
        (root / name / "0.png").rename(root / name / f"{form}.png")
    return root


@pytest.mark.usefixtures("older")
@pytest.mark.parametrize("form", [NFC, NFD])
def test_codes_of_names_in_another_form_of_unicode_are_continued(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The codes are in an older file, and the images may have come by another way."""
    codes = tmp_path / "codes.h5"
    extract(seasons(tmp_path / "old", NFD), codes, **SMALL)
    with CodesFile.open(codes) as file:
        stored = [value.decode() for value in np.unique(file._columns["images/label"][:])]
        before = {composed(name): code for name, code in zip(file.ids.tolist(), file.codes("layer1"), strict=True)}
    assert stored == [NFD, "y"]
    assert load_codes(codes, "layer1", return_X_y=True)[1].tolist() == [NFC] * 4 + ["y"] * 4
    monkeypatch.undo()
    images = seasons(tmp_path / "new", form)
    assert set(load_images(images).labels or []) == {NFC, "y"}
    assert verify(codes, images, sample=8).absent == []
    assert extract(images, codes).computed == 0
    with CodesFile.open(codes) as file:
        assert file.ids.tolist() == load_images(images).ids
        assert sorted(set(file.labels)) == ["y", NFC]
        for name, code in zip(file.ids.tolist(), file.codes("layer1"), strict=True):
            assert np.array_equal(code, before[composed(name)])
    assert extract(images, codes, add=True).n == 8
    assert extract(images, codes).notes == extract(images, codes).notes


@pytest.mark.usefixtures("older")
def test_masks_that_an_older_file_holds_stay_without_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, codes = draw(tmp_path / "images", "ab", 6, seed=4), tmp_path / "codes.h5"
    (images / "a" / "ground_truth").mkdir()
    (images / "a" / "0.png").rename(images / "a" / "ground_truth" / "0_mask.png")
    extract(images, codes, **SMALL)
    monkeypatch.undo()
    again = extract(images, codes)
    assert (again.n, again.computed) == (12, 0)
    assert "of the masks, 1 are in the codes file: they stay, without labels" in again.notes
    with CodesFile.open(codes) as file:
        assert dict(zip(file.ids.tolist(), file.labels.tolist(), strict=True))["a/ground_truth/0_mask.png"] == ""
        assert sorted(file.labels.tolist()) == [""] + ["a"] * 5 + ["b"] * 6
        stamp = codes.stat().st_mtime_ns
    assert extract(images, codes).computed == 0
    assert codes.stat().st_mtime_ns == stamp
    assert extract(images, codes, prune=True).n == extract(images, tmp_path / "fresh.h5", **SMALL).n == 11


@pytest.mark.parametrize("columns", [["label"], ["id"], ["size", "changed_ns"], ["id", "label", "split", "group"]])
def test_damaged_labels_and_ids_are_written_anew_and_the_codes_kept(
    columns: list[str], codes: Path, photos: Path
) -> None:
    whole = codes.read_bytes()
    with h5py.File(codes, "r+") as h5:
        for name in columns:
            text = h5[f"images/{name}"].dtype.kind == "S"
            h5[f"images/{name}"][3:5] = [b"\xff", h5[f"images/{name}"][7]] if text else 1
    with CodesFile.open(codes) as file:
        words = file.damaged_columns()
        assert len(words) == len(columns)
    assert run("verify", codes, code=1).stdout.startswith(f"damaged: the {' and '.join(words)} of {codes}")
    assert verify(codes, photos).damaged_columns == words
    assert not json.loads(run("verify", codes, "--json", code=1).stdout)["good"]
    with pytest.raises(CodesFileError, match="do not match their checksum"):
        extract(photos, codes, add=True)
    result = extract(photos, codes)
    assert result.computed == 0
    assert f"{' and '.join(words)} of {codes} were damaged: written anew" in result.notes
    assert codes.read_bytes() == whole


def test_every_command_refuses_damaged_labels(codes: Path) -> None:
    with h5py.File(codes, "r+") as h5:
        h5["images/label"][3] = b"b"
    layer = ["--layer", "layer2"]
    for words in (["info"], ["fit", *layer], ["compare", *layer], ["audit", *layer]):
        error = run(*words, codes, code=1).stderr.strip().splitlines()[-1]
        assert error == (
            f"error: {codes}: damaged: its labels do not match their checksum; `cnncodes extract` with all its images "
            "writes them anew and keeps the codes"
        )
