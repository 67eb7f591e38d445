"""Several views of an image: which there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["NO_VIEWS", "VIEWS", "middle_axis"]

NO_VIEWS = "none"
VIEWS = {  # how many there are of an image
    NO_VIEWS: 1,
    "flip": 2,  # the image, and its mirror image
    "10crop": 10,  # the corners and the centre, and the same of the mirror image (Krizhevsky, Sutskever, Hinton 2012)
}


def middle_axis(preprocessing: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the number of views as a shape, ``()`` without views, given the description of a preprocessing.

    Raises
    ------
    KeyError
        There are no such views.

    Examples
    --------
    >>> middle_axis({"views": "flip"}), middle_axis({})
    ((2,), ())
    """
    views = preprocessing.get("views", NO_VIEWS)
    n_views = VIEWS[views]
    return () if views == NO_VIEWS else (n_views,)
