"""Products are computed on the processor unless a device is named, and only as long as that lasts."""

from __future__ import annotations

import numpy as np
import pytest

from cnncodes.errors import DeviceError
from cnncodes.solvers.device import _device, computing_on, rows_of
from cnncodes.solvers.gpu_matrix import DeviceRows
from cnncodes.solvers.matrix import Rows

X = np.eye(3)


@pytest.mark.parametrize("name", ["cpu", None])
def test_the_processor_needs_no_torch(name):
    with computing_on(name):
        assert type(rows_of(X)) is Rows


def test_the_device_before_is_that_of_afterwards():
    token = _device.set("cpu")  # torch's processor, which needs no GPU
    try:
        assert type(rows_of(X, 2.0)) is DeviceRows
        with computing_on(None):
            assert type(rows_of(X)) is Rows
        with pytest.raises(ValueError, match="of the caller"), computing_on(None):
            raise ValueError("of the caller")
        assert type(rows_of(X)) is DeviceRows
    finally:
        _device.reset(token)
    assert type(rows_of(X)) is Rows


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_cannot_be_used_is_named(device: str) -> None:
    with pytest.raises(DeviceError, match=f"{device}.*cannot be used to fit"), computing_on(device):
        pass
    assert type(rows_of(X)) is Rows
