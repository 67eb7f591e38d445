"""How much memory there is: sizes as text, and the limits of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnncodes.system import memory
from cnncodes.system.memory import available_memory, parse_bytes, resident_memory


@pytest.mark.parametrize(
    ("text", "size"), [("2GB", 2 * 10**9), ("512 MiB", 512 * 2**20), ("1.5g", 1_500_000_000), ("1e9", 10**9), ("7", 7)]
)
def test_sizes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "2 apples", "0", "1.2.3GB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="2GB"):
        parse_bytes(text)


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 5000 kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_what_the_machine_has_left(tmp_path):
    assert available_memory(machine(tmp_path, {})) == 5000 * 1024


@pytest.mark.parametrize("group", ["", "outer/", "outer/inner/"])
def test_tightest_control_group_counts_and_what_it_only_caches_is_free(group, tmp_path):
    files = {
        "proc/self/cgroup": "0::/outer/inner\n",
        "sys/fs/cgroup/outer/memory.max": "max\n",
        "sys/fs/cgroup/outer/memory.current": "12\n",
    }
    files |= {
        f"sys/fs/cgroup/{group}memory.max": "3000000\n",
        f"sys/fs/cgroup/{group}memory.current": "2500000\n",
        f"sys/fs/cgroup/{group}memory.stat": "anon 5\ninactive_file 1000000\n",
    }
    assert available_memory(machine(tmp_path, files)) == 1_500_000


def test_control_groups_of_the_first_version(tmp_path):
    files = {
        "proc/self/cgroup": "5:cpu:/x\n4:memory:/job\n",
        "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "4000000\n",
        "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "1000000\n",
        "sys/fs/cgroup/memory/job/memory.stat": "inactive_file 1\ntotal_inactive_file 250000\n",
    }
    assert available_memory(machine(tmp_path, files)) == 3_250_000


def test_this_process_has_some_and_may_take_more():
    assert resident_memory() > 10**7
    assert available_memory() > 10**7


def test_limit_of_the_address_space_counts(monkeypatch):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    limits = {memory.resource.RLIMIT_AS: used + 10**7}
    monkeypatch.setattr(memory.resource, "getrlimit", lambda limit: (limits.get(limit, -1), -1))
    assert 0 < available_memory() <= 10**7
