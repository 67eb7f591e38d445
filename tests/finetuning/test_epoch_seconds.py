"""How long an epoch takes is measured by steps, and nothing else is changed by it."""

from __future__ import annotations

import time

import pytest
import torch
from tiny_network import UNCROPPED, Staged

from cnncodes import load_backbone, register_backbone
from cnncodes.errors import BackboneError
from cnncodes.finetuning.epoch_seconds import epoch_seconds


def test_an_epoch_takes_as_many_steps_as_a_thousand_images_need(monkeypatch: pytest.MonkeyPatch) -> None:
    register_backbone("staged", Staged, preprocessing=UNCROPPED, overwrite=True)
    backbone = load_backbone("staged")
    before = {name: one.clone() for name, one in backbone.module.state_dict().items()}
    state = torch.get_rng_state()
    clock = iter([0.0, 9.0, 10.0, 10.5, 11.0, 11.25])  # each step begins and ends: the first, slow one does not count
    with monkeypatch.context() as patch:
        patch.setattr(time, "thread_time", lambda: next(clock))
        assert epoch_seconds(backbone, "layer4") == 0.25 * 1000 / 8
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one, before[name]) for name, one in backbone.module.state_dict().items())
    with pytest.raises(BackboneError, match="no layer 'layer5'"):
        epoch_seconds(backbone, "layer5")
