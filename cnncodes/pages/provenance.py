"""Says where the codes of a report came from, and which commands make all of it again."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import Any

from cnncodes.codes.file import CodesFile
from cnncodes.extraction.settings import settings_of
from cnncodes.models.model import ProbeModel

__all__ = ["PROBES", "provenance"]

PROBES = {"svm": "A linear SVM", "logreg": "Logistic regression"}
# Settings of an extraction that change the codes: the option of each, and what it is where it is not given
EXTRACTION = (
    ("backbone", "--backbone", None),
    ("weights", "--weights", None),
    ("layers", "--layer", None),
    ("pooling", "--pool", None),
    ("resize", "--resize", None),
    ("image_size", "--image-size", None),
    ("views", "--views", "none"),
    ("precision", "--precision", None),
    ("dtype", "--dtype", "auto"),
    ("exact_decode", "--exact-decode", False),
    ("allow_partial", "--allow-partial", False),
)
FIT = (("class_weight", "--class-weight", None), ("cv", "--cv", 5), ("seed", "--seed", 0))  # of the scores of a model


def provenance(file: CodesFile, model: ProbeModel, model_name: str, options: Sequence[str]) -> dict[str, Any]:
    """Give where the codes came from, and the commands that make all of it again.

    Parameters
    ----------
    file : CodesFile
    model : ProbeModel
    model_name : str
        Name of the file of the model.
    options : sequence of str
        Options of the `cnncodes report` that makes the page.
    """
    made = file.provenance
    preprocessing = made.preprocessing
    layers = ", ".join(f"{name} ({layer.n_features})" for name, layer in made.layers.items())
    size = preprocessing.image_size
    facts = [
        ("codes file", f"{file.path.name}, {file.n} images"),
        ("fingerprint of its settings", file.fingerprint.hex()[:16]),
        ("network", f"{made.backbone}, weights {made.weights}, SHA-256 {made.weights_sha256[:16]}…"),
        ("licence of the weights", made.licence or "unknown"),
        ("images", f"{preprocessing.mode} to {size} × {size} pixels, {preprocessing.interpolation}"),
        ("layers (features)", f"{layers}; pooling {made.pooling}"),
        ("precision", f"{made.precision} on {made.runtime.device}"),
        ("classifier", f"{PROBES[model.clf]}, C = {model.C:.3g}, scaling {model.scale}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in made.versions.items())),
    ]
    settings, path, saved = settings_of(made), quote(file.path.name), quote(model_name)
    extraction = [(option, getattr(settings, name), usual) for name, option, usual in EXTRACTION]
    fit = [("--clf", model.clf), ("--layer", model.layers), ("-C", model.C), ("--scale", model.scale)]
    protocol = [(option, getattr(model.scores, name), usual) for name, option, usual in FIT]
    fitting = _words([(*one, None) for one in fit] + protocol)
    if model.scores.n_duplicates is None:
        fitting += " --no-guard"
    commands = [
        f"cnncodes extract IMAGES -o {path} {_words(extraction)}",
        f"cnncodes fit {path} {fitting} -o {saved}",
        " ".join(["cnncodes report", path, "--model", saved, *options]),
    ]
    return {"facts": facts, "commands": commands, "layer_names": " + ".join(model.layers)}


def _words(options: Sequence[tuple[str, Any, Any]]) -> str:
    """Return options as they are typed: without those that are as usual, and a list as often as it is long."""
    words: list[str] = []
    for option, value, usual in options:
        if value is None or value == usual:
            continue
        if value is True:
            words.append(option)
        else:
            each = value if isinstance(value, (list, tuple)) else [value]
            words += [f"{option} {quote(str(one))}" for one in each]
    return " ".join(words)
