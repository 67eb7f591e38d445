"""Shared by the tests: real photographs, the sample set, and the codes of a part of it."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cnncodes.system.shipped import SAMPLE, shipped_path
from cnncodes.vocabulary import DEFAULT_BACKBONE

# Test files that take long. The last files of a run leave a core idle, so these come first, the longest in front.
LONG_FILES = """
extraction/test_survival test_hostile_headers codes/test_trial codes/test_file cli/test_finetune probes/test_out_of_core
test_examples pages/test_report test_packaging test_typing cli/test_demo extraction/test_extract test_views
extraction/test_kept_network networks/test_layers extraction/test_reuse estimators/test_transformer system/test_files
test_structure insight/test_suspects extraction/test_workers runtime/test_frozen_network runtime/test_tuning
solvers/test_classifiers system/test_process networks/test_preprocessing finetuning/test_finetune
runtime/test_precision networks/test_architectures test_readme estimators/test_classifier
""".split()  # noqa: SIM905

# Waiting threads of torch burn a core that others need: on a busy machine, training took seven times as much of it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_configure() -> None:
    gc.disable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    places = {config.rootpath / "tests" / f"{name}.py": place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish() -> None:
    """Leave the million objects of libraries and tests out of every later search for garbage, each of 0.7 s."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """The problems are small: on a busy machine the threads would wait for each other longer than they compute."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    with threadpool_limits(limits=1, user_api="blas"):
        yield


@pytest.fixture(scope="session", autouse=True)
def shipped_network_is_read_once() -> Iterator[None]:
    """Most networks have the shipped weights, and copy what they change of them: one reading does for all."""
    from cnncodes.extraction import settings
    from cnncodes.networks.facts import FIRST_CHOICE

    load_backbone = settings.load_backbone
    load_default = cache(load_backbone)

    def load(name: str, weights: Any, *, allow_partial: bool, image_size: int | None) -> Any:
        if name == DEFAULT_BACKBONE and weights in (None, FIRST_CHOICE) and not allow_partial:
            return load_default()  # takes images of any size as it is
        return load_backbone(name, weights, allow_partial=allow_partial, image_size=image_size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "load_backbone", load)
        yield


@pytest.fixture(scope="module", autouse=True)
def auto_precision() -> Iterator[None]:
    """Let ``auto`` be float32 on every processor, as it is on most; modules that test the choice replace this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnncodes.runtime.tuning.has_fast_bf16", lambda device: False)
        yield


PLANS: dict[str, Any] = {}  # those of the shipped network, by what was asked


@pytest.fixture(scope="module", autouse=True)
def shipped_network_is_tried_once() -> Iterator[None]:
    """Most requests repeat an earlier one, and get its plan without new trials; tests of the trials replace this."""
    import torch

    from cnncodes.extraction import settings
    from cnncodes.runtime import tuning
    from cnncodes.runtime.frozen_network import FrozenNetwork

    def tune(backbone: Any, *args: Any, **options: Any) -> FrozenNetwork:
        request = repr((backbone.preprocessing, args, options, tuning.has_fast_bf16(torch.device("cpu"))))
        shipped = settings.load_backbone(DEFAULT_BACKBONE, None, allow_partial=False, image_size=None)
        if backbone.module is not shipped.module:
            return tuning.tuned_network(backbone, *args, **options)
        if request in PLANS:
            return FrozenNetwork(backbone, PLANS[request])
        network = tuning.tuned_network(backbone, *args, **options)
        if not network.plan.compiled:
            PLANS[request] = network.plan
        return network

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "tuned_network", tune)
        yield


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Any]:
    """A server of S3; it takes two seconds to start, so tests that need it are slow."""
    from s3_server import running_s3

    with running_s3() as server:
        yield server


@pytest.fixture
def s3(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The server of S3, which counts from 0 and has no faults; whoever reads ``s3://`` finds it by the environment."""
    s3_server.forget()
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, if the system has one, for tests that write thousands of small files."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scikit-learn's two photographs and four cuts of them, in two classes."""
    from sklearn.datasets import load_sample_images

    root = tmp_path_factory.mktemp("photos")
    bunch = load_sample_images()
    for name, pixels in zip(("china", "flower"), bunch.images, strict=True):
        folder = root / name
        folder.mkdir()
        for i, cut in enumerate((pixels, pixels[:, :400], pixels[:300, 100:])):
            Image.fromarray(cut).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def small_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten training and five test images of three classes of the sample, in split folders."""
    root = tmp_path_factory.mktemp("sample")
    for split, count in (("train", 10), ("test", 5)):
        for name in ("Bag", "Sandal", "Trouser"):
            target = root / split / name
            target.mkdir(parents=True)
            for path in sorted((shipped_path(SAMPLE) / split / name).iterdir())[:count]:
                shutil.copy2(path, target)
    return root


@pytest.fixture(scope="session")
def sample_codes(small_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The codes file of `small_sample`, by the default network and layers."""
    from cnncodes.extraction.extract import extract

    path = tmp_path_factory.mktemp("codes") / "codes.h5"
    extract(small_sample, path, precision="fp32")
    return path


@pytest.fixture(scope="session")
def planted(small_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sample with two swapped labels, a copy in another split, a copy in another class, and a broken image."""
    from cnncodes import extract

    root = tmp_path_factory.mktemp("audit")
    images = root / "images"
    shutil.copytree(small_sample, images)
    bag, sandal, trouser = (sorted((images / "train" / name).iterdir()) for name in ("Bag", "Sandal", "Trouser"))
    bag[0].rename(images / "train" / "Trouser" / "bag.png")
    trouser[0].rename(images / "train" / "Bag" / "trouser.png")
    shutil.copy(sandal[1], images / "test" / "Sandal" / "again.png")
    with Image.open(sandal[2]) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(images / "train" / "Bag" / "mirrored.png")
    (images / "train" / "Bag" / "broken.png").write_bytes(b"")
    codes = root / "codes.h5"
    extract(images, codes, layers=["penultimate"], resize="squash")
    return codes, images
