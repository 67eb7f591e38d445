"""Imports of large libraries that take less time in a process of our own."""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from cnncodes.system.process import is_own_process

__all__ = ["deferred", "import_sklearn", "import_torch"]

TRIED_SKLEARN = "1.9."  # while it is imported, it only takes functions from the modules that are put off


class _Function:
    """Stands for a function of a module, which is imported when the function is called."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(self._module), self._name)(*args, **kwargs)


class _Module(ModuleType):
    """Stands for a module of which others take functions, each of them under its name."""

    in_use = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Function(self.__name__, name) if self.in_use else getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def deferred(*modules: str) -> Iterator[None]:
    """While it is entered, let imports of these modules give stand-ins for them.

    What is imported meanwhile keeps functions that import the real module when they are called. Another thread could
    meet a stand-in, so this is for a process of our own (`cnncodes.system.process.own_process`). Nothing happens for
    modules that are not installed, or imported already.

    Parameters
    ----------
    *modules : str
        Full names, as ``"scipy.stats"``.
    """
    stand_ins = [
        _Module(module) for module in modules if module not in sys.modules and importlib.util.find_spec(module)
    ]
    for stand_in in stand_ins:
        _put(stand_in)
    try:
        yield
    finally:
        for stand_in in stand_ins:
            stand_in.in_use = False
            if sys.modules.get(stand_in.__name__) is stand_in:
                _take_away(stand_in)


def _put(stand_in: ModuleType) -> None:
    package, _, name = stand_in.__name__.rpartition(".")
    sys.modules[stand_in.__name__] = stand_in
    if package:
        setattr(sys.modules[package], name, stand_in)


def _take_away(stand_in: ModuleType) -> None:
    package, _, name = stand_in.__name__.rpartition(".")
    del sys.modules[stand_in.__name__]
    if package:
        delattr(sys.modules[package], name)


def import_torch() -> None:
    """In a process of our own, import torch without looking for garbage meanwhile; otherwise do nothing.

    That is a tenth of the import. Nor is any looked for later among what torch has made, which stays.
    """
    if not is_own_process() or "torch" in sys.modules:
        return
    gc.disable()
    try:
        importlib.import_module("torch")
        gc.freeze()
    finally:
        gc.enable()


def import_sklearn() -> None:
    """In a process of our own, import scikit-learn without `scipy.stats` and pandas; otherwise do nothing.

    It takes a few functions from these that no probe calls, and they are half of the import.
    """
    if not is_own_process() or "sklearn" in sys.modules:
        return
    from importlib.metadata import version  # 15 ms, which commands without scikit-learn spare

    if not version("scikit-learn").startswith(TRIED_SKLEARN):
        return
    with deferred("scipy.stats", "pandas"):
        for name in ("linear_model", "model_selection", "neighbors", "pipeline", "preprocessing", "svm"):
            importlib.import_module(f"sklearn.{name}")
