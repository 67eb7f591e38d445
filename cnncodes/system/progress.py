"""How a long task tells how far it is: one signature everywhere."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress"]

Progress = Callable[[int, int, int], None]  # takes how many are done, how many there are, and how many failed
