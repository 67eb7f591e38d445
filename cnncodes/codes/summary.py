"""What a codes file holds, in words and numbers: for `info`, and as a table for a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.codes.image_rows import ImageRows
from cnncodes.codes.provenance import Provenance
from cnncodes.display import html_table

__all__ = ["map_in_words", "summarise", "summary_html"]

CLASSES_SHOWN = 20


def summarise(rows: ImageRows) -> dict[str, Any]:
    """Say what an open codes file holds and where it came from.

    Returns
    -------
    dict of str to object
        Ready for JSON.
    """
    failed = rows.failed
    ids = rows.ids[failed].tolist() if failed.any() else []
    labels, provenance, counts = rows.labels, rows.provenance, rows.counts
    classes, class_counts = np.unique(labels[labels != ""], return_counts=True)
    return {
        "path": str(rows.path),
        "bytes": rows.path.stat().st_size,
        "n": rows.n,
        "complete": counts["pending"] == 0,
        **counts,
        "layers": {name: _layer_in_words(provenance, name) for name in rows.layers},
        "maps": {name: _map_facts(provenance, name, rows.n) for name in rows.map_layers},
        **provenance.facts(),
        "thumbnails": rows.has_thumbnails,
        "classes": dict(zip(classes.tolist(), class_counts.tolist(), strict=True)),
        "splits": sorted(set(rows.splits.tolist()) - {""}),
        "failures": dict(zip(ids, rows.errors[failed].tolist(), strict=True)),
    }


def _layer_in_words(provenance: Provenance, name: str) -> str:
    layer = provenance.layers[name]
    n_views = provenance.preprocessing.middle_axis
    words = [f"{layer.n_features} features", *(f"of {n} views" for n in n_views), layer.pooling]
    if len(layer.map_shape) == 3:
        words.append(f"of a map {'×'.join(map(str, layer.map_shape))}")
    if name in provenance.links:
        words.append(f"the same as {provenance.links[name]}")
    return ", ".join(words)


def _map_facts(provenance: Provenance, name: str, n: int) -> dict[str, Any]:
    return {"shape": list(provenance.map_shape(name)), "dtype": "float16", "bytes": n * provenance.map_bytes(name)}


def map_in_words(facts: Mapping[str, Any]) -> str:
    """Return what `summarise` says of a map, for people.

    Examples
    --------
    >>> map_in_words({"shape": [96, 14, 14], "dtype": "float16", "bytes": 376_320_000})
    '96×14×14 in float16, 376.3 MB'
    """
    return f"{'×'.join(map(str, facts['shape']))} in {facts['dtype']}, {facts['bytes'] / 1e6:.1f} MB"


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
        *((f"maps of {name}", map_in_words(facts)) for name, facts in info["maps"].items()),
        *((name, info[name]) for name in ("backbone", "weights", "precision") if name in info),
    ]
    return html_table(["codes file", Path(info["path"]).name], rows)
