"""Archives in place of folders, from one end to the other: the same codes, read once, and never written over."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from archive_files import folder_tar, folder_zip, pngs, zip_of
from command_line import failed, run
from tiny_network import UNCROPPED, Staged
from torch import nn

from cnncodes import CNNCodes, CodesFile, extract, load_images, register_backbone
from cnncodes.images.tar_members import TarMember
from cnncodes.images.tar_streams import StreamMember
from cnncodes.images.zip_members import ZipMember

TINY: dict[str, Any] = {"backbone": "packed", "layers": ["1", "penultimate"], "batch_size": 4}
WORDS = ("--backbone", "packed", "--layer", "1", "--layer", "penultimate", "--batch-size", 4)
PACKERS = {
    "a.zip": folder_zip,
    "a.tar": folder_tar,
    "a.tgz": lambda path, folder: folder_tar(path, folder, "w:gz"),
}


def build_tiny() -> nn.Module:
    torch.manual_seed(0)
    stages = [nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5))


def build_staged() -> nn.Module:
    torch.manual_seed(0)
    return Staged()


@pytest.fixture(scope="module", autouse=True)
def tiny_backbone() -> None:
    register_backbone("packed", build_tiny, preprocessing=UNCROPPED, overwrite=True)
    register_backbone("packed staged", build_staged, preprocessing=UNCROPPED, overwrite=True)


@pytest.fixture
def reads(monkeypatch):
    """The files that are read out of archives, one after the other."""
    files = []
    for kind in (ZipMember, TarMember, StreamMember):
        plain = kind.read_bytes

        def read_and_count(file, plain=plain):
            files.append(file.offset)
            return plain(file)

        monkeypatch.setattr(kind, "read_bytes", read_and_count)
    return files


def _rows(path: Path) -> dict[str, tuple]:
    with CodesFile.open(path) as file:
        codes = [np.asarray(file.codes(layer)) for layer in file.layers]
        return {
            name: (
                file.sha256[row].tobytes(),
                file.labels[row],
                file.splits[row],
                *(one[row].tobytes() for one in codes),
            )
            for row, name in enumerate(file.ids.tolist())
        }


@pytest.fixture(scope="module")
def folder_codes(small_sample: Path, tiny_backbone: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The codes file of the folder that the archives are made of."""
    path = tmp_path_factory.mktemp("folder") / "codes.h5"
    extract(small_sample, path, **TINY)
    return path


@pytest.mark.parametrize("name", PACKERS)
def test_codes_are_those_of_the_folder_and_nothing_is_read_twice(small_sample, folder_codes, tmp_path, reads, name):
    path, codes = PACKERS[name](tmp_path / name, small_sample), tmp_path / "codes.h5"
    run("extract", path, "-o", codes, *WORDS)
    assert _rows(codes) == _rows(folder_codes)
    assert len(set(reads)) == len(reads) == 45
    assert extract(path, codes, **TINY).computed == 0
    assert len(reads) == 45


def test_a_folder_that_is_packed_keeps_its_codes(small_sample, folder_codes, tmp_path, reads):
    path, codes = folder_zip(tmp_path / "a.zip", small_sample), tmp_path / "codes.h5"
    shutil.copy(folder_codes, codes)
    assert extract(path, codes, **TINY).computed == 0
    assert len(reads) == 45  # stamps of files on the disk are others, so the bytes decide, once
    os.utime(path, ns=(1, 1))
    assert extract(path, codes, **TINY).computed == 0
    assert len(reads) == 45  # the checksums are the same
    assert _rows(codes) == _rows(folder_codes)
    members = {
        name: file.read_bytes() for name, file in zip(load_images(path).ids, load_images(path).sources, strict=True)
    }
    changed = next(iter(members))
    zip_of(path, members | pngs(changed))
    assert extract(path, codes, **TINY).computed == 1
    assert {name for name, row in _rows(codes).items() if row != _rows(folder_codes)[name]} == {changed}


def test_an_archive_that_changes_while_it_is_read(small_sample, tmp_path):
    path, codes = folder_tar(tmp_path / "a.tar", small_sample), tmp_path / "codes.h5"
    images = load_images(path)
    small_bytes = path.read_bytes()
    path.write_bytes(bytes(600) + small_bytes[: len(small_bytes) // 2])
    result = extract(images, codes, **TINY)
    assert (result.ok, result.failed) == (0, len(images))
    path.write_bytes(small_bytes)
    assert extract(path, codes, **TINY).ok == len(images)  # what has no digest is tried again


@pytest.mark.slow
@pytest.mark.parametrize("place", ["a.zip", "memory://{}/a.zip", "memory://{}/photos/", "memory://{}/photos/t.csv"])
def test_every_command_takes_archives_and_urls(small_sample, folder_codes, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    source = place.format(f"secret:pw@{tmp_path.name}")
    files = fsspec.filesystem("memory")
    archive = folder_zip(tmp_path / "a.zip", small_sample)
    if source.endswith("zip") and source != "a.zip":
        files.pipe(source, archive.read_bytes())
    elif source != "a.zip":
        local = load_images(small_sample)
        for row, name in enumerate(local.ids):
            files.pipe(f"{source.removesuffix('t.csv')}{name}", local.read_bytes(row))
        rows = zip(local.ids, local.labels, local.splits, strict=True)
        table = "path,label,split\n" + "".join(f"{name},{label},{split}\n" for name, label, split in rows)
        if source.endswith("t.csv"):
            files.pipe(source, table.encode())
    first = load_images(source).sources[0]
    query = f"zip://{load_images(source).ids[0]}::{source}" if source.endswith("zip") else first.url
    outputs = [run("extract", source, *WORDS)]
    assert _rows(Path("codes.h5")) == _rows(folder_codes)
    outputs += [
        run("fit", "codes.h5", "--layer", "penultimate", "-C", 1),
        run("predict", source, "-o", "p.csv", "--explain", "pictures"),
        run("verify", "codes.h5", source),
        run("evaluate", source),
        run("audit", "codes.h5", source, "--json"),
        run("report", "codes.h5", "--images", source, "--no-advice", "--no-audit", "-o", "r.html"),
        run("similar", query, "--html", "s.html", "--images", source),
        run("extract", source, "-o", "staged.h5", "--backbone", "packed staged", "--precision", "fp32"),
        run("advise", "staged.h5", "--images", source, "--finetune"),
        run("finetune", source, "--backbone", "packed staged", "--epochs", 1, "--always", "-o", "tuned.safetensors"),
    ]
    assert len(Path("p.csv").read_text().splitlines()) == 1 + len(load_images(source))
    assert len([*Path("pictures").rglob("*.png")]) == len(load_images(source))
    assert not any("pw@" in text for output in outputs for text in (output.stdout, output.stderr))
    assert not any(b"pw@" in path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    codes = CNNCodes("packed", layer="penultimate").fit_transform(source)
    np.testing.assert_array_equal(codes, CNNCodes("packed", layer="penultimate").fit_transform(small_sample))


def test_no_output_takes_the_place_of_an_archive(small_sample, folder_codes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = folder_zip(tmp_path / "a.zip", small_sample).read_bytes()
    run("fit", folder_codes, "--layer", "penultimate", "-C", 1)
    Path("t.csv").write_text(f"path\nzip://{load_images('a.zip').ids[0]}::a.zip\n")
    for source in ("a.zip", "a*.zip", "zip://train::a.zip", "t.csv"):
        for words in (
            ("predict", source, "-o", "a.zip"),
            ("audit", folder_codes, source, "-o", "a.zip"),
            ("report", folder_codes, "--images", source, "-o", "a.zip"),
            ("similar", source, "--codes", folder_codes, "--html", "a.zip"),
            ("finetune", folder_codes, "--images", source, "-o", "a.zip"),
        ):
            assert "is what the command reads" in failed(*words, "--force")
    failed("extract", "a.zip", "-o", "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == content
