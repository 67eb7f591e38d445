"""Folders of the Hugging Face hub: weights beside a `config.json` that says which network of timm they are for."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnncodes.errors import WeightsError, parameter
from cnncodes.system.places import refuse_url

__all__ = ["CONFIG", "Snapshot", "find_snapshot", "lasting_path"]

CONFIG = "config.json"
MAX_CONFIG_BYTES = 10_000_000
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")  # in this order; the second is read without its pickle


@dataclass(frozen=True)
class Snapshot:
    """Weights with the description that timm saved beside them.

    Attributes
    ----------
    path : Path
        The folder or the file, as provenance names it.
    file : Path
        The file of the parameters.
    architecture : str
        Name of the network in timm.
    pretrained_cfg : mapping
        What timm records about weights: preprocessing, tag, licence, head.
    model_args : mapping
        Arguments with which the network was built.
    """

    path: Path
    file: Path
    architecture: str
    pretrained_cfg: Mapping[str, Any]
    model_args: Mapping[str, Any]

    @property
    def tag(self) -> str:
        """The name under which timm publishes the weights; may be empty."""
        return str(self.pretrained_cfg.get("tag") or "")


def find_snapshot(weights: str | os.PathLike[str]) -> Snapshot | None:
    """Read what lies beside weights.

    Parameters
    ----------
    weights : str or path
        A folder, or a file.

    Returns
    -------
    Snapshot or None
        None if it is neither a folder nor a file with a description of timm beside it.

    Raises
    ------
    WeightsError
        The folder has no description of timm, or no weights; or the description is damaged.
    """
    refuse_url(weights, "a file of weights", error_type=WeightsError)
    path = Path(weights)
    folder = path if path.is_dir() else path.parent
    config = folder / CONFIG
    if not path.is_dir() and not (path.name in WEIGHTS_FILES and path.is_file() and config.is_file()):
        return None
    file = path
    if path.is_dir():
        file = next((folder / name for name in WEIGHTS_FILES if (folder / name).is_file()), folder)
        if file == folder or not config.is_file():
            lacking = CONFIG if file != folder else f"{WEIGHTS_FILES[0]} (nor {WEIGHTS_FILES[1]})"
            raise WeightsError(
                f"{path}: a folder of weights holds {WEIGHTS_FILES[0]} and {CONFIG} as timm saves them; this one has "
                f"no {lacking}. A single file is given with {parameter('weights', 'FILE')}, beside the name of its "
                f"network: {parameter('backbone', 'NAME')}"
            )
    content = _read(config)
    architecture = content.get("architecture")
    if not isinstance(architecture, str) or "." in architecture:  # a tag is in its table
        if not path.is_dir():  # a description of something else that happens to lie there
            return None
        kind = content.get("model_type")
        what = f" (model_type {kind!r:.40}, as transformers writes it)" if kind else ""
        raise WeightsError(
            f"{config}: names no architecture of timm{what}; get the folder of these weights from "
            "https://huggingface.co/timm"
        )
    cfg = content.get("pretrained_cfg", content)
    arguments = content.get("model_args", {})
    if not isinstance(cfg, dict) or not isinstance(arguments, dict):
        raise WeightsError(f"{config}: damaged; pretrained_cfg and model_args are tables where timm wrote it")
    if "num_classes" in content:  # older descriptions have no arguments
        arguments = {"num_classes": content["num_classes"]} | arguments
    named = {"label_names": content["label_names"]} if "label_names" in content else {}
    return Snapshot(lasting_path(path), file, architecture, cfg | named, arguments)


def lasting_path(path: Path) -> Path:
    """Return the absolute path of a file or folder; that of a link where its target has lost the name.

    The cache of the hub keeps the files of a snapshot as links to files that are named after their digest.
    """
    target = path.resolve()
    return target if target.suffix == path.suffix else path.parent.resolve() / path.name


def _read(config: Path) -> dict[str, Any]:
    try:
        if config.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError(f"larger than {MAX_CONFIG_BYTES // 1_000_000} MB")
        content = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{config}: cannot be read as JSON ({error})") from error
    return content if isinstance(content, dict) else {}
