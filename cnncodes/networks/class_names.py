"""The names of the classes that a pretrained network tells apart."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cnncodes.errors import MissingLibraryError
from cnncodes.names import composed
from cnncodes.networks.backbone import Backbone
from cnncodes.networks.facts import FIRST_CHOICE
from cnncodes.networks.timm_zoo import TIMM, timm_network
from cnncodes.networks.torchvision_zoo import torchvision_network
from cnncodes.system.optional import require
from cnncodes.vocabulary import DEFAULT_BACKBONE

__all__ = ["ClassNames", "class_names"]

IMAGENET_1K = "imagenet-1k"  # timm's name of the 1,000 classes, which are those of torchvision's networks, too
BETWEEN_WORDS = re.compile(r"[\s_-]+")


@dataclass(frozen=True)
class ClassNames:
    """The names of the classes of a head, and which of them a label means.

    Attributes
    ----------
    names : tuple of str
        In the order of the head; each is there once.
    subset : str or None, default=None
        timm's name of a set of classes of ImageNet, by which it knows their WordNet ids and synonyms.

    Examples
    --------
    >>> ClassNames(("great white shark", "tench")).of_label("Great_White-Shark")
    [0]
    """

    names: tuple[str, ...]
    subset: str | None = None

    def of_label(self, label: str) -> list[int]:
        """Return the classes that a label may mean: one, none, or several where it is ambiguous.

        Names count first, as they are and then whatever their case and with blanks, underscores or hyphens between
        words; then WordNet ids and synonyms, where timm is installed.

        Parameters
        ----------
        label : str
        """
        if label in self.names:
            return [self.names.index(label)]
        key = _spelled(label)
        return self._by_name.get(key) or self._by_synonym.get(key, [])

    @functools.cached_property
    def _by_name(self) -> dict[str, list[int]]:
        return _by_spelling([name] for name in self.names)

    @functools.cached_property
    def _by_synonym(self) -> dict[str, list[int]]:
        try:
            synsets, descriptions = _synsets(self.subset)
        except MissingLibraryError:
            return {}
        return _by_spelling([one, *text.split(", ")] for one, text in zip(synsets, descriptions, strict=True))


def class_names(backbone: Backbone) -> ClassNames | None:
    """Return the names of the classes of a network's head; None where nobody has named them.

    Parameters
    ----------
    backbone : Backbone
    """
    imagenet = torchvision_network(DEFAULT_BACKBONE).weights[FIRST_CHOICE].categories or ()
    subset = _timm_subset(backbone)
    if subset == IMAGENET_1K or backbone.categories == imagenet:
        return ClassNames(imagenet, IMAGENET_1K)
    if subset is not None:
        synsets, descriptions = _synsets(subset)
        return ClassNames(_unique(descriptions, synsets), subset)
    if backbone.categories is not None:
        return ClassNames(_unique(backbone.categories, [str(i) for i in range(len(backbone.categories))]))
    return None


def _timm_subset(backbone: Backbone) -> str | None:
    """Return timm's name of the classes of weights that it publishes; of other weights it knows nothing."""
    if not backbone.name.startswith(TIMM) or backbone.weights not in timm_network(backbone.name).weights:
        return None
    architecture = backbone.name.removeprefix(TIMM).partition(".")[0]
    settings = require("timm", backbone.name).get_pretrained_cfg(f"{architecture}.{backbone.weights}").to_dict()
    return require("timm.data", backbone.name).infer_imagenet_subset(settings)


@functools.cache
def _synsets(subset: str | None) -> tuple[list[str], list[str]]:
    """Return the WordNet ids of a set of classes, and their synonyms, separated by commas."""
    if subset is None:
        return [], []
    table = require("timm.data", "the names of WordNet").ImageNetInfo(subset)
    return table.label_names(), table.label_descriptions()


def _unique(names: Sequence[str], ids: Sequence[str]) -> tuple[str, ...]:
    """Add to each name that is there more than once what tells it from the others."""
    counts = Counter(names)
    return tuple(name if counts[name] == 1 else f"{name} ({one})" for name, one in zip(names, ids, strict=True))


def _by_spelling(spellings: Iterable[Iterable[str]]) -> dict[str, list[int]]:
    """Return the places of each spelling, given all spellings of each place."""
    places: dict[str, list[int]] = {}
    for place, words in enumerate(spellings):
        for key in dict.fromkeys(map(_spelled, words)):
            places.setdefault(key, []).append(place)
    return places


def _spelled(text: str) -> str:
    return BETWEEN_WORDS.sub(" ", composed(text).casefold()).strip()
