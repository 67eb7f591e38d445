"""torch without what only its compiler needs: the same operations, and the real module for the compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from cnncodes.system.torch_import import TRIED_VERSIONS

IMPORT_TORCH = """
import sys
from cnncodes.system.process import own_process
from cnncodes.system.torch_import import import_torch
{own}
import_torch()
print("torch" in sys.modules)
import gc, torch
print(gc.isenabled(), gc.get_freeze_count() > 10_000)
part = "torch._meta_registrations"
print(part in sys.modules or part.rpartition(".")[2] in vars(torch))
print(torch.nn.Conv2d(1, 1, 1, bias=False)(torch.zeros(1, 1, 2, 2)).shape == (1, 1, 2, 2))
import torch._dynamo, torch._decomp.decompositions
real = sys.modules[part]
print(torch._meta_registrations is real, len(vars(real)) > 100)
print(torch.nn.functional.conv2d(torch.empty(2, 3, 8, 8, device="meta"), torch.empty(5, 3, 3, 3, device="meta")).shape)
print(torch.compile(lambda x: torch.nn.functional.relu(x) * 2, backend="aot_eager")(torch.tensor([-1.0, 3.0])).tolist())
"""


@pytest.mark.parametrize("own", [False, True])
def test_in_a_process_of_our_own_torch_is_imported_without_what_only_its_compiler_needs(own: bool) -> None:
    program = IMPORT_TORCH.format(own="own_process()" if own else "")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    left_out = own and torch.__version__.startswith(TRIED_VERSIONS)
    shape = "torch.Size([2, 5, 6, 6])"
    started = [str(own), f"True {own}", str(not left_out)]
    assert done.stdout.splitlines() == [*started, "True", "True True", shape, "[0.0, 6.0]"]
