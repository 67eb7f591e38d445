"""The networks of timm and their published weights."""

from __future__ import annotations

import functools
import inspect
import math
from dataclasses import fields, replace
from typing import Any

from torch import nn

from cnncodes.errors import BackboneError, WeightsError, first_line, nearest
from cnncodes.networks.checkpoint import State
from cnncodes.networks.facts import TIMM_FACTS, facts_of
from cnncodes.networks.licences import known_licence
from cnncodes.networks.network import Network
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.networks.snapshots import CONFIG, Snapshot
from cnncodes.networks.weights import WeightsEntry
from cnncodes.system.optional import require

__all__ = ["TIMM", "snapshot_network", "timm_entry", "timm_names", "timm_network"]

TIMM = "timm:"  # begins the names of its networks
RGB = 3  # channels of an image
MAX_LICENCE = 100  # characters of its name
SOURCES = ("url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source")  # of weights, for timm


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


def snapshot_network(snapshot: Snapshot) -> Network:
    """Return the network of a snapshot, whose weights and preprocessing are those of the snapshot alone.

    Raises
    ------
    MissingLibraryError
        timm is not installed.
    BackboneError
        timm has no such network.
    WeightsError
        The description is damaged, or asks for what no saved network needs.
    """
    timm = _timm()
    published = timm_network(TIMM + snapshot.architecture)
    reserved = inspect.signature(timm.create_model).parameters.keys() & snapshot.model_args.keys()
    if reserved:  # they could name other files, or fetch something
        raise WeightsError(f"{snapshot.path}: its {CONFIG} sets {', '.join(sorted(reserved))}, as timm never writes it")
    known = {item.name for item in fields(timm.models.PretrainedCfg)} - set(SOURCES)
    try:
        cfg = timm.models.PretrainedCfg(**{key: item for key, item in snapshot.pretrained_cfg.items() if key in known})
        cfg.num_classes = snapshot.model_args.get("num_classes", cfg.num_classes)  # or a part of the head stays random
        if list(map(type, cfg.input_size)) != [int] * 3 or cfg.input_size[1] != cfg.input_size[2]:
            raise ValueError(f"input_size is {cfg.input_size!r:.60}, expected whole numbers: channels, and a square")
        entry = timm_entry(cfg)
        for name in ("mean", "std"):
            if len(list(map(float, getattr(cfg, name)))) != RGB:
                raise ValueError(f"{name} is {getattr(cfg, name)!r:.60}, expected three numbers")
    except Exception as error:  # whatever a damaged description leads to
        raise WeightsError(f"{snapshot.path}: its {CONFIG} cannot be read ({first_line(error)})") from error
    same = published.weights.get(snapshot.tag)
    labels, path = cfg.label_names, str(snapshot.path)
    entry = replace(
        entry,
        name=path,
        hub=None,
        file=snapshot.file,
        licence=(entry.licence or (same.licence if same else None) or "")[:MAX_LICENCE] or None,
        categories=tuple(map(str, labels)) if isinstance(labels, list) and len(labels) == cfg.num_classes else None,
    )
    trained_alike = entry.preprocessing.image_size == published.weights[published.default].preprocessing.image_size
    facts = published.facts if trained_alike else replace(published.facts, default_size=None)

    def build(entry: WeightsEntry, state: State | None = None) -> nn.Module:
        overlay = {"pretrained_cfg_overlay": {"state_dict": state}} if state is not None else {}
        settings = {"pretrained_cfg": cfg, "pretrained": state is not None, **overlay}
        try:
            return timm.create_model(snapshot.architecture, **settings, **snapshot.model_args)
        except Exception as error:  # timm and torch raise many kinds
            raise WeightsError(
                f"{path}: {snapshot.file.name} or {CONFIG} does not fit {TIMM}{snapshot.architecture} "
                f"({' '.join(str(error).split()):.300})"
            ) from error

    return replace(published, build=build, weights={path: entry}, default=path, facts=facts)


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
        licence=known_licence(cfg.license),
    )
