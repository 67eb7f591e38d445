"""`cnncodes info`: what is in a file."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import run


def test_a_model_file_can_be_looked_at(there: Path) -> None:
    run("fit", "--layer", "layer3", "-C", "0.1")
    info = json.loads(run("info", "model.safetensors", "--json").stdout)
    assert (info["clf"], info["layers"], info["C"], info["backbone"]) == ("svm", ["layer3"], 0.1, "mobilenet_v2")
    assert "layer3" in run("info", "model.safetensors").stdout
