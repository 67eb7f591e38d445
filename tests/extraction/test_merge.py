"""Parts of a sharded extraction merge into the very file of one extraction, or are refused."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from cnncodes import extract, fit, merge
from cnncodes.codes.file import CodesFile
from cnncodes.errors import CodesFileError, MismatchError

LAYERS = ["layer1", "layer2"]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def images(small_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small sample with two files that cannot be read, and a class that is in few parts."""
    folder = tmp_path_factory.mktemp("sharded") / "images"
    shutil.copytree(small_sample, folder)
    for path in (folder / "train" / "Bag" / "empty.png", folder / "train" / "Rare" / "text.jpg"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("no image" if path.suffix == ".jpg" else "")
    return folder


@pytest.fixture(scope="module")
def parts(images: Path) -> list[Path]:
    """All three parts."""
    paths = [images.parent / f"part-{i}.h5" for i in (1, 2, 3)]
    for i, path in enumerate(paths, 1):
        extract(images, path, layers=LAYERS, shard=(i, 3))
    return paths


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_merged_parts_have_the_bytes_of_one_extraction(
    images: Path, parts: list[Path], tmp_path: Path, order: tuple[int, ...]
) -> None:
    whole = extract(images, tmp_path / "whole.h5", layers=LAYERS)
    assert whole.failed == 2
    merge([parts[i] for i in order], tmp_path / "merged.h5")
    assert digest(tmp_path / "merged.h5") == digest(tmp_path / "whole.h5")


def test_a_part_that_float16_did_not_hold_makes_the_whole_float32(
    images: Path, parts: list[Path], tmp_path: Path
) -> None:
    wide = tmp_path / "part-2.h5"
    extract(images, wide, layers=LAYERS, shard=(2, 3), dtype="float32")
    merge([parts[0], wide, parts[2]], tmp_path / "merged.h5")
    merge(parts, tmp_path / "plain.h5")
    with CodesFile.open(tmp_path / "merged.h5") as file, CodesFile.open(tmp_path / "plain.h5") as plain:
        assert set(file.dtype.values()) == {"float32"}
        assert file.provenance.dtype == "float32"
        assert len(file.verify()) == 0
        np.testing.assert_allclose(file.codes("layer2"), plain.codes("layer2"), rtol=1e-3, atol=1e-6)
    again = extract(images, tmp_path / "merged.h5", layers=LAYERS)
    assert again.computed == 0


def test_parts_are_disjoint_and_even(images: Path, parts: list[Path]) -> None:
    ids = []
    for path in parts:
        with CodesFile.open(path) as file:
            ids.append(set(file.ids.tolist()))
    assert len(set.union(*ids)) == sum(map(len, ids)) == 47
    assert {len(part) for part in ids} == {15, 16}


def test_two_parts_of_two_merge_as_well(images: Path, tmp_path: Path) -> None:
    for i in (1, 2):
        extract(images, tmp_path / f"{i}.h5", layers=["layer1"], shard=(i, 2))
    extract(images, tmp_path / "whole.h5", layers=["layer1"])
    merge([tmp_path / "1.h5", tmp_path / "2.h5"], tmp_path / "merged.h5")
    assert digest(tmp_path / "merged.h5") == digest(tmp_path / "whole.h5")


def test_what_does_not_belong_together_is_refused(images: Path, parts: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "merged.h5"
    with pytest.raises(CodesFileError, match=r"of 3 parts, 2 is missing; extract it with extract\(…, shard=\(2, 3\)\)"):
        merge([parts[0], parts[2]], out)
    twin = shutil.copy(parts[0], tmp_path / "twin.h5")
    with pytest.raises(CodesFileError, match=r"are both part 1 of 3"):
        merge([*parts, twin], out)
    extract(images, tmp_path / "other.h5", layers=["layer1"], shard=(2, 3))
    with pytest.raises(MismatchError, match=r"do not belong together: layers.layer2 is"):
        merge([parts[0], tmp_path / "other.h5", parts[2]], out)
    fewer = tmp_path / "fewer"
    shutil.copytree(images, fewer)
    shutil.rmtree(fewer / "train" / "Rare")
    extract(fewer, tmp_path / "fewer.h5", layers=LAYERS, shard=(2, 3))
    with pytest.raises(MismatchError, match=r"shard.images is"):
        merge([parts[0], tmp_path / "fewer.h5", parts[2]], out)
    extract(images, tmp_path / "whole.h5", layers=["layer1"])
    with pytest.raises(CodesFileError, match=r"whole.h5: no part of anything"):
        merge([parts[0], tmp_path / "whole.h5"], out)
    with h5py.File(twin, "r+") as h5:
        h5["codes/layer1"][3, 0] += 1
    with pytest.raises(CodesFileError, match=r"twin.h5: 1 of 16 images are pending or damaged"):
        merge([twin, *parts[1:]], out)
    assert not out.exists()
    out.write_bytes(b"mine")
    with pytest.raises(CodesFileError, match=r"not a codes file.*it stays as it is"):
        merge(parts, out)
    assert out.read_bytes() == b"mine"


def test_a_part_stays_that_part(images: Path, parts: list[Path]) -> None:
    before = digest(parts[0])
    with pytest.raises(MismatchError, match=r"shard.part is 1, asked 2"):
        extract(images, parts[0], shard=(2, 3))
    with pytest.raises(MismatchError, match=r"shard is .*, asked None"):
        extract(images, parts[0])
    assert extract(images, parts[0], shard=(1, 3)).computed == 0
    assert digest(parts[0]) == before


def test_a_fit_on_a_part_says_so(parts: list[Path]) -> None:
    model = fit(parts[0], layers="layer2", C=0.01, cv=2)
    assert any("is part 1 of 3 only" in note for note in model.notes)
    assert "shard" not in model.provenance.to_dict()


def test_parts_of_machines_that_write_accents_in_other_ways_are_merged(small_sample: Path, tmp_path: Path) -> None:
    forms = ("caf\u00e9", "cafe\u0301")
    parts = []
    for number, form in enumerate(forms, 1):
        images = tmp_path / f"images-{number}"
        shutil.copytree(small_sample / "train" / "Bag", images / form)
        shutil.copytree(small_sample / "train" / "Sandal", images / "cafz")
        min((images / "cafz").iterdir()).rename(images / "cafz" / f"{form}.png")
        parts.append(tmp_path / f"part-{number}.h5")
        extract(images, parts[-1], layers=LAYERS, shard=(number, 2))
    merge(parts, tmp_path / "merged.h5")
    again = extract(tmp_path / "images-1", tmp_path / "merged.h5")
    assert (again.n, again.computed) == (20, 0)
    merge(parts, tmp_path / "merged.h5")
    with CodesFile.open(tmp_path / "merged.h5") as file:
        assert sorted(set(file.labels)) == ["cafz", forms[0]]
