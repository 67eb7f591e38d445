"""Poolings by hand, on a map of four numbers."""

from __future__ import annotations

import pytest
import torch

from cnncodes.errors import SettingError
from cnncodes.networks.outputs import Prefix
from cnncodes.networks.pooling import POOLINGS, pool
from cnncodes.vocabulary import CLASS

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


@pytest.mark.parametrize("pooling", [name for name in POOLINGS if CLASS not in name])
def test_vectors_stay_as_they_are_and_tokens_are_pooled_like_pixels(pooling: str) -> None:
    vectors = torch.tensor([[1.0, -2.0]])
    assert torch.equal(pool(vectors, pooling), vectors)
    tokens = MAP.flatten(2).transpose(1, 2)  # (1, 4, 1)
    column = MAP.reshape(1, 1, 4, 1)
    assert torch.equal(pool(tokens, pooling), pool(column, pooling))


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [("cls", [1.0]), ("patches", [4.5]), ("cls+patches", [1.0, 4.5]), ("avg", [3.0])],
)
def test_class_token_and_patches_by_hand(pooling: str, expected: list[float]) -> None:
    """A class token, a register and two patches; the average takes all of them, as it always did."""
    tokens = MAP.flatten(2).transpose(1, 2)  # (1, 4, 1)
    assert pool(tokens, pooling, Prefix(2, True))[0].tolist() == expected


def test_without_a_class_token_patches_can_be_pooled_and_the_class_token_cannot() -> None:
    tokens = MAP.flatten(2).transpose(1, 2)
    assert pool(tokens, "patches", Prefix(1, False)).item() == pytest.approx((2 + 3 + 6) / 3)
    for pooling in ("cls", "cls+patches"):
        with pytest.raises(SettingError, match="there is no class token"):
            pool(tokens, pooling, Prefix(1, False))


def test_the_generalised_mean_takes_negative_numbers_for_nothing() -> None:
    assert pool(-MAP, "gem").item() == pytest.approx(1e-6)
