"""Computes the codes of a fine-tuned network from the maps that a codes file keeps, without the images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from cnncodes.codes.file import CodesFile
from cnncodes.codes.maps import Maps
from cnncodes.codes.provenance import Provenance
from cnncodes.errors import MismatchError
from cnncodes.extraction.in_memory import require_same_weights
from cnncodes.extraction.settings import load_named_backbone, settings_of
from cnncodes.networks.cut import cut_at
from cnncodes.networks.pooling import pool
from cnncodes.runtime.devices import resolve_device
from cnncodes.system.process import inference_settings

__all__ = ["UpperPart"]

BATCH = 64  # maps that are computed at once


class UpperPart:
    """The part of a fine-tuned network above a layer, which is run on maps of that layer.

    Parameters
    ----------
    provenance : Provenance
        Network, weights, preprocessing and pooling of the codes that are wanted.
    below : str
        The layer.
    tensors : mapping of str to ndarray
        Fine-tuned parameters of the network, which take the place of those of its weights.
    weights : path, optional
        Path of the weights file, if it has moved.
    device : str, optional
        Another device than that of the provenance.

    Raises
    ------
    MismatchError
        The weights are not those of the provenance, or the parameters are not of this network.
    BackboneError
        The network cannot be cut at the layer.
    """

    def __init__(
        self,
        provenance: Provenance,
        below: str,
        tensors: Mapping[str, np.ndarray],
        *,
        weights: str | os.PathLike[str] | None = None,
        device: str | None = None,
    ) -> None:
        settings = settings_of(provenance)
        if weights is not None:
            settings = replace(settings, weights=os.fspath(weights))
        backbone = load_named_backbone(settings)
        require_same_weights(backbone, provenance)
        self._cut = cut_at(backbone.with_tensors({name: torch.from_numpy(one) for name, one in tensors.items()}), below)
        self._pooling = provenance.pooling
        self._device = resolve_device(device or provenance.runtime.device)
        self._top = self._cut.top.to(self._device)

    def maps_of(self, file: CodesFile) -> Maps | None:
        """Return the maps of a codes file that this part takes, those of all its rows; None if it keeps none.

        Raises
        ------
        MismatchError
            They have another shape.
        """
        name = next((name for name in file.map_layers if name in self._cut.names), None)
        if name is None:
            return None
        maps, wanted = file.maps(name, np.arange(file.n)), self._cut.map_shape
        if (shape := maps.shape[1 + len(file.views) :]) != wanted:
            raise MismatchError(f"{file.path}: {name} has the shape {shape}, and the network gives {wanted} there")
        return maps

    @torch.inference_mode()
    def codes(self, maps: Maps, rows: np.ndarray) -> np.ndarray:
        """Return codes (n, n_features), or (n, n_views, n_features) of several views, in float32.

        Parameters
        ----------
        maps : Maps
            What `maps_of` returned.
        rows : ndarray of int, shape (n,)

        Raises
        ------
        CodesFileError
            A map is damaged.
        """
        views = maps.shape[1 : len(maps.shape) - len(self._cut.map_shape)]
        parts = []
        with inference_settings():
            for piece in np.array_split(rows, max(1, -(-len(rows) // BATCH))):
                batch = torch.from_numpy(maps[piece].reshape(-1, *self._cut.map_shape)).to(self._device).float()
                if batch.ndim == 4:
                    batch = batch.to(memory_format=torch.channels_last)
                codes = pool(self._top(batch), self._pooling, self._cut.prefix).cpu().numpy()
                parts.append(codes.reshape(len(piece), *views, codes.shape[-1]))
        return np.concatenate(parts)
