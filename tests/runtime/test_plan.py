"""A plan is all that decides how a network runs: plain torch unless it says otherwise, and the same bits each time."""

from __future__ import annotations

import numpy as np
import torch
import torchvision

from cnncodes.networks.loading import load_backbone
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.runtime.plan import Plan
from cnncodes.runtime.precision import reference_photos
from cnncodes.runtime.tuning import tuned_network
from cnncodes.system.shipped import EMBEDDED_WEIGHTS, shipped_path

CPU = (torch.device("cpu"),)


def test_a_plan_is_plain_float32_unless_it_says_otherwise() -> None:
    backbone = load_backbone("mobilenet_v2")
    pixels = reference_photos(backbone.preprocessing)[:3]
    codes = FrozenNetwork(backbone, Plan(CPU, ("penultimate",), "avg", 2)).unrounded(pixels)
    module = torchvision.models.mobilenet_v2().eval()
    module.load_state_dict(torch.load(shipped_path(EMBEDDED_WEIGHTS), weights_only=True))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        expected = module.features((pixels / 255 - mean[:, None, None]) / std[:, None, None]).mean(dim=(2, 3))
    np.testing.assert_allclose(codes["penultimate"], expected.numpy(), rtol=1e-3, atol=1e-4)


def test_a_plan_that_was_chosen_gives_the_same_codes_in_another_network() -> None:
    backbone = load_backbone("mobilenet_v2")
    pixels = reference_photos(backbone.preprocessing)
    tuned = tuned_network(backbone, ["layer1", "layer4", "penultimate"], device="cpu", batch_size=3)
    again = FrozenNetwork(backbone, tuned.plan)
    assert again.plan == tuned.plan
    assert again.describe() == tuned.describe()
    expected, codes = tuned(pixels), again(pixels)
    assert expected.keys() == codes.keys()
    for name, values in expected.items():
        assert codes[name].dtype == values.dtype == tuned.plan.layers[name]["dtype"]
        np.testing.assert_array_equal(codes[name], values)
