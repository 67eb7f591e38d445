"""The section of a report on how it was made: facts about the codes, and the commands that repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import Any

from cnncodes.codes.file import CodesFile
from cnncodes.extraction.settings import settings_of
from cnncodes.models.model import ProbeModel
from cnncodes.vocabulary import PENULTIMATE

__all__ = ["PROBE_NAMES", "provenance"]

PROBE_NAMES = {"svm": "A linear SVM", "logreg": "Logistic regression"}
# Settings that change the codes, the option of `cnncodes extract` for each, and the default of that option
EXTRACT_OPTIONS = (
    ("backbone", "--backbone", None),
    ("weights", "--weights", None),
    ("layers", "--layer", None),
    ("maps", "--map", None),
    ("pooling", "--pool", None),
    ("resize", "--resize", None),
    ("image_size", "--image-size", None),
    ("views", "--views", "none"),
    ("precision", "--precision", None),
    ("dtype", "--dtype", "auto"),
    ("exact_decode", "--exact-decode", False),
    ("ignore_profiles", "--ignore-profiles", False),
    ("allow_partial", "--allow-partial", False),
)
# The same for the settings that the scores of a model record, and `cnncodes fit`
FIT_OPTIONS = (("class_weight", "--class-weight", None), ("cv", "--cv", 5), ("seed", "--seed", 0))


def provenance(file: CodesFile, model: ProbeModel, model_name: str, options: Sequence[str]) -> dict[str, Any]:
    """Return the facts about the codes and the model, and the commands that make all of it again.

    Parameters
    ----------
    file : CodesFile
    model : ProbeModel
    model_name : str
        Name of the model file.
    options : sequence of str
        Options of the `cnncodes report` that makes the page.
    """
    source = file.provenance
    preprocessing = source.preprocessing
    layers = ", ".join(f"{name} ({layer.n_features})" for name, layer in source.layers.items())
    size = preprocessing.image_size
    facts = [
        ("codes file", f"{file.path.name}, {file.n} images"),
        ("fingerprint of its settings", file.fingerprint.hex()[:16]),
        ("network", f"{source.backbone}, weights {source.weights}, SHA-256 {source.weights_sha256[:16]}…"),
        ("licence of the weights", source.licence or "unknown"),
        ("images", f"{preprocessing.mode} to {size} × {size} pixels, {preprocessing.interpolation}"),
        ("layers (features)", f"{layers}; pooling {source.pooling}"),
        ("precision", f"{source.precision} on {source.runtime.device}"),
        ("classifier", f"{PROBE_NAMES[model.clf]}, C = {model.C:.3g}, scaling {model.scale}{_in_words(model)}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in source.versions.items())),
    ]
    settings, codes_name, model_name = settings_of(source), quote(file.path.name), quote(model_name)
    extraction = [(option, getattr(settings, name), default) for name, option, default in EXTRACT_OPTIONS]
    training = _finetuning(file, model) if model.tuned is not None else _fit(model)
    commands = [
        f"cnncodes extract IMAGES -o {codes_name} {_words(extraction)}",
        f"cnncodes {training[0]} {codes_name} {training[1]} -o {model_name}",
        " ".join(["cnncodes report", codes_name, "--model", model_name, *options]),
    ]
    return {"facts": facts, "commands": commands, "layer_names": " + ".join(model.layers)}


def _fit(model: ProbeModel) -> tuple[str, str]:
    """Return the command that fits a probe, and its options."""
    probe = [("--clf", model.clf), ("--layer", model.layers), ("-C", model.C), ("--scale", model.scale)]
    protocol = [(option, getattr(model.scores, name), default) for name, option, default in FIT_OPTIONS]
    options = _words([(option, value, None) for option, value in probe] + protocol)
    return "fit", options + _guard(model)


def _finetuning(file: CodesFile, model: ProbeModel) -> tuple[str, str]:
    """Return the command that fine-tunes, and its options; those of the training itself are not recorded."""
    assert model.tuned is not None
    images = None if model.tuned.below in (PENULTIMATE, *file.map_layers) else "IMAGES"
    probe = [("--from", model.tuned.first), ("--images", images), ("--clf", model.clf), ("--scale", model.scale)]
    protocol = [("--cv", model.scores.cv), ("--seed", model.tuned.seed), ("--always", True)]
    return "finetune", _words([(option, value, None) for option, value in probe + protocol]) + _guard(model)


def _guard(model: ProbeModel) -> str:
    return " --no-guard" if model.scores.n_duplicates is None else ""


def _in_words(model: ProbeModel) -> str:
    if (tuned := model.tuned) is None:
        return ""
    return f"; then fine-tuned from {tuned.first} on, {tuned.epochs} epochs, {tuned.share:g} of the way from the probe"


def _words(options: Sequence[tuple[str, Any, Any]]) -> str:
    """Return options as they are typed: without those at their default, and once for each item of a list."""
    words: list[str] = []
    for option, value, default in options:
        if value is None or value == default:
            continue
        if value is True:
            words.append(option)
        else:
            items = value if isinstance(value, (list, tuple)) else [value]
            words += [f"{option} {quote(str(item))}" for item in items]
    return " ".join(words)
