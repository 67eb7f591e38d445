"""`cnncodes evaluate`: what it shows, and codes that it refuses."""

from __future__ import annotations

from pathlib import Path

from command_line import failed, run


def test_a_model_refuses_codes_of_another_network(there: Path, small_sample: Path) -> None:
    run("fit", "--layer", "layer1", "-C", "1")
    run("extract", small_sample, "-o", "small.h5", "--image-size", "96", "--layer", "layer1")
    message = failed("evaluate", "small.h5")
    assert "image_size" in message
    assert "preprocessing" in message
