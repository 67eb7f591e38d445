"""Compiling is for as many images as repay its time."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import cnncodes.runtime.frozen_network
import cnncodes.runtime.workload
from cnncodes import extract
from cnncodes.codes.file import CodesFile
from cnncodes.extraction.settings import Settings, build_network
from cnncodes.runtime.workload import (
    MIN_IMAGES_TO_COMPILE,
    MIN_IMAGES_TO_COMPILE_A_PART,
    SAVED,
    SAVED_FUSED,
    Workload,
    choose_compiling,
    seconds_saved,
)


def test_what_compiling_saves_is_a_part_of_the_time_of_all_batches() -> None:
    calls: list[int] = []

    def run() -> None:
        calls.append(0)
        time.sleep(0.02)

    for fused, part in ((False, SAVED), (True, SAVED_FUSED)):
        saved = seconds_saved(run, 1000, 4, fused=fused)
        assert part * 0.02 * 1000 / 4 <= saved < 20 * part * 0.02 * 1000 / 4
    assert len(calls) == 4  # once to warm up, once with the clock


def test_compiling_is_for_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    for n_images, workers, compiled in ((900, 2, False), (10_000_000, 2, True), (10_000, 1_000_000, False)):
        network = build_network(Settings(layers=["layer1"]), Workload(n_images, workers))
        assert network.plan.compiled is compiled
        assert network.describe()["runtime"]["compiled"] is compiled
        assert ("fewer than 1000 images" if n_images == 900 else "would save") in network.plan.reason


def test_parts_of_an_extraction_are_compiled_by_their_size_and_not_by_the_clock(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        cnncodes.runtime.workload, "seconds_saved", lambda *arguments, **options: pytest.fail("asked the clock")
    )
    monkeypatch.setattr(cnncodes.runtime.frozen_network, "compile_forward", lambda forward, batch: forward)
    fusible = cnncodes.runtime.frozen_network.can_be_fused
    for fewest, fused, expected in ((22, False, True), (23, False, False), (22, True, False)):  # parts of 23 and 22
        monkeypatch.setattr(
            cnncodes.runtime.frozen_network, "can_be_fused", lambda *args, fused=fused: fused and fusible(*args)
        )
        monkeypatch.setattr(cnncodes.runtime.workload, "MIN_IMAGES_TO_COMPILE_A_PART", fewest)
        for part in (1, 2):
            out = tmp_path / f"{fewest}-{fused}-{part}.h5"
            extract(small_sample, out, layers=["layer1"], shard=(part, 2))
            with CodesFile.open(out) as file:
                assert file.provenance.runtime.compiled is expected


def test_what_decides_about_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network(Settings(layers="layer1", image_size=32, precision="fp32"))
    network.plan = replace(network.plan, fused=False)
    estimates: list[float] = []

    def saved(run: object, n_batches: float, workers: int, *, fused: bool) -> float:
        estimates.append(n_batches)
        return 41.0

    monkeypatch.setattr(cnncodes.runtime.workload, "seconds_saved", saved)
    few, many = MIN_IMAGES_TO_COMPILE - 1, MIN_IMAGES_TO_COMPILE
    assert choose_compiling(network, True, Workload()) == (True, "as asked")
    assert choose_compiling(network, False, Workload(10**9)) == (False, "as asked")
    assert choose_compiling(network, None, Workload(few))[0] is False
    assert estimates == []
    assert choose_compiling(network, None, Workload(many)) == (True, "it would save about 41 s, and take about 40 s")
    assert estimates == [many / network.batch_size]
    for n_images, expected in ((2 * MIN_IMAGES_TO_COMPILE_A_PART, True), (2 * MIN_IMAGES_TO_COMPILE_A_PART - 1, False)):
        assert choose_compiling(network, None, Workload(n_images, parts=2))[0] is expected
    assert len(estimates) == 1, "the clock decided about parts"
    network.extractor = torch.nn.Identity()
    assert choose_compiling(network, None, Workload(many)) == (False, "the network cannot be traced")
