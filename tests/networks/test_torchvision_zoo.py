"""torchvision without torch's compiler: the same networks and operations, and the real compiler for who needs it."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from cnncodes.system.process import own_process
from cnncodes.networks.torchvision_zoo import torchvision_models
own_process()
models = torchvision_models()
assert not [name for name in sys.modules if name.startswith("torch._dynamo")], "the compiler was imported"
import torch
network = models.squeezenet1_1().eval()
with torch.inference_mode():
    print(tuple(network(torch.zeros(1, 3, 64, 64)).shape))
    assert "torch._dynamo" not in sys.modules
    # the operation that asks: deterministic CUDA kernels are compiled, others are not
    from torchvision.ops import roi_align
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    print(roi_align(maps, torch.tensor([[0.0, 0, 0, 3, 3]]), 1, aligned=True).flatten().tolist())
from torchvision.ops import roi_align as module
import importlib
print(importlib.import_module("torchvision.ops.roi_align").is_compile_supported("cpu"))
import torch._dynamo
print(torch._dynamo.utils.is_compile_supported("cpu"), len(dir(torch._dynamo)) > 40)
print(torch.compile(lambda x: 2 * x, backend="eager")(torch.ones(2)).tolist())
"""


def test_networks_and_operations_work_before_and_after_the_compiler_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["(1, 1000)", "[5.0]", "True", "True True", "[2.0, 2.0]"]


def test_the_compiler_is_left_in_place_in_a_process_that_is_not_ours() -> None:
    script = "\n".join(line for line in SCRIPT.splitlines() if "own_process" not in line)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "the compiler was imported" in done.stderr
