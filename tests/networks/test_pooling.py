"""Poolings by hand, on a map of four numbers."""

from __future__ import annotations

import pytest
import torch

from cnncodes.networks.pooling import POOLINGS, pool

MAP = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])  # (1, 1, 2, 2)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("avg", [3.0]),
        ("max", [6.0]),
        ("gem", [((1 + 8 + 27 + 216) / 4) ** (1 / 3)]),
        ("grid2", [1.0, 2.0, 3.0, 6.0]),
        ("flatten", [1.0, 2.0, 3.0, 6.0]),
    ],
)
def test_each_pooling_by_hand(pooling: str, expected: list[float]) -> None:
    assert pool(MAP, pooling)[0].tolist() == pytest.approx(expected)
    assert pool(MAP.bfloat16(), pooling).dtype == torch.float32


@pytest.mark.parametrize("pooling", POOLINGS)
def test_vectors_stay_as_they_are_and_tokens_are_pooled_like_pixels(pooling: str) -> None:
    vectors = torch.tensor([[1.0, -2.0]])
    assert torch.equal(pool(vectors, pooling), vectors)
    tokens = MAP.flatten(2).transpose(1, 2)  # (1, 4, 1)
    column = MAP.reshape(1, 1, 4, 1)
    assert torch.equal(pool(tokens, pooling), pool(column, pooling))


def test_the_generalised_mean_takes_negative_numbers_for_nothing() -> None:
    assert pool(-MAP, "gem").item() == pytest.approx(1e-6)
