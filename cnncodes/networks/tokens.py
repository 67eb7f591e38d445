"""Networks of tokens: which tokens are patches, and which blocks stand for the stages of a network of maps.

The patches of an image are a square grid. Before them there may be a class token, and tokens without a place in the
image: registers, or a distillation token.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch

import torch
from torch import nn

from cnncodes.networks.facts import TOKEN_BLOCKS, TOKEN_POOLINGS
from cnncodes.networks.outputs import Output, Prefix
from cnncodes.vocabulary import DEFAULT_POOLING

__all__ = [
    "NORMED",
    "blocks_of",
    "default_pooling",
    "final_norm",
    "prefix_of",
    "prefix_within",
    "token_stages",
]

NORMED = ":normed"  # ends a node that is the output of a block with the final norm applied
CLASS_TOKENS = ("cls_token", "class_token")  # parameters of timm and of torchvision


def prefix_of(network: nn.Module) -> Prefix:
    """Return the tokens that a network puts before those of the patches."""
    has_class = any(isinstance(getattr(network, name, None), torch.Tensor) for name in CLASS_TOKENS)
    return Prefix(getattr(network, "num_prefix_tokens", int(has_class)), has_class)


def prefix_within(n_tokens: int, prefix: Prefix) -> Prefix | None:
    """Return what stands before the patches in a sequence of so many tokens; None if they are no grid of patches.

    Parameters
    ----------
    n_tokens : int
        Length of the sequence.
    prefix : Prefix
        What the network says of itself: it may put it before the patches further up, or not at all.
    """
    for one in (prefix, Prefix()):
        if (n_patches := n_tokens - one.n_tokens) > 0 and math.isqrt(n_patches) ** 2 == n_patches:
            return one
    return None


def blocks_of(network: nn.Module, outputs: Mapping[str, Output]) -> list[str]:
    """Return the nodes of the blocks of a network in which each gives as many numbers as the next; or nothing."""
    for path, _ in TOKEN_BLOCKS:
        nodes = [f"{path}.{name}" for name, _ in _children(network, path)]
        shapes = {outputs[node].shape if node in outputs else () for node in nodes}
        sequences = {shape[-1:] for shape in shapes if len(shape) == 2}
        if len(sequences or shapes) == 1 and all(len(shape) in (2, 3) for shape in shapes):
            return nodes
    return []


def final_norm(network: nn.Module, width: int) -> str | None:
    """Return the path of the norm that follows the last block; None where there is none for tokens of this width."""
    modules = dict(network.named_modules())
    for path, norm in TOKEN_BLOCKS:
        if path in modules and norm in modules and not isinstance(modules[norm], nn.Identity):
            return norm if all(one.numel() == width for one in modules[norm].parameters()) else None
    return None


def token_stages(network: nn.Module, outputs: Mapping[str, Output]) -> dict[str, str]:
    """Return the nodes of ``layer1`` … ``layer4``: the blocks at 1/4, 1/2, 3/4 and the whole depth, normed.

    DPT reads such blocks (Ranftl, Bochkovskiy, Koltun 2021), and so does the dense evaluation of DINOv2 (Oquab et al.
    2024), which applies the final norm to each.
    """
    blocks = blocks_of(network, outputs)
    stages = {f"layer{i}": blocks[math.ceil(len(blocks) * i / 4) - 1] for i in range(1, 5) if blocks}
    return {name: node + NORMED if node + NORMED in outputs else node for name, node in stages.items()}


def default_pooling(name: str, network: nn.Module, outputs: Mapping[str, Output], last_stage: str) -> str:
    """Return how the layers of a network become codes unless a pooling is named.

    Parameters
    ----------
    name : str
        Name of the network, which decides where a row of `TOKEN_POOLINGS` matches.
    network : Module
    outputs : mapping of str to Output
        What its nodes give.
    last_stage : str
        Node of ``layer4``; it is no block in a network whose stages are maps.
    """
    blocks = blocks_of(network, outputs)
    if last_stage.removesuffix(NORMED) not in blocks or len(outputs[last_stage].shape) != 2:
        return DEFAULT_POOLING
    prefixes = [outputs[block].prefix for block in blocks]
    has_class = all(prefix is not None and prefix.has_class for prefix in prefixes)
    reads_class = has_class and getattr(network, "global_pool", "token") == "token"
    for row in TOKEN_POOLINGS:
        if fnmatch(name, row.pattern) and row.class_token <= (reads_class if row.pattern == "*" else has_class):
            return row.pooling
    return DEFAULT_POOLING


def _children(network: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    modules = dict(network.named_modules())
    return modules[path].named_children() if path in modules else iter(())
