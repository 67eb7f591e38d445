"""The device on which the products of a fit are computed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import numpy as np

from cnncodes.errors import DeviceError, parameter
from cnncodes.solvers.matrix import Matrix, Rows

__all__ = ["computing_on", "on_cpu", "rows_of"]

_device: ContextVar[str | None] = ContextVar("device", default=None)


@contextlib.contextmanager
def computing_on(device: str | None) -> Iterator[None]:
    """Compute the products of all fits inside on a device: objectives and solutions stay the same.

    Parameters
    ----------
    device : str, optional
        ``cuda`` or ``cuda:N``; None or ``cpu`` is the processor.

    Raises
    ------
    DeviceError
        The device cannot be used, or its memory is too small.

    Examples
    --------
    >>> with computing_on("cuda"):  # doctest: +SKIP
    ...     DenseLinearSVC().fit(X, y)
    """
    token = _device.set(None if device == "cpu" else device)
    try:
        rows_of(np.zeros((1, 1)))  # refuses a device that is not there before anything is computed
        yield
    except RuntimeError as error:  # by name: torch need not be imported for its class
        if type(error).__name__ != "OutOfMemoryError":
            raise
        advice = f"leave {parameter('device')} out"
        raise DeviceError(f"the memory of {device} is too small for this fit; {advice}") from error
    finally:
        _device.reset(token)


def on_cpu() -> bool:
    """Whether products are computed on the processor."""
    return _device.get() is None


def rows_of(X: Matrix, bias: float = 0.0) -> Rows:
    """Return the rows of a matrix, to be multiplied on the device that `computing_on` has set."""
    if (device := _device.get()) is None:
        return Rows(X, bias)
    from cnncodes.solvers.gpu_matrix import DeviceRows

    return DeviceRows(X, bias, device)
