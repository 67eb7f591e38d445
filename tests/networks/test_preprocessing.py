"""Geometry and normalisation against torchvision's own transforms."""

from __future__ import annotations

import functools
import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from cnncodes.errors import MismatchError, SettingError
from cnncodes.images.decoding import decode
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.networks.registry import find_network
from cnncodes.networks.torchvision_zoo import torchvision_names
from cnncodes.vocabulary import RESIZE_MODES

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PLAIN = Preprocessing(256, 224, "bilinear", **IMAGENET)
EXACT = PLAIN.override(exact=True)


def random_pixels(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8))


def smooth_pixels(height: int, width: int) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(height) / 9, torch.arange(width) / 9, indexing="ij")
    return torch.stack([127 + 120 * torch.sin(x + k) * torch.cos(y - k) for k in range(3)]).round().to(torch.uint8)


def run_measured(code: str) -> dict:
    """Run code in a new process; it prints JSON."""
    measure = "import resource\ndef peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
    run = subprocess.run([sys.executable, "-c", measure + code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


# Geometry


SHAPES = (  # height, width: landscape, portrait, tiny, one pixel wide, just below and above the crop, long, large
    *((375, 500), (500, 333), (28, 28), (31, 47), (1, 1), (2, 3), (1, 40), (40, 1)),
    *((255, 257), (256, 256), (223, 600), (225, 224), (15, 240), (700, 50), (3, 200), (1201, 1600)),
)


def distinct_presets() -> list[str]:
    """The name of one torchvision weights for each way to prepare images that there is."""
    from torchvision.models import get_model_weights

    weights = [one for name in torchvision_names() for one in get_model_weights(name)]
    return [str(one) for one in {repr(one.transforms()): one for one in reversed(weights)}.values()]


def exact_preprocessing(name: str) -> Preprocessing:
    """What the package makes of torchvision weights that are called ``Family_Weights.NAME``."""
    from torchvision.models import get_model_weights

    family, weights = name.split(".")
    network = next(one for one in torchvision_names() if get_model_weights(one).__name__ == family)
    return find_network(network).weights[weights].preprocessing.override(exact=True)


@functools.cache
def shared_pixels(shape: tuple[int, int]) -> torch.Tensor:
    return smooth_pixels(*shape) if sum(shape) > 1000 else random_pixels(*shape)


def pil_image(pixels: torch.Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("name", distinct_presets())
def test_exact_is_bit_for_bit_what_torchvision_makes_of_pil_images(name):
    from torchvision.models import get_weight

    ours, transforms = exact_preprocessing(name), get_weight(name).transforms()
    for shape in SHAPES if ours.image_size < 300 else SHAPES[:6]:  # large squares take long
        pixels = shared_pixels(shape)
        before = pixels.clone()
        got = ours.geometry(pixels)
        assert got.dtype == torch.uint8
        assert got.is_contiguous()
        assert torch.equal(ours.normalise(got[None])[0], transforms(pil_image(pixels))), shape
        assert torch.equal(pixels, before)


@pytest.mark.parametrize("name", ["MobileNet_V2_Weights.IMAGENET1K_V1", "EfficientNet_B0_Weights.IMAGENET1K_V1"])
@pytest.mark.parametrize(
    ("mode", "file_format"),
    [("RGB", "PNG"), ("RGB", "JPEG"), ("L", "PNG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("P", "GIF"), ("1", "TIFF")],
)
def test_exact_files_of_every_mode_are_those_of_pil_converted_to_rgb(name, mode, file_format):
    from torchvision.models import get_weight

    ours = exact_preprocessing(name)
    for height, width in ((301, 450), (1300, 1000), (20, 90)):
        file = io.BytesIO()
        pil_image(smooth_pixels(height, width)).convert(mode).save(file, file_format)
        got = ours.geometry(torch.from_numpy(decode(file.getvalue(), enough=ours.enough)))
        expected = get_weight(name).transforms()(Image.open(file).convert("RGB"))
        assert torch.equal(ours.normalise(got[None])[0], expected), (height, width)


def test_exact_transparency_is_laid_over_white_before_the_resize():
    from torchvision.models import MobileNet_V2_Weights

    image = pil_image(smooth_pixels(200, 300)).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    file = io.BytesIO()
    image.save(file, "PNG")
    white = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    got = EXACT.geometry(torch.from_numpy(decode(file.getvalue(), enough=EXACT.enough)))
    assert torch.equal(EXACT.normalise(got[None])[0], MobileNet_V2_Weights.IMAGENET1K_V1.transforms()(white))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_exact_squash_pad_and_ten_crops_are_resized_by_pillow(interpolation):
    from torchvision.transforms import functional

    plain = Preprocessing(256, 224, interpolation, **IMAGENET, exact=True)
    resample = Image.Resampling[interpolation.upper()]
    for height, width in SHAPES[::2]:
        pixels = random_pixels(height, width)
        image = pil_image(pixels)
        squashed = functional.pil_to_tensor(image.resize((224, 224), resample))
        assert torch.equal(plain.override(mode="squash").geometry(pixels), squashed)
        assert torch.equal(
            plain.override(mode="squash", views="flip").squares(pixels), torch.stack([squashed, squashed.flip(-1)])
        )
        scale = 224 / max(height, width)
        inner = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), resample)
        padded = Image.new("RGB", (224, 224), (124, 116, 104))
        padded.paste(inner, ((224 - inner.width) // 2, (224 - inner.height) // 2))
        assert torch.equal(plain.override(mode="pad").geometry(pixels), functional.pil_to_tensor(padded))
        whole = functional.resize(image, 256, functional.InterpolationMode(interpolation))
        crops = torch.stack([functional.pil_to_tensor(crop) for crop in functional.ten_crop(whole, 224)])
        assert torch.equal(plain.override(views="10crop").squares(pixels), crops)


def test_bicubic_pixels_are_pillows_without_the_option_too():
    bicubic = Preprocessing(256, 224, "bicubic", **IMAGENET)
    pixels = smooth_pixels(300, 400)
    assert torch.equal(bicubic.geometry(pixels), bicubic.override(exact=True).geometry(pixels))


# timm's own transform of a few weights is another: with a border, cut out of a larger squash, or not square.
OTHERWISE_IN_TIMM = ("border", "cut after squash", "not square")


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 20])
def test_exact_is_bit_for_bit_what_timm_makes_of_pil_images(step):
    timm = pytest.importorskip("timm")
    from timm.data import create_transform, resolve_data_config

    from cnncodes.networks.timm_zoo import timm_entry

    configurations = [timm.get_pretrained_cfg(name) for name in timm.list_pretrained()]
    otherwise = dict.fromkeys(OTHERWISE_IN_TIMM, 0)
    distinct = {}
    for cfg in configurations:
        data = resolve_data_config({}, pretrained_cfg=cfg.to_dict())
        if data["crop_mode"] == "border":
            otherwise["border"] += 1
        elif data["input_size"][1] != data["input_size"][2]:
            otherwise["not square"] += 1
        elif data["crop_mode"] == "squash" and data["crop_pct"] < 1:
            otherwise["cut after squash"] += 1
        else:
            distinct.setdefault(repr(data), (cfg, data))
    assert sum(otherwise.values()) < 0.02 * len(configurations)
    for cfg, data in list(distinct.values())[::step]:
        ours, theirs = timm_entry(cfg).preprocessing.override(exact=True), create_transform(**data, is_training=False)
        for shape in ((75, 100), (300, 211)):
            pixels = random_pixels(*shape)
            got = ours.normalise(ours.geometry(pixels)[None])[0]
            assert torch.equal(got, theirs(pil_image(pixels))), (data, shape)


@pytest.mark.parametrize("mode", ["crop", "squash"])
def test_pixels_are_those_that_torchvision_gives_for_pil_images(mode):
    from PIL import Image
    from torchvision.transforms import functional

    for height, width in ((375, 500), (333, 250), (28, 28), (256, 256), (15, 240), (1000, 1500), (2, 2), (1, 40)):
        for pixels in (random_pixels(height, width), smooth_pixels(height, width)):
            image = functional.resize(Image.fromarray(pixels.permute(1, 2, 0).numpy()), [256, 256])
            if mode == "crop":
                image = functional.resize(Image.fromarray(pixels.permute(1, 2, 0).numpy()), 256)
                image = functional.center_crop(image, 224)
            expected = functional.pil_to_tensor(image).int()
            ours = PLAIN.override(256 if mode == "squash" else 224, mode).geometry(pixels).int()
            difference = (ours - expected).abs()
            assert difference.max() <= 1
            assert difference.float().mean() <= (0.3 if min(height, width) < 300 or mode == "squash" else 0.01)


def test_any_size_is_resized_to_any():
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width, size, resize = rng.integers(1, 7, 4).tolist()
        plain = Preprocessing(resize, size, "bilinear", **IMAGENET, mode=["crop", "pad", "squash"][size % 3])
        pixels = random_pixels(height, width)
        rough, exact = plain.geometry(pixels), plain.override(exact=True).geometry(pixels)
        assert (rough.int() - exact.int()).abs().max() <= 1


@pytest.mark.parametrize(("mode", "least"), [("crop", (683, 512)), ("pad", (500, 375)), ("squash", (448, 448))])
def test_a_large_image_need_only_be_decoded_to_twice_its_later_size(mode, least):
    assert PLAIN.override(mode=mode).enough(4000, 3000) == least
    assert PLAIN.override(mode=mode).enough(3000, 4000) == least[::-1]
    assert PLAIN.override(mode=mode, exact=True).enough(4000, 3000) == (4000, 3000)


def test_an_image_that_is_padded_keeps_its_shape_at_reduced_scale():
    pad = PLAIN.override(mode="pad")
    assert pad.enough(4000, 2669) == (1000, 667)  # at an eighth, 334 of 2,669 rows would become 150 of 224, not 149
    assert pad.enough(4000, 5) == (500, 1)
    assert pad.enough(800, 600) == (800, 600)
    for width, height in np.random.default_rng(0).integers(200, 5000, (300, 2)).tolist():
        wide, high = pad.enough(width, height)
        part = round(width / wide)
        assert part in (1, 2, 4, 8)
        assert part == 1 or max(wide, high) >= 448
        shapes = [
            max(1, round(224 * min(size) / max(size))) for size in ((width, height), _decoded(width, height, part))
        ]
        assert shapes[0] == shapes[1]


def _decoded(width, height, part):
    return round(width / part), round(height / part)


@pytest.mark.parametrize("shape", [(20, 500), (20, 501), (500, 21), (17, 300)])
def test_long_images_are_cut_before_and_look_the_same(shape):
    """Without the exact mode; and in it, where they would become larger than memory should hold."""
    pixels = smooth_pixels(*shape)
    assert (PLAIN.geometry(pixels).int() - EXACT.geometry(pixels).int()).abs().max() <= 2  # grey levels: rounding


def test_in_exact_mode_only_absurdly_long_images_are_cut_before(monkeypatch):
    pixels = smooth_pixels(3, 1000)
    whole = EXACT.geometry(pixels)
    monkeypatch.setattr("cnncodes.networks.preprocessing.RESIZED_PIXELS", 256**2 * 100)
    cut = EXACT.geometry(pixels)
    assert 0 < (whole.int() - cut.int()).abs().max() <= 2


def test_long_images_need_little_memory():
    code = """
import json
import torch
from cnncodes.networks.preprocessing import Preprocessing
torch.set_num_threads(1)
def square(mode, *shape, exact=False):
    pixels = torch.full((3, *shape), 7, dtype=torch.uint8)
    pixels[:, shape[0] // 2 - 1 : shape[0] // 2 + 1, shape[1] // 2 - 1 : shape[1] // 2 + 1] = 200
    return Preprocessing(256, 224, "bilinear", (0.5,) * 3, (0.5,) * 3, mode, exact).geometry(pixels)
square("crop", 8, 8)
before = peak()
centre = [square("crop", *shape)[0, 112, 112].item() for shape in ((2, 20_000), (20_000, 2))]
for mode in ("crop", "pad", "squash"):
    for shape in ((1, 20_000), (20_000, 1), (1, 65_535)):
        assert square(mode, *shape).shape == (3, 224, 224)
grown = peak() - before
centre += [square("crop", *shape, exact=True)[0, 112, 112].item() for shape in ((2, 20_000), (65_535, 1))]
print(json.dumps({"grown": grown, "grown_exact": peak() - before, "centre": centre}))
"""
    measured = run_measured(code)
    assert measured["grown"] < 200  # MiB
    assert measured["grown_exact"] < 500
    assert measured["centre"] == [200, 200, 200, 200]


def test_pad_shows_the_whole_image_on_the_mean_colour():
    pixels = torch.full((3, 50, 100), 10, dtype=torch.uint8)
    padding = Preprocessing(256, 224, "bilinear", **IMAGENET, mode="pad")
    square = padding.geometry(pixels)
    by_hand = torch.tensor([124, 116, 104], dtype=torch.uint8).view(3, 1, 1).repeat(1, 224, 224)
    by_hand[:, 56:168] = 10
    assert torch.equal(square, by_hand)
    assert padding.normalise(square[None])[0, :, :56].abs().max() < 0.01
    tall = padding.geometry(pixels.transpose(1, 2))
    assert torch.equal(tall, by_hand.transpose(1, 2))
    assert padding.geometry(torch.zeros(3, 1, 1, dtype=torch.uint8)).max() == 0


def test_normalise_by_hand():
    batch = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    got = PLAIN.normalise(batch).flatten().tolist()
    assert got == pytest.approx([-0.485 / 0.229, (128 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225], rel=1e-6)
    assert batch.flatten().tolist() == [0, 128, 255]


@pytest.mark.parametrize(("size", "resize"), [(None, 256), (112, 128), (100, 114), (1, 1), (448, 512)])
def test_another_size_keeps_the_ratio(size, resize):
    other = PLAIN.override(size, "pad")
    assert (other.resize, other.image_size, other.mode) == (resize, size or 224, "pad")
    assert PLAIN.override(size).mode == "crop"
    assert other.geometry(random_pixels(30, 40)).shape == (3, size or 224, size or 224)


@pytest.mark.parametrize("views", ["none", "flip"])
def test_description_goes_through_json(views):
    odd = Preprocessing(235, 224, "bicubic", **IMAGENET, mode="squash", views=views)
    assert Preprocessing.from_dict(json.loads(json.dumps(odd.to_dict()))) == odd
    assert ("views" in odd.to_dict()) == (views == "flip")
    assert odd.to_dict()["resized_by"] == EXACT.to_dict()["resized_by"] == "pillow"
    assert Preprocessing.from_dict(EXACT.to_dict()) == EXACT
    assert "resized_by" not in PLAIN.to_dict()


def test_descriptions_of_before_colour_profiles_were_read_mean_that_they_are_ignored():
    older = {name: value for name, value in PLAIN.to_dict().items() if name != "ignore_profiles"}
    assert PLAIN.to_dict()["ignore_profiles"] is False
    assert Preprocessing.from_dict(older) == PLAIN.override(ignore_profiles=True)
    assert PLAIN.override(ignore_profiles=True).to_dict() == older


def test_pixels_that_are_made_otherwise_by_now_are_refused():
    for made in (EXACT, Preprocessing(235, 224, "bicubic", **IMAGENET)):
        older = {name: value for name, value in made.to_dict().items() if name != "resized_by"}
        with pytest.raises(MismatchError, match="resized by torch, and are by pillow"):
            Preprocessing.from_dict(older)


@pytest.mark.parametrize(("height", "width"), [(375, 500), (333, 251), (28, 28), (257, 256), (1, 1)])
def test_views_are_those_of_torchvision(height, width):
    from torchvision.transforms import functional

    pixels = random_pixels(height, width)
    for mode, side in (("crop", [256]), ("squash", [256, 256])):
        whole = functional.pil_to_tensor(functional.resize(pil_image(pixels), side))
        expected = torch.stack(functional.ten_crop(whole, [224, 224]))
        assert torch.equal(EXACT.override(mode=mode, views="10crop").squares(pixels), expected), mode
        rough = PLAIN.override(mode=mode, views="10crop").squares(pixels)
        assert (rough.int() - expected.int()).abs().max() <= 1
    padded = PLAIN.override(256, "pad").geometry(pixels)
    expected = torch.stack(functional.ten_crop(padded, [224, 224]))
    assert torch.equal(PLAIN.override(mode="pad", views="10crop").squares(pixels), expected)
    for mode in RESIZE_MODES:
        square = PLAIN.override(mode=mode).geometry(pixels)
        assert torch.equal(PLAIN.override(mode=mode).squares(pixels), square)
        views = PLAIN.override(mode=mode, views="flip").squares(pixels)
        assert torch.equal(views, torch.stack([square, functional.hflip(square)]))


@pytest.mark.parametrize("mode", ["crop", "pad", "squash"])
def test_ten_crops_are_cut_from_enough_pixels(mode):
    """What an image is decoded to at reduced scale is at least twice what the crops are cut from."""
    plain, ten = PLAIN.override(mode=mode), PLAIN.override(mode=mode, views="10crop")
    least = {"crop": plain.enough(4000, 3000), "pad": (512, 384), "squash": (512, 512)}[mode]
    enough = ten.enough(4000, 3000)
    assert all(least[i] - 1 <= enough[i] <= 2 * least[i] for i in (0, 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mode": "stretch"}, "'stretch'; choose crop, pad, squash"),
        ({"views": "11crop"}, "'11crop'; choose none, flip, 10crop"),
        ({"views": "10crop", "resize": 224}, "no ten views of 224 pixels to cut out; use views='flip'"),
        ({"interpolation": "lanczos"}, "'lanczos' is not known, only bilinear, bicubic"),
        ({"image_size": 0}, "image size of 0 pixels"),
        ({"image_size": 10**9}, "expected 1 to 16384"),
        ({"resize": 2.5}, "resized to 2.5"),
        ({"std": (0.2, 0.0, 0.2)}, "std not 0"),
        ({"mean": (0.5,)}, "three numbers"),
        ({"mean": (0.5, 0.5, float("nan"))}, "three numbers"),
        ({"mean": "abc"}, "cannot be read"),
        ({"mean": None}, "cannot be read"),
        ({"surprise": 1}, "cannot be read"),
    ],
)
def test_values_that_no_network_has_are_refused(change, words):
    with pytest.raises(SettingError, match=words):
        Preprocessing.from_dict({**PLAIN.to_dict(), **change})
    if "surprise" not in change and words != "cannot be read":
        with pytest.raises(SettingError, match=words):
            Preprocessing(**{**PLAIN.__dict__, **change})
