"""Compiled forward passes give the codes of uncompiled ones, and run only where they do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from photo_crops import cosines

import cnncodes.runtime.compilation
import cnncodes.runtime.forward
import cnncodes.runtime.frozen_network
import cnncodes.runtime.tuning
from cnncodes import extract, load_codes
from cnncodes.codes.file import CodesFile
from cnncodes.extraction.in_memory import compute_codes, in_memory
from cnncodes.extraction.settings import Settings, build_network
from cnncodes.images.loading import load_images


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_codes_are_the_codes(crops: list[Path], precision: str) -> None:
    images = load_images(crops)
    plain = build_network(Settings(layers=["layer3", "penultimate"], precision=precision, dtype="float32"))
    fast = build_network(Settings(layers=["layer3", "penultimate"], precision=precision, dtype="float32", compile=True))
    codes = in_memory(images, plain).codes
    torch._dynamo.utils.counters.clear()
    by_one, by_three = (in_memory(images, fast, workers=workers).codes for workers in (1, 3))
    assert fast.notes == []
    assert torch._dynamo.utils.counters["frames"]["ok"] == 1, "each worker compiled it again"
    for name in codes:
        np.testing.assert_array_equal(by_one[name], by_three[name])
        assert (codes[name] != by_one[name]).any(), "it did not run compiled"
        assert cosines(codes[name], by_one[name]).min() >= (0.999999 if precision == "fp32" else 0.9995)
    alone = in_memory(load_images(crops[:1]), fast).codes["layer3"]
    np.testing.assert_array_equal(alone, by_one["layer3"][:1])


def test_where_it_cannot_be_compiled_it_runs_as_it_is(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no C++ compiler\nand much more")

    monkeypatch.setattr(cnncodes.runtime.frozen_network, "compile_forward", fail)
    done = extract(small_sample, tmp_path / "a.h5", layers=["layer3"], compile=True)
    assert "the network could not be compiled, and runs as it is (no C++ compiler)" in done.notes
    extract(small_sample, tmp_path / "b.h5", layers=["layer3"])
    np.testing.assert_array_equal(load_codes(tmp_path / "a.h5", "layer3"), load_codes(tmp_path / "b.h5", "layer3"))


def test_code_that_computes_something_else_is_not_used(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(forward: torch.nn.Module, batch: torch.Tensor) -> object:
        return lambda batch: {name: codes.flip(1) for name, codes in forward(batch).items()}

    monkeypatch.setattr(cnncodes.runtime.frozen_network, "compile_forward", wrong)
    done = extract(small_sample, tmp_path / "a.h5", layers=["layer3"], compile=True)
    assert "its codes agree with the uncompiled ones only to cosine" in done.notes[-1]


def test_a_file_says_that_its_network_could_not_be_compiled(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(cnncodes.runtime.frozen_network, "compile_forward", fail)
    done = extract(small_sample, tmp_path / "codes.h5", layers=["layer1"], compile=True)
    assert any("could not be compiled, and runs as it is (no compiler)" in note for note in done.notes)
    with CodesFile.open(tmp_path / "codes.h5") as file:
        assert file.provenance.runtime.compiled is False
    again = extract(small_sample, tmp_path / "codes.h5", layers=["layer1"], compile=False)
    assert again.computed == 0


@pytest.mark.gpu
@pytest.mark.slow
def test_a_compiled_network_on_a_gpu_gives_the_same_codes(small_sample: Path) -> None:
    images = load_images(small_sample)
    plain, compiled = (
        in_memory(images, build_network(Settings(layers="penultimate", device="cuda", compile=compile)))
        for compile in (False, True)
    )
    a, b = (computed.codes["penultimate"].astype(np.float32) for computed in (plain, compiled))
    assert ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() >= 0.9995


def test_new_images_are_not_worth_a_compilation(
    sample_codes: Path, small_sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CodesFile.open(sample_codes) as file:
        provenance = replace(file.provenance, runtime=replace(file.provenance.runtime, compiled=True))
    monkeypatch.setattr(cnncodes.runtime.frozen_network, "compile_forward", lambda *_: pytest.fail("compiled"))
    computed = compute_codes(load_images(small_sample / "test"), provenance)
    np.testing.assert_array_equal(computed.codes["layer3"], load_codes(sample_codes, "layer3", split="test"))
