"""Which networks there are: torchvision's, timm's, and the user's own."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from torch import nn

from cnncodes.errors import BackboneError, nearest
from cnncodes.networks.checkpoint import KeyRules, State
from cnncodes.networks.facts import (
    FIRST_CHOICE,
    LICENCES,
    TIMM_FACTS,
    TORCHVISION_FACTS,
    TORCHVISION_LICENCE,
    Facts,
    facts_of,
)
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.networks.quick_import import torchvision_models
from cnncodes.networks.weights import WeightsEntry
from cnncodes.system.optional import require

__all__ = ["BUILT_IN", "USER", "BackboneInfo", "Network", "backbone_table", "find_network", "register_backbone"]

TIMM = "timm:"
USER = "user"  # the library of networks that a user registered
BUILT_IN = "builder"  # weights that a user's own builder gives its network
_user_networks: dict[str, Network] = {}


@dataclass(frozen=True)
class BackboneInfo:
    """One row of the table of backbones. `top1` is ImageNet-1K accuracy in percent as published."""

    name: str
    source: str
    weights: str
    n_params: int | None
    top1: float | None
    licence: str | None


@dataclass(frozen=True)
class Network:
    """A network that can be built, and the weights published for it.

    Attributes
    ----------
    name : str
    library : str
        ``torchvision``, ``timm`` or ``user``.
    build : callable
        ``build(entry)`` gives the module with random parameters, ``build(entry, state)`` with those of the entry's own
        file where `loads_itself`.
    weights : mapping of str to WeightsEntry
    default : str
        Name of the weights that are taken unless others are named.
    facts : Facts
    loads_itself : bool
        The library converts its published files in ways of its own.
    """

    name: str
    library: str
    build: Callable[..., nn.Module]
    weights: Mapping[str, WeightsEntry]
    default: str
    facts: Facts
    loads_itself: bool = False

    def head(self, module: nn.Module) -> str:
        """Return the module path of the classification head."""
        linear = [path for path, part in module.named_modules() if isinstance(part, nn.Linear)]
        head = self.facts.head or (linear[-1] if linear else None)
        if head is None or head not in dict(module.named_modules()):
            raise BackboneError(
                f"{self.name}: the head {head!r} is no module of the network; "
                "say which one classifies: register_backbone(..., head=PATH)"
            )
        return head


# ---------------------------------------------------------------------------------------------------- torchvision


@functools.cache
def torchvision_names() -> list[str]:
    """Return the names of torchvision's classification networks."""
    models = torchvision_models()
    return models.list_models(module=models)


@functools.cache
def torchvision_network(name: str) -> Network:
    """Return the network of this name, one of `torchvision_names`."""
    models = torchvision_models()
    facts = facts_of(TORCHVISION_FACTS, name)
    published = models.get_model_weights(name)
    names = [weights.name for weights in published]  # without the alias DEFAULT

    def build(entry: WeightsEntry) -> nn.Module:
        size = {facts.size_option: entry.preprocessing.image_size} if facts.size_option else {}
        return models.get_model(name, weights=None, **facts.options, **size)

    return Network(
        name=name,
        library="torchvision",
        build=build,
        weights={key: _torchvision_entry(published[key]) for key in names},
        default=FIRST_CHOICE if FIRST_CHOICE in names else published.DEFAULT.name,
        facts=facts,
    )


def _torchvision_entry(weights: Any) -> WeightsEntry:
    transforms, meta = weights.transforms(), weights.meta
    licence = meta.get("license")
    return WeightsEntry(
        name=weights.name,
        preprocessing=Preprocessing(
            resize=transforms.resize_size[0],
            image_size=transforms.crop_size[0],
            interpolation=transforms.interpolation.value,
            mean=tuple(transforms.mean),
            std=tuple(transforms.std),
        ),
        url=weights.url,
        licence=LICENCES.get(licence, licence) or TORCHVISION_LICENCE,
        categories=tuple(meta["categories"]) if meta.get("categories") else None,
        top1=meta["_metrics"].get("ImageNet-1K", {}).get("acc@1"),
        n_params=meta["num_params"],
    )


# ----------------------------------------------------------------------------------------------------------- timm


def _timm() -> Any:
    return require("timm", f"a network called {TIMM}NAME")


def timm_names() -> list[str]:
    """Return the names of timm's networks, each with ``timm:`` before it."""
    return [TIMM + name for name in _timm().list_models()]


@functools.cache
def timm_network(name: str) -> Network:
    """Return the network ``timm:ARCHITECTURE`` or ``timm:ARCHITECTURE.TAG``.

    Raises
    ------
    MissingLibraryError
        timm is not installed.
    BackboneError
        It has no such network.
    """
    timm = _timm()
    architecture, _, tag = name.removeprefix(TIMM).partition(".")
    if not timm.is_model(architecture):
        close = nearest(name, timm_names())
        raise BackboneError(f"no backbone {name!r}.{close} `cnncodes backbones timm:*` lists them")
    facts = facts_of(TIMM_FACTS, architecture)
    default = timm.get_pretrained_cfg(architecture)
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    entries = {key: _timm_entry(timm.get_pretrained_cfg(f"{architecture}.{key}")) for key in tags}
    if not entries:  # an architecture without published weights, for files of one's own
        entries = {default.tag or "none": _timm_entry(default)}
    wanted = tag or (default.tag if default.tag in entries else next(iter(entries)))
    if wanted not in entries:
        raise BackboneError(f"{TIMM}{architecture} has no weights {wanted!r}.{nearest(wanted, entries)}")

    def build(entry: WeightsEntry, state: State | None = None) -> nn.Module:
        overlay = {"pretrained_cfg_overlay": {"state_dict": state}} if state is not None else {}
        full = f"{architecture}.{entry.name}" if entry.name in tags else architecture
        return timm.create_model(full, pretrained=state is not None, **overlay)

    head = default.classifier if isinstance(default.classifier, str | None) else default.classifier[0]
    return Network(
        name=name,
        library="timm",
        build=build,
        weights=entries,
        default=wanted,
        facts=Facts(facts.pattern, head=facts.head or head, stages=facts.stages, keys=facts.keys),
        loads_itself=True,
    )


def _timm_entry(cfg: Any) -> WeightsEntry:
    data = _timm().data.resolve_data_config({}, pretrained_cfg=cfg.to_dict())
    size = data["input_size"][-1]
    return WeightsEntry(
        name=cfg.tag,
        preprocessing=Preprocessing(
            resize=math.floor(size / data["crop_pct"]),
            image_size=size,
            interpolation=data["interpolation"],
            mean=tuple(data["mean"]),
            std=tuple(data["std"]),
            mode="squash" if data["crop_mode"] == "squash" else "crop",
        ),
        hub=cfg.hf_hub_id,
        url=cfg.url or None,
        licence=cfg.license,
    )


# ------------------------------------------------------------------------------------------------- the whole list


def find_network(name: str) -> Network:
    """Return the network of this name.

    Raises
    ------
    BackboneError
        There is none; the message names the nearest ones.
    """
    if name in _user_networks:
        return _user_networks[name]
    if name.startswith(TIMM):
        return timm_network(name)
    if name in torchvision_names():
        return torchvision_network(name)
    close = nearest(name, [*_user_networks, *torchvision_names()])
    raise BackboneError(f"no backbone {name!r}.{close} `cnncodes backbones` lists them; those of timm are {TIMM}NAME")


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
    """Make a network of one's own known under a name, for this process.

    Parameters
    ----------
    name : str
    builder : callable
        Gives the module; called once for each `load_backbone`.
    preprocessing : Preprocessing
        What the network expects.
    weights : path, optional
        File of its parameters. Without one, those that the builder gives are the weights.
    head : str, optional
        Module path of the classification head, whose input is `penultimate`; by default the last `nn.Linear`.
    renames : sequence of (pattern, replacement)
        Regular expressions that turn the keys of a file into those of the network.
    licence : str, optional
    categories : sequence of str, optional
        Names of the classes of the head.
    overwrite : bool
        Replace what has this name.

    Raises
    ------
    BackboneError
        The name is taken.

    Examples
    --------
    >>> from cnncodes.networks.backbone import load_backbone
    >>> def tiny():
    ...     return nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    >>> plain = Preprocessing(32, 32, "bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> register_backbone("tiny", tiny, preprocessing=plain, overwrite=True)
    >>> load_backbone("tiny").default_layers
    ['layer1', 'penultimate']
    """
    if name.startswith(TIMM):
        raise BackboneError(f"{name!r}: names that begin with {TIMM} belong to timm; choose another")
    if not overwrite and (name in _user_networks or name in torchvision_names()):
        raise BackboneError(f"there is a backbone {name!r} already; choose another name, or pass overwrite=True")
    entry = WeightsEntry(
        name=BUILT_IN if weights is None else os.fspath(weights),
        preprocessing=preprocessing,
        file=None if weights is None else Path(weights),
        licence=licence,
        categories=None if categories is None else tuple(categories),
    )
    _user_networks[name] = Network(
        name=name,
        library=USER,
        build=lambda entry: builder(),
        weights={entry.name: entry},
        default=entry.name,
        facts=Facts(name, head=head, keys=KeyRules(renames=tuple(renames))),
    )


def backbone_table(pattern: str | None = None) -> list[BackboneInfo]:
    """List the backbones whose name holds or matches `pattern` (``resnet``, ``vgg*_bn``, ``timm:vit*``).

    Those of timm, more than a thousand, are listed only where the pattern begins with ``timm:``.
    """
    wanted = pattern or ""
    if wanted.startswith(TIMM):
        networks = map(timm_network, timm_names())
    else:
        networks = map(
            find_network, [*torchvision_names(), *(name for name in _user_networks if name not in torchvision_names())]
        )
    return [_row(network) for network in networks if wanted in network.name or fnmatch(network.name, wanted)]


def _row(network: Network) -> BackboneInfo:
    entry = network.weights[network.default]
    return BackboneInfo(network.name, network.library, entry.name, entry.n_params, entry.top1, entry.licence)
