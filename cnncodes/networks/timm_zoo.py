"""The networks of timm and their published weights."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any

from torch import nn

from cnncodes.errors import BackboneError, nearest
from cnncodes.networks.checkpoint import State
from cnncodes.networks.facts import TIMM_FACTS, facts_of
from cnncodes.networks.network import Network
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.networks.weights import WeightsEntry
from cnncodes.system.optional import require

__all__ = ["TIMM", "timm_entry", "timm_names", "timm_network"]

TIMM = "timm:"  # begins the names of its networks


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
    if default is None:  # a name that timm still understands, without saying what its images are like
        raise BackboneError(
            f"{name} is a former name.{nearest(name, timm_names())} `cnncodes backbones timm:*` lists them"
        )
    tags = [full_name.partition(".")[2] for full_name in timm.list_pretrained(f"{architecture}.*")]
    entries = {key: timm_entry(timm.get_pretrained_cfg(f"{architecture}.{key}")) for key in tags}
    if not entries:  # an architecture without published weights, for files of one's own
        entries = {default.tag or "none": timm_entry(default)}
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
        facts=replace(facts, head=facts.head or head),
        loads_itself=True,
    )


def timm_entry(cfg: Any) -> WeightsEntry:
    """Return the weights of a `timm.models.PretrainedCfg`."""
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
