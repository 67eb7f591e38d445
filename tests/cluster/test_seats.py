"""Workers that die are replaced, later each time; nodes come and go."""

from __future__ import annotations

import pytest
from worker_threads import node

from cnncodes.cluster.seats import MAX_DEATHS, MAX_RETRY_SECONDS, STALL_SECONDS, Member, Seat, Seats
from cnncodes.errors import ClusterError


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
        assert not seats.vacate(take(seat), "its workers die", now).is_hopeless
        if wait:
            assert not seats.look([node("a")], now + wait - 0.1)
        now += wait
    assert len(seats.look([node("a")], now)) == 1


def test_a_place_whose_workers_always_die_is_tried_again_more_and_more_rarely(seats: Seats) -> None:
    now = 0.0
    for n in range(2000):
        [seat] = seats.look([node("a")], now)
        assert seats.vacate(take(seat), "no luck", now).is_hopeless == (n >= MAX_DEATHS - 1)
        now = seat.not_before
    assert not seats.look([node("a")], now - 0.1)
    assert seat.deaths == 2000
    assert seats.vacate(take(seat), "no luck", now).not_before - now == MAX_RETRY_SECONDS
    seat.deaths = 0  # it has done a unit
    assert not seats.are_hopeless


def test_a_place_is_left_out_for_good(seats: Seats) -> None:
    [seat] = seats.look([node("a")], 0.0)
    assert seats.vacate(take(seat), "another version", 0.0, for_good=True).is_hopeless
    assert not seats.look([node("a")], 1e6)


def test_the_end_comes_only_after_long_without_any_hope(seats: Seats, caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    for _ in range(MAX_DEATHS):
        [seat] = seats.look([node("a")], now)
        seats.vacate(take(seat), "no luck", now)
        hopeless, now = now, seat.not_before
    for _ in range(2):
        seats.refuse_to_wait_for_ever(hopeless + STALL_SECONDS)
    [message] = caplog.messages  # once
    assert message.startswith("no machine of the cluster can work (box-a: no luck); one that can is waited for")
    [seat] = seats.look([node("a")], hopeless + STALL_SECONDS)
    take(seat).stage = "works"
    seats.refuse_to_wait_for_ever(hopeless + STALL_SECONDS + 1)  # it works now, if slowly
    seats.vacate(seat.member, "no luck", hopeless + STALL_SECONDS)  # type: ignore[arg-type]
    with pytest.raises(ClusterError, match=r"\(box-a: no luck\), for 15 minutes by now\. What was done is kept"):
        seats.refuse_to_wait_for_ever(hopeless + STALL_SECONDS + 1)
    [_, fresh] = seats.look([node("a"), node("b")], seat.not_before)  # a machine joins
    assert fresh.place.node == "b"
    seats.refuse_to_wait_for_ever(seat.not_before + STALL_SECONDS)


def test_an_error_names_few_machines_the_last_ones(seats: Seats) -> None:
    for i in range(40):
        [seat] = seats.look([node(f"n{i}")], float(i))
        seats.vacate(take(seat), "its node died", float(i))
        seats.look([], i + 0.5)
    assert seats.nobody.count("its node died") == 5
    assert "box-n39: its node died; and 35 more)" in seats.nobody


def test_the_place_of_a_node_that_is_gone_is_forgotten(seats: Seats) -> None:
    [seat] = seats.look([node("a")], 0.0)
    seats.vacate(take(seat), "its node died", 0.0)
    assert seats.look([], 1.0) == []
    assert len(seats) == 0
