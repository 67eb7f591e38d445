"""What does fine-tuning on cached maps cost, and what does it gain over the probe?

    python benchmarks/bench_finetune.py                    # steps, and 1,000 images
    python benchmarks/bench_finetune.py --only gain --n 10000 --tested 10000 --views flip
    python benchmarks/bench_finetune.py --only steps --backbone resnet50

``steps`` times training steps of a batch of 32 maps above the cut, of 32 images through the whole network, and of 32
images through a frozen lower part that is not cached. It first asserts that the lower part and the upper part together
are the network. Times are those of the processor, on one thread: the smallest of ``--repeats``.

``gain`` runs `finetune` on the first training images of Fashion-MNIST (Debian's package dataset-fashion-mnist), at 128
pixels, squashed, and scores the probe and what is kept on the first ``--tested`` test images, which the run has not
seen. The codes file keeps the maps, so that nothing is computed twice.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_fashion_mnist import SOURCE, SPLITS, describe_machine, make_image_set, read_split
from torch import nn

from cnncodes import CodesFile, evaluate, extract, fit, load_backbone
from cnncodes.finetuning.finetune import finetune
from cnncodes.networks.cut import cut_before
from cnncodes.system.process import inference_settings
from cnncodes.vocabulary import PENULTIMATE, PIXELS

BATCH = 32
IMAGE_SIZE = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["steps", "gain"])
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--from", dest="train_from", default="layer4")
    parser.add_argument("--n", type=int, default=1000, help="training images")
    parser.add_argument("--tested", type=int, default=2000, help="test images")
    parser.add_argument("--views", default="none")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--source", type=Path, default=SOURCE)
    parser.add_argument("--work", type=Path, default=Path("bench-work/finetune"), help="folder of the codes files")
    options = parser.parse_args()
    print(describe_machine())
    if options.only != "gain":
        time_steps(options)
    if options.only != "steps":
        measure_gain(options)


def time_steps(options: argparse.Namespace) -> None:
    weights = None if options.backbone == "mobilenet_v2" else "random"
    backbone = load_backbone(options.backbone, weights)
    cut, whole = cut_before(backbone, options.train_from), cut_before(backbone, "all")
    lower = backbone.extractor([cut.below])
    images = torch.randn(BATCH, 3, IMAGE_SIZE, IMAGE_SIZE).to(memory_format=torch.channels_last)
    with torch.no_grad():
        maps = lower(images)[cut.below].to(memory_format=torch.channels_last)
        torch.testing.assert_close(cut.top(maps), whole.top(images))

    def frozen() -> torch.Tensor:
        with torch.no_grad():
            return lower(images)[cut.below]

    with inference_settings():
        top = time_of(lambda: maps, cut.top, options.repeats)
        uncached = time_of(frozen, cut.top, options.repeats)
        full = time_of(lambda: images, whole.top, options.repeats)
    kilobytes = np.prod(cut.map_shape) * (IMAGE_SIZE / backbone.native_size) ** 2 * 2 / 1000
    print(f"{options.backbone} from {options.train_from}: {cut.n_parameters:,} parameters, {kilobytes:.1f} kB an image")
    print(f"top {1000 * top / BATCH:.2f} ms an image, frozen without a cache {1000 * uncached / BATCH:.2f}, ", end="")
    print(f"full {1000 * full / BATCH:.2f}: {uncached / top:.1f} and {full / top:.1f} times the top")


def time_of(maps: Callable[[], torch.Tensor], top: nn.Module, repeats: int) -> float:
    """Processor seconds of a training step, the fastest of some."""
    optimizer = torch.optim.AdamW(top.parameters(), lr=1e-5)
    top.to(memory_format=torch.channels_last)
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        optimizer.zero_grad()
        top(maps()).float().square().mean().backward()
        optimizer.step()
        seconds.append(time.process_time() - started)
    return min(seconds)


def measure_gain(options: argparse.Namespace) -> None:
    limits = {"train": options.n, "test": options.tested}
    splits = {split: read_split(options.source, prefix, limits[split]) for split, prefix in SPLITS.items()}
    images = make_image_set(splits)
    options.work.mkdir(parents=True, exist_ok=True)
    codes = options.work / f"codes-{options.n}-{options.views}.h5"
    started = time.process_time()
    layers = ["layer2", "layer3", "layer4", "penultimate"]
    below = cut_before(load_backbone("mobilenet_v2"), options.train_from).below
    maps = [below] if below not in (PENULTIMATE, PIXELS) else []
    geometry: dict[str, Any] = {"image_size": IMAGE_SIZE, "resize": "squash", "views": options.views}
    extract(images, codes, layers=layers, maps=maps, precision="fp32", **geometry)
    print(f"extraction of {len(images)} images: {time.process_time() - started:.0f} s of processor")
    best = max(fit(codes, layers=layer).scores.held_out.accuracy.value for layer in layers)  # type: ignore[union-attr]
    started = time.process_time()
    lines: list[tuple[str, float]] = []
    result = finetune(
        codes,
        train_from=options.train_from,
        images=images,
        epochs=options.epochs,
        seed=options.seed,
        always=True,
        on_epoch=lambda what, epoch: lines.append((what, time.process_time() - started)),
    )
    seconds = time.process_time() - started
    of_all = [at for what, at in lines if what == "all images"]
    probe = fit(codes, cv=3).scores.held_out
    tuned = result.model.scores.held_out
    assert probe is not None
    assert tuned is not None
    test = images.take(list(range(options.n, len(images))))
    with CodesFile.open(codes) as file:  # another route: the saved model on the images themselves
        assert abs(evaluate(test, result.model).accuracies.accuracy.value - tuned.accuracy.value) < 0.005, file.path
    print(f"n = {options.n}, {options.epochs} epochs, views {options.views}, seed {options.seed}: {result.answer}")
    print(f"out of fold: probe {result.probe_accuracy:.4f}, gain {result.gain}, share {result.share:g}")
    print(f"{options.tested} test images: best probe of one layer, chosen by these images, {best:.4f}")
    print(f"probe {probe.accuracy.value:.4f}, fine-tuned {tuned.accuracy.value:.4f}")
    print(f"{seconds:.0f} s of processor in all, of that {of_all[-1] - of_all[0]:.0f} s the training on all images")


if __name__ == "__main__":
    main()
