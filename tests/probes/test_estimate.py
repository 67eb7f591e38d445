"""An accuracy with its interval: how it is written, and the keys of a pair."""

from __future__ import annotations

from cnncodes.probes.estimate import Accuracies, Estimate


def test_an_estimate_is_written_with_its_interval() -> None:
    accuracy = Estimate(5 / 6, low=0.6199, high=0.9388)
    assert str(accuracy) == f"{accuracy}" == "83.3 % (62.0 to 93.9 %)"
    assert accuracy.interval == [0.6199, 0.9388]


def test_a_pair_has_four_keys_in_order() -> None:
    accuracies = Accuracies(Estimate(0.9, 0.8, 0.95), Estimate(0.7, 0.6, 0.8))
    assert list(accuracies.to_dict("test_").items()) == [
        ("test_accuracy", 0.9),
        ("test_interval", [0.8, 0.95]),
        ("test_balanced_accuracy", 0.7),
        ("test_balanced_interval", [0.6, 0.8]),
    ]
    assert list(accuracies.to_dict()) == ["accuracy", "interval", "balanced_accuracy", "balanced_interval"]
