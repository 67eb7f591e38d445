"""The classification networks of torchvision and their published weights."""

from __future__ import annotations

import functools
import importlib
import sys
from importlib.metadata import version
from types import ModuleType
from typing import Any

from torch import nn

from cnncodes.networks.facts import FIRST_CHOICE, TORCHVISION_FACTS, facts_of
from cnncodes.networks.licences import TORCHVISION_LICENCE, known_licence
from cnncodes.networks.network import Network
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.networks.weights import WeightsEntry
from cnncodes.system.process import is_own_process

__all__ = ["torchvision_models", "torchvision_names", "torchvision_network"]

COMPILER = "torch._dynamo"
# Importing these versions takes one function of the compiler, the one below. Other versions get the real compiler.
TRIED_VERSIONS = ("0.26.", "0.29.")


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
        licence=known_licence(meta.get("license")) or TORCHVISION_LICENCE,
        categories=tuple(meta["categories"]) if meta.get("categories") else None,
        top1=meta["_metrics"].get("ImageNet-1K", {}).get("acc@1"),
        n_params=meta["num_params"],
    )


def torchvision_models() -> ModuleType:
    """Return `torchvision.models`.

    One operation of torchvision, which no classification network has, asks the compiler a question when it is called.
    While torchvision is imported, a stand-in takes the place of the compiler, whose import takes seconds. Code that
    needs the compiler afterwards imports the real one. Another thread could meet the stand-in, so it is used only in a
    process of our own (`own_process`).
    """
    if (
        is_own_process()
        and "torchvision" not in sys.modules
        and COMPILER not in sys.modules
        and version("torchvision").startswith(TRIED_VERSIONS)
    ):
        package, functions = ModuleType(COMPILER), ModuleType(f"{COMPILER}.utils")
        functions.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
        sys.modules.update({package.__name__: package, functions.__name__: functions})
        try:
            importlib.import_module("torchvision")
        finally:
            del sys.modules[package.__name__], sys.modules[functions.__name__]
    return importlib.import_module("torchvision.models")


def _is_compile_supported(device_type: str) -> bool:
    return importlib.import_module(f"{COMPILER}.utils").is_compile_supported(device_type)
