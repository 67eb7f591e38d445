"""Imports torchvision, in a process of our own without torch's compiler, which takes longer than all the rest."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version
from types import ModuleType

from cnncodes.system.process import is_own_process

__all__ = ["torchvision_models"]

COMPILER = "torch._dynamo"
# Versions of torchvision whose import asks no more of the compiler than the one function below. Others get all of it.
TRIED = ("0.26.", "0.29.")


def torchvision_models() -> ModuleType:
    """Return `torchvision.models`.

    One operation of torchvision, which no classification network has, asks the compiler a question when it is called.
    While torchvision is imported, a stand-in for the compiler takes note of the question only: seconds less from the
    start of a command to its first image. Whoever needs the compiler afterwards imports the real one. Another thread
    would meet the stand-in, so there is none before `own_process`.
    """
    if (
        is_own_process()
        and "torchvision" not in sys.modules
        and COMPILER not in sys.modules
        and version("torchvision").startswith(TRIED)
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
