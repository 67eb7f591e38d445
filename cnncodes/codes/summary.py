"""What a codes file holds, in words and numbers: for `info`, and as a table for a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.display import html_table

if TYPE_CHECKING:
    from cnncodes.codes.file import CodesFile

__all__ = ["summarise", "summary_html"]

CLASSES_SHOWN = 20


def summarise(file: CodesFile) -> dict[str, Any]:
    """Return what a codes file holds and where it came from, ready for JSON."""
    classes, counts = np.unique(file.labels[file.labels != ""], return_counts=True)
    provenance = {name: value for name, value in file.provenance.to_dict().items() if name not in ("layers", "links")}
    return {
        "path": str(file.path),
        "bytes": file.path.stat().st_size,
        "n": file.n,
        "complete": file.complete,
        **file.counts,
        "layers": {name: _layer_in_words(file, name) for name in file.layers},
        **provenance,
        "classes": dict(zip(classes.tolist(), counts.tolist(), strict=True)),
        "splits": sorted(set(file.splits) - {""}),
        "failures": {str(file.ids[row]): str(file.errors[row]) for row in np.flatnonzero(file.failed)},
    }


def _layer_in_words(file: CodesFile, name: str) -> str:
    layer = file.provenance.layers[name]
    words = [f"{layer.n_features} features", *(f"of {n_views} views" for n_views in file.views), layer.pooling]
    if len(layer.map_shape) == 3:
        words.append(f"of a map {'×'.join(map(str, layer.map_shape))}")
    if name in file.links:
        words.append(f"the same as {file.links[name]}")
    return ", ".join(words)


def summary_html(info: Mapping[str, Any]) -> str:
    """Return an HTML table of what `summarise` returned: counts, classes, layers, provenance."""
    classes = info["classes"]
    first = ", ".join(f"{label} ({count})" for label, count in list(classes.items())[:CLASSES_SHOWN])
    more = f" and {len(classes) - CLASSES_SHOWN} more" if len(classes) > CLASSES_SHOWN else ""
    counts = ", ".join(f"{info[state]} {state}" for state in ("ok", "failed", "pending") if info[state])
    rows = [
        ("images", f"{info['n']}: {counts}"),
        ("classes", f"{len(classes)}: {first}{more}"),
        *([("splits", ", ".join(info["splits"]))] if info["splits"] else []),
        *((f"layer {name}", text) for name, text in info["layers"].items()),
        *((name, info[name]) for name in ("backbone", "weights", "precision") if name in info),
    ]
    return html_table(["codes file", Path(info["path"]).name], rows)
