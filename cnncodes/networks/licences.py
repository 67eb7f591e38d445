"""Licences of published weights, and what a user has to be told about them."""

from __future__ import annotations

import re

__all__ = ["TORCHVISION_LICENCE", "UNKNOWN", "is_non_commercial", "known_licence", "licence_notes"]

TORCHVISION_LICENCE = "BSD-3-Clause"
# What the addresses that torchvision gives as a licence say.
ADDRESSES = {"https://github.com/facebookresearch/SWAG/blob/main/LICENSE": "CC-BY-NC-4.0"}
UNKNOWN = "unknown"  # what libraries and tables write where nobody says
# Licences that ask for a notice at most. Whoever uses weights under any other has terms to read first.
PERMISSIVE = frozenset({"apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc0-1.0", "mit"})
NON_COMMERCIAL = re.compile(r"\bnc\b|\bnon-?commercial\b", re.IGNORECASE)


def known_licence(licence: str | None) -> str | None:
    """Return the name of a licence that a library gives; None if the library does not know it.

    Examples
    --------
    >>> known_licence("apache-2.0"), known_licence("unknown")
    ('apache-2.0', None)
    """
    return None if not licence or licence.lower() == UNKNOWN else ADDRESSES.get(licence, licence)


def is_non_commercial(licence: str | None) -> bool:
    """Whether a licence forbids commercial use."""
    return bool(NON_COMMERCIAL.search(licence or ""))


def licence_notes(weights: str, licence: str | None) -> list[str]:
    """Return a note if the licence of weights restricts what they may be used for, and nothing otherwise.

    Examples
    --------
    >>> licence_notes("lvd1689m", "dinov3-license")
    ['the weights lvd1689m are licensed dinov3-license, which has terms of its own: read them before you use the codes']
    >>> licence_notes("IMAGENET1K_V1", "BSD-3-Clause")
    []
    """
    if not known_licence(licence) or str(licence).lower() in PERMISSIVE:
        return []
    if is_non_commercial(licence):
        return [f"the weights {weights} are licensed {licence}: no commercial use"]
    terms = "which has terms of its own: read them before you use the codes"
    return [f"the weights {weights} are licensed {licence}, {terms}"]
