"""How much memory this process may take, and how much it has."""

from __future__ import annotations

import os
import re
from pathlib import Path

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

__all__ = ["available_memory", "is_shortage", "memory_left", "parse_bytes", "resident_memory", "shortage"]

MAX_REASON = 160  # characters of an error of a library
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
GROUPS = (  # files of a control group, v2 and v1: its limit, its use, and the share of its use that it would give up
    ("", "memory.max", "memory.current", "inactive_file"),
    ("", "memory.high", "memory.current", "inactive_file"),  # beyond it, processes hardly get on
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
# What libraries say when they get no memory: the loader of shared libraries, torch, C++, Python's threads
SHORTAGES = ("failed to map segment", "annot allocate memory", "can't allocate memory", "bad_alloc", "start new thread")


def parse_bytes(text: str) -> int:
    """Return a number of bytes, as ``"2GB"``, ``"512 MiB"`` or ``"1e9"``.

    Raises
    ------
    ValueError
        The text is no such number, or the number is not positive.

    Examples
    --------
    >>> parse_bytes("1.5 GB"), parse_bytes("2Gi")
    (1500000000, 2147483648)
    """
    match = re.fullmatch(r"(\d+\.?\d*(?:e\d+)?) *([kmgt]i?)?b?", text.strip().lower())
    size = int(float(match[1]) * UNITS[match[2] or ""]) if match else 0
    if size <= 0:
        raise ValueError(f"{text!r} is no size in bytes; one is 2GB, 512MB or 1.5GiB")
    return size


def resident_memory() -> int:
    """Return the bytes of memory that this process has; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes that this process may still take: of what is free here, of its control groups and its limits."""
    try:
        free = int(re.search(r"MemAvailable: *(\d+) kB", (root / "proc/meminfo").read_text())[1]) * 1024  # type: ignore[index]
    except (OSError, TypeError):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return max(0, min([free, *_left_in_groups(root), *_left_of_limits()]))


def memory_left(limit: int | None = None) -> int:
    """Return the bytes that this process may still take, of `limit` bytes or, without one, of what is free."""
    return available_memory() if limit is None else max(0, limit - resident_memory())


def _left_in_groups(root: Path) -> list[int]:
    """Return what each control group above this process has left; a container sees its own as the topmost."""
    try:
        lines = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return []
    left = []
    for controller, limit, usage, reclaimable in GROUPS:
        top = root / "sys/fs/cgroup" / controller
        for path in (Path(path) for _, controllers, path in lines if controllers == controller):
            for level in (path, *path.parents):
                group = top / str(level).lstrip("/")
                try:
                    most, used = int((group / limit).read_text()), int((group / usage).read_text())
                    cached = re.search(rf"^{reclaimable} (\d+)", (group / "memory.stat").read_text(), re.M)
                except (OSError, ValueError):  # no such group from here, or "max": no limit
                    continue
                left.append(most - used + (int(cached[1]) if cached else 0))
    return left


def _left_of_limits() -> list[int]:
    """Return what the limits of this process have left: of its address space, and of its data."""
    if resource is None:
        return []
    left = []
    for limit, field in ((resource.RLIMIT_AS, 0), (resource.RLIMIT_DATA, 5)):
        most, _ = resource.getrlimit(limit)
        if most != resource.RLIM_INFINITY:
            try:
                used = int(Path("/proc/self/statm").read_text().split()[field]) * os.sysconf("SC_PAGE_SIZE")
            except (OSError, ValueError, IndexError):
                used = 0
            left.append(most - used)
    return left


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory.

    Examples
    --------
    >>> is_shortage(ImportError("libtorch_cpu.so: failed to map segment from shared object"))
    True
    """
    return isinstance(error, MemoryError) or any(text in str(error) for text in SHORTAGES)


def shortage(error: BaseException) -> str:
    """Return one line that says that memory has run out, and how much of it is left."""
    text = " ".join(str(error).split())[:MAX_REASON] or type(error).__name__
    limit = " within the limit of this process (ulimit -v or -d)" if _left_of_limits() else ""
    return (
        f"there is not enough memory ({text}): {available_memory() / 1e9:.2f} GB are left{limit}; give more memory, or "
        "stop other programs"
    )
