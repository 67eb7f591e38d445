"""What does fine-tuning reach in a given time: on cached maps, of the whole network, from random weights, by peers?

    python benchmarks/bench_finetune_budgets.py --budgets 10 30 60 120
    python benchmarks/bench_finetune_budgets.py --budgets 600 --arms cached script
    python benchmarks/bench_finetune_budgets.py --python ENVIRONMENT/bin/python     # one that has fastai

Each arm learns from the first 1,000 training images of Fashion-MNIST (Debian's package dataset-fashion-mnist), at 128
pixels, squashed, with mobilenet_v2 and the shipped weights, and answers the first 2,000 test images. A budget is
seconds of the processor, on one thread; imports, reading the images, and the answers to the test images do not count.

- ``probe``: codes of the whole network and the linear probe, with its cross-validation: whatever the budget.
- ``cached``: maps and codes are computed, the probe is fitted, and with what is left of the budget the network is
  trained from layer4 on, by the loop of `finetune`. As many epochs as go in, at most ``--epochs``.
- ``full``: the same loop on the whole network, from the probe on.
- ``script``: a plain torch loop over torchvision's network, as careful scripts have it: a new linear head, all layers
  trained, AdamW (rate 1e-3, weight decay 0.05), a batch of 32, a warm-up over a tenth and a half cosine over the rest
  of the budget, label smoothing 0.1, images mirrored at random, batch normalisation that keeps learning its statistics.
- ``scratch``: this loop from random weights.
- ``fastai``: `vision_learner` with the same weights file, `fine_tune` with its defaults (one frozen epoch, base_lr
  2e-3), a batch of 32 and images mirrored at random, for as many epochs as come nearest to the budget: at least one.

Pixels are resized once, for all arms, and are not counted; fastai reads them from PNG files, as it usually does.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from bench_fashion_mnist import SOURCE, SPLITS, describe_machine, read_split
from PIL import Image
from torch import nn
from torchvision.models import mobilenet_v2

from cnncodes import load_backbone
from cnncodes.finetuning.cached_maps import CachedMaps
from cnncodes.finetuning.out_of_fold import Task
from cnncodes.finetuning.schedule import Recipe
from cnncodes.finetuning.training import decide
from cnncodes.networks.backbone import Backbone
from cnncodes.networks.cut import Cut, cut_before
from cnncodes.probes.decision_values import winner
from cnncodes.probes.scaling import scaling_of
from cnncodes.probes.search import search_C
from cnncodes.system.process import inference_settings
from cnncodes.system.shipped import EMBEDDED_WEIGHTS, shipped_path
from cnncodes.vocabulary import DEFAULT_SCALING

N, N_TEST, IMAGE_SIZE, BATCH = 1000, 2000, 128, 32
ARMS = ("probe", "cached", "full", "script", "scratch", "fastai")
SCRIPT_RATE, SCRIPT_DECAY, SMOOTHING, WARM_UP = 1e-3, 0.05, 0.1, 0.1
TRIAL_STEPS = 2  # to learn how long an epoch takes


class Images:
    """Pixels and classes of the training images and of the test images."""

    def __init__(self, source: Path) -> None:
        self.pixels, self.truth = {}, {}
        for split, n in (("train", N), ("test", N_TEST)):
            images, labels = read_split(source, SPLITS[split], n)
            self.classes, self.truth[split] = np.unique(labels, return_inverse=True)
            size = (IMAGE_SIZE, IMAGE_SIZE)
            resized = [np.array(Image.fromarray(one).resize(size, Image.Resampling.BILINEAR)) for one in images]
            self.pixels[split] = np.repeat(np.stack(resized)[:, None], 3, axis=1)  # uint8 (n, 3, H, W)

    def save(self, folder: Path) -> None:
        """Write the images as PNG files into a folder a class, below one for each split."""
        for split, pixels in self.pixels.items():
            for i, (one, label) in enumerate(zip(pixels, self.truth[split], strict=True)):
                path = folder / split / str(label) / f"{i:04}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.moveaxis(one, 0, 2)).save(path)


def run_ours(arm: str, budget: float, images: Images, options: argparse.Namespace) -> tuple[float, str]:
    """Accuracy of the probe, or of what the loop of `finetune` makes of it within the budget, and what was done."""
    backbone = load_backbone("mobilenet_v2")
    cut = cut_before(backbone, "all" if arm == "full" else "layer4")
    began = time.process_time()
    maps, codes = compute(backbone, cut, images.pixels["train"], arm)
    task = make_task(maps, codes, images, cut, backbone, Recipe(1, seed=options.seed))
    every = np.arange(N)
    training = task.training(every)
    start, fitted = training.network.tensors(), time.process_time()
    epochs = 0
    if arm != "probe":
        for part in np.array_split(every, N // BATCH)[:TRIAL_STEPS]:
            training._train(part, np.zeros(len(part), int))
        seconds_per_epoch = (time.process_time() - fitted) / TRIAL_STEPS * (N // BATCH)
        left = budget - (time.process_time() - began)
        epochs = max(0, min(options.epochs, math.floor(left / seconds_per_epoch)))
    training.network.put(start)
    if epochs:
        task.recipe = Recipe(epochs, seed=options.seed)
        training = task.training(every)
        training.run()
    used = time.process_time() - began
    others = images.pixels["test"]
    if arm == "full":
        test_maps = CachedMaps(others, others.shape[1:], backbone.preprocessing)
    else:
        test_maps = compute(backbone, cut, others, arm)[0]
    decision = decide(training.network, test_maps, np.arange(N_TEST), task.device)
    return accuracy_of(winner(decision), images), f"{epochs} epochs, {used:.0f} s"


def compute(backbone: Backbone, cut: Cut, pixels: np.ndarray, arm: str) -> tuple[CachedMaps, np.ndarray]:
    """Maps below a cut (or pixels), and codes."""
    names = ["penultimate"] if arm == "full" else [cut.below, "penultimate"]
    extractor, parts = backbone.extractor(names), []
    with torch.inference_mode():
        for piece in np.array_split(pixels, len(pixels) // BATCH):
            batch = backbone.preprocessing.normalise(torch.from_numpy(piece)).to(memory_format=torch.channels_last)
            parts.append({name: value.numpy() for name, value in extractor(batch).items()})
    codes = np.concatenate([part["penultimate"].reshape(len(part["penultimate"]), 1280, -1).mean(2) for part in parts])
    if arm == "full":
        return CachedMaps(pixels, pixels.shape[1:], backbone.preprocessing), codes
    maps = np.concatenate([part[cut.below] for part in parts]).astype(np.float16)
    return CachedMaps(maps, maps.shape[1:]), codes


def make_task(
    maps: CachedMaps, codes: np.ndarray, images: Images, cut: Cut, backbone: Backbone, recipe: Recipe
) -> Task:
    scaling = scaling_of(DEFAULT_SCALING, [codes.shape[1]])
    y = images.classes[images.truth["train"]]
    return Task(
        X=codes,
        maps=maps,
        truth=images.truth["train"],
        classes=images.classes,
        groups=np.full(N, ""),
        search=search_C(codes, y, scale=scaling, cv=3),
        clf="svm",
        scale=DEFAULT_SCALING,
        scaling=scaling,
        cut=cut,
        pooling="avg",
        recipe=recipe,
        device=torch.device("cpu"),
    )


def run_script(arm: str, budget: float, images: Images, options: argparse.Namespace) -> tuple[float, str]:
    """Accuracy of a plain loop over torchvision's network that uses up the budget, and what was done."""
    torch.manual_seed(options.seed)
    network = mobilenet_v2()
    if arm == "script":
        network.load_state_dict(torch.load(shipped_path(EMBEDDED_WEIGHTS), weights_only=True))
    network.classifier[1] = nn.Linear(network.last_channel, len(images.classes))
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=SCRIPT_RATE, weight_decay=SCRIPT_DECAY)
    truth = torch.from_numpy(images.truth["train"])
    network.train()
    began, steps, used = time.process_time(), 0, 0.0
    order = torch.empty(0, dtype=torch.int64)
    while used < budget:
        if not len(order):
            order = torch.randperm(N)
        rows, order = order[:BATCH], order[BATCH:]
        if len(rows) < BATCH:  # the rest of an epoch is left out: batch normalisation needs full batches
            continue
        batch = normalise(images.pixels["train"][rows.numpy()])
        mirrored = torch.rand(len(rows)) < 0.5
        batch[mirrored] = batch[mirrored].flip(-1)
        done = used / budget
        share = done / WARM_UP if done < WARM_UP else (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2
        for group in optimizer.param_groups:
            group["lr"] = SCRIPT_RATE * share
        loss = nn.functional.cross_entropy(network(batch), truth[rows], label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
        used = time.process_time() - began
    network.eval()
    with torch.inference_mode():
        pieces = np.array_split(images.pixels["test"], N_TEST // BATCH)
        predicted = torch.cat([network(normalise(piece)).argmax(1) for piece in pieces])
    return accuracy_of(predicted.numpy(), images), f"{steps * BATCH / N:.1f} epochs, {used:.0f} s"


def normalise(pixels: np.ndarray) -> torch.Tensor:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    batch = (torch.from_numpy(pixels) / 255 - mean[:, None, None]) / std[:, None, None]
    return batch.contiguous(memory_format=torch.channels_last)


def run_fastai(arm: str, budget: float, images: Images, options: argparse.Namespace) -> tuple[float, str]:
    """Accuracy of fastai's `fine_tune` in its own environment, and what was done."""
    folder = options.work / "png"
    if not folder.exists():
        images.save(folder)
    side = Path(__file__).with_name("fastai_fine_tune.py")
    program = [options.python, side, folder, shipped_path(EMBEDDED_WEIGHTS), str(budget), str(options.seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(program, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["accuracy"], f"{answer['epochs']} epochs, {answer['seconds']:.0f} s, fastai {answer['version']}"


def accuracy_of(predicted: np.ndarray, images: Images) -> float:
    return float(np.mean(predicted == images.truth["test"]))


RUN: dict[str, Callable[[str, float, Images, argparse.Namespace], tuple[float, str]]] = {
    **dict.fromkeys(("probe", "cached", "full"), run_ours),
    **dict.fromkeys(("script", "scratch"), run_script),
    "fastai": run_fastai,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", type=float, nargs="+", default=[10, 30, 60, 120], help="seconds of the processor")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--epochs", type=int, default=16, help="at most, of our loop; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--source", type=Path, default=SOURCE)
    parser.add_argument("--python", type=Path, help="interpreter that has fastai; without one, this arm is left out")
    parser.add_argument("--work", type=Path, default=Path("bench-work/budgets"), help="folder of the PNG files")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(describe_machine())
    images = Images(options.source)
    for budget in options.budgets:
        for arm in options.arms:
            if (arm == "fastai" and options.python is None) or (arm == "probe" and budget != options.budgets[0]):
                continue
            with inference_settings():
                accuracy, what = RUN[arm](arm, budget, images, options)
            print(f"{budget:.0f} s, {arm}: {accuracy:.4f} ({what})", flush=True)


if __name__ == "__main__":
    main()
