"""Compares an exported file with `predict` on images of many sizes."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from cnncodes.errors import ExportError
from cnncodes.exporting.session import open_session
from cnncodes.extraction.in_memory import in_memory
from cnncodes.images.decoding import decode
from cnncodes.images.loading import load_images
from cnncodes.models.model import ProbeModel
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.probes.decision_values import winner
from cnncodes.runtime.frozen_network import FrozenNetwork

__all__ = ["Parity", "measure_parity"]

# Largest differences of a probability that are allowed, without and with resizing, by the type of the weights
TOLERANCES = {"float32": (1e-5, 1e-3), "float16": (0.05, 0.05), "int8": (1e-3, 0.05)}
FLOAT16_ROUNDING = 2.0**-12  # of a number, on average
NOVELTY_STEPS = 2  # training images that may pass from more to less familiar by rounding
# Height and width of images that are resized: smaller, larger, upright, of one pixel, and longer than is resized whole
PHOTO_SIZES = ((427, 640), (640, 427), (300, 301), (97, 500), (255, 257), (31, 33), (28, 28), (1281, 1000))
NOISE_SIZES = ((480, 640), (333, 250), (64, 64), (1, 1), (1, 50), (700, 40))
N_NATIVE = 3  # images of each kind that are not resized


@dataclass(frozen=True)
class Parity:
    """How closely an exported file agrees with `predict`.

    Attributes
    ----------
    native_difference : float
        Largest difference of a probability on images that are not resized.
    resized_difference : float
        The same on images of other sizes.
    rounding : float
        By how much probabilities change if each code is rounded to float16 otherwise; 0 for codes in float32. Two
        libraries differ in the last bit of a code, and now and then that decides how it is rounded.
    novelty_difference : float or None
        Largest difference of the novelty; ``None`` where the model has no such score.
    n_images, n_same_labels : int
        Images that were compared, and how many of them have the same label.
    """

    native_difference: float
    resized_difference: float
    rounding: float
    novelty_difference: float | None
    n_images: int
    n_same_labels: int

    def require(self, dtype: str, step: float) -> None:
        """Raise `ExportError` if the differences are larger than is allowed for weights of a type.

        Parameters
        ----------
        dtype : {"float32", "float16", "int8"}
        step : float
            By how much the novelty changes if one training image more looks more familiar.
        """
        native, resized = (tolerance + self.rounding for tolerance in TOLERANCES[dtype])
        novelty = NOVELTY_STEPS * step + resized
        novelty_difference = self.novelty_difference or 0.0
        if not (
            self.native_difference <= native and self.resized_difference <= resized and novelty_difference <= novelty
        ):
            raise ExportError(
                f"the exported file answers otherwise than the model, so nothing was written: probabilities differ by "
                f"up to {self.native_difference:.2g} where images are not resized (allowed: {native:.2g}) and "
                f"{self.resized_difference:.2g} elsewhere (allowed: {resized:.2g}), the novelty by "
                f"{novelty_difference:.2g} (allowed: {novelty:.2g})"
            )


def measure_parity(path: Path, model: ProbeModel, network: FrozenNetwork) -> Parity:
    """Compare an exported file with what `predict` says, on photographs and noise of many sizes.

    Parameters
    ----------
    path : Path
    model : ProbeModel
    network : FrozenNetwork
        The network of the model, in float32.
    """
    session = open_session(str(path))
    native, resized = _native_images(network.backbone.preprocessing), _other_images()
    X = model.concatenated(in_memory(load_images([*native, *resized]), network).codes)
    probabilities, novelty, n = model.predict_proba(X), model.novelty(X), len(native)
    answers = [session.run(None, {"images": np.stack(native)})]  # in one batch
    answers += [session.run(None, {"images": one[None]}) for one in resized]
    names = [output.name for output in session.get_outputs()]
    exported = {name: np.concatenate([one[i] for one in answers]) for i, name in enumerate(names)}
    differences = np.abs(exported["probabilities"] - probabilities).max(axis=1)
    return Parity(
        native_difference=float(differences[:n].max()),
        resized_difference=float(differences[n:].max()),
        rounding=_rounding(X, model, network),
        novelty_difference=None if novelty is None else float(np.abs(exported["novelty"] - novelty).max()),
        n_images=len(X),
        n_same_labels=int((exported["label"] == winner(model.decision_function(X))).sum()),
    )


def _rounding(X: np.ndarray, model: ProbeModel, network: FrozenNetwork) -> float:
    """Return by how much probabilities change if codes that are kept in float16 are rounded otherwise."""
    if all(network.layers[name]["dtype"] == "float32" for name in model.layers):
        return 0.0
    signs = np.random.default_rng(0).choice([-1, 1], X.shape)
    return float(np.abs(model.predict_proba(X * (1 + FLOAT16_ROUNDING * signs)) - model.predict_proba(X)).max())


def _native_images(preprocessing: Preprocessing) -> list[np.ndarray]:
    """Return images that become squares without being resized."""
    crops = preprocessing.mode == "crop" or preprocessing.views == "10crop"
    side = preprocessing.resize if crops else preprocessing.image_size
    noise = np.random.default_rng(0).integers(0, 256, (N_NATIVE, side, side, 3), dtype=np.uint8)
    photos = [np.roll(_photo(2 * side, 2 * side), 50 * i, axis=1)[:side, :side] for i in range(N_NATIVE)]
    return [*noise, *photos]


def _other_images() -> list[np.ndarray]:
    random = np.random.default_rng(1)
    noise = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in NOISE_SIZES]
    return [*(_photo(*size) for size in PHOTO_SIZES), *noise]


def _photo(height: int, width: int) -> np.ndarray:
    """Return the beginning of a wall of photographs."""
    wall = np.concatenate(_photographs(), axis=1)
    repeats = -(-height // wall.shape[0]), -(-width // wall.shape[1]), 1
    return np.ascontiguousarray(np.tile(wall, repeats)[:height, :width])


@functools.cache
def _photographs() -> tuple[np.ndarray, ...]:
    package = find_spec("sklearn")  # without the seconds that its import takes
    folder = Path(str(package and package.origin)).parent / "datasets" / "images"
    return tuple(decode((folder / name).read_bytes()).transpose(1, 2, 0) for name in ("flower.jpg", "china.jpg"))
