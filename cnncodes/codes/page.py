"""A codes file in a notebook: what is in it, and some of its images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.display import html_table
from cnncodes.images.loading import load_images
from cnncodes.images.sheet import draw_sheet

__all__ = ["codes_html"]

EXAMPLES, SIDE = 36, 64  # pictures, and their pixels
CLASSES_SHOWN = 20


def codes_html(about: Mapping[str, Any], images: Any, ids: np.ndarray, labels: np.ndarray) -> str:
    """Return HTML: counts, classes, layers, provenance; and pictures where there are images.

    Parameters
    ----------
    about : mapping
        ``CodesFile.info()``.
    images : path, sequence, ndarray or ImageSet, optional
    ids, labels : ndarray of str, shape (n_ok,)
        Of the images that have codes.
    """
    classes = about["classes"]
    shown = ", ".join(f"{label} ({count})" for label, count in list(classes.items())[:CLASSES_SHOWN])
    more = f" and {len(classes) - CLASSES_SHOWN} more" if len(classes) > CLASSES_SHOWN else ""
    counts = ", ".join(f"{about[name]} {name}" for name in ("ok", "failed", "pending") if about[name])
    rows = [
        ("images", f"{about['n']}: {counts}"),
        ("classes", f"{len(classes)}: {shown}{more}"),
        *([("splits", ", ".join(about["splits"]))] if about["splits"] else []),
        *((f"layer {name}", text) for name, text in about["layers"].items()),
        *((name, about[name]) for name in ("backbone", "weights", "precision") if name in about),
    ]
    return html_table(["codes file", Path(about["path"]).name], rows) + _examples(images, ids, labels)


def _examples(images: Any, ids: np.ndarray, labels: np.ndarray) -> str:
    """Return an HTML picture of some images, those of a class together."""
    if images is None or not len(ids):
        return ""
    by_class = np.argsort(labels, kind="stable")
    some = by_class[np.linspace(0, len(ids) - 1, min(len(ids), EXAMPLES)).astype(int)]
    sheet = draw_sheet(load_images(images), ids[some].tolist(), SIDE)
    return f'<img src="{sheet.data}" alt="{len(sheet.places)} of the images, in the order of their classes">'
