"""float32 in full while networks run, and afterwards what the user had set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import cnncodes.forward
from cnncodes.computing import in_memory
from cnncodes.full_float32 import full_float32
from cnncodes.images import load_images
from cnncodes.settings import Settings, build_network


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    yield
    torch.backends.cudnn.allow_tf32 = before[0]
    torch.set_float32_matmul_precision(before[1])


@pytest.mark.parametrize(("tf32", "products"), [(True, "highest"), (True, "medium"), (False, "high")])
def test_nothing_is_rounded_inside_and_all_is_as_before_afterwards(tf32: bool, products: str) -> None:
    torch.backends.cudnn.allow_tf32 = tf32
    torch.set_float32_matmul_precision(products)
    with full_float32():
        assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cudnn.allow_tf32 is tf32
    assert torch.get_float32_matmul_precision() == products


def test_what_was_set_for_one_operation_by_itself_stays() -> None:
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # torch then refuses to tell the setting of all of cuDNN
    with full_float32():
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"
    torch.backends.cudnn.allow_tf32 = True


def test_networks_run_with_float32_in_full(small_sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_float32_matmul_precision("medium")  # products on a processor with bfloat16, too
    seen = set()
    plain = cnncodes.forward.Forward.forward

    def forward(self: cnncodes.forward.Forward, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.add((torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()))
        return plain(self, batch)

    monkeypatch.setattr(cnncodes.forward.Forward, "forward", forward)
    network = build_network(Settings(layers="layer1", precision="fp32"))
    in_memory(load_images(small_sample / "test" / "Bag"), network)
    assert seen == {(False, "highest")}
    assert torch.get_float32_matmul_precision() == "medium"
