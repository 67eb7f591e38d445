"""Every error that cnncodes raises on purpose: one clear line that says what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = [
    "BackboneError",
    "ClusterError",
    "CnnCodesError",
    "CodesFileError",
    "CodesRangeError",
    "DecodeError",
    "DeviceError",
    "ExportError",
    "FoldsError",
    "ImagesError",
    "LabelsError",
    "MismatchError",
    "MissingLibraryError",
    "ModelFileError",
    "ProbeError",
    "RangeError",
    "SettingError",
    "ShapeError",
    "WeightsError",
    "first_line",
    "named_by",
    "nearest",
    "parameter",
]


class CnnCodesError(Exception):
    """Base of all errors that a user can mend; the command line prints it as one line and exits with 1."""


class ImagesError(CnnCodesError):
    """The folder, manifest or arrays that name the images and labels cannot be used."""


class LabelsError(ImagesError, ValueError):
    """Labels are missing, of several types or of the wrong number; a ValueError for users of the estimators."""


class DecodeError(CnnCodesError):
    """One image cannot be turned into pixels; the message is the reason that is recorded for it."""


class BackboneError(CnnCodesError):
    """No such backbone or layer, or the network cannot give what was asked."""


class DeviceError(CnnCodesError):
    """A device to compute on is not there, or its memory is too small."""


class ClusterError(CnnCodesError):
    """A cluster cannot be joined, or its machines do not give the same codes, or none of them is left."""


class WeightsError(CnnCodesError):
    """Weights are missing, damaged, or do not fit the backbone."""


class CodesFileError(CnnCodesError):
    """A codes file is not one, is damaged, or lacks what was asked."""


class CodesRangeError(CodesFileError):
    """A code is too large for the storage type of a codes file."""


class MismatchError(CnnCodesError):
    """Codes, weights or settings do not fit what a codes file or a model was made with."""


class ProbeError(CnnCodesError):
    """A probe cannot be fitted to these codes and labels."""


class FoldsError(ProbeError):
    """The images cannot be dealt into folds."""


class RangeError(ProbeError, ValueError):
    """Codes, or C, are too large to compute with; a ValueError for users of the solvers, as scikit-learn raises."""

    def __init__(self, message: str = "") -> None:
        advice = f"scale them ({parameter('scale', 'shrunk')})"
        super().__init__(message or f"the rows are too large for products, or C is: {advice}")


class SettingError(CnnCodesError, ValueError):
    """A setting has a value that it cannot have."""


class ShapeError(CnnCodesError, ValueError):
    """An array has another shape than the codes that a model was fitted with."""


class ModelFileError(CnnCodesError):
    """A model file is not one, is damaged, or cannot be written."""


class ExportError(CnnCodesError):
    """A model cannot be exported, or what was exported answers otherwise than the model."""


class MissingLibraryError(CnnCodesError, ImportError):
    """A library is missing that only some uses need; the message names the extra that brings it."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'a' or 'b'?"``, or an empty string where nothing is near.

    Examples
    --------
    >>> nearest("resnet5", ["resnet50", "vgg16"])
    " Did you mean 'resnet50'?"
    """
    matches = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(m) for m in matches)}?" if matches else ""


def parameter(name: str, value: Any = ..., *, of: str | None = None) -> str:
    """Return how the user sets a parameter: an argument of Python, or the option where a command runs.

    Parameters
    ----------
    name : str
        Name of the parameter in Python; of an option, the name under which the command gets it.
    value : optional
        Value to set; text in capitals stands for a value that the user knows.
    of : str, optional
        The function, and the command, that has the parameter, if that may be another one than the user has called.

    Examples
    --------
    >>> parameter("precision", "fp32"), parameter("weights", "FILE"), parameter("thumbnails", True, of="extract")
    ("precision='fp32'", 'weights=FILE', 'extract(…, thumbnails=True)')
    """
    return _naming(name, value, of)


@contextmanager
def named_by(naming: Callable[[str, Any, str | None], str]) -> Iterator[None]:
    """Let `parameter` name what the user sets by another function, in all threads of the process."""
    global _naming
    former, _naming = _naming, naming
    try:
        yield
    finally:
        _naming = former


def _as_argument(name: str, value: Any, of: str | None) -> str:
    if value is not ...:
        name += f"={value if isinstance(value, str) and value.isupper() else repr(value)}"
    return name if of is None else f"{of}(…, {name})"


_naming: Callable[[str, Any, str | None], str] = _as_argument


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or the name of its class if it says nothing.

    Examples
    --------
    >>> first_line(RuntimeError("no kernel image\\nCompile with ..."))
    'no kernel image'
    >>> first_line(AssertionError())
    'AssertionError'
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
