"""The scripts for Slurm: they are right as shell, and what their tasks run adds up to one extraction."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from command_line import run

from cnncodes import CodesFile

EXAMPLES = Path(__file__).parent.parent / "examples"
SRUN = "#!/bin/sh\nprintf '%s\\n' \"$@\"\n"  # says what it would run
SCONTROL = "#!/bin/sh\n[ \"$*\" = 'show hostnames node[3-4]' ] && printf 'node3\\nnode4\\n'\n"


def words_of(script: str, folder: Path, **variables: str) -> list[str]:
    """Return what a script runs by `srun` in a folder, given the variables that Slurm sets."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    command = ["bash", str(EXAMPLES / script)]
    done = subprocess.run(
        command, cwd=folder, env={"PATH": path} | variables, check=True, capture_output=True, text=True
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("script", ["slurm_array.sh", "slurm_ray.sh"])
def test_script_is_right_and_asks_slurm_before_its_first_command(script: str) -> None:
    assert subprocess.run(["bash", "-n", EXAMPLES / script], capture_output=True, text=True, check=True).stderr == ""
    lines = (EXAMPLES / script).read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    asked = [i for i, line in enumerate(lines) if line.startswith("#SBATCH --")]
    assert asked
    assert max(asked) < first
    assert not [line for line in lines if "SBATCH" in line and not line.startswith("#SBATCH --")]


def words_of_task(i: int, folder: Path) -> list[str]:
    slurm = {"SLURM_ARRAY_TASK_ID": str(i), "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_CPUS_PER_TASK": "8"}
    words = words_of("slurm_array.sh", folder, **slurm)
    assert words[0] == "--cpus-per-task=8"  # or `srun` would give it one processor
    return words[1:]


def test_each_task_of_an_array_extracts_its_part(tmp_path: Path) -> None:
    assert words_of_task(2, tmp_path) == ["cnncodes", "extract", "photos/", "--shard", "2/3", "-o", "parts/part-2.h5"]
    assert (tmp_path / "parts").is_dir()


@pytest.mark.slow
def test_tasks_of_an_array_add_up_to_one_extraction(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(photos)
    for i in (1, 2, 3, 1):  # a task that is submitted again finds its part finished
        run(*words_of_task(i, tmp_path)[1:])
    run("merge", *sorted(Path("parts").iterdir()), "-o", "codes.h5")
    run("extract", "photos/", "-o", "whole.h5")
    with CodesFile.open("codes.h5") as merged, CodesFile.open("whole.h5") as whole:
        assert merged.ids.tolist() == whole.ids.tolist()
        assert merged.complete
        for layer in whole.layers:
            np.testing.assert_array_equal(merged.codes(layer), whole.codes(layer))


def test_every_machine_joins_the_cluster_of_the_first(tmp_path: Path) -> None:
    slurm = {"SLURM_JOB_NODELIST": "node[3-4]", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "16"}
    ray = "ray symmetric-run --address node3:6379 --min-nodes 2 --num-cpus=16 -- cnncodes extract photos/ --ray auto -o"
    words = words_of("slurm_ray.sh", tmp_path, **slurm)
    assert words == ["--cpus-per-task=16", *ray.split(), "codes.h5"]
