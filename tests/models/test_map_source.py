"""What a map source gives for tokens, maps and rectified maps."""

from __future__ import annotations

import pytest
import torch

from cnncodes.models.map_source import MapSource


@pytest.mark.parametrize("n_prefix", [0, 1, 5])
def test_tokens_become_a_map_row_by_row(n_prefix):
    tokens = torch.randn(2, n_prefix + 9, 4)
    maps = MapSource("norm", "patches", n_prefix=n_prefix).values({"norm": tokens})
    assert (maps.shape, maps.dtype) == ((2, 4, 3, 3), torch.float64)
    assert torch.equal(maps[1, :, 1, 2], tokens[1, n_prefix + 5].double())


def test_maps_stay_and_may_be_rectified():
    maps = torch.randn(2, 4, 3, 5)
    assert torch.equal(MapSource("layer4", "avg").values({"layer4": maps}), maps.double())
    assert torch.equal(MapSource("layer4", "avg", rectified=True).values({"layer4": maps}), maps.double().relu())
