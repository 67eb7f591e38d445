"""Fits a network that is built for images of one size to another: positions are interpolated."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from cnncodes.errors import BackboneError, first_line

__all__ = ["fit_image_size"]


def fit_image_size(network: nn.Module, name: str, image_size: int) -> bool:
    """Let a network take images of another size, if it has positions for one size only.

    Parameters
    ----------
    network : Module
        In eval mode. Its positions are replaced.
    name : str
        Its name, for errors.
    image_size : int
        Side in pixels.

    Returns
    -------
    bool
        False if the network was left as it is: it takes images of this size, or has no positions.

    Raises
    ------
    BackboneError
        The size is no multiple of its patches, or it cannot be fitted.
    """
    by_timm = getattr(network, "set_input_size", None)  # of timm's transformers
    by_torchvision = hasattr(network, "image_size") and hasattr(network, "seq_length")  # of torchvision's ViT
    if not (by_timm or by_torchvision) or _runs(network, image_size):
        return False
    patch = _patch_size(network)
    if image_size % patch:
        lower = max(1, image_size // patch) * patch
        raise BackboneError(
            f"{name} takes images whose side is a multiple of its patches of {patch} px, not {image_size} px; "
            f"the nearest sizes are {lower} and {lower + patch}"
        )
    try:
        if by_timm:
            with warnings.catch_warnings(action="ignore"):  # of its own use of torch
                by_timm(img_size=(image_size, image_size))
        else:
            _fit_torchvision(network, image_size)
    except Exception as error:  # networks refuse a size in many ways
        raise BackboneError(f"{name} cannot be fitted to images of {image_size} px ({first_line(error)})") from error
    return True


@torch.inference_mode()
def _runs(network: nn.Module, image_size: int) -> bool:
    try:
        network(torch.zeros(1, 3, image_size, image_size))
    except Exception:  # networks refuse a size in many ways
        return False
    return True


def _patch_size(network: nn.Module) -> int:
    size = getattr(getattr(network, "patch_embed", network), "patch_size", 1)
    return size if isinstance(size, int) else size[0]


def _fit_torchvision(network: nn.Module, image_size: int) -> None:
    from torchvision.models.vision_transformer import interpolate_embeddings

    state = interpolate_embeddings(image_size, network.patch_size, network.state_dict())  # type: ignore[arg-type]
    positions = nn.Parameter(state["encoder.pos_embedding"], requires_grad=False)
    network.encoder.pos_embedding = positions  # type: ignore[union-attr]
    network.image_size, network.seq_length = image_size, positions.shape[1]  # type: ignore[assignment]
