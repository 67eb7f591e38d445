"""Says where the codes of a report came from, and which commands make all of it again."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import Any

from cnncodes.codes.file import CodesFile
from cnncodes.extraction.settings import held_settings
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
    about = file.description
    preprocessing = about["preprocessing"]
    layers = ", ".join(f"{name} ({about['layers'][name]['n_features']})" for name in file.layers)
    size = preprocessing["image_size"]
    facts = [
        ("codes file", f"{file.path.name}, {file.n} images"),
        ("fingerprint of its settings", file.fingerprint.hex()[:16]),
        ("network", f"{about['backbone']}, weights {about['weights']}, SHA-256 {about['weights_sha256'][:16]}…"),
        ("licence of the weights", about.get("licence") or "unknown"),
        ("images", f"{preprocessing['mode']} to {size} × {size} pixels, {preprocessing['interpolation']}"),
        ("layers (features)", f"{layers}; pooling {about['pooling']}"),
        ("precision", f"{about['precision']} on {about['runtime']['device']}"),
        ("classifier", f"{PROBES[model.clf]}, C = {model.C:.3g}, scaling {model.scale}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in about["versions"].items())),
    ]
    settings, path, saved = held_settings(about), quote(file.path.name), quote(model_name)
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
