"""Probes on more codes than memory holds: the same as in memory, and the memory stays bounded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from digit_codes import DESCRIPTION, X_DIGITS, Y_DIGITS, names, write_codes

import cnncodes.probes.out_of_core
import cnncodes.solvers.matrix
from cnncodes import fit
from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ImageTable
from cnncodes.codes.provenance import Provenance
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import CodesFileError, ProbeError
from cnncodes.probes.out_of_core import memory_of_fit

N_TRAIN, N_TEST = 1200, 400
LAYERS = ["layer1", "penultimate"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = np.arange(N_TRAIN + N_TEST)
    splits = ["test" if row % 4 == 0 else "train" for row in rows]  # so that training rows are not one run
    return write_codes(tmp_path_factory.mktemp("digits") / "codes.h5", rows, names(rows), splits)


@pytest.fixture
def small_memory(digits: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes that hold a fit to about 500 of the 1,200 images, where nothing else takes memory."""
    monkeypatch.setattr(cnncodes.probes.out_of_core, "resident_memory", lambda: 0)
    monkeypatch.setattr(cnncodes.probes.out_of_core, "SPARE_BYTES", 0)
    monkeypatch.setattr(cnncodes.probes.out_of_core, "IMAGE_BYTES", 0)
    monkeypatch.setattr(cnncodes.probes.out_of_core, "CHUNK_BYTES", 4 * 64 * 100)
    monkeypatch.setattr(cnncodes.solvers.matrix, "BLOCK_BYTES", 8 * 65 * 100)
    with CodesFile.open(digits) as file:
        return memory_of_fit(500, file, LAYERS, 10, 1, None)


def decisions(model: Any, path: Path) -> np.ndarray:
    with CodesFile.open(path) as file:
        return model.decision_function(file.codes(LAYERS, file.rows("test")))


@pytest.mark.parametrize(
    ("scale", "class_weight"), [("standard", None), ("standard", "balanced"), ("l2", "balanced"), ("none", None)]
)
@pytest.mark.parametrize("clf", ["svm", "logreg"])
def test_probe_is_that_of_memory(clf, scale, class_weight, digits, small_memory):
    options = {"clf": clf, "layers": LAYERS, "C": 0.01, "scale": scale, "class_weight": class_weight}
    whole, chunked = fit(digits, **options), fit(digits, memory_limit=small_memory, **options)
    np.testing.assert_allclose(chunked.mean, whole.mean, atol=1e-9)
    np.testing.assert_allclose(chunked.deviation, whole.deviation, rtol=1e-9)
    ours, theirs = decisions(chunked, digits), decisions(whole, digits)
    near = 5e-3 * np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, atol=near)
    clear = np.diff(np.sort(theirs, axis=1)[:, -2:])[:, 0] > 2 * near
    np.testing.assert_array_equal(ours.argmax(axis=1)[clear], theirs.argmax(axis=1)[clear])
    assert chunked.scores["n"] == whole.scores["n"] == N_TRAIN
    assert chunked.scores["test_accuracy"] == pytest.approx(whole.scores["test_accuracy"], abs=0.005)
    assert 450 < chunked.scores["n_cv"] <= 510
    assert whole.scores["n_cv"] == N_TRAIN
    (note,) = (note for note in chunked.notes if "the probe is fitted to all" in note)
    assert f"all {N_TRAIN} images" in note
    assert f"sample of {chunked.scores['n_cv']}" in note
    assert not [note for note in whole.notes if "fitted to all" in note]


@pytest.mark.slow
def test_several_files_are_read_a_block_at_a_time_as_one_is(digits, small_memory, tmp_path):
    with CodesFile.open(digits) as file:
        splits = file.splits.tolist()
    rows, cut = np.arange(N_TRAIN + N_TEST), 777
    parts = [rows[:cut], rows[cut:]]
    paths = [
        write_codes(tmp_path / f"{part[0]}.h5", part, names(part), [splits[row] for row in part]) for part in parts
    ]
    one, several = (fit(codes, layers=LAYERS, C=0.01, memory_limit=small_memory) for codes in (digits, paths))
    np.testing.assert_array_equal(several.coef, one.coef)
    assert several.scores == one.scores
    assert several.notes == one.notes


def test_C_is_chosen_on_the_sample(digits, monkeypatch):
    monkeypatch.setattr(cnncodes.probes.out_of_core, "resident_memory", lambda: 0)
    monkeypatch.setattr(cnncodes.probes.out_of_core, "SPARE_BYTES", 0)
    monkeypatch.setattr(cnncodes.probes.out_of_core, "IMAGE_BYTES", 0)
    with CodesFile.open(digits) as file:
        limit = memory_of_fit(600, file, LAYERS, 10, 45, None)
    model = fit(digits, layers=LAYERS, memory_limit=limit)
    assert 500 < model.scores["n_cv"] < 650
    assert "flatters" in model.scores["protocol"]
    assert model.scores["test_accuracy"] > 0.93


def test_views_of_an_image_are_all_trained_on(tmp_path, small_memory):
    rows = np.arange(600)
    labels = names(rows)
    views = {**DESCRIPTION, "preprocessing": {**DESCRIPTION["preprocessing"], "views": "flip"}}
    path = tmp_path / "codes.h5"
    CodesWriter.create(path, ImageTable([f"{row}.png" for row in rows], labels), Provenance.from_dict(views))
    codes = np.stack([X_DIGITS[rows], X_DIGITS[rows].reshape(-1, 8, 8)[:, :, ::-1].reshape(-1, 64)], axis=1)
    with CodesWriter(path) as file:
        file.write(
            rows,
            {"layer1": codes[..., :24].astype("f4"), "penultimate": codes[..., 24:].astype("f4")},
            np.random.default_rng(0).integers(0, 256, (600, 32), dtype=np.uint8),
        )
    options = {"layers": LAYERS, "C": 0.001}
    whole, chunked = fit(path, **options), fit(path, memory_limit=small_memory, **options)
    assert chunked.scores["n_cv"] < 600
    np.testing.assert_allclose(chunked.coef, whole.coef, atol=2e-3 * np.abs(whole.coef).max())


def test_rare_class_is_in_the_sample(tmp_path, small_memory):
    rows = np.flatnonzero(Y_DIGITS != 7)
    rows = np.concatenate([rows, np.flatnonzero(Y_DIGITS == 7)[:6]])
    path = write_codes(tmp_path / "codes.h5", rows, names(rows))
    model = fit(path, layers=LAYERS, C=0.01, memory_limit=small_memory)
    assert "digit 7" in model.classes
    assert not [note for note in model.notes if "folds instead" in note]


def test_too_few_steps_are_noted_with_what_to_do(digits, small_memory, monkeypatch):
    monkeypatch.setattr(cnncodes.probes.out_of_core, "MAX_ITER", 1)
    model = fit(digits, layers=LAYERS, C=0.01, memory_limit=small_memory)
    (note,) = (note for note in model.notes if "did not converge" in note)
    assert "within 1 steps" in note
    assert "scaling 'shrunk'" in note


def test_limit_that_holds_nothing_says_what_would(digits):
    with pytest.raises(ProbeError, match=r"limited to 1 MB, but \d+ MB are needed .* raise memory_limit"):
        fit(digits, memory_limit=1_000_000)


def test_damaged_and_infinite_codes_are_found_in_the_first_pass(tmp_path, small_memory):
    rows = np.arange(1200)
    path = write_codes(tmp_path / "codes.h5", rows, names(rows))
    with CodesWriter(path) as file:
        broken = {"penultimate": np.full((1, 40), np.inf, np.float32), "layer1": np.zeros((1, 24), np.float32)}
        file.write(np.array([1100]), broken, np.ones((1, 32), np.uint8))
    with pytest.raises(ProbeError, match="codes of 1 of 1200 images are not finite"):
        fit(path, layers=LAYERS, C=0.01, memory_limit=small_memory)
    with CodesWriter(path) as file:
        file._columns["codes/penultimate"][1100:1101] = np.ones((1, 40))
    with pytest.raises((CodesFileError, ProbeError), match=r"pending or damaged|not extracted"):
        fit(path, layers=LAYERS, C=0.01, memory_limit=small_memory)


PEAK = """
import json, sys
from cnncodes import fit
model = fit(sys.argv[1], layers="penultimate", C=0.001, cv=2, guard=False, memory_limit=int(sys.argv[2]) or None)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
peak = int(status["VmHWM"].split()[0]) * 1024  # of this program; getrusage would count the one that started it, too
print(json.dumps({"peak": peak, "n_cv": model.scores["n_cv"]}))
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_peak_memory_stays_below_the_limit(tmp_path):
    n, d, limit = 60_000, 1024, 550_000_000
    layers = {"penultimate": {"n_features": d, "pooling": "avg", "map_shape": [d, 4, 4], "dtype": "float16"}}
    labels = [f"class {i % 5}" for i in range(n)]
    path = tmp_path / "codes.h5"
    provenance = Provenance.from_dict({**DESCRIPTION, "layers": layers})
    CodesWriter.create(path, ImageTable([f"{i}.png" for i in range(n)], labels), provenance)
    rng = np.random.default_rng(0)
    centres = 0.3 * rng.standard_normal((5, d))
    with CodesWriter(path) as file:
        for start in range(0, n, 5000):
            rows = np.arange(start, start + 5000)
            codes = centres[rows % 5] + rng.standard_normal((5000, d))
            file.write(rows, {"penultimate": codes.astype(np.float16)}, np.ones((5000, 32), np.uint8))

    def run(memory_limit: int) -> dict[str, Any]:
        command = [sys.executable, "-c", PEAK, str(path), str(memory_limit)]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)

    bounded, free = run(limit), run(0)
    assert bounded["peak"] <= limit < free["peak"]
    assert bounded["n_cv"] < n == free["n_cv"]
