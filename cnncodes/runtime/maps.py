"""Lets a network return feature maps as they are, beside its codes, from the same pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cnncodes.errors import SettingError
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.vocabulary import map_key

__all__ = ["add_maps"]


def add_maps(network: FrozenNetwork, layers: Sequence[str]) -> None:
    """Let a network that is tuned return the maps of some layers, too.

    Nothing else that was chosen for it changes, so that codes are the same with maps and without.

    Parameters
    ----------
    network : FrozenNetwork
    layers : sequence of str
        Module paths or aliases.

    Raises
    ------
    BackboneError
        There is no such layer.
    SettingError
        A layer is named twice, gives no map, or has maps that float16 does not hold.
    """
    backbone, plan = network.backbone, network.plan
    names: dict[str, str] = {}
    for name in layers:
        if (twin := names.setdefault(backbone.resolve(name), name)) != name:
            raise SettingError(f"the maps of {name} are those of {twin}; name one of the two")
    network.apply(replace(plan, computed=(*plan.computed, *map(map_key, layers))))
    photos = {name: network.photo_codes()[map_key(name)] for name in layers}
    for name, maps in photos.items():
        if maps.ndim < 3:
            raise SettingError(f"{name} of {backbone.name} gives a vector, not a map; name an earlier layer")
        if not np.isfinite(maps).all():
            raise SettingError(f"float16 does not hold the maps of {name} of {backbone.name}; name another layer")
    network.plan = replace(network.plan, maps={name: maps.shape[1:] for name, maps in photos.items()})
