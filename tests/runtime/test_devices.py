"""Devices by name: the one that was named, or an error."""

from __future__ import annotations

import pytest
import torch

from cnncodes.errors import DeviceError
from cnncodes.runtime.devices import devices_of, resolve_device


def test_auto_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_gpu, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda has_gpu=has_gpu: has_gpu)
        assert resolve_device("auto") == torch.device(expected)
    assert resolve_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_is_an_error() -> None:
    for name in ("cuda:99", "no such device"):
        with pytest.raises(DeviceError, match=rf"device '{name}' cannot be used here \(.*try device='auto'"):
            resolve_device(name)


def test_cuda_without_an_index_is_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert devices_of(torch.device("cuda")) == [torch.device("cuda", i) for i in range(3)]
    assert devices_of(torch.device("cuda", 1)) == [torch.device("cuda", 1)]
    assert devices_of(torch.device("cpu")) == [torch.device("cpu")]
