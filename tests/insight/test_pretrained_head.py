"""The pretrained head answers as torchvision's, and refuses other classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from cnncodes.codes.file import CodesFile
from cnncodes.codes.load_codes import load_codes
from cnncodes.errors import BackboneError
from cnncodes.insight.pretrained_head import PretrainedHead
from cnncodes.system.shipped import EMBEDDED_WEIGHTS, shipped_path


def test_the_pretrained_head_says_what_torchvision_says(sample_codes: Path) -> None:
    model = torchvision.models.mobilenet_v2()
    model.load_state_dict(torch.load(shipped_path(EMBEDDED_WEIGHTS), weights_only=True))
    codes = load_codes(sample_codes, "penultimate")
    with torch.inference_mode():
        expected = model.eval().classifier(torch.from_numpy(codes)).softmax(1).max(1).values.numpy()
    with CodesFile.open(sample_codes) as file:
        head = PretrainedHead(file.provenance)
    np.testing.assert_allclose(head.confidence(codes), expected, rtol=1e-4)
    assert head.confidence(head.photos).mean() > 1.5 * expected.mean()


def test_a_head_for_other_classes_is_refused(sample_codes: Path) -> None:
    with CodesFile.open(sample_codes) as file:
        provenance = replace(file.provenance, backbone="tiny-head", weights="random")
    from cnncodes import register_backbone
    from cnncodes.networks.preprocessing import Preprocessing

    plain = Preprocessing(256, 224, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    register_backbone("tiny-head", lambda: torchvision.models.mobilenet_v2(num_classes=5), preprocessing=plain)
    with pytest.raises(BackboneError, match="no linear head for the 1,000 classes"):
        PretrainedHead(provenance)
