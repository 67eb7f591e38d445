"""Whatever is in the fields of a codes file or a model file, reading it is our error in one short line, or works."""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from plain_codes import put_header, reseal
from safetensors import safe_open
from safetensors.numpy import save

from cnncodes import CodesFile, ProbeModel
from cnncodes.cli.scores import score_lines
from cnncodes.errors import CnnCodesError
from cnncodes.models.model_file import FORMAT, TENSOR, TUNED, _checksum

FILES = Path(__file__).parent / "files"
MAX_LINE = 300  # characters, without the path
NESTED: list[Any] = []
for _ in range(900):
    NESTED = [NESTED]
VALUES = [
    *(None, True, False, 0, -1, 1, 10**9, 2**63, 10**30, 1.5, -2.5, 1e308, float("nan"), float("inf")),
    *("", "x", "a" * 60_000, "\ud800", "\0", "a\nb", "../../x", "\x1b[31m"),
    *([], [None], ["x"], ["a", "a"], [1, 2], [0.1, 0.2], NESTED, list(range(10_000))),
    *({}, {"x": 1}, {"a" * 60_000: 1}, {"\ud800": "x"}),
]
RAW = [  # attributes of a codes file
    *(b"\xff\xfe", b"{", "", "[", "null", "1", 1, -1, 2**40, 1.5, np.nan, True, "NaN", "[" * 5000, np.arange(3)),
    *(np.array([b"{}"]), np.array([[1]]), h5py.Empty("S10"), h5py.Empty("f")),
]
JUNK = [b"\xff", b"\xed\xa0\x80", b"\0", b"\x1b[31m", b"\n", b"\x80abc"]


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where anything is in JSON: the keys and indexes that lead there."""
    yield way
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*way, key))


def mutated(record: bytes, ways: list[tuple[Any, ...]], rng: np.random.Generator) -> Any:
    """A pickled record with another value at one place, or nothing, or a field too many."""
    way = ways[rng.integers(len(ways))]
    value, kind = VALUES[rng.integers(len(VALUES))], rng.random()
    if not way:
        return value
    changed = at = pickle.loads(record)  # a tenth of the time of a deep copy
    for key in way[:-1]:
        at = at[key]
    if kind < 0.1:
        del at[way[-1]]
    elif kind < 0.2 and isinstance(at, dict):
        at["extra"] = value
    else:
        at[way[-1]] = value
    return changed


def assert_readable_or_refused(read: Callable[[], object], path: Path, what: str) -> bool:
    try:
        read()
    except CnnCodesError as error:
        line = str(error).removeprefix(str(path))
        assert (what, line[MAX_LINE:], line.splitlines()[1:]) == (what, "", [])
        line.encode()
        return False
    return True


def use_model(path: Path) -> None:
    model = ProbeModel.load(path)
    json.dumps(model.info(), ensure_ascii=False).encode()
    score_lines(model.scores)
    codes = np.ones((2, *model.provenance.preprocessing.middle_axis, model.coef.shape[1]))
    model.predict_proba(codes)
    model.novelty(codes)
    model.save(path)


def use_codes(path: Path) -> None:
    with CodesFile.open(path) as file:
        json.dumps(file.info(), ensure_ascii=False).encode()
        file._repr_html_()
        assert [len(column) for column in (file.groups, file.splits, file.errors)] == [file.n] * 3
        file.verify()
        file.codes(file.top_layer, file.rows())


@pytest.mark.parametrize("count", [150, pytest.param(12_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("tuned", [False, True])
def test_a_model_file_with_any_field_is_refused_in_one_line_or_works(
    tuned: bool, count: int, memory_path: Path
) -> None:
    with safe_open(FILES / "model-version-1.safetensors", framework="np") as file:
        header = json.loads(file.metadata()[FORMAT])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if tuned:
        header[TUNED] = {"first": "layer4", "below": "layer3", "epochs": 6, "share": 0.75, "seed": 0}
        header[TUNED] |= {"probe_accuracy": 0.8, "gain": 0.03, "gain_interval": [0.01, 0.05]}
        arrays[f"{TENSOR}features.14.conv.0.0.weight"] = np.ones((3, 2), np.float32)
    ways, rng = list(places(header[TUNED] if tuned else header)), np.random.default_rng(0)
    mutable = pickle.dumps(header[TUNED] if tuned else header)
    path, refused = memory_path / "model.safetensors", 0
    for _ in range(count):
        record = mutated(mutable, ways, rng)
        if tuned:
            record = header | {TUNED: record}
        if isinstance(record, dict):
            with contextlib.suppress(ValueError):  # NaN
                record["checksum"] = _checksum(record, arrays)
        text = json.dumps(record)
        path.write_bytes(save(arrays, metadata={FORMAT: text}))
        refused += not assert_readable_or_refused(lambda: use_model(path), path, text[:500])
    assert count / 2 < refused < count


@pytest.mark.parametrize("layout", ["sealed", "thumbnails"])
@pytest.mark.parametrize("count", [100, pytest.param(12_000, marks=pytest.mark.slow)])
def test_a_codes_file_with_any_field_is_refused_in_one_line_or_works(
    count: int, layout: str, memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Today's layout has digests, which are made right again; the earlier one keeps the fields as attributes."""
    monkeypatch.setattr("cnncodes.codes.layout.try_apart", lambda _: None)  # it costs 0.2 s
    original, sealed = FILES / f"codes-version-1-{layout}.h5", layout == "sealed"
    content = original.read_bytes()
    with h5py.File(original) as h5:
        records = {name: json.loads(h5[name][0] if sealed else h5.attrs[name]) for name in ("description", "classes")}
        columns = {name: (h5[f"images/{name}"].id.get_offset(), h5[f"images/{name}"].dtype) for name in h5["images"]}
    ways, rng = {name: list(places(record)) for name, record in records.items()}, np.random.default_rng(0)
    mutable = {name: pickle.dumps(record) for name, record in records.items()}
    path, refused = memory_path / "codes.h5", 0
    for _ in range(count):
        changed, kind = bytearray(content), rng.random()
        if kind < 0.15:
            offset, dtype = columns[what := str(rng.choice(list(columns)))]
            junk = JUNK[rng.integers(len(JUNK))][: dtype.itemsize]
            changed[offset : offset + len(junk)] = junk
        path.write_bytes(changed)
        if kind >= 0.15:
            if kind < 0.3:
                what = ["description", "classes", "format", "format_version"][rng.integers(4)]
                value = RAW[rng.integers(len(RAW))]
            else:
                what = "description" if kind < 0.9 else "classes"
                value = json.dumps(mutated(mutable[what], ways[what], rng))
                if len(value) > 64_000 and not sealed:  # more than an attribute holds
                    continue
            with h5py.File(path, "r+") as h5:
                if what in h5:
                    put_header(h5, what, value)
                else:
                    h5.attrs[what] = value
            if sealed:
                reseal(path)
        refused += not assert_readable_or_refused(lambda: use_codes(path), path, f"{what}: {value!r:.500}")
    assert count / 3 < refused < count
