"""Steps of the parts of a task, counted together."""

from __future__ import annotations

from cnncodes.system.progress import part_of


def test_steps_of_a_part_follow_those_before_it() -> None:
    calls: list[tuple[int, int, int]] = []
    tell = part_of(lambda *counts: calls.append(counts), 10, 30)
    tell(0, 5, 0)
    tell(5, 5, 2)
    assert calls == [(10, 30, 0), (15, 30, 2)]
    part_of(None, 10, 30)(1, 5, 0)
