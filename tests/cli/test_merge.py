"""`cnncodes merge`: parts make the file that one extraction makes."""

from __future__ import annotations

from pathlib import Path

from command_line import run


def test_shards_are_merged(there: Path, small_sample: Path) -> None:
    for part in ("1/2", "2/2"):
        run("extract", str(small_sample), "--layer", "layer1", "--shard", part, "-o", f"part-{part[0]}.h5")
    assert "45 of 45 images, 0 failed, from 2 parts" in run("merge", "part-1.h5", "part-2.h5", "-o", "merged.h5").stdout
    run("extract", str(small_sample), "--layer", "layer1", "-o", "whole.h5")
    assert Path("merged.h5").read_bytes() == Path("whole.h5").read_bytes()
    assert "is not like 2/8" in run("extract", str(small_sample), "--shard", "two", code=2).stderr
