"""Loads backbones: builds a network, gives it verified weights, and freezes it.

Examples
--------
>>> import torch
>>> backbone = load_backbone("mobilenet_v2")
>>> backbone.resolve("layer3")
'features.13'
>>> extractor = backbone.extractor(["layer3", "penultimate"])
>>> codes = extractor(torch.zeros(1, 3, 224, 224))
>>> codes["layer3"].shape, codes["penultimate"].shape
(torch.Size([1, 96, 14, 14]), torch.Size([1, 1280]))
"""

from __future__ import annotations

import importlib.metadata
import os
from dataclasses import replace

from torch import nn

from cnncodes.networks.backbone import Backbone
from cnncodes.networks.checkpoint import digest_of
from cnncodes.networks.image_size import fit_image_size
from cnncodes.networks.layers import INPUT, LayerInfo
from cnncodes.networks.licences import licence_notes
from cnncodes.networks.network import RANDOM, USER
from cnncodes.networks.pre_logits import needs_pre_logits, with_pre_logits
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.networks.registry import find_weights

__all__ = ["default_settings", "list_layers", "load_backbone"]


def load_backbone(
    name: str = "mobilenet_v2",
    weights: str | os.PathLike[str] | None = None,
    *,
    allow_partial: bool = False,
    image_size: int | None = None,
) -> Backbone:
    """Build a network, load verified weights into it, and freeze it.

    Parameters
    ----------
    name : str, default="mobilenet_v2"
        A classification network of torchvision, ``timm:NAME``, or what `register_backbone` was given.
    weights : str or path, optional
        A name of published weights (``IMAGENET1K_V1``), a ``.pth``, ``.pt`` or ``.safetensors`` file, a folder of the
        Hugging Face hub as timm writes it, or ``random`` (seeded, for tests). By default the V1 recipe where there is
        one; for ``mobilenet_v2`` it ships with the package. Others are fetched once into torch's hub cache.
    allow_partial : bool, default=False
        Accept a file that lacks parameters; they stay random, and the notes say so.
    image_size : int, optional
        Side in pixels of the images that enter the network; by default what its weights expect, or 224 for DINOv2. A
        vision transformer takes any multiple of its patches: its positions are interpolated, and the notes say so.

    Returns
    -------
    Backbone
        In eval mode, without gradients.

    Raises
    ------
    BackboneError
        No such backbone, or it cannot take images of this size.
    WeightsError
        The weights are not there, are damaged, or do not fit.

    Examples
    --------
    >>> load_backbone("mobilenet_v2").weights_sha256[:8]
    'b0353104'
    """
    network, choice = find_weights(name, weights)
    module, notes, head_loaded = network.load(choice, allow_partial=allow_partial)
    entry = choice.entry
    licence = entry.licence if choice.published else None
    notes += licence_notes(choice.name, licence)
    sha256 = choice.sha256 or digest_of(module.state_dict())
    own = entry.preprocessing.image_size
    preprocessing = network.preprocessing(entry) if image_size is None else entry.preprocessing.override(image_size)
    size = preprocessing.image_size
    fitted = size != own and fit_image_size(module.eval(), name, size)
    if fitted:
        notes.append(f"its weights were trained at {own} px, and their positions are interpolated for {size} px")
    if network.facts.own_pre_logits:
        module = with_pre_logits(module)
    backbone = Backbone(
        name=name,
        weights=choice.name,
        weights_sha256=sha256,
        licence=licence,
        preprocessing=preprocessing,
        categories=entry.categories if choice.published and head_loaded else None,
        module=_freeze(module),
        head=network.head(module),
        notes=notes,
        library=network.library if network.library == USER else f"{network.library} {_version(network.library)}",
        native_size=size if fitted else own,
        allow_partial=allow_partial,
        facts=network.facts,
    )
    enters_head = backbone.outputs().get(backbone.head + INPUT)
    if not network.facts.own_pre_logits and needs_pre_logits(module, enters_head):
        backbone = replace(backbone, module=_freeze(with_pre_logits(module)), surveys={})
    return backbone


def default_settings(name: str, weights: str | os.PathLike[str] | None = None) -> tuple[str, Preprocessing]:
    """Return which weights a backbone gets and their preprocessing, without loading it or fetching them.

    Parameters
    ----------
    name, weights
        As for `load_backbone`.
    """
    network, choice = find_weights(name, weights, located=False)
    return choice.name, network.preprocessing(choice.entry)


def _freeze(module: nn.Module) -> nn.Module:
    for part in module.modules():
        if getattr(part, "inplace", False) is True:  # it would overwrite a layer that is kept
            part.inplace = False  # type: ignore[assignment]
    return module.eval().requires_grad_(False)


def _version(library: str) -> str:
    return importlib.metadata.version(library)


def list_layers(name: str = "mobilenet_v2", image_size: int | None = None) -> list[LayerInfo]:
    """List the layers of a network; its weights are not needed, and nothing is fetched.

    Parameters
    ----------
    name : str, default="mobilenet_v2"
        As for `load_backbone`.
    image_size : int, optional
        Side of the image in pixels; by default what the weights expect.

    Returns
    -------
    list of LayerInfo
        In the order of computation.

    Raises
    ------
    BackboneError
        There is no such backbone, or it cannot take images of this size.

    Examples
    --------
    >>> [(row.name, row.map_shape) for row in list_layers("mobilenet_v2") if row.name.startswith("layer")]
    [('layer1', (24, 56, 56)), ('layer2', (32, 28, 28)), ('layer3', (96, 14, 14)), ('layer4', (1280, 7, 7))]
    """
    return load_backbone(name, RANDOM, image_size=image_size).list_layers()
