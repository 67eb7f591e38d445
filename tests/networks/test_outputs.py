"""What a node gives: how wide it is, and where its patches lie."""

from __future__ import annotations

from cnncodes.networks.outputs import Output, Prefix


def test_width_and_grid_of_maps_sequences_and_vectors() -> None:
    tokens = Output((201, 384), False, None, Prefix(5, True))
    assert (tokens.width, tokens.grid) == (384, (14, 14))
    maps, vector = Output((96, 7, 7), True, 32), Output((768,), False, None)
    assert (maps.width, maps.grid, vector.width, vector.grid) == (96, None, 768, None)
    assert Output((195, 384), False, None).grid is None
