"""Bytes to pixels, and pixels to the square that enters the network, by value."""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import sklearn.datasets
from bad_images import (
    COLOURS,
    GREYS,
    Expectation,
    encode,
    exif,
    make_bad_images,
    picture,
    png,
    png_of,
    same_picture,
    stored_for,
)
from icc_profiles import ADOBE_RGB
from PIL import BmpImagePlugin, EpsImagePlugin, Image, ImageFile, ImageOps

from cnncodes.errors import DecodeError
from cnncodes.images import decoding
from cnncodes.images.decoding import MAX_PIXELS, decode, to_pixels
from cnncodes.images.formats import FORMATS
from cnncodes.images.loading import load_images
from cnncodes.system.shipped import SAMPLE, shipped_path

CHINA = Path(sklearn.datasets.__file__).parent / "images" / "china.jpg"
# Pillow's remarks on damaged files, which the extraction silences for all of its threads at once
pillow_remarks = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def run_measured(code: str) -> dict:
    """Run code in a new process; it prints JSON."""
    measure = "import resource\ndef peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
    run = subprocess.run([sys.executable, "-c", measure + code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def bad_images(tmp_path_factory):
    root = tmp_path_factory.mktemp("bad")
    return root, make_bad_images(root)


# Decoding: every file of the folder of bad images


@pillow_remarks
def test_every_bad_image_is_right_or_says_why_not(bad_images):
    root, expected = bad_images
    images = load_images(root)
    wrong = []
    for row, name in enumerate(images.ids):
        try:
            pixels = decode(images.read_bytes(row))
        except DecodeError as error:
            if expected[name].outcome != "failed" or expected[name].word not in str(error):
                wrong.append((name, str(error)))
        else:
            if expected[name].outcome != "ok" or not expected[name].describes(pixels):
                wrong.append((name, pixels[:, 4, 4].tolist() if min(pixels.shape) > 4 else pixels.shape))
    assert not wrong
    assert len(expected) >= 50
    assert {name for name in expected if expected[name].outcome != "skipped"} == set(images.ids)


def test_formats_of_one_picture_agree():
    files = same_picture()
    assert len({name.rpartition(".")[2] for name in files}) >= 12
    for name, (data, tolerance) in files.items():
        assert Expectation("ok", COLOURS, tolerance=tolerance).describes(decode(data)), name


def test_every_format_of_the_table_is_decoded():
    modules = {
        name
        for data, _ in same_picture().values()
        for name, _, offset, marks in FORMATS
        if (data[offset:] if offset < 0 else data[offset : offset + 16]).startswith(marks)
    }
    assert modules == {row[0] for row in FORMATS}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_every_orientation_is_shown_upright(orientation, kind, options):
    shown = np.random.default_rng(orientation).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    data = encode(stored_for(orientation, shown), kind, exif=exif(orientation), **options)
    assert np.array_equal(decode(data), shown.transpose(2, 0, 1))


def test_16_bit_grey_is_scaled_not_saturated():
    values = np.array([[0, 1, 128, 129, 256, 257], [385, 386, 32896, 40000, 65534, 65535]], np.uint16)
    by_hand = [[0, 0, 0, 1, 1, 1], [1, 2, 128, 156, 255, 255]]
    for data in (
        png_of(values, 16, 0),
        encode(values, "TIFF"),
        b"P5 6 2 65535\n" + values.astype(">u2").tobytes(),
        encode(Image.fromarray(values.astype(np.int32)), "TIFF"),
        encode(values.astype(np.float32), "TIFF"),
    ):
        assert decode(data).tolist() == [by_hand] * 3


@pytest.mark.parametrize(
    ("values", "by_hand", "remark"),
    [
        ([0.0, 0.25, 0.5, 1.0], [0, 64, 128, 255], ""),
        ([0.0, 0.0, 0.0, 1.0], [0, 0, 0, 255], ""),
        ([0.0, 1.0, 2.4, 200.6], [0, 1, 2, 201], ""),
        ([0.0, 257.0, 25700.0, 65535.0], [0, 1, 100, 255], ""),
        ([-1.0, 0.0, 0.5, 1.0], [0, 128, 191, 255], "from -1 to 1"),
        ([0.0, 50_000.0, 75_000.0, 100_000.0], [0, 128, 191, 255], "from 0 to 100000"),
        ([-7.0, -7.0, -7.0, -7.0], [0, 0, 0, 0], "from -7 to -7"),
        ([np.nan, 0.0, 1.0, np.inf], [0, 0, 255, 255], ""),
        ([-3e38, 0.0, 3e38, -np.inf], [0, 128, 255, 0], "from -3e+38 to 3e+38"),
    ],
)
def test_float_grey_is_scaled_by_the_range_that_holds_it(values, by_hand, remark):
    remarks: list[str] = []
    pixels = decode(encode(np.array([values], np.float32), "TIFF"), remarks=remarks)
    assert pixels.tolist() == [[by_hand]] * 3
    assert remark in " ".join(remarks)
    assert bool(remarks) == bool(remark)


def test_transparency_is_laid_over_white_in_proportion():
    alpha = np.arange(256, dtype=np.uint8)
    rgba = np.dstack([np.full_like(alpha, c)[None] for c in COLOURS[0]] + [alpha[None]])
    by_hand = [np.rint(alpha / 255 * c + (255 - alpha.astype(float))) for c in COLOURS[0]]
    assert np.abs(decode(encode(rgba, "PNG"))[:, 0] - by_hand).max() <= 1


@pytest.mark.parametrize("name", ["animated.gif", "animated.png", "animated.webp", "pages.tif"])
def test_first_frame_is_taken_with_a_remark(name, bad_images):
    remarks: list[str] = []
    assert Expectation("ok", COLOURS).describes(
        decode((bad_images[0] / "colours" / name).read_bytes(), remarks=remarks)
    )
    assert remarks == ["the first of several frames was taken"]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")
def test_damaged_exif_does_not_cost_the_picture():
    for bad in (
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x07\0\x01\0\0\0xxxx",
    ):
        data = encode(picture(), "JPEG", quality=95, subsampling=0, exif=bad)
        assert Expectation("ok", COLOURS, tolerance=4).describes(decode(data))


def test_the_pixels_of_the_sample_are_those_of_before_profiles_and_depths_were_heeded():
    digest = hashlib.sha256()
    for path in sorted(shipped_path(SAMPLE).rglob("*.png")):
        digest.update(decode(path.read_bytes()).tobytes())
    assert digest.hexdigest() == "db1f0be365bef59625c361a6ff13a4e922338705e5aff8184fa6fc06dfa3357d"


# Decoding: what must not happen


def test_limit_is_ours_and_configurable(monkeypatch, recwarn):
    data = encode(picture(), "PNG")  # 48 × 32 = 1536 pixels
    with pytest.raises(DecodeError, match=r"48 × 32 are 1,536 pixels, more than the limit of 1,535; make it smaller"):
        decode(data, max_pixels=1535)
    assert decode(data, max_pixels=1536).shape == (3, 32, 48)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow would warn, and from 200 on raise
    for name, (data, _) in same_picture().items():
        if not name.endswith((".webp", ".gif", ".tif", ".tiff")):
            assert decode(data).shape == (3, 32, 48), name
    assert not recwarn.list
    assert Image.MAX_IMAGE_PIXELS == 100


def test_pillows_own_limit_does_not_escape(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DecodeError, match="exceeds limit"):
        decode(same_picture()["lossless.webp"][0])


def test_bombs_take_no_memory():
    code = f"""
import io, json, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from bad_images import encode, picture, png
from PIL import Image
from cnncodes.errors import DecodeError
from cnncodes.images.decoding import decode
frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
webp = bytearray(encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True))
webp[24:30] = 2 * (12_999).to_bytes(3, "little")
bombs = [png(13_000, 13_000, 1, 0, bytes(13_000 * 1626)), bytes(webp)]
decode(encode(picture(), "PNG"))
before, reasons = peak(), []
for bomb in bombs:
    try:
        decode(bomb)
    except DecodeError as error:
        reasons.append(str(error))
print(json.dumps({{"reasons": reasons, "grown": peak() - before}}))
"""
    measured = run_measured(code)
    assert len(measured["reasons"]) == 2
    assert all("13000 × 13000 are 169,000,000 pixels" in reason for reason in measured["reasons"])
    assert measured["grown"] < 20  # MiB
    assert MAX_PIXELS < 13_000**2


def test_very_long_sides_are_refused():
    with pytest.raises(DecodeError, match=r"100000 × 1 pixels: a side is longer than the limit of 65,535"):
        decode(png(100_000, 1, 1, 0, bytes(12_501)))


def test_content_that_could_start_a_program_is_never_opened(monkeypatch):
    monkeypatch.setattr(EpsImagePlugin.EpsImageFile, "_open", lambda self: pytest.fail("EPS was opened"))
    for start in (b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\xc5\xd0\xd3\xc6" + bytes(60)):
        with pytest.raises(DecodeError, match="PostScript"):
            decode(start)


def test_truncated_files_stay_refused():
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    for kind in ("JPEG", "PNG", "GIF", "BMP", "PPM", "SGI", "TIFF", "WEBP"):
        data = encode(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8), kind)
        with pytest.raises(DecodeError):
            decode(data[: len(data) // 2])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (struct.error("unpack requires a buffer of 4 bytes"), "truncated"),
        (SyntaxError("broken"), "damaged"),
        (ValueError("not allowed"), "damaged"),
        (OSError("image file is truncated"), "truncated"),
        (MemoryError(), "memory"),
        (zlib.error("incorrect header check"), "damaged"),
        (KeyError("mode"), "damaged"),
        (RecursionError("too deep"), "damaged"),
        (Image.DecompressionBombError("too large"), "too large"),
        (IndexError(), "IndexError"),
    ],
)
def test_whatever_a_decoder_raises_becomes_one_error(monkeypatch, error, word):
    def fail(self):
        raise error

    monkeypatch.setattr(BmpImagePlugin.BmpImageFile, "load", fail)
    data = encode(picture(), "BMP")
    with pytest.raises(DecodeError, match=word) as raised:
        decode(data)
    assert "BMP" in str(raised.value)
    with pytest.raises(DecodeError, match=word):
        to_pixels(Image.open(io.BytesIO(data)))


@pillow_remarks
def test_mutated_files_are_pixels_or_one_error():
    rng = np.random.default_rng(0)
    outcomes = {True: 0, False: 0}
    for data, _ in same_picture().values():
        for _ in range(25):
            damaged = bytearray(data)
            for place in rng.integers(0, len(data), 4):
                damaged[place] = rng.integers(256)
            cut = rng.integers(1, len(data)) if rng.random() < 0.3 else len(data)
            try:
                pixels = decode(bytes(damaged[:cut]), max_pixels=10_000_000)
            except DecodeError as error:
                assert str(error).strip()  # noqa: PT017
                outcomes[False] += 1
            else:
                assert pixels.dtype == np.uint8
                assert pixels.shape[0] == 3
                outcomes[True] += 1
    assert min(outcomes.values()) > 50


def jpeg_files():
    """JPEG files of all kinds that are common, and some that are not."""
    photo = np.asarray(Image.open(CHINA).convert("RGB"))
    for height, width in ((150, 200), (17, 33), (8, 9), (301, 12)):
        pixels = photo[100 : 100 + height, 60 : 60 + width]
        for subsampling in (0, 1, 2):
            for progressive in (False, True):
                yield encode(pixels, "JPEG", quality=80, subsampling=subsampling, progressive=progressive)
        yield encode(Image.fromarray(pixels).convert("L"), "JPEG", quality=60)
        yield encode(pixels, "JPEG", keep_rgb=True)
        yield encode(pixels, "JPEG", restart_marker_blocks=4)


def test_plain_jpeg_files_have_the_pixels_that_pillow_gives():
    files = list(jpeg_files())
    for data in files:
        image = Image.open(io.BytesIO(data))
        quick, damage = decoding.plain_jpeg(data, image)
        assert not damage
        assert np.array_equal(quick, np.asarray(image.convert("RGB")))
        assert np.array_equal(decode(data), quick.transpose(2, 0, 1))
    assert len(files) == 36


@pillow_remarks
def test_damaged_jpeg_files_are_for_pillow_to_judge(monkeypatch):
    def outcome(data):
        try:
            return decode(data).tobytes()
        except DecodeError as error:
            return str(error)

    rng = np.random.default_rng(0)
    damaged = []
    for data in jpeg_files():
        for _ in range(12):
            one = bytearray(data)
            for place in rng.integers(2, len(data), rng.integers(1, 4)):
                one[place] = rng.integers(256)
            damaged.append(bytes(one[: rng.integers(2, len(data)) if rng.random() < 0.3 else len(data)]))
    found = [outcome(data) for data in damaged]
    quick = decoding.plain_jpeg
    monkeypatch.setattr(decoding, "plain_jpeg", lambda data, image: (None, quick(data, image)[1]))
    assert found == [outcome(data) for data in damaged]
    assert sum(isinstance(one, bytes) for one in found) > 100
    assert sum(isinstance(one, str) for one in found) > 100


def with_sector(data: bytes, at: float, sector: bytes) -> bytes:
    start = int(at * len(data))
    return data[:start] + sector + data[start + len(sector) :]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_damage_that_pillow_passes_over_is_remarked(mode):
    data = encode(Image.open(CHINA).convert(mode), "JPEG", quality=90)
    whole: list[str] = []
    plain = decode(data, remarks=whole).astype(int)
    assert not whole
    n_remarked = n_wrong = 0
    for at in np.linspace(0.1, 0.6, 6):
        remarks: list[str] = []
        pixels = decode(with_sector(data, at, bytes(512)), remarks=remarks)
        n_wrong += (np.abs(pixels - plain).max(axis=0) > 8).mean() > 0.3
        n_remarked += len(remarks)
        for remark in remarks:
            assert re.fullmatch(
                r"the decoder notes: Corrupt JPEG data: [a-z ]+; parts of the picture may be wrong", remark
            )
    assert n_wrong >= 4
    assert n_remarked >= 3  # the others happen to end as a whole file would


def test_flipped_bits_of_a_jpeg_are_remarked_where_a_strict_decoder_sees_them():
    data = CHINA.read_bytes()
    rng = np.random.default_rng(0)
    n_remarked = 0
    for _ in range(40):
        flipped = bytearray(data)
        flipped[int(rng.integers(800, len(data) - 10))] ^= 1 << int(rng.integers(8))
        try:
            simplejpeg.decode_jpeg(bytes(flipped), "RGB", strict=True)
        except ValueError:
            remarks: list[str] = []
            decode(bytes(flipped), remarks=remarks)
            assert "may be wrong" in remarks[0]
            n_remarked += 1
    assert n_remarked >= 5


@pytest.mark.parametrize("enough", [None, lambda width, height: (width // 4, height // 4)])
def test_a_jpeg_of_which_most_is_missing_is_refused(enough):
    photo = Image.open(CHINA)
    small = bytearray(encode(photo.resize((160, 120)), "JPEG"))
    size = small.index(b"\xff\xc0") + 5
    small[size : size + 4] = (1090).to_bytes(2, "big") * 2  # 60 times as many pixels as there are data for
    restarted = bytearray(encode(photo.resize((160, 120)), "JPEG", restart_marker_rows=1))
    size = restarted.index(b"\xff\xc0") + 5
    restarted[size : size + 4] = (1090).to_bytes(2, "big") * 2
    whole = encode(photo, "JPEG")
    inks = encode(photo.convert("CMYK"), "JPEG")
    profiled = encode(photo, "JPEG", icc_profile=ADOBE_RGB)
    cut = [data[: len(data) // 4] + b"\xff\xd9" for data in (whole, inks, profiled)]
    for data in (bytes(small), bytes(restarted), *cut):
        with pytest.raises(DecodeError, match=r"the JPEG file is damaged: \d\d% of the picture is missing \(Corrupt"):
            decode(data, enough=enough)
    remarks: list[str] = []
    decode(whole[: 3 * len(whole) // 4] + b"\xff\xd9", enough=enough, remarks=remarks)
    assert "premature end" in remarks[0]
    grey = encode(Image.new("RGB", (64, 48), (128, 128, 128)), "JPEG")
    assert (decode(grey) == 128).all()  # all of it is as grey as what is missing, and nothing is


def test_only_what_is_grey_to_the_end_of_a_jpeg_counts_as_missing():
    pixels = np.full((96, 96, 3), 128, np.uint8)
    pixels[80:] = np.arange(96, dtype=np.uint8)[None, :, None]
    data = encode(Image.fromarray(pixels), "JPEG", quality=95)
    noted = data[:-2] + bytes(16) + data[-2:]  # extraneous bytes, which change no pixel
    remarks: list[str] = []
    assert np.array_equal(decode(noted, remarks=remarks), decode(data))
    assert "extraneous" in remarks[0]


def test_what_a_jpeg_decoder_notes_is_said_softly_where_the_picture_may_be_whole():
    data = encode(Image.open(CHINA).resize((160, 120)), "JPEG")
    plain = decode(data)
    scan = data.index(b"\xff\xda")
    end = scan + 6 + 2 * data[scan + 4]  # of the spectral selection
    notes = {
        data[:end] + b"\0" + data[end + 1 :]: ["Invalid SOS parameters for sequential JPEG"],
        data[:-2] + bytes(16) + data[-2:]: ["Corrupt JPEG data: extraneous bytes before marker"],
        data[:11] + b"\x05" + data[12:]: [],  # the revision of JFIF
        data[:11] + b"\x05" + data[12:-2] + bytes(16) + data[-2:]: [
            "Corrupt JPEG data: extraneous bytes before marker"
        ],
    }
    for changed, expected in notes.items():
        remarks: list[str] = []
        assert (decode(changed, remarks=remarks) == plain).all()
        assert remarks == [f"the decoder notes: {note}; parts of the picture may be wrong" for note in expected]


def test_what_a_jpeg_decoder_notes_has_no_numbers_so_that_equal_notes_are_counted():
    data = encode(Image.open(CHINA), "JPEG", restart_marker_rows=1)
    marker = data.index(b"\xff\xd5")
    remarks: list[str] = []
    decode(data[:marker] + b"\xff\xd7" + data[marker + 2 :], remarks=remarks)
    assert remarks == [
        "the decoder notes: Corrupt JPEG data: found marker instead of RST; parts of the picture may be wrong"
    ]


def test_a_picture_of_one_colour_is_one_whose_channels_hardly_deviate():
    verdicts = []
    for span in range(9):
        for every in (2, 5, 14):  # the first look at every second row sees none of the first kind
            pixels = np.full((70, 90, 3), (250 - span, 3, 128), np.uint8)
            pixels[1::every, :, span % 3] += span
            remarks: list[str] = []
            to_pixels(pixels, remarks=remarks)
            deviates = pixels.std(axis=(0, 1)).max() >= decoding.ONE_COLOUR_STD
            assert bool(remarks) == (not deviates)
            verdicts.append(deviates)
    assert 5 <= sum(verdicts) <= len(verdicts) - 5


@pytest.mark.slow
def test_which_formats_can_tell_that_they_are_damaged():
    """What docs/reliability.md says of copies with 256 zeroed bytes, in outline."""
    photo = Image.open(CHINA).convert("RGB").resize((320, 240))
    formats = {
        "PNG": {},
        "GIF": {},
        "TIFF": {"compression": "tiff_lzw"},
        "JPEG": {"quality": 90},
        "WEBP": {},
        "BMP": {},
    }
    rng = np.random.default_rng(0)
    told = dict.fromkeys(formats, 0)
    for name, options in formats.items():
        whole = encode(photo, name, **options)
        for at in rng.uniform(0.1, 0.9, 40):
            remarks: list[str] = []
            try:
                decode(with_sector(whole, at, bytes(256)), remarks=remarks)
            except DecodeError:
                remarks.append("refused")
            told[name] += bool(remarks)
    assert told["PNG"] == told["GIF"] == told["TIFF"] == 40
    assert told["JPEG"] >= 30
    assert told["WEBP"] == told["BMP"] == 0


def test_a_second_picture_of_a_jpeg_is_remarked():
    photo = Image.open(CHINA).resize((64, 48))
    remarks: list[str] = []
    decode(encode(photo, "MPO", save_all=True, append_images=[photo]), remarks=remarks)
    assert remarks == ["the first of several frames was taken"]


def test_reduced_and_turned_jpeg_files_have_the_pixels_that_pillow_gives():
    photo = Image.open(CHINA)
    for part, turn in ((1, 1), (2, 1), (4, 6), (8, 7), (2, 3)):
        for size in ((401, 267), (640, 427)):
            data = encode(photo.resize(size), "JPEG", quality=90, exif=exif(turn))
            image = Image.open(io.BytesIO(data))
            image.draft(None, (size[0] // part, size[1] // part))
            whole = round(size[0] / part), round(size[1] / part)
            by_pillow = ImageOps.exif_transpose(image.crop((0, 0, *whole)))
            found = decode(data, enough=lambda width, height, part=part: (width // part, height // part))
            assert np.array_equal(found, np.asarray(by_pillow).transpose(2, 0, 1))
            assert decoding.plain_jpeg(data, image)[0] is not None


@pytest.mark.parametrize("part", [1, 2, 4, 8])
def test_tiny_jpeg_files_have_the_pixels_that_pillow_gives(part):
    rng = np.random.default_rng(part)
    for size in range(1, 20):
        data = encode(rng.integers(0, 256, (size, size, 3), dtype=np.uint8), "JPEG")
        wanted = max(1, size // part), max(1, size // part)
        image = Image.open(io.BytesIO(data))
        _, box = image.draft(None, wanted)
        by_pillow = np.asarray(image)[: round(box[3]), : round(box[2])]
        assert np.array_equal(
            decode(data, enough=lambda width, height, wanted=wanted: wanted).transpose(1, 2, 0), by_pillow
        )


@pillow_remarks
def test_threads_give_what_one_thread_gives(bad_images):
    files = [
        path.read_bytes()
        for folder in ("formats", "colours", "broken", "turned")
        for path in (bad_images[0] / folder).iterdir()
    ]

    def outcome(data):
        try:
            return decode(data).tobytes()
        except DecodeError as error:
            return str(error)

    alone = [outcome(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, files * 4)) == alone * 4


# Images that are in memory already


def test_memory_and_file_go_the_same_way(bad_images):
    for path in sorted((bad_images[0] / "colours").iterdir()) + sorted((bad_images[0] / "turned").iterdir()):
        with Image.open(path) as image:
            assert np.array_equal(to_pixels(image), decode(path.read_bytes())), path.name


def test_arrays_become_pixels_without_being_changed_or_shared():
    rgb = picture()
    rgb.setflags(write=False)
    pixels = to_pixels(rgb)
    assert np.array_equal(pixels, picture().transpose(2, 0, 1))
    assert np.array_equal(to_pixels(picture()[::-1, ::-1]), pixels[:, ::-1, ::-1])
    grey = picture(GREYS)[..., 0]
    assert np.array_equal(to_pixels(grey), np.stack([grey] * 3))
    assert np.array_equal(to_pixels(grey[..., None]), to_pixels(grey))
    for writable in (picture(), picture().transpose(2, 0, 1).copy().transpose(1, 2, 0)):
        to_pixels(writable)[:] = 0
        assert np.array_equal(writable, picture())


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4, 3)), r"float64 \(4, 4, 3\); expected uint8 \(H, W, 3\)"),
        (np.zeros((3, 4, 4), np.uint8), r"uint8 \(3, 4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"uint8 \(4, 4, 4\)"),
        (np.zeros(4, np.uint8), "expected uint8"),
        (np.zeros((0, 4, 3), np.uint8), "expected uint8"),
        ("a.jpg", "a str; expected a PIL image or an array"),
        (None, "a NoneType; expected"),
    ],
)
def test_what_is_no_image_is_refused(image, words):
    with pytest.raises(DecodeError, match=words):
        to_pixels(image)


def test_a_png_without_its_palette_says_so() -> None:
    file = io.BytesIO()
    image = Image.new("P", (10, 10))
    image.putpalette([1, 2, 3])
    image.save(file, "PNG")
    data = file.getvalue()
    at = data.index(b"PLTE") - 4
    with pytest.raises(
        DecodeError, match=r"PNG file is damaged or of an uncommon kind \(a part that it needs is missing\)"
    ):
        decode(data[:at] + data[at + 12 + int.from_bytes(data[at : at + 4]) :])
