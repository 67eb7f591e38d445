"""The simulated cluster: every row is written once, and the limits show where they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulate_cluster import Cluster, Outcome, Simulation, draw_rates

QUIET = Cluster(n=100_000, rates=draw_rates(8, 300.0, 0.0, seed=1))


def share_of_ideal(cluster: Cluster) -> tuple[float, Outcome]:
    outcome = Simulation(cluster).run()
    assert outcome.written == cluster.n
    return cluster.n / cluster.rates.sum() / outcome.seconds, outcome


def test_without_deaths_the_nodes_are_always_busy() -> None:
    share, outcome = share_of_ideal(QUIET)
    assert 0.98 < share <= 1
    assert outcome.handed < 1.01 * QUIET.n


@pytest.mark.parametrize("deaths", [20.0, 100.0])  # an hour; with 100, five of a hundred units die with their node
def test_deaths_cost_what_was_under_way_and_little_more(deaths: float) -> None:
    cluster = replace(QUIET, rates=draw_rates(8, 300.0, 0.25, seed=2), deaths=deaths, rejoin=10.0)
    _, outcome = share_of_ideal(cluster)
    assert outcome.deaths > 0
    assert outcome.handed < 1.1 * cluster.n


def test_one_slow_node_does_not_hold_up_the_end() -> None:
    share, _ = share_of_ideal(replace(QUIET, rates=np.array([300.0] * 7 + [10.0])))
    assert share > 0.95


def test_writer_and_network_card_are_limits() -> None:
    share, outcome = share_of_ideal(replace(QUIET, writer=QUIET.rates.sum() / 2))
    assert share == pytest.approx(0.5, abs=0.02)
    assert outcome.writer / outcome.seconds > 0.97
    share, outcome = share_of_ideal(replace(QUIET, sent=100_000, network=QUIET.rates.sum() * 107_500 / 4))
    assert share == pytest.approx(0.25, abs=0.02)
    assert outcome.network / outcome.seconds > 0.97
