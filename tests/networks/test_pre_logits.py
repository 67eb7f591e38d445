"""Networks that say themselves what enters their head; and codes that were read at the former place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cnncodes import extract
from cnncodes.codes.file import CodesFile
from cnncodes.errors import MismatchError
from cnncodes.extraction.in_memory import matching_network
from cnncodes.networks.backbone import Backbone
from cnncodes.networks.loading import load_backbone
from cnncodes.networks.outputs import Output
from cnncodes.networks.pre_logits import needs_pre_logits
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.networks.registry import register_backbone
from cnncodes.runtime.workload import Workload

PLAIN = Preprocessing(32, 32, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Clip(nn.Module):
    """As a ResNet of CLIP: its last module takes all tokens, and what leaves the pooling is the first of them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.proj = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 5)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2).cumsum(dim=1)
        return tokens[:, 0] if pre_logits else self.proj(tokens)[:, 0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(x))


def clip() -> Backbone:
    torch.manual_seed(0)
    network = Clip()
    register_backbone("clip", lambda: network, preprocessing=PLAIN, head="proj", overwrite=True)
    return load_backbone("clip")


def test_penultimate_is_what_the_network_itself_hands_to_its_head() -> None:
    backbone, x = clip(), torch.randn(2, 3, 32, 32)
    plain = Clip()
    plain.load_state_dict(backbone.module.state_dict())
    with torch.inference_mode():
        codes = backbone.extractor(["layer1", "penultimate"])(x)
        assert torch.equal(codes["penultimate"], plain.conv(x)[:, :, 0, 0])
        assert torch.equal(backbone.module(x), plain(x))
    assert backbone.describe()["head_input"] == "pre_logits"
    assert "head_input" not in load_backbone("mobilenet_v2").describe()


def test_a_vector_that_enters_the_head_needs_nothing() -> None:
    assert not needs_pre_logits(Clip(), Output((8,), False, None))
    assert not needs_pre_logits(Clip(), Output((8, 1, 1), False, None))
    assert needs_pre_logits(Clip(), Output((8, 7, 7), False, 32))
    assert not needs_pre_logits(nn.Linear(8, 2), Output((50, 8), False, None))


def test_codes_of_the_former_place_are_not_mixed_with_those_of_now(tmp_path: Path) -> None:
    clip()
    rng = np.random.default_rng(0)
    for i in range(4):
        (tmp_path / "photos" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / "ab"[i % 2] / f"{i}.png")
    former = Backbone.describe
    with pytest.MonkeyPatch.context() as patch:  # a file of a version that read all tokens
        patch.setattr(Backbone, "describe", lambda self: {k: v for k, v in former(self).items() if k != "head_input"})
        extract(tmp_path / "photos", tmp_path / "codes.h5", backbone="clip", precision="fp32")
    with pytest.raises(MismatchError, match=r"head_input is None, asked 'pre_logits'.*made by another version"):
        extract(tmp_path / "photos", tmp_path / "codes.h5", layers=["conv"])
    with CodesFile.open(tmp_path / "codes.h5") as file:
        provenance = file.provenance
    with pytest.raises(MismatchError, match=r"penultimate codes of clip were read at another place.*extract and fit"):
        matching_network(provenance, Workload())
    assert matching_network(replace(provenance, head_input="pre_logits"), Workload())
