"""How many images does a core put through a network, beside a plain loop: vision transformers, or any others?

    python benchmarks/bench_transformers.py                                  # two vision transformers, random weights
    python benchmarks/bench_transformers.py mobilenet_v2 resnet18 resnet50   # others, for the table of networks
    python benchmarks/bench_transformers.py --products                       # what the processor can do at most

The plain loop is the network of its library in eager float32, in batches of 32, as tools around a DataLoader run it;
its codes must agree with those of cnncodes first. Decoding is left out on both sides. The sides take turns, each on one
thread; what counts is the processor time of the process, so that other work on the machine matters little, and of each
side the best round. DINOv2 is taken at 224 pixels. `--products` gives the rate of matrix products, of the size that the
blocks of ViT-S and ViT-B have: no network can be faster than its operations at this rate.
"""

from __future__ import annotations

import argparse
import copy
import platform
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from cnncodes.networks.loading import load_backbone
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.networks.registry import find_network, register_backbone
from cnncodes.runtime.precision import bf16_gain, lowest_cosine, reference_photos
from cnncodes.runtime.tuning import tuned_network
from cnncodes.system.process import inference_settings
from cnncodes.vocabulary import PENULTIMATE

TRANSFORMERS = ("timm:vit_small_patch14_dinov2", "timm:vit_base_patch16_224")
BATCH = 32  # of the plain loop
MIN_COSINE = 0.998  # of the codes of an image to those of the plain loop
PRODUCTS = ((2056, 384, 1536), (2056, 1536, 384), (1576, 768, 3072))  # rows, inner, columns: batches of 8 images


def plain_network(name: str) -> tuple[nn.Module, Preprocessing]:
    """Return a network with random weights from its library, and what it expects."""
    torch.manual_seed(0)
    network = find_network(name)
    expected = network.weights[network.default].preprocessing
    if "dinov2" in name:
        import timm

        return timm.create_model(name.removeprefix("timm:"), img_size=224, num_classes=10), expected.override(224)
    return network.build(network.weights[network.default]), expected


def without_head(module: nn.Module) -> nn.Module:
    """Copy a network; the copy gives what enters the last linear layer."""
    module = copy.deepcopy(module).eval()
    *_, path = (name for name, part in module.named_modules() if isinstance(part, nn.Linear))
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, nn.Identity())
    return module


def measure(name: str, rounds: int, precisions: list[str]) -> None:
    """Print the images per second of processor time of each side, and how well its codes agree."""
    module, preprocessing = plain_network(name)
    own = f"{name.removeprefix('timm:')}, random"
    register_backbone(own, lambda: copy.deepcopy(module), preprocessing=preprocessing)
    photos = reference_photos(preprocessing)
    pixels = photos.repeat(BATCH // len(photos), 1, 1, 1)
    plain, batch = without_head(module), preprocessing.normalise(pixels)
    sides: dict[str, Callable[[], object]] = {"plain loop": lambda: plain(batch)}
    codes = plain(batch).numpy()
    for precision in precisions:
        network = tuned_network(load_backbone(own), [PENULTIMATE], device="cpu", precision=precision)
        agreement = lowest_cosine({PENULTIMATE: codes}, network.unrounded(pixels))
        assert agreement >= MIN_COSINE, (name, precision, agreement)
        plan = network.plan
        label = f"cnncodes {precision} ({plan.precision}, batches of {plan.batch_size}; cosine {agreement:.5f})"
        sides[label] = partial(network.unrounded, pixels)
    seconds = dict.fromkeys(sides, float("inf"))
    for _ in range(rounds):
        for side, run in sides.items():
            started = time.process_time()
            run()
            seconds[side] = min(seconds[side], time.process_time() - started)
    for side, best in seconds.items():
        print(f"{name:32} {BATCH / best:7.1f} images/s {seconds['plain loop'] / best:5.2f} x  {side}", flush=True)


def measure_products(rounds: int) -> None:
    """Print how many operations a second this processor does in products of matrices."""
    print(f"bfloat16 is {bf16_gain():.2f} times as fast as float32")
    for rows, inner, columns in PRODUCTS:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            layer, x = nn.Linear(inner, columns).to(dtype), torch.ones(rows, inner, dtype=dtype)
            layer(x)
            best = float("inf")
            for _ in range(rounds):
                started = time.process_time()
                layer(x)
                best = min(best, time.process_time() - started)
            rate = 2e-9 * rows * inner * columns / best
            print(f"{rows} x {inner} x {columns} {dtype!s:16} {rate:5.0f} GFLOP/s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=TRANSFORMERS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", action="append", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--products", action="store_true")
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread")
    with inference_settings(), torch.inference_mode():
        if arguments.products:
            measure_products(arguments.rounds)
            return
        for name in arguments.networks:
            measure(name, arguments.rounds, arguments.precision or ["auto", "fp32", "bf16"])


if __name__ == "__main__":
    main()
