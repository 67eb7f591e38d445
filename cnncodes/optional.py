"""Libraries that only tables and pictures need."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["need"]


def need(module: str, what: str) -> Any:
    """Import a module, or say what it is needed for and how to install it.

    Raises
    ------
    ImportError
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise ImportError(f"{what} needs {name}: pip install {name}") from error
