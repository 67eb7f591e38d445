"""Every row is computed, whoever dies or is slow, and few of them twice."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from cnncodes.cluster.units import Unit, Units


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def units_of(n: int, **options: object) -> tuple[Units, Clock]:
    clock = Clock()
    return Units(np.arange(n), clock=clock, **options), clock  # type: ignore[arg-type]


def test_units_are_large_at_first_and_small_at_last() -> None:
    units, _ = units_of(10_000, multiple=8)
    sizes = []
    while (unit := units.take(len(sizes) % 2, 2)) is not None:
        sizes.append(len(unit.rows))
        assert units.finish(unit, set(unit.rows.tolist())) == set(unit.rows.tolist())
    assert sizes[0] == 256
    assert sizes[-1] == 8
    assert sizes == sorted(sizes, reverse=True)
    assert all(size % 8 == 0 for size in sizes)
    assert len(units) == 0


def test_a_unit_is_a_multiple_of_a_batch() -> None:
    units, _ = units_of(100_000, multiple=96)
    unit = units.take("a", 1)
    assert unit is not None
    assert len(unit.rows) == 288


def test_a_lost_unit_goes_first_and_counts_its_losses() -> None:
    units, _ = units_of(5000)
    lost = units.take("a", 2)
    assert lost is not None
    units.give_back(lost, lost=True)
    again = units.take("b", 2)
    assert again is not None
    np.testing.assert_array_equal(again.rows, lost.rows)
    assert (again.losses, again.apart) == (1, False)


def test_after_three_losses_few_images_are_tried_apart() -> None:
    units, _ = units_of(5000, multiple=8)
    unit = units.take("a", 1)
    assert unit is not None
    rows = set(unit.rows.tolist())
    for _ in range(3):
        units.give_back(unit, lost=True)
        unit = units.take("a", 1)
        assert unit is not None
    assert unit.apart
    assert len(unit.rows) == 8
    while unit is not None and unit.losses:
        rows -= set(unit.rows.tolist())
        unit = units.take("a", 1)
    assert not rows


def test_after_five_losses_each_image_is_tried_last_by_a_worker_that_has_nothing_else() -> None:
    units, _ = units_of(40, multiple=8, size=8)
    unit = units.take("a", 1)
    assert unit is not None
    killers = unit.rows.tolist()
    for _ in range(5):
        units.give_back(unit, lost=True)
        unit = units.take("a", 1)
        assert unit is not None
    others = list[int]()
    while unit is not None and not unit.is_suspect:
        others += unit.rows.tolist()
        units.finish(unit, set(unit.rows.tolist()))
        unit = units.take("a", 1)
    assert sorted(others + killers) == list(range(40))
    suspects = []
    while unit is not None:
        suspects += unit.rows.tolist()
        assert len(unit.rows) == 1
        assert units.take("a", 2) is None
        units.finish(unit, set(unit.rows.tolist()))
        unit = units.take("a", 1)
    assert suspects == killers


def suspect_of(units: Units) -> Unit:
    """Let a worker called "a" have the only row, of which five workers have died."""
    for _ in range(5):
        unit = units.take("a", 1)
        assert unit is not None
        units.give_back(unit, lost=True)
    unit = units.take("a", 1)
    assert unit is not None
    assert unit.is_suspect
    return unit


def test_a_suspect_that_does_not_come_back_is_tried_by_another_worker_in_the_end() -> None:
    units, clock = units_of(11)
    while len(units) > 1:
        done = units.take("b", 1)
        assert done is not None
        units.finish(done, set(done.rows.tolist()))
    suspect_of(units)
    clock.now = 599.0
    assert units.take("b", 2) is None
    clock.now = 601.0
    unit = units.take("b", 2)
    assert unit is not None
    assert (unit.rows.tolist(), unit.is_suspect) == ([10], True)
    assert units.take("c", 3) is None
    units.give_back(unit, lost=True)
    again = units.take("b", 2)
    assert again is not None
    assert (again.rows.tolist(), again.losses) == ([10], 6)
    assert units.finish(again, {10}) == {10}


def test_a_suspect_that_could_not_be_read_stays_one() -> None:
    units, _ = units_of(1)
    units.finish(suspect_of(units), set(), {0})
    unit = units.take("a", 1)
    assert unit is not None
    assert (unit.losses, unit.by_bytes) == (5, True)


def test_a_unit_of_a_worker_that_was_dismissed_is_no_suspect() -> None:
    units, _ = units_of(100)
    unit = units.take("a", 1)
    assert unit is not None
    units.give_back(unit)
    again = units.take("a", 1)
    assert again is not None
    assert again.losses == 0


def test_an_idle_worker_takes_over_from_a_slow_one_and_the_first_result_counts() -> None:
    units, clock = units_of(64, multiple=8, size=32)
    slow = units.take("slow", 1)
    assert slow is not None
    done = len(slow.rows)
    while (unit := units.take("fast", 1)) is not None and unit.rows[0] not in slow.rows:
        clock.now += 0.1
        done += len(units.finish(unit, set(unit.rows.tolist())))
    assert done == 64
    clock.now += 5
    copy = unit or units.take("fast", 1)
    assert copy is not None
    assert set(copy.rows) <= set(slow.rows)
    assert units.finish(copy, set(copy.rows.tolist())) == set(copy.rows.tolist())
    rest = set(slow.rows.tolist()) - set(copy.rows.tolist())
    assert units.finish(slow, set(slow.rows.tolist())) == rest
    assert len(units) == 0


def test_nothing_is_done_twice_while_the_other_is_about_to_end() -> None:
    units, clock = units_of(64, multiple=8, size=32)
    first, second = units.take("a", 1), units.take("b", 1)
    assert first is not None
    assert second is not None
    clock.now = len(first.rows) / 10  # both do 10 rows a second
    units.finish(first, set(first.rows.tolist()))
    while (unit := units.take("a", 1)) is not None:
        assert not set(unit.rows) & set(second.rows)
        clock.now += len(unit.rows) / 10
        units.finish(unit, set(unit.rows.tolist()))
        if clock.now > 3:
            break


def test_what_a_worker_cannot_read_is_done_by_bytes_and_bounded() -> None:
    units, _ = units_of(32, multiple=8, size=32, limit=lambda rows, by_bytes: 3)
    unit = units.take("a", 1)
    assert unit is not None
    assert len(unit.rows) == 3  # so much may be sent
    rows = set(unit.rows.tolist())
    assert units.finish(unit, rows - {1}, {1}) == rows - {1}
    again = units.take("b", 1)
    assert again is not None
    assert (again.rows.tolist(), again.by_bytes) == ([1], True)


def test_what_is_sent_to_a_worker_that_cannot_read_is_bounded_whoever_had_it_before() -> None:
    units, clock = units_of(64, multiple=8, size=32, limit=lambda rows, by_bytes: 3 if by_bytes else len(rows))
    lost = units.take("reads", 1)
    assert lost is not None
    assert len(lost.rows) == 16
    units.give_back(lost)
    unit = units.take("blind", 1, by_bytes=True)
    assert unit is not None
    assert (unit.rows.tolist(), unit.by_bytes) == ([0, 1, 2], False)
    rest = units.take("reads", 1)
    assert rest is not None
    assert rest.rows.tolist() == [*range(3, 16)]
    units.finish(unit, {0, 1, 2})
    while (unit := units.take("blind", 1, by_bytes=True)) is not None:
        units.finish(unit, set(unit.rows.tolist()))
    clock.now = 1.0
    copy = units.take("blind", 1, by_bytes=True)
    assert copy is not None
    assert copy.rows.tolist() == [13, 14, 15]


@pytest.mark.parametrize("seed", range(5))
def test_simulated_nodes_with_deaths_and_a_slow_one_finish_every_row_once(seed: int) -> None:
    """Eight workers, one ten times slower; each unit kills its worker with a probability of 5 %."""
    rng = np.random.default_rng(seed)
    n, names = 60_000, list(range(8))
    rates = {name: 10.0 if name == 0 else 100.0 * rng.uniform(0.7, 1.3) for name in names}
    units, clock = units_of(n, multiple=8)
    written = np.zeros(n, int)
    computed, free, events, count = 0, dict.fromkeys(names, 0.0), [], 0
    idle = set(names)
    while len(units):
        for name in sorted(idle) * 2:
            if units.held(name) < 2 and (unit := units.take(name, len(names))) is not None:
                free[name] = max(free[name], clock.now) + len(unit.rows) / rates[name]
                heapq.heappush(events, (free[name], count := count + 1, name, unit))
        if not events:
            clock.now += 0.5
            continue
        clock.now, _, name, unit = heapq.heappop(events)
        if unit.holder is None:
            continue
        if rng.random() < 0.05:
            lost = [unit, *(other for _, _, holder, other in events if holder == name)]
            events = [event for event in events if event[2] != name]
            heapq.heapify(events)
            for one in lost:
                units.give_back(one, lost=True)
            units.forget(name)
            free[name] = clock.now + 5
            continue
        computed += len(unit.rows)
        written[sorted(units.finish(unit, set(unit.rows.tolist())))] += 1
    assert (written == 1).all()
    assert computed <= 1.1 * n
    assert clock.now <= 1.3 * n / sum(rates.values())
