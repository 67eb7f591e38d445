"""The page of a classifier: one HTML file that labels images in a browser, without a network and without cnncodes."""

from __future__ import annotations

import codecs
import gzip
import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.display import FORMULA, interval, percent
from cnncodes.errors import ExportError
from cnncodes.exporting.export import Exported, export
from cnncodes.images.colours import PAPER
from cnncodes.models.explain import constants
from cnncodes.models.model import ProbeModel
from cnncodes.pages.render import is_page, render_page, verbatim
from cnncodes.system.files import refuse_foreign, replacing
from cnncodes.system.optional import require
from cnncodes.system.shipped import RUNTIME, RUNTIME_SCRIPT, shipped_path

__all__ = ["CLASSIFIER_PAGE", "export_page", "is_classifier_page"]

TEMPLATE, SCRIPT, CLASSIFIER_PAGE = "classifier.html.j2", "classifier.js", "a page of a classifier"
BITS = 15  # that a character of 16 bits holds
FIRST = 0x3400  # the first of 2 ** 15 characters in a row that no parser changes: letters of East Asia
ENCODING = "utf-16-le"  # 15 bits in two bytes; characters of ASCII would hold 13
BLOCK_BYTES = BITS << 12  # that become characters at a time: the numbers take 64 times their room
NOVEL = 0.95  # novelty from which an image is called unlike all classes: one in twenty of known classes has more
DECODED = 2  # times the side that the network takes, to which large images are halved
EXPORTS = re.compile(r"export\{([^}]*)\};\s*(//# sourceMappingURL=\S*)?\s*$")  # at the end of the runtime's module


def export_page(
    model: str | os.PathLike[str] | ProbeModel = "model.safetensors",
    out: str | os.PathLike[str] = "model.html",
    *,
    weights: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a page that labels images in a browser: one file, which sends nothing and works without a network.

    It holds the model as `export` writes it, with weights in float16, and the runtime that computes it (WebAssembly).

    Parameters
    ----------
    model : path or ProbeModel, default="model.safetensors"
    out : path, default="model.html"
        A page that this function wrote is replaced.
    weights : path, optional
        Path of the weights file, if it has moved since the model was fitted.
    overwrite : bool, default=False
        Replace any other file, too.

    Returns
    -------
    Exported
        Size of the page, and the largest differences of the model that it holds from `predict`.

    Raises
    ------
    ExportError, MissingLibraryError
        As for `cnncodes.export`.

    Examples
    --------
    >>> export_page("model.safetensors", "model.html").n_bytes  # doctest: +SKIP
    9000000
    """
    require("jinja2", "a page")
    fitted = model if isinstance(model, ProbeModel) else ProbeModel.load(model)
    refuse_foreign(out, CLASSIFIER_PAGE, is_classifier_page, overwrite=overwrite, inputs=[model, weights])
    with tempfile.TemporaryDirectory(prefix="cnncodes-") as folder:
        path = Path(folder, "model.onnx")
        exported = export(fitted, path, dtype="float16", weights=weights, evidence=True)
        packed = gzip.compress(path.read_bytes(), 9, mtime=0)
    page = codecs.BOM_UTF16_LE + _page(fitted, packed).encode(ENCODING)
    with replacing(Path(out)) as partial:
        partial.write_bytes(page)
    return replace(exported, path=os.fspath(out), n_bytes=len(page))


def is_classifier_page(path: Path) -> bool:
    """Whether a file is a page that `export_page` made."""
    return is_page(path, TEMPLATE)


def _page(model: ProbeModel, packed: bytes) -> str:
    runtime, preprocessing = shipped_path(RUNTIME).read_bytes(), model.provenance.preprocessing
    facts: dict[str, Any] = {
        "classes": model.classes,
        "first": FIRST,
        "lengths": {"runtime": len(runtime), "model": len(packed)},
        "least": DECODED * preprocessing.image_size,
        "seen": {"mode": preprocessing.mode, "share": preprocessing.image_size / preprocessing.resize},
        "constants": constants(model).tolist(),
        "novel": NOVEL,
        "formula": FORMULA.pattern,
        "paper": PAPER,
    }
    return render_page(
        TEMPLATE,
        module=_runtime_script(),
        module_file=SCRIPT,
        facts=facts,
        about=_about(model),
        runtime=verbatim(as_text(runtime)),
        model=verbatim(as_text(packed)),
    )


def _runtime_script() -> str:
    """Return the script of the runtime, which gives its names to the script that follows instead of exporting them."""
    text = shipped_path(RUNTIME_SCRIPT).read_text(encoding="utf-8")
    if (exports := EXPORTS.search(text)) is None:
        raise ExportError("the runtime that ships with cnncodes is not as it should be; install cnncodes again")
    pairs = (one.split(" as ") for one in exports[1].split(","))
    names = ",".join(f"{name}:{value}" for value, name in pairs)
    return f"{text[: exports.start()]}const ort={{{names}}};\n"


def as_text(data: bytes) -> str:
    """Return bytes as text that HTML leaves as it is: a character for 15 bits.

    Examples
    --------
    >>> len(as_text(bytes(15)))
    8
    """
    return "".join(_characters(data[start : start + BLOCK_BYTES]) for start in range(0, len(data), BLOCK_BYTES))


def _characters(data: bytes) -> str:
    every = np.unpackbits(np.frombuffer(data, np.uint8))
    bits = np.pad(every, (0, -len(every) % BITS)).reshape(-1, BITS)
    numbers = FIRST + bits @ (1 << np.arange(BITS)[::-1])
    return numbers.astype("<u2").tobytes().decode(ENCODING)


def _about(model: ProbeModel) -> list[tuple[str, str]]:
    """Return what a user of the page should know about the model."""
    scores, provenance = model.scores, model.provenance
    accuracy = scores.held_out or scores.cross_validated
    kind = "accuracy, held-out images" if scores.held_out else "accuracy, cross-validated"
    about = [
        ("classes", ", ".join(model.classes)),
        ("learned from", f"{scores.n} images"),
    ]
    if accuracy is not None:
        value = accuracy.accuracy
        about.append((kind, f"{percent(value.value)} (95 % interval {interval(*value.interval)})"))
    about += [
        ("network", f"{provenance.backbone}, {' + '.join(model.layers)}"),
        ("weights", f"{Path(provenance.weights).name}; licence: {provenance.licence or 'unknown'}"),
        ("runtime", "ONNX Runtime Web, © Microsoft Corporation, MIT licence"),
    ]
    return about
