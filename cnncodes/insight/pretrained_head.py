"""What the pretrained classification head says of codes, and of photographs like those that it was trained on."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import nn

from cnncodes.codes.provenance import Provenance
from cnncodes.errors import BackboneError
from cnncodes.extraction.settings import Settings, fill_in, load_named_backbone
from cnncodes.probes.decision_values import softmax
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.runtime.plan import Plan
from cnncodes.system.process import inference_settings
from cnncodes.vocabulary import DEFAULT_POOLING, PENULTIMATE

__all__ = ["PretrainedHead"]

IMAGENET_CLASSES = 1000


class PretrainedHead:
    """The head of the network that made some codes.

    Parameters
    ----------
    provenance : Provenance
        ``CodesFile.provenance``.
    weights : path, optional
        Path of the weights file, if it has moved since the codes were made.

    Attributes
    ----------
    photos : ndarray, shape (8, n_features)
        `penultimate` codes of crops of two photographs.

    Raises
    ------
    BackboneError, WeightsError
        The head is not a linear layer for ImageNet's 1,000 classes, or its weights are not at hand.
    """

    def __init__(self, provenance: Provenance, weights: str | os.PathLike[str] | None = None) -> None:
        settings = fill_in(Settings(weights=None if weights is None else os.fspath(weights)), provenance)
        with inference_settings():
            backbone = load_named_backbone(settings)
            head = backbone.module.get_submodule(backbone.head)
            if not isinstance(head, nn.Linear) or head.out_features != IMAGENET_CLASSES:
                raise BackboneError(f"{backbone.name} has no linear head for the 1,000 classes of ImageNet")
            self._weight = head.weight.detach().numpy()  # (1000, n_features)
            self._bias = head.bias.detach().numpy()
            plain = Plan((torch.device("cpu"),), (PENULTIMATE,), settings.pooling or DEFAULT_POOLING, batch_size=8)
            self.photos = FrozenNetwork(backbone, plain).photo_codes()[PENULTIMATE]

    def confidence(self, codes: np.ndarray) -> np.ndarray:
        """Return the probability of the most likely class of ImageNet, shape (n,), for codes (n, n_features)."""
        return softmax(codes @ self._weight.T + self._bias).max(axis=1)
