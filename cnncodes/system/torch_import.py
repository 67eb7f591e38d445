"""Imports torch as fast as that can be done, for a program that has its process to itself."""

from __future__ import annotations

import gc
import importlib
import sys
from importlib.metadata import version
from types import ModuleType

from cnncodes.system.process import is_own_process

__all__ = ["import_torch"]

ONLY_COMPILER = "torch._meta_registrations"
TRIED_VERSIONS = ("2.15.",)  # other versions are imported whole


def import_torch() -> None:
    """In a process of our own, import torch as fast as that can be done; otherwise do nothing.

    Functions for tensors without data, which only the compiler needs, are a quarter of the import. While torch is
    imported, an empty module stands in for them; the compiler imports the real one. Another thread could meet the
    stand-in, so it is used only in a process of our own. Nor is garbage looked for meanwhile, which is a tenth of the
    import, or later among what torch has made, which stays.
    """
    if not is_own_process() or "torch" in sys.modules:
        return
    gc.disable()
    try:
        if version("torch").startswith(TRIED_VERSIONS):
            _import_without(ONLY_COMPILER)
        importlib.import_module("torch")
        gc.freeze()
    finally:
        gc.enable()


def _import_without(part: str) -> None:
    """Import the package of a module, with an empty module in its place, which is gone afterwards."""
    package, _, name = part.rpartition(".")
    sys.modules[part] = ModuleType(part)
    try:
        vars(importlib.import_module(package)).pop(name, None)
    finally:
        del sys.modules[part]
