"""Libraries that only some uses need: which extra brings each, and the one way to import them."""

from __future__ import annotations

import importlib
from typing import Any

from cnncodes.errors import MissingLibraryError, first_line

__all__ = ["EXTRAS", "require"]

EXTRAS = {
    "aiohttp": "remote",
    "fsspec": "remote",
    "gcsfs": "remote",
    "huggingface_hub": "timm",
    "jinja2": "report",
    "matplotlib": "report",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "pandas": "notebook",
    "ray": "ray",
    "timm": "timm",
}


def require(module: str, what: str) -> Any:
    """Import a module of an optional library.

    Parameters
    ----------
    module : str
        Dotted name of the module.
    what : str
        The use that needs it, for the message.

    Returns
    -------
    module

    Raises
    ------
    MissingLibraryError
        The library, or one that it needs itself, cannot be imported.

    Examples
    --------
    >>> require("no_such_library", "drawing")
    Traceback (most recent call last):
    cnncodes.errors.MissingLibraryError: drawing needs no_such_library: pip install no_such_library
    """
    library = module.partition(".")[0]
    try:
        importlib.import_module(library)
        return importlib.import_module(module)
    except ImportError as error:
        package = f"'cnncodes[{EXTRAS[library]}]'" if library in EXTRAS else library
        reason = "" if error.name == library else f", which cannot be imported ({first_line(error)})"
        raise MissingLibraryError(f"{what} needs {library}{reason}: pip install {package}") from error
