"""The settings of an extraction, and the network that they describe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from cnncodes.codes.file import CodesFile
from cnncodes.codes.provenance import Provenance
from cnncodes.errors import parameter
from cnncodes.networks.backbone import Backbone
from cnncodes.networks.loading import default_settings, load_backbone
from cnncodes.networks.registry import named_by_weights
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.runtime.tuning import tuned_network
from cnncodes.runtime.workload import Workload
from cnncodes.system.process import inference_settings
from cnncodes.vocabulary import DEFAULT_BACKBONE, as_names

__all__ = [
    "Settings",
    "build_network",
    "describe_network",
    "fill_in",
    "inherited",
    "load_named_backbone",
    "provenance_of",
    "settings_of",
]

SETTINGS_FIELDS = (  # of a provenance: all settings follow from them
    *("backbone", "weights", "pooling", "precision", "dtype"),
    *("preprocessing.image_size", "preprocessing.mode", "preprocessing.exact"),
    *("runtime.device", "runtime.batch_size", "runtime.compiled"),
)


@dataclass(frozen=True)
class Settings:
    """Settings of an extraction; None means the setting of the existing file, or else the default.

    Parameters
    ----------
    backbone : str, default="mobilenet_v2"
    weights : str, optional
        A name of weights, or the path of a file or of a folder of the hub, which also names its backbone; by default
        those of the backbone's first choice.
    layers : str or sequence of str, optional
        Module paths or aliases; ``layer1`` … ``layer4`` and ``penultimate`` by default.
    maps : str or sequence of str, optional
        Layers whose feature maps are kept, too; none by default.
    pooling : {"avg", "max", "gem", "grid2", "flatten", "cls", "patches", "cls+patches"}
    image_size : int, optional
        Side in pixels of the square that enters the network; by default that of the weights.
    resize : {"crop", "pad", "squash"}
    precision : {"auto", "fp32", "bf16", "fp16"}
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}
    batch_size : int, optional
    dtype : {"auto", "float16", "float32"}
        Storage type of the codes; ``auto`` is float16 for each layer whose codes it holds.
    views : {"none", "flip", "10crop"}
        What is kept of each image: its codes; or also those of its mirror image; or those of its four corners and its
        centre, and of the same of its mirror image.
    exact_decode : bool
        Decode JPEG files at full size and resize with Pillow: bit for bit the pixels that the transforms of the weights
        make of an RGB PIL image.
    ignore_profiles : bool
        Let the numbers of images count as sRGB, whatever colour profile is embedded; otherwise convert them to sRGB.
    compile : bool
        Compile the network; by default where that saves more time than it takes.
    allow_partial : bool
        Accept a weights file that lacks parameters.
    leading : int
        How many of the first layers compute in float32 if the precision is lower: at least so many.
    """

    backbone: str | None = None
    weights: str | None = None
    layers: str | Sequence[str] | None = None
    maps: str | Sequence[str] | None = None
    pooling: str | None = None
    image_size: int | None = None
    resize: str | None = None
    views: str | None = None
    precision: str | None = None
    device: str | None = None
    batch_size: int | None = None
    dtype: str | None = None
    exact_decode: bool | None = None
    ignore_profiles: bool | None = None
    compile: bool | None = None
    allow_partial: bool | None = None
    leading: int | None = None

    def __post_init__(self) -> None:
        for name in ("layers", "maps"):
            names = getattr(self, name)
            object.__setattr__(self, name, names and as_names(names))


def provenance_of(path: Path) -> Provenance | None:
    """Return the provenance of a codes file; None if there is no such file."""
    if not path.exists():
        return None
    with CodesFile.open(path) as file:
        return file.provenance


def settings_of(provenance: Provenance) -> Settings:
    """Return the settings with which the codes of a codes file or of a model file were made.

    Raises
    ------
    MismatchError
        The provenance lacks one of them.
    """
    provenance.require(*SETTINGS_FIELDS)
    preprocessing, runtime = provenance.preprocessing, provenance.runtime
    return Settings(
        backbone=provenance.backbone,
        weights=provenance.weights,
        layers=tuple(provenance.layers),
        maps=tuple(provenance.maps),
        pooling=provenance.pooling,
        image_size=preprocessing.image_size,
        resize=preprocessing.mode,
        views=preprocessing.views,
        precision=provenance.precision,
        device=runtime.device,
        batch_size=runtime.batch_size,
        dtype=provenance.dtype,
        exact_decode=preprocessing.exact,
        ignore_profiles=preprocessing.ignore_profiles,
        compile=runtime.compiled,
        allow_partial=provenance.allow_partial,
        leading=runtime.leading_float32,
    )


def fill_in(settings: Settings, provenance: Provenance | None) -> Settings:
    """Take the settings that are None from an existing file; layers and maps add to those that it has."""
    if provenance is None or settings.backbone not in (None, provenance.backbone):
        return settings  # nothing carries over to another network: the mismatch is named later
    old = settings_of(provenance)
    unset = {item.name: getattr(old, item.name) for item in fields(settings) if getattr(settings, item.name) is None}
    names = {
        name: tuple(dict.fromkeys([*(getattr(old, name) or ()), *(getattr(settings, name) or ())]))
        for name in ("layers", "maps")
    }
    return replace(settings, **unset | names)


def inherited(
    out: Path,
    settings: Settings,
    provenance: Provenance | None,
    default_layers: Sequence[str],
    default_pooling: str,
) -> list[str]:
    """Return a note that names the settings which come from the existing file and are not the defaults.

    Precision, device, batch size and the like are left out, because their defaults depend on the machine.
    """
    if provenance is None:
        return []
    old = settings_of(provenance)
    weights, _ = default_settings(provenance.backbone)
    _, preprocessing = default_settings(provenance.backbone, provenance.weights)
    defaults = {
        "backbone": DEFAULT_BACKBONE,
        "weights": weights,
        "layers": tuple(default_layers),
        "maps": (),
        "pooling": default_pooling,
        "image_size": preprocessing.image_size,
        "resize": preprocessing.mode,
        "views": preprocessing.views,
        "exact_decode": False,
        "ignore_profiles": False,
    }
    words = [
        parameter(name, getattr(old, name))
        for name, default in defaults.items()
        if getattr(settings, name) is None and getattr(old, name) != default
    ]
    return [f"as {out} was made: {' '.join(words)}"] if words else []


def load_named_backbone(settings: Settings) -> Backbone:
    """Load the backbone that the settings name, to be given images as they say; None means the default."""
    name = settings.backbone or named_by_weights(settings.weights) or DEFAULT_BACKBONE
    backbone = load_backbone(
        name, settings.weights, allow_partial=bool(settings.allow_partial), image_size=settings.image_size
    )
    preprocessing = backbone.preprocessing.override(
        settings.image_size,
        settings.resize,
        exact=settings.exact_decode,
        views=settings.views,
        ignore_profiles=settings.ignore_profiles,
    )
    return replace(backbone, preprocessing=preprocessing)


def build_network(
    settings: Settings, workload: Workload | None = None, *, tensors: Mapping[str, np.ndarray] | None = None
) -> FrozenNetwork:
    """Load the network that the settings name, and choose how it runs; None means the default.

    Parameters
    ----------
    settings : Settings
    workload : Workload, optional
    tensors : mapping of str to ndarray, optional
        Parameters that take the place of those of the weights, by their names in the network.

    Raises
    ------
    MismatchError
        The network has no such parameters.
    """
    with inference_settings():
        backbone = load_named_backbone(settings)
        if tensors:
            backbone = backbone.with_tensors({name: torch.from_numpy(array) for name, array in tensors.items()})
        return tuned_network(
            backbone,
            settings.layers or backbone.default_layers,
            settings.pooling,
            device=settings.device or "auto",
            precision=settings.precision or "auto",
            batch_size=settings.batch_size,
            dtype=settings.dtype or "auto",
            compiled=settings.compile,
            leading=settings.leading or 0,
            maps=settings.maps or (),
            workload=workload,
        )


def describe_network(network: FrozenNetwork) -> Provenance:
    """Return the provenance of the codes that a network gives."""
    versions = {name: version(name) for name in ("cnncodes", "torch", "torchvision", "pillow", "simplejpeg")}
    return Provenance.from_dict({**network.backbone.describe(), **network.describe(), "versions": versions})
