"""Which devices there are to compute on."""

from __future__ import annotations

import torch

from cnncodes.errors import DeviceError, first_line, parameter

__all__ = ["devices_of", "resolve_device"]


def resolve_device(device: str) -> torch.device:
    """Return the torch device of a name, never another one.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}
        ``auto`` is ``cuda`` if there is a CUDA device, else ``cpu``.

    Returns
    -------
    torch.device

    Raises
    ------
    DeviceError
        The device is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(
            f"device {device!r} cannot be used here ({first_line(error)}); try {parameter('device', 'auto')}"
        ) from error


def devices_of(device: torch.device) -> list[torch.device]:
    """Return all GPUs of the machine for ``cuda`` without a number; otherwise the device itself."""
    if device.type == "cuda" and device.index is None:
        return [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    return [device]
