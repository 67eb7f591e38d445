"""What it takes to decode an image is known before its pixels are decoded, and is no less than it really takes."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnncodes.errors import DecodeError
from cnncodes.images import decoding
from cnncodes.system import claims
from cnncodes.system.claims import Claim

SIDE = 3000
MEASURE = """
import re, sys
from pathlib import Path
from cnncodes.images.decoding import decode
from cnncodes.system.claims import Claim

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

data, claim = sys.stdin.buffer.read(), Claim()
decode(Path(sys.argv[1]).read_bytes())  # whatever is imported for it
Path("/proc/self/clear_refs").write_text("5")
before = peak()
decode(data, claim=claim)
print(peak() - before, claim.n_bytes)
"""


def encoded(mode: str, side: int = SIDE, **options: Any) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 4), dtype=np.uint8)
    image = Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.convert("RGB" if mode not in ("RGBA", "LA") else "RGBA").convert(mode).save(stream, **options)
    return stream.getvalue()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory cannot be told")
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {"format": "PNG", "compress_level": 1}),
        ("L", {"format": "PNG", "compress_level": 1}),
        ("RGBA", {"format": "PNG", "compress_level": 1}),
        ("I;16", {"format": "TIFF"}),
        ("F", {"format": "TIFF"}),
        ("CMYK", {"format": "TIFF", "compression": "tiff_lzw"}),
        ("RGB", {"format": "TIFF", "compression": "tiff_lzw"}),
        ("RGB", {"format": "JPEG", "progressive": True, "subsampling": 0}),
        ("RGB", {"format": "JPEG", "progressive": True}),
        ("CMYK", {"format": "JPEG"}),
        ("RGB", {"format": "WEBP", "method": 0}),
        ("RGBA", {"format": "WEBP", "method": 0}),
        ("RGB", {"format": "JPEG2000"}),
        ("RGB", {"format": "GIF"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_no_image_takes_more_than_was_claimed(mode: str, options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(encoded(mode, 64, **options))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "small")],
        input=encoded(mode, **options),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    taken, claimed = map(int, done.stdout.split())
    assert claimed / 3 < taken < 1.05 * claimed + 2**20


def test_a_picture_that_does_not_fit_is_refused_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "available_memory", lambda: 100_000_000)
    monkeypatch.setattr(claims, "PATIENCE_SECONDS", 0.0)
    data = encoded("RGB", format="PNG", compress_level=1)
    reason = "not enough memory to decode the PNG file .3000 × 3000 pixels: it takes 0.07 GB, and 0.03 GB are left."
    with pytest.raises(DecodeError, match=reason):
        decoding.decode(data)


@pytest.mark.parametrize(("subsampling", "per_pixel"), [(0, 6.75), (2, 3.375)])
def test_a_progressive_file_takes_its_coefficients_at_any_size(subsampling: int, per_pixel: float) -> None:
    data = encoded("RGB", 800, format="JPEG", progressive=True, subsampling=subsampling)
    with Claim() as claim:
        decoding.decode(data, enough=lambda width, height: (100, 100), claim=claim)
        assert claim.n_bytes == round(per_pixel * 800**2 + 7.5 * 100**2)


def test_large_pictures_have_the_same_pixels_as_by_pillow_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "STRIP_PIXELS", 70 * 16)
    data = encoded("RGB", 70, format="PNG")
    np.testing.assert_array_equal(decoding.decode(data).transpose(1, 2, 0), np.asarray(Image.open(io.BytesIO(data))))
