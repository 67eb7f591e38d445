"""Which networks there are: those of torchvision and timm, and the user's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

from torch import nn

from cnncodes.errors import BackboneError, nearest, parameter
from cnncodes.networks.checkpoint import KeyRules
from cnncodes.networks.facts import Facts
from cnncodes.networks.network import BUILT_IN, RANDOM, USER, Network, WeightsChoice
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.networks.snapshots import find_snapshot
from cnncodes.networks.timm_zoo import TIMM, snapshot_network, timm_names, timm_network
from cnncodes.networks.torchvision_zoo import torchvision_names, torchvision_network
from cnncodes.networks.weights import WeightsEntry

__all__ = [
    "BackboneInfo",
    "arrived_networks",
    "find_network",
    "find_weights",
    "list_backbones",
    "named_by_weights",
    "register_backbone",
    "registered_networks",
]

registered_networks: dict[str, Network] = {}  # the user's own, in this process
arrived_networks: dict[str, Network] = {}  # those of other processes, which came with a pickle


@dataclass(frozen=True)
class BackboneInfo:
    """One row of the table of backbones.

    Attributes
    ----------
    name : str
        What `load_backbone` takes.
    source : str
        ``torchvision``, ``timm`` or ``user``.
    weights : str
        Name of the weights that are taken unless others are named.
    n_params : int or None
        Number of parameters, where the library tells.
    top1 : float or None
        Accuracy on ImageNet-1K in percent, as published.
    licence : str or None
        Licence of the weights.
    """

    name: str
    source: str
    weights: str
    n_params: int | None
    top1: float | None
    licence: str | None


def find_network(name: str) -> Network:
    """Return the network of this name.

    Raises
    ------
    BackboneError
        There is none; the message names the nearest ones.
    """
    if own := registered_networks.get(name) or arrived_networks.get(name):
        return own
    if name.startswith(TIMM):
        return timm_network(name)
    if name in torchvision_names():
        return torchvision_network(name)
    close = nearest(name, [*registered_networks, *arrived_networks, *torchvision_names()])
    raise BackboneError(
        f"no backbone {name!r}.{close} `cnncodes backbones` lists them; those of timm are {TIMM}NAME, and a network of "
        "your own is registered in each process that uses it: register_backbone"
    )


def find_weights(
    name: str, weights: str | os.PathLike[str] | None = None, *, located: bool = True
) -> tuple[Network, WeightsChoice]:
    """Return a network and its weights; a folder of the hub brings its own preprocessing.

    Parameters
    ----------
    name, weights
        As for `cnncodes.networks.loading.load_backbone`.
    located : bool, default=True
        As for `Network.choose_weights`.

    Raises
    ------
    BackboneError
        There is no such network, or the folder holds weights of another one.
    WeightsError
        There are no such weights.
    """
    network = find_network(name)
    snapshot = None
    if weights is not None and os.fspath(weights) not in (*network.weights, RANDOM):
        snapshot = find_snapshot(weights)
    if snapshot is None:
        return network, network.choose_weights(weights, located=located)
    architecture, _, tag = name.removeprefix(TIMM).partition(".")
    own = f"{TIMM}{snapshot.architecture}"
    if not name.startswith(TIMM) or architecture != snapshot.architecture or (tag and tag != snapshot.tag):
        wanted = f"{own}.{snapshot.tag}" if tag and architecture == snapshot.architecture else own
        raise BackboneError(f"{weights} holds weights of {wanted}, not of {name}: {parameter('backbone', own)}")
    network = replace(snapshot_network(snapshot), name=name)
    return network, network.choose_weights(located=located)


def named_by_weights(weights: str | os.PathLike[str] | None) -> str | None:
    """Return the name of the network that a folder of the hub is for; None if `weights` are something else."""
    snapshot = None if weights in (None, RANDOM) else find_snapshot(weights)
    return None if snapshot is None else f"{TIMM}{snapshot.architecture}"


def register_backbone(
    name: str,
    builder: Callable[[], nn.Module],
    *,
    preprocessing: Preprocessing,
    weights: str | os.PathLike[str] | None = None,
    head: str | None = None,
    renames: Sequence[tuple[str, str]] = (),
    licence: str | None = None,
    categories: Sequence[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Give a network of your own a name, for this process.

    An estimator that is pickled takes the network along to other processes, if the builder can be pickled.

    Parameters
    ----------
    name : str
        What `load_backbone` takes from now on. Names that begin with ``timm:`` belong to timm.
    builder : callable
        Returns the module; called once for each `load_backbone`.
    preprocessing : Preprocessing
        What the network expects.
    weights : path, optional
        File of its parameters; by default the weights are the parameters that the builder gives it.
    head : str, optional
        Module path of the classification head, whose input is `penultimate`; by default the last `nn.Linear`.
    renames : sequence of (pattern, replacement), default=()
        Regular expressions and their replacements, which turn the keys of the file into those of the network.
    licence : str, optional
        Licence of the weights.
    categories : sequence of str, optional
        Names of the classes of the head.
    overwrite : bool, default=False
        Replace a network that has this name.

    Raises
    ------
    BackboneError
        The name is taken.

    Examples
    --------
    >>> from cnncodes.networks.loading import load_backbone
    >>> def tiny():
    ...     return nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    >>> plain = Preprocessing(32, 32, "bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> register_backbone("tiny", tiny, preprocessing=plain, overwrite=True)
    >>> load_backbone("tiny").default_layers
    ['layer1', 'penultimate']
    """
    if name.startswith(TIMM):
        raise BackboneError(f"{name!r}: names that begin with {TIMM} belong to timm; choose another")
    if not overwrite and (name in registered_networks or name in torchvision_names()):
        raise BackboneError(f"there is a backbone {name!r} already; choose another name, or pass overwrite=True")
    entry = WeightsEntry(
        name=BUILT_IN if weights is None else os.fspath(weights),
        preprocessing=preprocessing,
        file=None if weights is None else Path(weights),
        licence=licence,
        categories=None if categories is None else tuple(categories),
    )
    registered_networks[name] = Network(
        name=name,
        library=USER,
        build=lambda entry: builder(),
        weights={entry.name: entry},
        default=entry.name,
        facts=Facts(name, head=head, keys=KeyRules(renames=tuple(renames))),
    )


def list_backbones(pattern: str | None = None) -> list[BackboneInfo]:
    """List the networks that `load_backbone` can build, by their names.

    Parameters
    ----------
    pattern : str, optional
        A part of the name (``resnet``), or a pattern with ``*`` and ``?`` for all of it (``vgg*_bn``). The networks of
        timm, more than a thousand, are listed only for a pattern that begins with ``timm:``.

    Returns
    -------
    list of BackboneInfo
        Those of torchvision by name, then those that were registered.

    Raises
    ------
    MissingLibraryError
        The pattern is for networks of timm, which is not installed.

    Examples
    --------
    >>> [row.name for row in list_backbones("vgg1?_bn")]
    ['vgg11_bn', 'vgg13_bn', 'vgg16_bn', 'vgg19_bn']
    """
    wanted = pattern or ""
    if wanted.startswith(TIMM):
        networks = map(timm_network, timm_names())
    else:
        networks = map(find_network, dict.fromkeys([*torchvision_names(), *registered_networks, *arrived_networks]))
    return [_row(network) for network in networks if wanted in network.name or fnmatch(network.name, wanted)]


def _row(network: Network) -> BackboneInfo:
    entry = network.weights[network.default]
    return BackboneInfo(network.name, network.library, entry.name, entry.n_params, entry.top1, entry.licence)
