"""Lets a network say itself what enters its head, where that is not what enters one module.

The head may be a pooling by attention, of which the last module takes all tokens; or several modules, each for a token
or for maps of another size; or it may begin with a normalisation of its own.
"""

from __future__ import annotations

import inspect
from types import new_class
from typing import Any

import torch
from torch import nn

from cnncodes.networks.outputs import Output
from cnncodes.vocabulary import PENULTIMATE

__all__ = ["OWN_PRE_LOGITS", "needs_pre_logits", "with_pre_logits"]

OWN_PRE_LOGITS = "pre_logits"  # what the provenance of codes says of `penultimate` for such a network


def needs_pre_logits(network: nn.Module, enters_head: Output | None) -> bool:
    """Whether a network can say itself what enters its head, and what enters the module is no vector.

    Parameters
    ----------
    network : Module
    enters_head : Output or None
        What enters the module of the head.
    """
    forward_head = getattr(network, "forward_head", None)
    if forward_head is None or "pre_logits" not in inspect.signature(forward_head).parameters:
        return False
    shape = enters_head.shape if enters_head is not None else ()
    return len(shape) != 1 and shape[1:] != (1, 1)


def with_pre_logits(network: nn.Module) -> nn.Module:
    """Let a network of timm pass what it calls the input of its head through a module called `penultimate`.

    Parameters
    ----------
    network : Module
        Is changed: it gets a class of its own. What it computes, and its parameters, stay.
    """

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        features = self.forward_features(x)
        getattr(self, PENULTIMATE)(self.forward_head(features, pre_logits=True))
        return self.forward_head(features)

    kind = type(network)
    methods = {"forward": forward, "__module__": kind.__module__}
    network.__class__ = new_class(kind.__name__, (kind,), exec_body=lambda names: names.update(methods))
    network.add_module(PENULTIMATE, nn.Identity())
    return network
