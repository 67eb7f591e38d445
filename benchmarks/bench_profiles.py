"""What does an embedded colour profile cost when an image is read, and how far are codes off that ignore it?

    python benchmarks/bench_profiles.py                  # photographs of 500 × 375 and of 4000 × 3000 pixels
    python benchmarks/bench_profiles.py --repeats 15

The two photographs that come with scikit-learn are cut into pieces and saved as JPEG with the same data three times:
without a profile, with one of sRGB and with one of Display P3. Each is decoded and made the square that enters
mobilenet_v2, as `extract` does it, in turn with the others, in one thread; the time is that of the processor. Before
that, the pixels without a profile and with sRGB's are compared bit for bit, and those of Display P3 with the conversion
in numpy.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import sklearn.datasets
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from icc_profiles import DISPLAY_P3, P3_PRIMARIES, SRGB, by_hand, srgb_curve

from cnncodes.extraction.in_memory import in_memory
from cnncodes.extraction.settings import Settings, build_network
from cnncodes.images.decoding import decode
from cnncodes.images.image_set import ImageSet
from cnncodes.networks.loading import default_settings

SIZES = {"500 × 375": ((500, 375), 24), "4000 × 3000": ((4000, 3000), 2)}  # pixels, number of images
PROFILES = {"no profile": None, "sRGB": SRGB, "Display P3": DISPLAY_P3}
MAX_DIFFERENCE = 2  # grey levels between littleCMS and numpy


def pieces(size: tuple[int, int], n: int) -> list[Image.Image]:
    photos = [Image.open(path) for path in sorted(Path(sklearn.datasets.__file__).parent.glob("images/*.jpg"))]
    boxes = np.random.default_rng(0).uniform(0, 0.4, (n, 2))
    return [
        photos[i % 2].resize(size, Image.Resampling.BICUBIC, (640 * x, 427 * y, 640 * (x + 0.6), 427 * (y + 0.6)))
        for i, (x, y) in enumerate(boxes)
    ]


def saved(image: Image.Image, profile: bytes | None) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90, icc_profile=profile)
    return stream.getvalue()


def check_parity(files: dict[str, list[bytes]]) -> None:
    for plain, srgb, p3 in zip(*files.values(), strict=True):
        assert np.array_equal(decode(plain), decode(srgb))
        assert np.array_equal(decode(plain), decode(p3, ignore_profiles=True))
    expected = by_hand(decode(files["no profile"][0]).transpose(1, 2, 0)[:200], P3_PRIMARIES, srgb_curve)
    assert np.abs(decode(files["Display P3"][0]).transpose(1, 2, 0)[:200] - expected).max() <= MAX_DIFFERENCE


def time_profiles(files: dict[str, list[bytes]], repeats: int) -> dict[str, float]:
    """Return the milliseconds of the processor for an image, by profile."""
    _, preprocessing = default_settings("mobilenet_v2")
    times: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(repeats + 1):
        for name, some in files.items():
            started = time.process_time()
            for data in some:
                preprocessing.squares(torch.from_numpy(decode(data, enough=preprocessing.enough)))
            times[name].append((time.process_time() - started) / len(some) * 1e3)
    return {name: statistics.median(some[1:]) for name, some in times.items()}  # the first makes the transforms


def compare_codes(images: list[Image.Image]) -> None:
    """Print how far codes are off that ignore a profile of Display P3."""
    opened = [Image.open(io.BytesIO(saved(image, DISPLAY_P3))) for image in images]
    rows = ImageSet([str(i) for i in range(len(opened))], opened)
    settings = {"layers": ["layer1", "penultimate"], "precision": "fp32", "exact_decode": True}
    codes = [
        in_memory(rows, build_network(Settings(**settings, ignore_profiles=ignored))).codes for ignored in (False, True)
    ]
    for layer in codes[0]:
        a, b = (some[layer] / np.linalg.norm(some[layer], axis=1, keepdims=True) for some in codes)
        cosines = (a * b).sum(axis=1)
        print(f"{layer}: cosine of codes with and without the profile {cosines.min():.4f} to {cosines.max():.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for title, (size, n) in SIZES.items():
        images = pieces(size, n)
        files = {name: [saved(image, profile) for image in images] for name, profile in PROFILES.items()}
        check_parity(files)
        times = time_profiles(files, args.repeats)
        figures = ", ".join(f"{name} {ms:.2f} ms ({ms / times['no profile']:.2f})" for name, ms in times.items())
        print(f"{title}: {figures}", flush=True)
    compare_codes(pieces((500, 375), 16))


if __name__ == "__main__":
    main()
