"""Codes against plain torchvision, and against themselves: batch, order, workers, resumption, changed folders."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from bad_images import make_bad_images
from icc_profiles import DISPLAY_P3
from PIL import Image
from torchvision.models.feature_extraction import create_feature_extractor

from cnncodes import compare, evaluate, extract, fit
from cnncodes.codes.file import CodesFile
from cnncodes.codes.load_codes import load_codes
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import BackboneError, CodesFileError, DeviceError, MismatchError, SettingError
from cnncodes.extraction.in_memory import compute_codes, in_memory
from cnncodes.extraction.settings import Settings, build_network
from cnncodes.images.loading import load_images
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.system.shipped import EMBEDDED_WEIGHTS, shipped_path

NODES = {"layer2": "features.6", "layer3": "features.13", "layer4": "features.18"}


@pytest.fixture(scope="module")
def plain(photos: Path) -> dict[str, torch.Tensor]:
    """Maps of plain torchvision, one image at a time, with its own transforms for PIL images."""
    weights = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1
    model = torchvision.models.mobilenet_v2()
    model.load_state_dict(torch.load(shipped_path(EMBEDDED_WEIGHTS), weights_only=True))
    network = create_feature_extractor(model.eval(), [*NODES.values(), "classifier.0"]).eval()
    transform = weights.transforms()
    with torch.inference_mode():
        outputs = [network(transform(Image.open(path))[None]) for path in sorted(photos.rglob("*.png"))]
    return {name: torch.cat([output[name] for output in outputs]) for name in outputs[0]}


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("pooling", ["avg", "max", "gem", "grid2", "flatten"])
def test_codes_equal_those_of_plain_torchvision(photos: Path, plain: dict[str, torch.Tensor], pooling: str) -> None:
    settings = Settings(
        layers=[*NODES, "penultimate"], pooling=pooling, precision="fp32", dtype="float32", exact_decode=True
    )
    codes = in_memory(load_images(photos), build_network(settings)).codes
    by_hand = {
        "avg": lambda x: x.mean((2, 3)),
        "max": lambda x: x.flatten(2).max(-1).values,
        "gem": lambda x: (x.clamp(min=1e-6) ** 3).mean((2, 3)) ** (1 / 3),
        "grid2": lambda x: torch.nn.functional.avg_pool2d(x, x.shape[-1] // 2).flatten(1),
        "flatten": lambda x: x.reshape(len(x), -1),
    }
    for name, node in NODES.items():
        maps = plain[node]
        if pooling == "grid2" and maps.shape[-1] % 2:
            continue  # quarters of an odd map overlap: no plain pooling gives them
        assert relative_error(codes[name], by_hand[pooling](maps).numpy()) <= 1e-5
    assert relative_error(codes["penultimate"], plain["classifier.0"].numpy()) <= 1e-5


@pytest.fixture(scope="module")
def p3_photos(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs that say that their numbers are of Display P3."""
    root = tmp_path_factory.mktemp("p3")
    for path in sorted(photos.rglob("*.png")):
        target = root / path.relative_to(photos)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).convert("RGB").save(target, icc_profile=DISPLAY_P3)
    return root


def test_colour_profiles_change_codes_and_ignoring_them_gives_those_of_torchvision(
    p3_photos: Path, plain: dict[str, torch.Tensor]
) -> None:
    settings = Settings(layers=["penultimate"], precision="fp32", dtype="float32", exact_decode=True)
    in_files, expected = load_images(p3_photos), plain["classifier.0"].numpy()
    opened = load_images([Image.open(path) for path in in_files.sources])
    codes = {}
    for ignored in (False, True):
        network = build_network(replace(settings, ignore_profiles=ignored))
        codes[ignored], in_memory_codes = (
            in_memory(images, network).codes["penultimate"] for images in (in_files, opened)
        )
        assert np.array_equal(codes[ignored], in_memory_codes)
    assert relative_error(codes[True], expected) <= 1e-5
    cosines = (codes[False] * expected).sum(1) / np.linalg.norm(codes[False], axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.max() < 0.9999
    assert cosines.min() > 0.9


@pytest.mark.slow
def test_codes_without_colour_profiles_are_continued_but_never_mixed_with_others(
    p3_photos: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"layers": "penultimate", "image_size": 64, "precision": "fp32"}
    old, new = tmp_path / "old.h5", tmp_path / "new.h5"
    extract(p3_photos, old, **settings, ignore_profiles=True)
    extract(p3_photos, new, **settings)
    before = load_codes(old, "penultimate")
    assert not np.array_equal(before, load_codes(new, "penultimate"))
    with CodesFile.open(old) as file:
        assert "ignore_profiles" not in file.provenance.preprocessing.to_dict()  # as before there was the option
        assert file.provenance.preprocessing.ignore_profiles
    continued = extract(p3_photos, old, layers="layer4")
    assert f"as {old} was made: image_size=64 ignore_profiles=True" in " ".join(continued.notes)
    assert np.array_equal(load_codes(old, "penultimate"), before)
    with pytest.raises(MismatchError, match="ignore_profiles is True, asked False"):
        extract(p3_photos, old, ignore_profiles=False)
    with pytest.raises(MismatchError, match="ignore_profiles is False, asked True"):
        extract(p3_photos, new, ignore_profiles=True)
    for codes, other, words in ((old, new, "False there and True in the model"), (new, old, "True there and False")):
        model = fit(codes, clf="svm", C=1.0, cv=2)
        rows = np.array(
            [one.probability for one in model.predict_images(p3_photos) if one.probability is not None], np.float64
        )
        with CodesFile.open(codes) as file:
            expected = model.predict_proba(file.codes("penultimate")).max(axis=1)
        assert np.allclose(rows, expected, atol=1e-3)
        with pytest.raises(MismatchError, match=f"ignore_profiles is {words}"):
            evaluate(other, model)


def test_codes_of_the_exact_mode_of_older_versions_are_read_but_never_mixed_with_new_ones(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older versions called exact what torch resized, and did not record which library did."""

    def older(preprocessing: Preprocessing) -> dict[str, Any]:
        return {name: value for name, value in newer(preprocessing).items() if name != "resized_by"}

    old = tmp_path / "old.h5"
    settings: dict[str, Any] = {"layers": ["penultimate"], "image_size": 64}
    newer = Preprocessing.to_dict
    with monkeypatch.context() as patch:
        patch.setattr(Preprocessing, "to_dict", older)
        extract(small_sample, old, **settings, exact_decode=True)
    assert load_codes(old, "penultimate").shape == (45, 1280)
    model = fit(old, clf="svm", C=1.0)
    words = "preprocessing.resized_by is 'torch', asked 'pillow'"
    for options in ({}, {"exact_decode": True}):
        with pytest.raises(MismatchError, match=f"{words}. It was made by another version"):
            extract(small_sample, old, **options)
    with pytest.raises(MismatchError, match=words):
        list(model.predict_images(small_sample / "test" / "Bag"))
    new = tmp_path / "new.h5"
    extract(small_sample, new, **settings, exact_decode=True)
    with pytest.raises(MismatchError, match="resized_by is 'pillow' there and 'torch' in the model"):
        evaluate(new, model)
    plain = tmp_path / "plain.h5"
    extract(small_sample, plain, **settings)
    with CodesFile.open(plain) as file:
        assert "resized_by" not in file.provenance.preprocessing.to_dict()
    with pytest.raises(MismatchError, match=f"exact is False, asked True; {words}. Ask for the same"):
        extract(small_sample, plain, exact_decode=True)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_code_of_an_image_is_its_own(photos: Path, precision: str) -> None:
    """Alone, in a batch, shuffled, by one worker or three: the same bits."""
    images = load_images(photos)
    network = build_network(Settings(precision=precision))
    together = in_memory(images, network, workers=1).codes
    three = in_memory(images, network, workers=3).codes
    order = np.random.default_rng(0).permutation(len(images))
    shuffled = in_memory(load_images([images.sources[i] for i in order]), network).codes
    alone = [in_memory(load_images(path), network).codes for path in images.sources]
    for name in network.layers:
        np.testing.assert_array_equal(three[name], together[name])
        np.testing.assert_array_equal(shuffled[name], together[name][order])
        np.testing.assert_array_equal(np.vstack([codes[name] for codes in alone]), together[name])


def test_paths_arrays_and_pil_images_give_the_same_codes(photos: Path) -> None:
    paths = sorted(photos.rglob("*.png"))
    network = build_network(Settings(layers=["layer3"]))
    from_paths, from_pil, from_arrays = (
        in_memory(load_images([kind(path) for path in paths]), network).codes["layer3"]
        for kind in (str, Image.open, lambda path: np.array(Image.open(path)))
    )
    np.testing.assert_array_equal(from_pil, from_paths)
    np.testing.assert_array_equal(from_arrays, from_paths)


def test_layers_in_one_pass_equal_layers_alone(photos: Path) -> None:
    images = load_images(photos)
    full = {"precision": "fp32", "dtype": "float32"}
    together = in_memory(images, build_network(Settings(**full))).codes
    for name, codes in together.items():
        alone = in_memory(images, build_network(Settings(layers=[name], **full))).codes[name]
        np.testing.assert_allclose(codes, alone, rtol=1e-5, atol=1e-6)


def test_defaults_keep_five_layers_and_store_equal_ones_once(sample_codes: Path) -> None:
    with CodesFile.open(sample_codes) as file:
        assert file.layers == ["layer1", "layer2", "layer3", "layer4", "penultimate"]
        assert [file.n_features(name) for name in file.layers] == [24, 32, 96, 1280, 1280]
        assert file.links == {"layer4": "penultimate"}
        assert file.complete
        assert file.classes == ["Bag", "Sandal", "Trouser"]
        assert len(file.rows("train")) == 30
        assert len(file.rows("test")) == 15
        assert file.provenance.weights_sha256.startswith("b0353104")
        assert file.provenance.preprocessing.resize == 256
    X, y = load_codes(sample_codes, "layer3", return_X_y=True)
    assert X.shape == (45, 96)
    assert set(y) == {"Bag", "Sandal", "Trouser"}


def test_a_repeated_command_computes_nothing_and_changes_nothing(small_sample: Path, sample_codes: Path) -> None:
    before = sample_codes.read_bytes()
    again = extract(small_sample, sample_codes)
    assert (again.computed, again.ok, again.failed) == (0, 45, 0)
    assert sample_codes.read_bytes() == before


def test_changed_folders_compute_only_what_is_new(small_sample: Path, sample_codes: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "images", tmp_path / "codes.h5"
    shutil.copytree(small_sample, folder)
    shutil.copy(sample_codes, out)
    bags = sorted((folder / "train" / "Bag").iterdir())
    bags[0].rename(bags[0].with_name("renamed.png"))
    bags[1].unlink()
    shutil.copy(folder / "test" / "Sandal" / os.listdir(folder / "test" / "Sandal")[0], bags[2])  # edited
    Image.new("RGB", (50, 40), "red").save(folder / "train" / "Bag" / "new.png")
    done = extract(folder, out, prune=True)
    assert (done.n, done.ok, done.computed) == (45, 45, 1)  # the edited image is one that is known
    with CodesFile.open(out) as file:
        fresh = compute_codes(load_images(folder), file.provenance)
        assert file.ids.tolist() == load_images(folder).ids
        for name in file.layers:
            np.testing.assert_array_equal(file.codes(name), fresh.codes[name])


def test_two_images_that_change_places_are_noticed(tmp_path: Path) -> None:
    """The same names, sizes and times of change, as after a correction of two labels."""
    for i, letter in enumerate("ab"):
        (tmp_path / "images" / letter).mkdir(parents=True)
        Image.new("RGB", (9, 9), (200 * i, 100, 50)).save(path := tmp_path / "images" / letter / "0.bmp")
        os.utime(path, ns=(10**18, 10**18))
    a, b = (tmp_path / "images" / letter / "0.bmp" for letter in "ab")
    out = tmp_path / "codes.h5"
    extract(tmp_path / "images", out, layers=["layer1"])
    before = load_codes(out, "layer1")
    a.rename(tmp_path / "c.bmp")
    b.rename(a)
    (tmp_path / "c.bmp").rename(b)
    assert extract(tmp_path / "images", out).computed == 0  # both are known by their bytes
    np.testing.assert_array_equal(load_codes(out, "layer1"), before[::-1])


def test_a_file_that_is_being_written_is_not_replaced(small_sample: Path, sample_codes: Path, tmp_path: Path) -> None:
    out = Path(shutil.copy(sample_codes, tmp_path / "codes.h5"))
    before, inode = out.read_bytes(), out.stat().st_ino
    with CodesWriter(out):
        for change in ({"layers": ["features.3"]}, {}):  # a new layout, and the old one
            with pytest.raises(CodesFileError, match="is writing to it"):
                extract(small_sample, out, **change)
    assert (out.read_bytes(), out.stat().st_ino) == (before, inode)
    assert [path.name for path in tmp_path.iterdir()] == ["codes.h5"]


def test_added_layers_are_computed_and_the_others_kept(small_sample: Path, tmp_path: Path) -> None:
    out = tmp_path / "codes.h5"
    extract(small_sample, out, layers=["layer3"])
    before = load_codes(out, "layer3")
    done = extract(small_sample, out, layers=["layer1", "penultimate"])
    assert list(done.layers) == ["layer3", "layer1", "penultimate"]
    assert done.computed == 45
    np.testing.assert_array_equal(load_codes(out, "layer3"), before)
    fresh = tmp_path / "fresh.h5"
    extract(small_sample, fresh, layers=["layer3", "layer1", "penultimate"])
    assert out.read_bytes() == fresh.read_bytes()


def test_what_is_finished_is_used_while_a_layer_is_added(small_sample: Path, tmp_path: Path) -> None:
    folder, out, seen = tmp_path / "images", tmp_path / "codes.h5", []
    shutil.copytree(small_sample, folder)
    (folder / "train" / "Bag" / "broken.png").write_bytes(b"no image")
    settings = {"image_size": 64, "batch_size": 4, "workers": 1}
    extract(folder, out, layers=["penultimate", "layer3"], **settings)
    before = fit(out, C=0.01, cv=2)

    def meanwhile(done: int, total: int, failed: int) -> None:
        if seen or not 0 < done < total:
            return
        with CodesFile.open(out) as file:
            assert (file.finished_layers, file.n_missing, file.top_layer) == (before_layers, 0, "penultimate")
            assert file.counts["pending"] > 0
            with pytest.raises(CodesFileError, match=r"row\(s\) of 'layer1' are pending or damaged"):
                file.codes("layer1")
            np.testing.assert_array_equal(file.codes("penultimate"), codes)
        seen.append(fit(out, C=0.01, cv=2))
        layers = {tuple(row.layers) for row in compare(out, clfs=["svm"], cv=2, repeats=1).probes}
        assert layers == {*((name,) for name in before_layers), tuple(before_layers)}

    with CodesFile.open(out) as file:
        before_layers, codes = file.layers, file.codes("penultimate")
        failures = file.info()["failures"]
    extract(folder, out, layers=["penultimate", "layer3", "layer1"], progress=meanwhile, **settings)
    assert [np.array_equal(one.coef, before.coef) for one in seen] == [True]
    with CodesFile.open(out) as file:
        assert file.finished_layers == file.layers
        assert (file.complete, file.info()["failures"]) == (True, failures)


def test_other_settings_are_refused_naming_each_field(small_sample: Path, sample_codes: Path) -> None:
    before = sample_codes.read_bytes()
    with pytest.raises(MismatchError, match=r"pooling is 'avg', asked 'max'"):
        extract(small_sample, sample_codes, pooling="max")
    with pytest.raises(MismatchError, match=r"preprocessing.image_size is 224, asked 160"):
        extract(small_sample, sample_codes, image_size=160)
    with pytest.raises(MismatchError, match=r"backbone is 'mobilenet_v2', asked 'resnet18'.*-o"):
        extract(small_sample, sample_codes, backbone="resnet18", weights="random")
    assert sample_codes.read_bytes() == before


def test_bad_images_are_recorded_and_the_rest_is_untouched(
    small_sample: Path, sample_codes: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    shutil.copytree(small_sample, folder)
    broken = {"empty.jpg": b"", "text.png": b"hello", "cut.png": b""}
    whole = next((folder / "train" / "Bag").iterdir()).read_bytes()
    broken["cut.png"] = whole[: len(whole) // 2]
    for name, content in broken.items():
        (folder / "train" / "Bag" / name).write_bytes(content)
    done = extract(folder, tmp_path / "codes.h5")
    assert (done.n, done.ok, done.failed) == (48, 45, 3)
    assert set(done.failures) == {f"train/Bag/{name}" for name in broken}
    assert "empty" in done.failures["train/Bag/empty.jpg"]
    for name in ("layer1", "penultimate"):
        np.testing.assert_array_equal(load_codes(tmp_path / "codes.h5", name), load_codes(sample_codes, name))
    again = extract(folder, tmp_path / "codes.h5")
    assert (again.computed, again.failed) == (0, 3)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_folder_of_all_bad_images_gives_the_right_codes_or_reasons(tmp_path: Path) -> None:
    """Over a hundred odd files in one run: broken, of every format and colour model, turned, linked, oddly named."""
    root = tmp_path / "images"
    root.mkdir()
    expected = {name: e for name, e in make_bad_images(root).items() if e.outcome != "skipped"}
    assert len(expected) >= 100
    done = extract(root, tmp_path / "codes.h5", layers=["layer1", "layer2"])
    right = {name: e for name, e in expected.items() if e.outcome == "ok"}
    assert (done.n, done.ok) == (len(expected), len(right))
    assert done.failures.keys() == expected.keys() - right.keys()
    assert all(expected[name].word in reason for name, reason in done.failures.items())

    pictures = load_images([expectation.picture() for expectation in right.values()])
    plain = in_memory(pictures, build_network(Settings(layers=["layer2"]))).codes["layer2"]
    with CodesFile.open(tmp_path / "codes.h5") as file:
        row_of = {name: row for row, name in enumerate(file.ids.tolist())}
        codes = file.codes("layer2", np.array([row_of[name] for name in right]))
    for name, ours, theirs in zip(right, codes, plain, strict=True):
        # Lossy files blur where two colours meet; of all others each bit is the same.
        assert np.array_equal(ours, theirs) if not right[name].tolerance else relative_error(ours, theirs) < 0.1, name


def test_what_cannot_be_written_is_said_at_once(small_sample: Path, tmp_path: Path) -> None:
    with pytest.raises(CodesFileError, match="cannot be written"):
        extract(small_sample, tmp_path / "no" / "codes.h5")
    (tmp_path / "notes.h5").write_text("my notes")
    with pytest.raises(CodesFileError, match="not a codes file"):
        extract(small_sample, tmp_path / "notes.h5")
    assert (tmp_path / "notes.h5").read_text() == "my notes"


def test_unknown_names_are_refused_with_the_nearest(small_sample: Path, tmp_path: Path) -> None:
    out = tmp_path / "codes.h5"
    with pytest.raises(BackboneError, match="mobilenet_v2"):
        extract(small_sample, out, backbone="mobilnet_v2")
    with pytest.raises(BackboneError, match="layer3"):
        extract(small_sample, out, layers=["layer33"])
    with pytest.raises(SettingError, match="avg"):
        extract(small_sample, out, pooling="avgg")
    with pytest.raises(DeviceError, match=r"cuda:77.*device='auto'"):
        extract(small_sample, out, device="cuda:77")
    assert not out.exists()
