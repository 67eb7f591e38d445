"""A fine-tuned model that nothing had to be trained for, and what it says by plain torch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save
from tiny_network import UNCROPPED, Staged

from cnncodes import ImageSet, ProbeModel, load_backbone, register_backbone
from cnncodes.models.model_file import FORMAT, _checksum
from cnncodes.models.tuned import Tuned

STAGED = "staged"
RECORD: dict[str, Any] = {
    "first": "layer4",
    "below": "layer3",
    "epochs": 6,
    "share": 0.75,
    "probe_accuracy": 0.81,
    "gain": 0.03,
    "gain_interval": [0.01, 0.05],
    "seed": 0,
}


def staged_images(n_per_class: int = 12, **table: Any) -> ImageSet:
    """Noise, which is brighter from class to class."""
    register_backbone(STAGED, Staged, preprocessing=UNCROPPED, overwrite=True)
    rng, labels = np.random.default_rng(0), np.repeat(["bright", "dark", "grey"], n_per_class)
    level = {"bright": 160, "dark": 80, "grey": 120}
    images = [rng.normal(level[label], 40, (32, 32, 3)).clip(0, 255).astype(np.uint8) for label in labels]
    ids = [f"{label}/{i:02}" for i, label in enumerate(labels)]
    return ImageSet(ids, images, labels=labels.tolist(), **table)


def tuned_by_hand(
    model: ProbeModel,
    parts: tuple[str, ...] = ("layer3", "layer4"),
    *,
    first: str = "layer3",
    below: str = "layer2",
) -> ProbeModel:
    """The model with a network whose upper parts are others."""
    rng = np.random.default_rng(1)
    tensors = {
        name: (one.numpy() * rng.normal(1, 0.3, one.shape)).astype(np.float32)
        for name, one in load_backbone(STAGED).module.state_dict().items()
        if name.startswith(parts) and name.rpartition(".")[2] in ("weight", "bias")
    }
    provenance = replace(model.provenance, precision="fp32")
    return replace(
        model, tensors=tensors, tuned=Tuned.from_dict({**RECORD, "first": first, "below": below}), provenance=provenance
    )


def codes_by_torch(model: ProbeModel, images: ImageSet) -> np.ndarray:
    """What enters the head of the fine-tuned network, (n, n_features), in float64."""
    network = load_backbone(STAGED).module
    state = {**network.state_dict(), **{name: torch.from_numpy(one) for name, one in model.tensors.items()}}
    pixels = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images.sources])
    codes = []
    with torch.no_grad():
        hook = network.fc.register_forward_pre_hook(lambda module, args: codes.append(args[0]))
        torch.func.functional_call(network, state, (UNCROPPED.normalise(pixels),))
        hook.remove()
    return codes[0].double().numpy()


def forge(path: Path, header: dict[str, Any] | None = None, arrays: dict[str, np.ndarray | None] | None = None) -> Path:
    """The same file with other header fields or arrays, and a right checksum."""
    with safe_open(path, framework="np") as file:
        fields = json.loads(file.metadata()[FORMAT]) | (header or {})
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    kept = {name: one for name, one in {**kept, **(arrays or {})}.items() if one is not None}
    fields = {name: value for name, value in fields.items() if value != "gone"}
    fields["checksum"] = _checksum(fields, kept)
    other = path.with_name("forged.safetensors")
    other.write_bytes(save(kept, metadata={FORMAT: json.dumps(fields)}))
    return other
