"""What an extraction is asked for, against what an existing file was made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cnncodes.codes.file import CodesFile
from cnncodes.errors import MismatchError
from cnncodes.networks.backbone import default_settings, load_backbone
from cnncodes.networks.preprocessing import RESIZED_BY
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.system.process import inference_settings
from cnncodes.vocabulary import DEFAULT_BACKBONE, DEFAULT_POOLING, NO_VIEWS, as_names

__all__ = [
    "Settings",
    "build_network",
    "describe_network",
    "differences",
    "fill_in",
    "held_description",
    "held_settings",
    "in_float32",
    "inherited",
    "refuse_mismatch",
]


UNASKED = ("versions.", "runtime.folded", "runtime.fused")  # what no option sets


@dataclass(frozen=True)
class Settings:
    """What is asked of an extraction; ``None`` means what the existing file was made with, else the default.

    Parameters
    ----------
    backbone : str, default "mobilenet_v2"
    weights : str, optional
        A name of weights, or the path of a file; by default those of the backbone's first choice.
    layers : str or sequence of str, optional
        Module paths or aliases; ``layer1`` … ``layer4`` and ``penultimate`` by default.
    pooling : {"avg", "max", "gem", "grid2", "flatten"}
    image_size : int, optional
        Side in pixels of the square that enters the network; by default that of the weights.
    resize : {"crop", "pad", "squash"}
    precision : {"auto", "fp32", "bf16", "fp16"}
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}
    batch_size : int, optional
    dtype : {"auto", "float16", "float32"}
        Of the codes in the file; ``auto`` is float16 for each layer whose codes it holds.
    views : {"none", "flip", "10crop"}
        What is kept of each image: its codes; or also those of its mirror image; or those of its four corners and its
        centre, and of the same of its mirror image.
    exact_decode : bool
        Decode JPEG files at full size and resize with Pillow: bit for bit the pixels that the transforms of the weights
        make of an RGB PIL image.
    compile : bool
        Compile the network; by default where that saves more time than it takes.
    allow_partial : bool
        Accept a weights file that lacks parameters.
    """

    backbone: str | None = None
    weights: str | None = None
    layers: str | Sequence[str] | None = None
    pooling: str | None = None
    image_size: int | None = None
    resize: str | None = None
    views: str | None = None
    precision: str | None = None
    device: str | None = None
    batch_size: int | None = None
    dtype: str | None = None
    exact_decode: bool | None = None
    compile: bool | None = None
    allow_partial: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", self.layers and as_names(self.layers))


def held_description(out: Path) -> dict[str, Any] | None:
    if not out.exists():
        return None
    with CodesFile.open(out) as file:
        return file.description


def held_settings(description: Mapping[str, Any]) -> Settings:
    """Return the settings that a codes file or a model file was made with.

    Raises
    ------
    MismatchError
        The description lacks one of them.
    """
    try:
        preprocessing, runtime = description["preprocessing"], description["runtime"]
        return Settings(
            backbone=description["backbone"],
            weights=description["weights"],
            layers=tuple(description["layers"]),
            pooling=description["pooling"],
            image_size=preprocessing["image_size"],
            resize=preprocessing["mode"],
            views=preprocessing.get("views", NO_VIEWS),
            precision=description["precision"],
            device=runtime["device"],
            batch_size=runtime["batch_size"],
            dtype=description["dtype"],
            exact_decode=preprocessing["exact"],
            compile=runtime["compiled"],
            allow_partial=description.get("allow_partial", False),
        )
    except (KeyError, TypeError) as error:
        raise MismatchError(
            f"the description of how the codes were made lacks {error}: another version wrote it; extract again"
        ) from error


def fill_in(asked: Settings, held: Mapping[str, Any] | None) -> Settings:
    """Take what was not asked from the description of the existing file; layers add to those that it has."""
    if held is None or asked.backbone not in (None, held.get("backbone")):
        return asked  # of another network nothing carries over: the mismatch is named later
    known = held_settings(held)
    unset = {item.name: getattr(known, item.name) for item in fields(asked) if getattr(asked, item.name) is None}
    return replace(asked, **{**unset, "layers": tuple(dict.fromkeys([*(known.layers or ()), *(asked.layers or ())]))})


def inherited(out: Path, asked: Settings, held: Mapping[str, Any] | None, network: FrozenNetwork) -> list[str]:
    """Say in one note which settings were not asked, are not the default, and so were taken from the existing file.

    Precision, device, size of batches and the like are left out: there, the default depends on the machine.
    """
    if held is None:
        return []
    known, backbone = held_settings(held), held["backbone"]
    weights, _ = default_settings(backbone)
    _, preprocessing = default_settings(backbone, known.weights)
    options = {  # field: option, default
        "backbone": ("--backbone {}", DEFAULT_BACKBONE),
        "weights": ("--weights {}", weights),
        "layers": ("--layer {}", tuple(network.backbone.default_layers)),
        "pooling": ("--pool {}", DEFAULT_POOLING),
        "image_size": ("--image-size {}", preprocessing.image_size),
        "resize": ("--resize {}", preprocessing.mode),
        "views": ("--views {}", preprocessing.views),
        "exact_decode": ("--exact-decode", False),
    }
    words = []
    for name, (option, default) in options.items():
        value = getattr(known, name)
        if getattr(asked, name) is None and value != default:
            words += [option.format(one) for one in (value if isinstance(value, tuple) else (value,))]
    return [f"as {out} was made: {' '.join(words)}"] if words else []


def build_network(settings: Settings) -> FrozenNetwork:
    with inference_settings():
        backbone = load_backbone(
            settings.backbone or DEFAULT_BACKBONE, settings.weights, allow_partial=bool(settings.allow_partial)
        )
        preprocessing = backbone.preprocessing.override(
            settings.image_size, settings.resize, exact=settings.exact_decode, views=settings.views
        )
        return FrozenNetwork(
            replace(backbone, preprocessing=preprocessing),
            settings.layers or backbone.default_layers,
            settings.pooling or DEFAULT_POOLING,
            device=settings.device or "auto",
            precision=settings.precision or "auto",
            batch_size=settings.batch_size,
            dtype=settings.dtype or "auto",
            compiled=bool(settings.compile),
        )


def describe_network(network: FrozenNetwork) -> dict[str, Any]:
    versions = {name: version(name) for name in ("cnncodes", "torch", "torchvision", "pillow", "simplejpeg")}
    return {**network.backbone.describe(), **network.describe(), "versions": versions}


def in_float32(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of the same codes, kept in float32."""
    layers = {name: {**layer, "dtype": "float32"} for name, layer in description["layers"].items()}
    return {**description, "dtype": "float32", "layers": layers}


def refuse_mismatch(out: Path, held: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise `MismatchError` where a codes file was made with other settings than those asked for."""
    if found := differences(held, asked):
        elsewhere = any(one.startswith(UNASKED) for one in found)
        elsewhere |= all(one.startswith("preprocessing.resized_by") for one in found)  # follows from two options
        ask = "It was made by another version, or on another kind of machine:" if elsewhere else "Ask for the same,"
        raise MismatchError(
            f"{out} was made otherwise: {'; '.join(found)}. {ask} choose another file with -o, or delete it"
        )


def differences(
    held: Mapping[str, Any], asked: Mapping[str, Any], *, every: bool = False, prefix: str = ""
) -> list[str]:
    """Name each field in which two descriptions differ; layers and our own version only if `every` one counts."""
    found = []
    for name in sorted({*held, *asked}):
        if not every and ((not prefix and name in ("layers", "links")) or (prefix, name) == ("versions.", "cnncodes")):
            continue
        usual = RESIZED_BY if name == "resized_by" else None
        was, now = held.get(name, usual), asked.get(name, usual)
        if isinstance(was, dict) and isinstance(now, dict):
            found += differences(was, now, every=every, prefix=f"{prefix}{name}.")
        elif was != now:
            found.append(f"{prefix}{name} is {was!r}, asked {now!r}")
    return found
