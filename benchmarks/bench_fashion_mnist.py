"""Does a linear classifier on CNN codes beat the classifiers on raw pixels of Fashion-MNIST's paper?

    python benchmarks/bench_fashion_mnist.py                      # 60,000 and 10,000 images
    python benchmarks/bench_fashion_mnist.py --precision fp32     # float32 in everything
    python benchmarks/bench_fashion_mnist.py --limit 2000         # a quick look

The images of Debian's package dataset-fashion-mnist go once through the embedded mobilenet_v2. The codes are kept in
the work folder: an interrupted run is continued, a second one extracts nothing. First the codes of a few images are
compared with those of plain torchvision. Then a linear SVM is fitted to each set of layers, and to the raw pixels, and
scored on the test images. C is chosen on a part of the training images; the test images choose nothing.
"""

from __future__ import annotations

import argparse
import gzip
import os
import platform
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnncodes import CodesFile, ImageSet, extract, load_backbone
from cnncodes.probes.decision_values import winner
from cnncodes.probes.intervals import wilson_interval
from cnncodes.probes.probe import make_probe
from cnncodes.probes.scaling import CodeScaler
from cnncodes.solvers.path import fit_path

SOURCE = Path("/usr/share/datasets/fashion-mnist")
SPLITS = {"train": "train", "test": "t10k"}  # our name: prefix of the files
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
BACKBONE = "mobilenet_v2"
LAYERS = ("layer1", "layer2", "features.10", "layer3", "features.16", "features.17", "penultimate")
CONCATENATIONS = (
    ("penultimate",),
    ("layer3", "penultimate"),
    ("layer2", "layer3", "features.17", "penultimate"),
    LAYERS,
)
# Xiao, Rasul, Vollgraf 2017, table 3: the best of each kind on raw pixels, with all 60,000 training images.
PAPER = (("LinearSVC", 0.836), ("LogisticRegression", 0.842), ("SVC, the best of all", 0.897))
PARITY_IMAGES = 32
FAST_BF16 = ("amx_bf16", "avx512_bf16")  # flags of a processor
C_GRID = np.logspace(-5, -1, 9)
# Largest relative error of a code against plain torchvision in float32.
PARITY = {"fp32": 1e-5, "bf16": 0.1, "fp16": 0.02}


class Row(NamedTuple):
    """One row of the table that is printed."""

    features: str
    classifier: str
    n_features: int | None = None
    C: float | None = None
    accuracy: float = 0.0
    n_test: int | None = None
    seconds: float | None = None


def read_split(source: Path, prefix: str, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return images, uint8 (n, 28, 28), and labels, (n,)."""
    images = _read_idx(source / f"{prefix}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    labels = _read_idx(source / f"{prefix}-labels-idx1-ubyte.gz", 8)
    if len(images) != len(labels):
        raise SystemExit(f"{source}: {len(images)} {prefix} images, but {len(labels)} labels")
    return images[:limit], np.array(CLASSES)[labels[:limit]]


def _read_idx(path: Path, header: int) -> np.ndarray:
    try:
        return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)
    except FileNotFoundError as error:
        raise SystemExit(f"no {path}: install Debian's package dataset-fashion-mnist, or use --source") from error


def make_image_set(splits: dict[str, tuple[np.ndarray, np.ndarray]]) -> ImageSet:
    """Both splits as one set, so that one codes file holds them."""
    return ImageSet(
        ids=[f"{split}/{i:05}" for split, (images, _) in splits.items() for i in range(len(images))],
        sources=[image for images, _ in splits.values() for image in images],
        labels=[str(label) for _, labels in splits.values() for label in labels],
        splits=[split for split, (images, _) in splits.items() for _ in images],
    )


class Progress:
    """Says on stderr how far the extraction is, about fifty times."""

    def __init__(self) -> None:
        self.started, self.shown = time.perf_counter(), 0

    def __call__(self, done: int, total: int, failed: int) -> None:
        if done == total or done - self.shown >= total / 50:
            self.shown = done
            rate = done / (time.perf_counter() - self.started)
            print(f"{done} of {total} images, {failed} failed, {rate:.0f} images/s", file=sys.stderr, flush=True)


def assert_parity(path: Path, images: np.ndarray, resize: str) -> float:
    """Compare the first codes with plain torchvision in float32; return the largest relative error."""
    import torch
    from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

    from cnncodes.system.shipped import EMBEDDED_WEIGHTS, shipped_path

    network = mobilenet_v2().eval()
    network.load_state_dict(torch.load(shipped_path(EMBEDDED_WEIGHTS), weights_only=True))
    preset = MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    if resize == "squash":
        preset.resize_size = preset.crop_size * 2  # a list of one number: the side
    pixels = torch.from_numpy(images.copy())[:, None].expand(-1, 3, -1, -1)  # (n, 3, 28, 28)
    with torch.inference_mode():
        expected = network.features(preset(pixels)).mean((2, 3)).numpy()
    with CodesFile.open(path) as file:
        found = file.codes("penultimate", np.arange(len(images)))
        precision = file.provenance.precision
    error = float((np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)).max())
    if error > PARITY[precision]:
        raise SystemExit(f"the codes differ from plain torchvision's: relative error {error:.2g} in {precision}")
    return error


def choose_C(X: np.ndarray, y: np.ndarray, n: int) -> float:
    """Fit to the first `n` rows for each C of a grid, and return the best for the rows that follow, a third as many."""
    scaler = CodeScaler().fit(X[:n])
    path = fit_path(scaler.transform(X[:n]), y[:n], C_GRID)
    held_out = slice(n, n + n // 3)
    decision = path.decision_function(scaler.transform(X[held_out]))
    accuracy = [np.mean(path.classes[winner(values)] == y[held_out]) for values in decision]
    return float(C_GRID[int(np.argmax(accuracy))])


def fit_features(
    name: str, classifier: str, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], options: Any
) -> Row:
    """Choose C on training rows, fit on all of them, score on the test rows."""
    started = time.perf_counter()
    C = choose_C(*train, options.search_rows) if options.C == "search" else float(options.C)
    accuracy = float(make_probe("svm", C=C).fit(*train).score(*test))
    row = Row(name, classifier, train[0].shape[1], C, accuracy, len(test[1]), time.perf_counter() - started)
    print(f"{name}: {accuracy:.4f} ({row.seconds:.0f} s)", file=sys.stderr, flush=True)
    return row


def read_codes(path: Path, layers: tuple[str, ...], split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of some layers side by side, and the labels."""
    with CodesFile.open(path) as file:
        rows = file.rows(split)
        return file.codes(layers, rows), file.labels[rows]


def render(rows: list[Row]) -> str:
    """Return the table in Markdown, best first."""
    lines = ["| features | classifier | length | C | test accuracy | 95 % interval | seconds |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|")
    for row in sorted(rows, key=lambda row: -row.accuracy):
        interval = ""
        if row.n_test:
            low, high = wilson_interval(round(row.accuracy * row.n_test), row.n_test)
            interval = f"{low:.3f} – {high:.3f}"
        length = row.n_features or ""
        C = f"{row.C:.2g}" if row.C else ""
        seconds = f"{row.seconds:.0f}" if row.seconds else ""
        lines.append(
            f"| {row.features} | {row.classifier} | {length} | {C} | {row.accuracy:.4f} | {interval} | {seconds} |"
        )
    return "\n".join(lines)


def describe_machine() -> str:
    """Return the processor, with what it has for bfloat16, its cores, and versions in one line."""
    try:
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
        fields = {key.strip(): value.strip() for key, _, value in lines}
        flags = [flag for flag in FAST_BF16 if flag in fields["flags"].split()]
        model = f"{fields['model name']} ({', '.join(flags) or 'no fast bfloat16'})"
    except (OSError, KeyError):
        model = platform.processor() or platform.machine()
    names = ("torch", "torchvision", "scikit-learn", "numpy", "cnncodes")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return f"{model}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=SOURCE, help="folder of the four gzipped IDX files")
    parser.add_argument("--work", type=Path, default=Path("bench-work"), help="folder of the codes files, kept")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N training and N test images")
    parser.add_argument(
        "--resize",
        choices=("crop", "squash"),
        default="squash",
        help="how an image fills the network's square (default: squash; a crop cuts clothes off)",
    )
    parser.add_argument("--precision", default="auto", help="precision of the extraction (default: auto)")
    parser.add_argument("--workers", type=int, help="threads of the extraction (default: one a core)")
    parser.add_argument(
        "-C",
        default="search",
        help="search: chosen on --search-rows training images and the third after them; or a number",
    )
    parser.add_argument(
        "--search-rows", type=int, default=20_000, help="training images that choose C (default: 20000)"
    )
    parser.add_argument("--extract-only", action="store_true", help="stop when the codes are there")
    parser.add_argument("--no-pixels", action="store_true", help="leave out the probe on raw pixels")
    return parser.parse_args()


def main() -> None:
    options = parse()
    splits = {split: read_split(options.source, prefix, options.limit) for split, prefix in SPLITS.items()}
    options.work.mkdir(parents=True, exist_ok=True)
    path = options.work / f"fashion-mnist-{options.limit or 'all'}-{options.resize}-{options.precision}.h5"
    full = {"dtype": "float32", "exact_decode": True} if options.precision == "fp32" else {}
    done = extract(
        make_image_set(splits),
        path,
        backbone=BACKBONE,
        layers=LAYERS,
        resize=options.resize,
        precision=options.precision,
        **full,
        workers=options.workers,
        progress=Progress(),
    )
    rate = f", {done.computed / done.seconds:.0f} images/s" if done.computed else ""
    print(f"extraction: {done.computed} of {done.n} images computed now, {done.seconds:.0f} s{rate}")
    error = assert_parity(path, splits["train"][0][:PARITY_IMAGES], options.resize)
    print(f"parity: the first {PARITY_IMAGES} codes against plain torchvision in float32, relative error {error:.1g}")
    if options.extract_only:
        return

    rows = [Row("raw pixels", f"{name} (paper)", accuracy=accuracy) for name, accuracy in PAPER]
    if not options.no_pixels:
        pixels = [(images.reshape(len(images), -1) / np.float32(255), labels) for images, labels in splits.values()]
        rows.append(fit_features("raw pixels", "linear SVM", *pixels, options))
    for layers in CONCATENATIONS:
        codes = [read_codes(path, layers, split) for split in splits]
        rows.append(fit_features(" + ".join(layers), f"linear SVM ({BACKBONE})", *codes, options))

    n_train, n_test = (len(labels) for _, labels in splits.values())
    print(f"\n{n_train} training and {n_test} test images; the paper's rows: 60,000 and 10,000\n")
    print(render(rows))
    print(f"\n{describe_machine()}; weights {load_backbone(BACKBONE).weights_sha256[:12]}")
    print(f"command: {shlex.join(['python', *sys.argv])}")


if __name__ == "__main__":
    main()
