"""The file of a fitted probe: safetensors with a JSON header, where every field is checked before it is used.

It may come from anyone, so nothing in it is run. A checksum finds damage; it does not say who made the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cnncodes.codes.checks import cut, refuse_odd_text
from cnncodes.codes.provenance import Provenance
from cnncodes.errors import MismatchError, ModelFileError, first_line
from cnncodes.models.answered import ANSWERED, Answered
from cnncodes.models.scores import Scores
from cnncodes.models.tuned import Tuned
from cnncodes.probes.novelty import MAX_REFERENCE
from cnncodes.system.files import refuse_foreign, replacing
from cnncodes.system.places import refuse_url
from cnncodes.vocabulary import CLASSIFIERS, SCALINGS

__all__ = [
    "ARRAYS",
    "FIELDS",
    "MODEL",
    "NOVELTY_ARRAYS",
    "SHORT_DIGEST",
    "TENSOR",
    "TUNED",
    "digests_of",
    "is_model",
    "read_model",
    "same_model",
    "write_model",
]

FORMAT = "cnncodes-model"
MODEL = "a model file"
FORMAT_VERSION = 1
HEADER_KEYS = {  # name: type of the value in the JSON header
    "format": str,
    "format_version": int,
    "clf": str,
    "layers": list,
    "scale": str,
    "classes": list,
    "C": float,
    "temperature": float,
    "scores": dict,
    "description": dict,
    "trained_on": str,
    "notes": list,
    "checksum": str,
}
TUNED = "tuned"  # the key of fine-tuned models, and what the names of their tensors begin with
TENSOR = f"{TUNED}/"
FIELDS = [name for name in HEADER_KEYS if name not in ("format", "format_version", "checksum")]
PROVENANCE_FIELDS = (  # what is needed to make codes again; there may be more
    *("backbone", "weights", "weights_sha256", "pooling", "precision"),
    *(f"preprocessing.{name}" for name in ("resize", "image_size", "interpolation", "mean", "std", "mode")),
    *("runtime.device", "runtime.batch_size"),
)
SHORT_DIGEST = 16  # hexadecimal digits of an image's SHA-256: enough to know it again
DIGESTS = re.compile(f"(?:[0-9a-f]{{{SHORT_DIGEST}}})*")
PARAMETER = re.compile(r"\w{1,100}(?:\.\w{1,100}){0,30}", re.ASCII)  # the dotted name of a parameter of a module
MAX_HEADER = 100_000_000  # bytes: what safetensors itself takes
MAX_BYTES = 8 << 30  # of a model file: 1,000 classes of 500,000 features
ARRAYS = ("mean", "deviation", "coef", "intercept")
TRAINING_CODES = "training_codes"
NOVELTY_ARRAYS = (TRAINING_CODES, "class_means", "familiarity")  # older model files lack the first, the oldest all
KNOWN_ARRAYS = [{*ARRAYS, *NOVELTY_ARRAYS[first:]} for first in (0, 1, 3)]

Content = tuple[Mapping[str, Any], Mapping[str, np.ndarray]]  # fields and arrays


def write_model(
    target: Path, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray], *, overwrite: bool = False
) -> None:
    """Write a model file: beside `target`, read back and compared, then renamed to it.

    Raises
    ------
    CnnCodesError
        A file is there that is no model file, and `overwrite` is not asked for.
    ModelFileError
        It cannot be written, or does not read back as it is.
    """
    refuse_foreign(target, MODEL, is_model, overwrite=overwrite)
    header = {"format": FORMAT, "format_version": FORMAT_VERSION, **fields}
    # safetensors writes the memory of an array as it lies: one that is not C-contiguous would come back shuffled
    arrays = {name: np.ascontiguousarray(array, _dtype_of(name)) for name, array in arrays.items()}
    try:
        header["checksum"] = _checksum(header, arrays)
        data = save(arrays, metadata={FORMAT: json.dumps(header, ensure_ascii=False)})
        with replacing(target, error_type=ModelFileError) as partial:
            partial.write_bytes(data)
            if not same_model((fields, arrays), read_model(partial)):
                raise ModelFileError(f"{target}: what was written does not read back as it is; nothing was saved")
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"{target}: holds what JSON cannot ({error}); nothing was saved") from error


def read_model(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields and the arrays of a model file.

    Raises
    ------
    ModelFileError
        There is no such file, or it is not exactly a model file.
    """
    refuse_url(path, "a model file", error_type=ModelFileError)
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file; `cnncodes fit` makes one")
    try:
        with path.open("rb"):  # or its error would be that there is no such file, whatever the reason
            pass
        if path.stat().st_size > MAX_BYTES:
            raise ModelFileError(f"it is larger than {MAX_BYTES >> 30} GiB")
        with safe_open(path, framework="np") as file:
            header = json.loads((file.metadata() or {})[FORMAT], parse_constant=_refuse_constant)
            refuse_odd_text(header)
            shapes = _checked_header(header)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        _check_arrays(_without_tuned(arrays), shapes, TUNED in header)
        _check_tensors({name: array for name, array in arrays.items() if name.startswith(TENSOR)}, TUNED in header)
        if answered := {name: array for name, array in arrays.items() if name in ANSWERED}:
            _require(TUNED in header, "other arrays")
            Answered.from_arrays(answered, len(header["classes"]))
        _require(_checksum(header, arrays) == header["checksum"], "the checksum differs")
        return {name: header[name] for name in (*FIELDS, TUNED) if name in header}, arrays
    except (ModelFileError, MismatchError) as error:
        raise ModelFileError(f"{path}: not a model file, or damaged: {cut(str(error))}") from error
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror or first_line(error)})") from error
    except (
        SafetensorError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
        OverflowError,
        MemoryError,
    ) as error:
        reason = cut(f"{type(error).__name__}: {error}")
        raise ModelFileError(f"{path}: not a model file, or damaged ({reason})") from error


def same_model(one: Content, other: Content) -> bool:
    """Whether the fields and the arrays of two models are equal, bit by bit."""
    return (
        one[1].keys() == other[1].keys()
        and all(np.array_equal(one[1][name], other[1][name]) for name in one[1])
        and json.dumps(one[0]) == json.dumps(other[0])
    )


def digests_of(sha256: np.ndarray) -> str:
    """Return what `trained_on` holds: the first 8 bytes of each digest, shape (n, 32), sorted, as hexadecimal text."""
    return "".join(sorted(row.tobytes().hex()[:SHORT_DIGEST] for row in sha256))


def is_model(path: str | os.PathLike[str]) -> bool:
    """Whether a file says that it is a model file; other safetensors files do not."""
    with Path(path).open("rb") as stream:
        header = stream.read(min(int.from_bytes(stream.read(8), "little"), MAX_HEADER))
    try:
        return FORMAT in json.loads(header)["__metadata__"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def _dtype_of(name: str) -> str:
    """Return the type of the numbers of an array."""
    if name in ANSWERED:
        return ANSWERED[name]
    return "<f4" if name.startswith(TENSOR) else "<f2" if name == TRAINING_CODES else "<f8"


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ModelFileError(what)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _require_types(fields: Any, kinds: Mapping[str, type], where: str) -> None:
    """Require a value of exactly its type (a bool is no int) for each name."""
    for name, kind in kinds.items():
        _require(isinstance(fields, dict) and type(fields.get(name)) is kind, f"{where}{name} is no {kind.__name__}")


def _checksum(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of all that a model file says."""
    fields = {name: value for name, value in header.items() if name != "checksum"}
    digest = hashlib.sha256(json.dumps(fields, allow_nan=False).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape} ".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def _checked_header(header: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes that the arrays must have, or raise `ModelFileError` where anything is not as it is written."""
    _require(isinstance(header, dict) and header.get("format") == FORMAT, "another format")
    version = header.get("format_version")
    _require(version == FORMAT_VERSION, f"format version {version!r:.40}, this is for {FORMAT_VERSION}")
    _require(set(header) - {TUNED} == set(HEADER_KEYS), "other header fields")
    _require_types(header, HEADER_KEYS, "")
    _require(header["clf"] in CLASSIFIERS and header["scale"] in SCALINGS, "unknown classifier or scaling")
    layers, classes = header["layers"], header["classes"]
    _require(all(isinstance(item, str) for item in [*layers, *classes, *header["notes"]]), "names that are no text")
    _require(len(set(classes)) == len(classes) >= 2, "fewer than two classes, or one twice")
    _require(classes == sorted(classes), "classes out of order")
    _require(len(set(layers)) == len(layers) >= 1, "no layer, or one twice")
    _require(0 < header["C"] < np.inf and 0 < header["temperature"] < np.inf, "C or temperature out of range")
    _require(bool(DIGESTS.fullmatch(header["trained_on"])), "trained_on is no list of digests")
    Scores.from_dict(header["scores"])
    if TUNED in header:
        Tuned.from_dict(header[TUNED], TUNED)
    widths = _checked_widths(header["description"], layers)
    k, d = 1 if len(classes) == 2 else len(classes), sum(widths)
    shapes = {"mean": (d,), "deviation": (d,), "coef": (k, d), "intercept": (k,)}
    return {**shapes, "class_means": (len(classes), d), TRAINING_CODES: (-1, d)}


def _checked_widths(description: dict[str, Any], layers: list[str]) -> list[int]:
    """Return the code lengths of the layers; the provenance must have all that is needed to make codes again."""
    provenance = Provenance.from_dict(description)
    provenance.require(*PROVENANCE_FIELDS)
    layers_used = provenance.only(layers).layers
    return [layer.n_features for layer in layers_used.values()]


def _check_arrays(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], is_tuned: bool) -> None:
    _require(set(arrays) in KNOWN_ARRAYS, "other arrays")
    cosines = arrays.get("familiarity", np.zeros(1))
    m = len(arrays[TRAINING_CODES]) if TRAINING_CODES in arrays else min(cosines.size, MAX_REFERENCE)
    held_out = min(m, cosines.size) if is_tuned else m  # not every image is held out from a fine-tuned network
    shapes = {**shapes, TRAINING_CODES: (max(1, m), *shapes[TRAINING_CODES][1:]), "familiarity": (max(1, held_out),)}
    for name, array in arrays.items():
        _require(
            array.dtype == _dtype_of(name) and array.shape == shapes[name],
            f"{name} is {array.dtype} {array.shape}",
        )
        _require(bool(np.isfinite(array).all()), f"{name} is not finite")
    _require(bool((arrays["deviation"] > 0).all()), "a deviation is not positive")
    _require(bool((np.diff(cosines) >= 0).all() and np.abs(cosines).max() <= 1), "familiarity is no list of cosines")


def _without_tuned(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays that every model may have."""
    return {name: array for name, array in arrays.items() if not name.startswith(TENSOR) and name not in ANSWERED}


def _check_tensors(tensors: Mapping[str, np.ndarray], is_tuned: bool) -> None:
    """Check fine-tuned parameters. Whether they fit the network is checked where it is built."""
    _require(is_tuned or not tensors, "other arrays")
    for name, array in tensors.items():
        _require(bool(PARAMETER.fullmatch(name.removeprefix(TENSOR))), f"{name} is no name of a parameter")
        _require(array.dtype == _dtype_of(name), f"{name} is {array.dtype} {array.shape}")
        _require(bool(np.isfinite(array).all()), f"{name} is not finite")
