"""How a long task tells how far it is: one signature everywhere."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "part_of"]

Progress = Callable[[int, int, int], None]  # takes how many are done, how many there are, and how many failed


def part_of(progress: Progress | None, start: int, total: int) -> Progress:
    """Return what a part of a task calls with its own steps, which are those from `start` on of `total`."""

    def tell(done: int, _: int, failed: int) -> None:
        if progress is not None:
            progress(start + done, total, failed)

    return tell
