"""Workers that die are replaced, later each time; nodes come and go."""

from __future__ import annotations

import pytest
from worker_threads import node

from cnncodes.cluster.seats import MAX_DEATHS, Member, Seat, Seats


def take(seat: Seat) -> Member:
    seat.member = Member(seat.place, None, 0.0)
    return seat.member


@pytest.fixture
def seats() -> Seats:
    return Seats("cpu", mixed=False)


def test_each_place_is_taken_once(seats: Seats) -> None:
    for seat in (vacant := seats.look([node("a", 4), node("b", 0, all_cpus=2)], 0.0)):
        take(seat)
    assert [seat.place.cpus for seat in vacant] == [4]
    assert seats.look([node("a", 0, all_cpus=4), node("b", 2)], 1.0)[0].place.node == "b"  # is free by now
    assert seats.reasons == {"b": "box-b: others use its 2 processors"}


def test_a_dead_worker_is_replaced_at_once_and_then_later_each_time(seats: Seats) -> None:
    now = 0.0
    for wait in (0.0, 1.0, 3.0, 7.0):
        [seat] = seats.look([node("a")], now)
        assert seats.vacate(take(seat), "its workers die", now)
        if wait:
            assert not seats.look([node("a")], now + wait - 0.1)
        now += wait
    assert len(seats.look([node("a")], now)) == 1


def test_a_place_is_left_out_after_many_deaths_or_for_good(seats: Seats) -> None:
    for n in range(MAX_DEATHS):
        [seat] = seats.look([node("a")], 100.0 * n)
        assert seats.vacate(take(seat), "no luck", 100.0 * n) == (n < MAX_DEATHS - 1)
    assert seats.are_left_out
    assert seats.nobody.startswith("no machine of the cluster can work (box-a: no luck)")
    [seat] = seats.look([node("a"), node("b")], 1000.0)
    assert not seats.vacate(take(seat), "another version", 1000.0, for_good=True)
    assert not seats.look([node("a"), node("b")], 1e6)


def test_the_place_of_a_node_that_is_gone_is_forgotten(seats: Seats) -> None:
    [seat] = seats.look([node("a")], 0.0)
    seats.vacate(take(seat), "its node died", 0.0)
    assert seats.look([], 1.0) == []
    assert len(seats) == 0
