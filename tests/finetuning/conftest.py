"""A staged network, and images that it does not tell apart perfectly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_network import UNCROPPED, Staged

from cnncodes import ImageSet, extract, load_backbone, register_backbone
from cnncodes.finetuning.cached_maps import cached_maps
from cnncodes.finetuning.out_of_fold import Task
from cnncodes.finetuning.schedule import Recipe
from cnncodes.networks.cut import cut_before
from cnncodes.probes.protocol import TrainingData

CLASSES = ("across", "down", "up")
N = 20  # images a class


@pytest.fixture(scope="session", autouse=True)
def staged() -> str:
    register_backbone("staged", Staged, preprocessing=UNCROPPED, overwrite=True)
    return "staged"


@pytest.fixture(scope="session")
def stripes() -> ImageSet:
    """Stripes of three directions in noise; the last image of each class is of the test split."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    waves = {"across": y, "down": x, "up": x + y}
    ids, images, labels = [], [], []
    for label in CLASSES:
        for i in range(N):
            wave = 40 * np.sin(waves[label] * 0.8 + rng.uniform(0, 6))
            pixels = 128 + wave[..., None] + rng.normal(0, 35, (32, 32, 3))
            ids.append(f"{label}/{i:02}")
            images.append(pixels.clip(0, 255).astype(np.uint8))
            labels.append(label)
    return ImageSet(ids, images, labels=labels)


@pytest.fixture(scope="session")
def striped_codes(stripes: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stripes") / "codes.h5"
    extract(stripes, path, backbone="staged", precision="fp32", dtype="float32")
    return path


def make_task(codes: Path, images: ImageSet, train_from: str = "layer3", **recipe: float) -> Task:
    """What `finetune` trains on."""
    with TrainingData.open(codes) as data:
        groups = data.groups()
        search = data.search("penultimate", groups=groups, cv=3)
        cut = cut_before(load_backbone("staged"), train_from)
        return Task(
            X=data.codes("penultimate"),
            maps=cached_maps(data.file, data.train, cut, images),
            truth=np.searchsorted(search.classes, data.labels),
            classes=search.classes,
            groups=groups,
            search=search,
            clf="svm",
            scale="shrunk",
            scaling=data.scaling("penultimate"),
            cut=cut,
            pooling="avg",
            recipe=Recipe(**{"epochs": 3, "batch_size": 8, "lr": 3e-3, **recipe}),
            device=torch.device("cpu"),
        )


@pytest.fixture(scope="session")
def task(striped_codes: Path, stripes: ImageSet) -> Task:
    return make_task(striped_codes, stripes)


@pytest.fixture(scope="session")
def whole_task(striped_codes: Path, stripes: ImageSet) -> Task:
    return make_task(striped_codes, stripes, "all")
