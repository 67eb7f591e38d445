"""The benchmark of extraction prints no rate that is none, and throws the first run of each side away."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import bench_extraction
import pytest
from bench_extraction import marginal_seconds, time_sides


@pytest.mark.parametrize(
    ("counts", "seconds", "expected"),
    [
        ((600, 6000), (6.0, 33.0), 0.005),
        ((600, 6000), (40.0, 35.0), None),  # the first run paid for compilation, the second one read the cache
        ((600, 6000), (6.0, 6.0), None),
        ((600, 600), (6.0, 7.0), None),
        ((6000, 600), (33.0, 40.0), None),
        ((600, 6000), (6.0, float("nan")), None),
    ],
)
def test_a_rate_needs_more_time_for_more_images(
    counts: tuple[int, int], seconds: tuple[float, float], expected: float | None
) -> None:
    assert marginal_seconds(counts, seconds) == expected


def test_a_side_without_a_rate_is_named_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The first run of each is slow, and thrown away. Then two rounds, each of a small and a large folder.
    times = {"cnncodes": iter([50.0, 4.0, 14.0, 4.0, 24.0]), "plain loop": iter([50.0, 9.0, 8.0, 5.0, 25.0])}
    monkeypatch.setattr(bench_extraction, "make_photos", lambda folder, count, size: folder)
    monkeypatch.setattr(bench_extraction, "seconds_of", lambda side, *_: next(times[side]))
    args = Namespace(work=tmp_path, kind="small", counts=[10, 20, 110], size=(500, 375), rounds=2)
    timed = time_sides(dict.fromkeys(times, Path("python")), args)
    assert timed == {"cnncodes": (pytest.approx(0.15), pytest.approx(2.5))}
    assert capsys.readouterr().out.startswith("no rate of plain loop: 10 images 9.0 s, 20 8.0 s;")
