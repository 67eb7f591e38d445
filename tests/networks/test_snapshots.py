"""Folders of the Hugging Face hub as weights: what timm saved is loaded as timm loads it, without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import failed, run
from safetensors.torch import load_file, save_file

from cnncodes import load_codes
from cnncodes.errors import BackboneError, WeightsError
from cnncodes.networks.loading import default_settings, load_backbone
from cnncodes.networks.snapshots import find_snapshot
from cnncodes.networks.weights import file_digest

timm = pytest.importorskip("timm")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnncodes.networks.weights._from_hub", lambda repository: pytest.fail("the hub was asked"))
    monkeypatch.setattr("cnncodes.networks.weights._fetch", lambda *args: pytest.fail("a file was fetched"))


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    return save(tmp_path / "snapshot")


def save(folder: Path, **changes: Any) -> Path:
    """What timm itself saves, of a tiny network with three classes; its preprocessing is not that of the network."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = timm.create_model("test_vit", num_classes=3)
    timm.models.save_for_hf(model, folder, safe_serialization=True)
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"] |= {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "crop_pct": 0.8}
    config["pretrained_cfg"]["interpolation"] = "bilinear"
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def rewrite(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    for key, value in changes.items():
        place, _, name = key.rpartition("__")
        (config[place] if place else config)[name] = value
    (folder / "config.json").write_text(json.dumps(config))


def test_a_folder_gives_the_codes_that_timm_gives_and_its_own_preprocessing(snapshot: Path) -> None:
    backbone = load_backbone("timm:test_vit", snapshot)
    prepared = backbone.preprocessing
    assert (prepared.mean, prepared.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (prepared.resize, prepared.image_size, prepared.interpolation) == (200, 160, "bilinear")
    assert backbone.weights == str(snapshot)
    assert backbone.weights_sha256 == file_digest(snapshot / "model.safetensors")
    assert (backbone.licence, backbone.categories, backbone.notes) == ("apache-2.0", None, [])
    model = timm.create_model("test_vit", num_classes=3).eval()
    model.load_state_dict(load_file(snapshot / "model.safetensors"))
    x = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(x), pre_logits=True)
        torch.testing.assert_close(backbone.extractor(["penultimate"])(x)["penultimate"], expected)


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:test_vit.r160_in1k"])
def test_the_file_of_a_folder_stands_for_the_folder(name: str, snapshot: Path) -> None:
    file, folder = load_backbone(name, snapshot / "model.safetensors"), load_backbone(name, snapshot)
    assert file.preprocessing == folder.preprocessing
    assert file.weights_sha256 == folder.weights_sha256
    assert file.weights == str(snapshot / "model.safetensors")


def test_the_cache_of_the_hub_keeps_links(snapshot: Path, tmp_path: Path) -> None:
    """There, the file is called by its digest; under that name it would be read as another kind of file."""
    blob = (snapshot / "model.safetensors").rename(tmp_path / "0123456789abcdef")
    (snapshot / "model.safetensors").symlink_to(blob)
    assert load_backbone("timm:test_vit", snapshot).weights == str(snapshot)
    assert load_backbone("timm:test_vit", snapshot / "model.safetensors").weights.endswith("snapshot/model.safetensors")
    (snapshot / "config.json").unlink()  # a file alone
    save_file(timm.create_model("test_vit").state_dict(), blob)
    alone = load_backbone("timm:test_vit", snapshot / "model.safetensors")
    assert load_backbone("timm:test_vit", alone.weights).weights_sha256 == alone.weights_sha256


def test_the_classes_of_the_head_are_those_that_are_written_beside_it(snapshot: Path) -> None:
    rewrite(snapshot, label_names=["a", "b", "c"])
    assert load_backbone("timm:test_vit", snapshot).categories == ("a", "b", "c")
    for names in (["a", "b"], {"a": 0, "b": 1, "c": 2}, "abc", 3):
        rewrite(snapshot, label_names=names)
        assert load_backbone("timm:test_vit", snapshot).categories is None


def test_the_name_of_a_licence_is_no_essay(snapshot: Path) -> None:
    rewrite(snapshot, pretrained_cfg__license="long " * 1000)
    backbone = load_backbone("timm:test_vit", snapshot)
    assert backbone.licence == "long " * 20
    assert len(backbone.notes[0]) < 300 + len(str(snapshot))


@pytest.mark.parametrize(("saved", "taken"), [(518, 224), (98, 98)])
def test_images_have_the_size_that_was_trained_with_unless_that_is_the_published_one(
    saved: int, taken: int, tmp_path: Path
) -> None:
    options = {"img_size": saved, "depth": 1, "embed_dim": 12, "num_heads": 2}
    model = timm.create_model("vit_small_patch14_dinov2", **options)
    timm.models.save_for_hf(model, tmp_path / "dino", model_args=options, safe_serialization=True)
    backbone = load_backbone("timm:vit_small_patch14_dinov2", tmp_path / "dino")
    assert backbone.preprocessing.image_size == taken
    assert bool(backbone.notes) == (saved != taken)


def test_a_description_of_an_older_timm_is_read(snapshot: Path) -> None:
    config = json.loads((snapshot / "config.json").read_text())
    old = {"architecture": "test_vit", "num_features": 64, **config["pretrained_cfg"], "num_classes": 3}
    del old["license"]
    (snapshot / "config.json").write_text(json.dumps(old))
    backbone = load_backbone("timm:test_vit", snapshot)
    assert backbone.preprocessing.mean == (0.1, 0.2, 0.3)
    assert backbone.licence == "apache-2.0"  # of the published weights with this tag
    rewrite(snapshot, tag="mine")
    assert load_backbone("timm:test_vit", snapshot).licence is None


def test_commands_take_the_folder_and_need_no_name(
    snapshot: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--layer", "penultimate", "--precision", "fp32")
    run("extract", photos, "--weights", "snapshot/", *options)
    by_name = ("--backbone", "timm:test_vit", "--weights", snapshot / "model.safetensors")
    run("extract", photos, "-o", "named.h5", *by_name, *options)
    codes = load_codes("codes.h5")
    np.testing.assert_array_equal(codes, load_codes("named.h5"))
    assert np.ptp(codes) > 0
    assert "0 computed now" in run("extract", photos).stdout  # continued as it was made, without any option
    run("fit", "-C", "1", "--cv", "2")
    before = run("predict", photos).stdout
    snapshot.rename("moved")
    assert "snapshot" in failed("predict", photos)
    assert run("predict", photos, "--weights", "moved").stdout == before
    rewrite(tmp_path / "moved", pretrained_cfg__mean=[0.5, 0.5, 0.5])
    assert "preprocessing.mean is [0.1, 0.2, 0.3], asked [0.5, 0.5, 0.5]" in failed(
        "predict", photos, "--weights", "moved"
    )
    message = failed("extract", photos, "-o", "other.h5", "--backbone", "resnet50", "--weights", "moved")
    assert "moved holds weights of timm:test_vit, not of resnet50: --backbone timm:test_vit" in message


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mobilenet_v2", "holds weights of timm:test_vit, not of mobilenet_v2: backbone='timm:test_vit'"),
        ("timm:test_resnet", "holds weights of timm:test_vit, not of timm:test_resnet"),
        ("timm:test_vit.other", "has no weights 'other'"),
    ],
)
def test_another_network_is_refused_by_name(name: str, expected: str, snapshot: Path) -> None:
    with pytest.raises(BackboneError, match=expected):
        load_backbone(name, snapshot)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"architecture": "test_vit.r160_in1k"}, "names no architecture of timm"),
        ({"architecture": "no_such_network"}, "holds weights of timm:no_such_network, not of timm:test_vit"),
        (
            {"architecture": None, "model_type": "dinov2"},
            "no architecture of timm .model_type 'dinov2', as transformers",
        ),
        ({"model_args__checkpoint_path": "/etc/passwd"}, "sets checkpoint_path, as timm never writes it"),
        ({"model_args__no_such_argument": 1}, "does not fit timm:test_vit"),
        ({"model_args__num_classes": 4}, "does not fit timm:test_vit"),
        ({"model_args": [1]}, "damaged; pretrained_cfg and model_args are tables"),
        ({"pretrained_cfg__mean": "abc"}, "cannot be read"),
        ({"pretrained_cfg__mean": [0.5]}, "cannot be read"),
        ({"pretrained_cfg__crop_pct": -1}, "cannot be read"),
        ({"pretrained_cfg__input_size": [3, 99999, 99999]}, "cannot be read"),
        ({"pretrained_cfg__input_size": [3, 160, 320]}, "expected whole numbers: channels, and a square"),
        ({"pretrained_cfg__input_size": [3, True, True]}, "expected whole numbers"),
        ({"pretrained_cfg__interpolation": "random"}, "cannot be read"),
    ],
)
def test_a_description_that_does_not_fit_is_refused_in_one_line(
    changes: dict[str, Any], expected: str, snapshot: Path
) -> None:
    rewrite(snapshot, **changes)
    with pytest.raises((WeightsError, BackboneError), match=expected) as caught:
        load_backbone("timm:test_vit", snapshot)
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights_or_description_is_refused(snapshot: Path, tmp_path: Path) -> None:
    text = (snapshot / "config.json").read_text()
    (snapshot / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json: cannot be read as JSON"):
        load_backbone("timm:test_vit", snapshot)
    (snapshot / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"has no config\.json\. A single file is given with weights=FILE"):
        load_backbone("timm:test_vit", snapshot)
    (snapshot / "model.safetensors").unlink()
    (snapshot / "config.json").write_text(text)
    with pytest.raises(WeightsError, match=r"has no model\.safetensors \(nor pytorch_model\.bin\)"):
        load_backbone("timm:test_vit", snapshot)


def test_a_pickle_is_never_run(snapshot: Path, tmp_path: Path) -> None:
    weights = load_file(snapshot / "model.safetensors")
    expected = load_backbone("timm:test_vit", snapshot).module.state_dict()
    (snapshot / "model.safetensors").unlink()
    torch.save(weights, snapshot / "pytorch_model.bin")
    state = load_backbone("timm:test_vit", snapshot).module.state_dict()
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    torch.save({"model": Trap(tmp_path / "sprung")}, snapshot / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="holds Python objects beside tensors"):
        load_backbone("timm:test_vit", snapshot)
    assert not (tmp_path / "sprung").exists()


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_stray_description_beside_a_file_does_not_count(tmp_path: Path) -> None:
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "dinov2"}')
    assert find_snapshot(tmp_path / "model.safetensors") is None
    assert load_backbone("timm:test_vit", tmp_path / "model.safetensors").preprocessing.mean == (0.5, 0.5, 0.5)


def test_a_published_name_goes_before_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("random", "IMAGENET1K_V1"):
        Path(name).mkdir()
        assert load_backbone("mobilenet_v2", name).weights == name


def test_what_is_known_of_published_weights_is_told_without_fetching_them() -> None:
    """A file of one's own is continued without those that are the default."""
    assert default_settings("resnet50")[0] == "IMAGENET1K_V1"
    assert default_settings("timm:test_vit")[0] == "r160_in1k"
