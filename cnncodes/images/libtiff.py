"""Keeps libtiff from writing its own lines to the terminal: what is wrong with a file is said by an error of ours."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from collections.abc import Iterator
from typing import Any

from PIL import Image

__all__ = ["quiet_libtiff"]

_lock = threading.Lock()
_users = 0
_handlers: list[int | None] = []  # those that were there before the first user came


@contextlib.contextmanager
def quiet_libtiff() -> Iterator[None]:
    """Turn off what Pillow's libtiff prints, for the whole process, until the last user has left."""
    global _users
    setters = _setters()
    with _lock:
        _users += 1
        if _users == 1:
            _handlers[:] = [set_handler(None) for set_handler in setters]
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                for set_handler, handler in zip(setters, _handlers, strict=True):
                    set_handler(handler)


@functools.cache
def _setters() -> tuple[Any, ...]:
    """Return the functions of libtiff that set a handler and return the former one; none if they are not found."""
    try:
        library = ctypes.CDLL(Image.core.__file__)  # also finds what this library itself is linked to
        setters = (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler)
    except (AttributeError, OSError):  # a Pillow without libtiff, or with one that shows nothing to others
        return ()
    for setter in setters:
        setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
    return setters
