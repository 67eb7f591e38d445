"""Fine-tunes by fastai on a folder of images: the peer of bench_finetune_budgets.py, run in an environment of its own.

    ENVIRONMENT/bin/python benchmarks/fastai_fine_tune.py FOLDER WEIGHTS SECONDS SEED

FOLDER has `train` and `test` with a folder for each class. The last line is JSON: accuracy on `test`, epochs after the
frozen one, seconds of the processor that both took, and fastai's version.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path

import fastai
import torch
from fastai.vision.all import (
    CategoryBlock,
    DataBlock,
    FlipItem,
    GrandparentSplitter,
    ImageBlock,
    Normalize,
    get_image_files,
    imagenet_stats,
    parent_label,
    set_seed,
    vision_learner,
)
from torchvision.models import mobilenet_v2

BATCH = 32
SECONDS = {"frozen": 14.0, "whole": 32.0}  # of an epoch of 1,000 images of 128 pixels


def main() -> None:
    folder, weights, budget, seed = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    set_seed(seed)
    tested = get_image_files(folder / "test")
    block = DataBlock(
        (ImageBlock, CategoryBlock),
        get_items=lambda _: get_image_files(folder / "train") + tested[:BATCH],  # hardly any are answered each epoch
        splitter=GrandparentSplitter("train", "test"),
        get_y=parent_label,
        batch_tfms=[FlipItem(0.5), Normalize.from_stats(*imagenet_stats)],
    )
    loaders = block.dataloaders(folder, bs=BATCH, num_workers=0)
    learner = vision_learner(loaders, partial(network, weights))
    epochs = max(1, round((budget - SECONDS["frozen"]) / SECONDS["whole"]))
    began = time.process_time()
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs)
    seconds = time.process_time() - began
    answers, truth = learner.get_preds(dl=loaders.test_dl(tested, with_labels=True))
    right = float((answers.argmax(1) == truth).float().mean())
    print(json.dumps({"accuracy": right, "epochs": epochs, "seconds": seconds, "version": fastai.__version__}))


def network(path: str, pretrained: bool) -> torch.nn.Module:
    """Return the network with the weights of a file, up to its pooling, which fastai takes off for its own."""
    module = mobilenet_v2()
    module.load_state_dict(torch.load(path, weights_only=True))
    return torch.nn.Sequential(module.features, torch.nn.AdaptiveAvgPool2d(1))


if __name__ == "__main__":
    main()
