"""The names that options, files and errors use: each with what it means, in the order in which they are listed.

The function or class behind a name is in the room that it belongs to, in a table with the same keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "AUTO",
    "CLASS",
    "CLASSIFIERS",
    "CODES_FILE",
    "CODE_TYPES",
    "DEFAULT_BACKBONE",
    "DEFAULT_POOLING",
    "DEFAULT_SCALING",
    "EXPORTED_TYPES",
    "IMAGENET",
    "LEARNED_SCALINGS",
    "MAPS",
    "MAX_SEED",
    "MODEL_FILE",
    "NO_VIEWS",
    "PATCHES",
    "PENULTIMATE",
    "PIXELS",
    "POOLINGS",
    "PRECISIONS",
    "RESIZE_MODES",
    "SCALINGS",
    "SPLITS",
    "TRAIN_ALL",
    "TRAIN_HEAD",
    "VIEWS",
    "as_names",
    "explained",
    "map_key",
    "middle_axis",
    "split_of",
]

AUTO = "auto"  # leaves a choice to the program
CODES_FILE, MODEL_FILE = "codes.h5", "model.safetensors"  # that commands write and read where none is named
IMAGENET = "imagenet"  # in place of a model file: a pretrained network with its own head and classes
DEFAULT_BACKBONE, DEFAULT_POOLING, DEFAULT_SCALING = "mobilenet_v2", "avg", "shrunk"
CLASS, PATCHES = "cls", "patches"  # what poolings of tokens are made of
PENULTIMATE = "penultimate"  # the layer that enters the classification head
MAPS = "maps/"  # begins the key of a map, which tells it from the codes of the same layer
PIXELS = "pixels"  # stands for a layer where there is no lower part of a network
TRAIN_ALL, TRAIN_HEAD = "all", "head"  # what `finetune` trains: the whole network, or nothing below the classifier
MAX_SEED = 2**32 - 1  # the largest that numpy and scikit-learn take

CLASSIFIERS = {  # implemented in probes/probe.py
    "svm": "linear SVM",
    "logreg": "logistic regression",
}
SCALINGS = {  # implemented in probes/scaling.py
    "shrunk": "each row to length 1, then each column to mean 0 and a deviation shrunk towards a common one",
    "standard": "each column to mean 0 and deviation 1",
    "l2": "each row to length 1",
    "none": "codes as they are",
}
LEARNED_SCALINGS = ("shrunk", "standard")  # that take a mean and deviations from the training codes
POOLINGS = {  # implemented in networks/pooling.py
    "avg": "mean of each channel",
    "max": "maximum of each channel",
    "gem": "generalised mean, power 3",
    "grid2": "means of the 2 × 2 quarters",
    "flatten": "the whole map",
    CLASS: "class token",
    PATCHES: "mean of the patches, without class and register tokens",
    f"{CLASS}+{PATCHES}": "class token, and beside it the mean of the patches",
}
RESIZE_MODES = {  # implemented in networks/preprocessing.py
    "crop": "shorter side to size, then the centre",
    "pad": "longer side to size, then a border",
    "squash": "both sides to size",
}
PRECISIONS = {  # implemented in runtime/precision.py
    "fp32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
}
CODE_TYPES = ("float16", "float32")  # numpy's names, as a codes file has them
EXPORTED_TYPES = ("float32", "float16", "int8")  # of the large weights in an ONNX file
NO_VIEWS = "none"
VIEWS = {  # how many there are of an image; implemented in networks/preprocessing.py
    NO_VIEWS: 1,
    "flip": 2,  # the image, and its mirror image
    "10crop": 10,  # the corners and the centre, and the same of the mirror image (Krizhevsky, Sutskever, Hinton 2012)
}
SPLITS = {  # how folders and tables may call each
    "train": ("train", "training", "trainset"),
    "val": ("val", "valid", "validation", "valset"),
    "test": ("test", "testing", "testset"),
}
WORDS = re.compile("[a-z]+|[0-9]+|[^a-z0-9 _.-]")
# What may stand before or behind the name of a split, as in test_set, seg_train or val2017
BESIDE_SPLIT = re.compile(r"set|data|dataset|images?|imgs?|seg|split|(19|20)\d\d")


def as_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """Return the value of an option for layers, which is one name or several, as a tuple.

    Examples
    --------
    >>> as_names("layer3"), as_names(["layer3", "penultimate"])
    (('layer3',), ('layer3', 'penultimate'))
    """
    return (names,) if isinstance(names, str) else tuple(names)


def map_key(layer: str) -> str:
    """Return the key of the map of a layer, beside the codes of layers whose keys are their names.

    Examples
    --------
    >>> map_key("layer3")
    'maps/layer3'
    """
    return MAPS + layer


def explained(table: Mapping[str, str]) -> str:
    """Return the names of a table with their meanings, for the help of a command.

    Examples
    --------
    >>> explained(CLASSIFIERS)
    'svm: linear SVM; logreg: logistic regression'
    """
    return "; ".join(f"{name}: {meaning}" for name, meaning in table.items())


def middle_axis(preprocessing: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the number of views as a shape, given the description of a preprocessing.

    Parameters
    ----------
    preprocessing : mapping
        Its entry ``views``, one of `VIEWS`, counts; without it there are no views.

    Returns
    -------
    tuple of int
        ``()`` without views: codes have a middle axis only where there are several.

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


def split_of(name: str) -> str | None:
    """Return the split that a folder or a cell of a table names, in any case of letters; None where it names none.

    Examples
    --------
    >>> split_of("Validation"), split_of("test_set"), split_of("roses")
    ('val', 'test', None)
    """
    words = [word for word in WORDS.findall(name.lower()) if not BESIDE_SPLIT.fullmatch(word)]
    return next((split for split, spellings in SPLITS.items() if len(words) == 1 and words[0] in spellings), None)
