"""The codes file to train on: one that is there, or one that is made of images, with maps, for the time of a run."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import is_hdf5
from cnncodes.errors import SettingError
from cnncodes.extraction.extract import extract
from cnncodes.extraction.settings import Settings, load_named_backbone
from cnncodes.images.image_set import Images
from cnncodes.images.loading import load_images
from cnncodes.networks.backbone import Backbone
from cnncodes.networks.cut import plan_cut
from cnncodes.probes.protocol import TrainingData
from cnncodes.vocabulary import PENULTIMATE, PIXELS

__all__ = ["codes_with_maps"]

logger = logging.getLogger(__name__)

DISK_SHARE = 0.9  # of what is free in the folder for temporary files: what maps may take there


@contextlib.contextmanager
def codes_with_maps(
    data: Any,
    images: Images | None,
    extraction: Mapping[str, Any],
    parts: Mapping[str, Any],
    running: Mapping[str, Any],
) -> Iterator[tuple[TrainingData, Images | None]]:
    """Give the codes to train on, and the images that maps can be computed from; None if there are none.

    Images run through the network once, for codes and maps, if the disk holds the maps.

    Parameters
    ----------
    data, images
        As for `cnncodes.finetuning.finetune.finetune`.
    extraction : mapping
        Settings of `extract`, None where they are left open; they can be set where `data` are images.
    parts : mapping
        What is trained, as `plan_cut` takes it.
    running : mapping
        Arguments of `extract` that do not change the codes.

    Raises
    ------
    SettingError
        A setting is that of a codes file which is there.
    """
    if isinstance(data, (CodesFile, TrainingData)) or _is_codes_file(data):
        if given := [name for name, value in extraction.items() if value is not None and name != "weights"]:
            raise SettingError(f"the codes file says how it was made; {', '.join(given)} can be set for images only")
        with TrainingData.open(data) as training_data:
            yield training_data, images
        return
    backbone = load_named_backbone(Settings(**extraction))
    below = plan_cut(backbone, **parts).below  # a wrong part is an error before the work
    source = load_images(data if images is None else images, allow_outside=running["allow_outside"])
    with tempfile.TemporaryDirectory(prefix="cnncodes-") as folder:
        codes = Path(folder) / "codes.h5"
        maps = _maps_in_one_pass(backbone, below, len(source), folder)
        done = extract(source, codes, layers=[PENULTIMATE], **maps, **extraction, **running)
        for name, reason in list(done.failures.items())[:1]:
            logger.warning("%s of %s images are left out, the first is %s: %s", done.failed, done.n, name, reason)
        with TrainingData.open(codes) as training_data:
            yield training_data, source


def _is_codes_file(data: Any) -> bool:
    if not isinstance(data, (str, os.PathLike)):
        return False
    return is_hdf5(data) if Path(data).is_file() else Path(data).suffix.lower() in (".h5", ".hdf5")


def _maps_in_one_pass(backbone: Backbone, below: str, n: int, folder: str) -> dict[str, Any]:
    """Return the settings of `extract` that keep the maps, in the precision that fine-tuning needs."""
    if below == PIXELS:
        return {}
    shape = backbone.outputs()[backbone.resolve(below)].shape
    if below == PENULTIMATE and len(shape) == 1:
        return {}  # the codes are the maps
    n_bytes = 2 * n * math.prod((*backbone.preprocessing.middle_axis, *shape))
    if n_bytes > DISK_SHARE * shutil.disk_usage(folder).free:
        return {}
    return {"maps": [below], "precision": "fp32"}
