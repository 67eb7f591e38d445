"""What a user is told about the licence of weights."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import run
from safetensors.torch import save_file
from torch import nn

from cnncodes.networks.licences import PERMISSIVE, is_non_commercial, known_licence, licence_notes
from cnncodes.networks.loading import load_backbone
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.networks.registry import find_network, register_backbone, registered_networks

PLAIN = Preprocessing(32, 32, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize("licence", ["CC-BY-NC-4.0", "cc-by-nc-sa-4.0", "fair-noncommercial-research-license"])
def test_a_licence_without_commercial_use_is_told_apart(licence: str) -> None:
    assert is_non_commercial(licence)
    assert licence_notes("tag", licence) == [f"the weights tag are licensed {licence}: no commercial use"]


@pytest.mark.parametrize("licence", ["dinov3-license", "apple-amlr", "gemma", "seer-license"])
def test_a_licence_with_terms_of_its_own_is_noted(licence: str) -> None:
    assert not is_non_commercial(licence)
    assert licence_notes("tag", licence) == [
        f"the weights tag are licensed {licence}, which has terms of its own: read them before you use the codes"
    ]


@pytest.mark.parametrize("licence", ["apache-2.0", "MIT", "BSD-3-Clause", "unknown", "", None])
def test_nothing_is_said_of_a_permissive_licence_or_of_none(licence: str | None) -> None:
    assert licence_notes("tag", licence) == []


def test_every_licence_of_timm_is_permissive_or_noted_and_what_is_unknown_is_none() -> None:
    timm = pytest.importorskip("timm")
    licences = {timm.get_pretrained_cfg(name).license for name in timm.list_pretrained()}
    assert {"apache-2.0", "cc-by-nc-4.0", "dinov3-license", "unknown"} <= licences
    for licence in licences:
        if known_licence(licence) is None:
            assert licence in (None, "unknown")
        else:
            assert bool(licence_notes("tag", licence)) == (licence not in PERMISSIVE)
            assert is_non_commercial(licence) == bool(re.search(r"-nc-|noncommercial", licence))


def test_weights_without_commercial_use_come_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    network = find_network("timm:test_resnet")
    entry = replace(network.weights[network.default], licence="cc-by-nc-4.0", file=tmp_path / "w.safetensors", hub=None)
    save_file(network.build(entry).state_dict(), tmp_path / "w.safetensors")
    monkeypatch.setattr(
        "cnncodes.networks.registry.find_network", lambda name: replace(network, weights={network.default: entry})
    )
    assert load_backbone("timm:test_resnet").notes == [
        "the weights r160_in1k are licensed cc-by-nc-4.0: no commercial use"
    ]


def tiny() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


@pytest.mark.parametrize(("licence", "shown"), [("dinov3-license", "dinov3-license"), (None, "unknown")])
def test_each_command_shows_the_licence_and_says_once_what_it_restricts(
    licence: str | None, shown: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(registered_networks, "licensed", None)
    register_backbone("licensed", tiny, preprocessing=PLAIN, licence=licence, overwrite=True)
    notes = [f"note: {note}" for note in licence_notes("builder", licence)]
    for words in (
        ("extract", photos, "--backbone", "licensed"),
        ("fit", "-C", "1", "--cv", "2"),
        ("predict", photos),
        ("extract", photos),  # as it was made
    ):
        messages = run(*words).stderr.splitlines()
        assert [line for line in messages if "licensed" in line and "backbone" not in line] == notes
    for name in ("codes.h5", "model.safetensors"):
        assert re.search(rf"^licence +{shown}$", run("info", name).stdout, re.MULTILINE)
    assert re.search(rf"licensed .* {shown} *$", run("backbones", "licensed").stdout, re.MULTILINE)
