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


def test_evaluate_by_the_classes_of_the_network_itself(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "palace").symlink_to(photos / "china")
    result = run("evaluate", tmp_path, "--model", "imagenet")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[:2] == [["images", "3"], ["network", "mobilenet_v2,", "by", "its", "own", "head"]]
    assert lines[2][:3] == ["held-out", "accuracy", "66.7"]
    assert "--backbone resnet18 belongs to -m imagenet" in failed("evaluate", tmp_path, "--backbone", "resnet18")
