"""Labels of images, read in one place: from lists, arrays, Series and tables, with what is missing told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncodes.display import shortened
from cnncodes.errors import LabelsError
from cnncodes.names import composed

__all__ = ["Labels", "check_labels", "remarks_on"]

MAX_POSITIONS = 3  # images without a label that an error lists
# Text that R, spreadsheets, databases and pandas write for a missing value. It may also be the name of a class.
LOOKS_MISSING = frozenset({"na", "n/a", "#n/a", "<na>", "nan", "nat", "null", "none"})
KINDS: dict[type, str] = {str: "text", bytes: "bytes", bool: "bool", int: "a number", float: "a number"}


@dataclass(frozen=True)
class Labels:
    """What images are labelled with: today each has the name of one class, or nothing.

    Only this class knows what a label may be: `read` refuses what names no class, and `texts` gives the one text per
    image that image sets and codes files keep. Several labels for an image, or numbers to predict, would be further
    kinds of values here. The caller of `read` must then name the kind, because 1 may be a class or a number.

    Attributes
    ----------
    values : tuple
        One value for each image, None if it has no label: text, bytes, booleans or whole numbers, all of one type.
    name : str
        What the labels are for, for errors.

    Examples
    --------
    >>> labels = Labels.read([1.0, float("nan")], 2, "the images")
    >>> labels.missing, labels.texts()
    ([1], ['1', ''])
    """

    values: tuple[Any, ...]
    name: str

    @classmethod
    def read(cls, labels: Any, n: int, name: str) -> Labels:
        """Read labels from whatever holds them; ``None``, NaN, ``pandas.NA``, ``NaT``, masked and blank are missing.

        Parameters
        ----------
        labels : array-like, shape (n,) or (n, 1)
            Labels, one an image.
        n : int
            Number of images.
        name : str
            What the labels are for, for errors.

        Raises
        ------
        LabelsError
            The labels are of another number or shape, of several types, or neither text nor integers.
        """
        values = _values(labels, n, f"{name}: ")
        _check_kinds(values, f"{name}: ")
        return cls(tuple(values), name)

    @property
    def missing(self) -> list[int]:
        """The images without a label."""
        return [at for at, value in enumerate(self.values) if value is None]

    def refuse_missing(self, advice: str) -> None:
        """Raise a `LabelsError` that ends in some advice if an image has no label."""
        if not (missing := self.missing):
            return
        at = ", ".join(map(str, missing[:MAX_POSITIONS])) + " …" * (len(missing) > MAX_POSITIONS)
        what = f"{len(missing)} of {len(self.values)} labels are empty, those of the images {at} (counted from 0)"
        if len(missing) == 1:
            what = f"the label of image {at} is empty"
        raise LabelsError(f"{self.name}: {what}; {advice}")

    def texts(self) -> list[str] | None:
        """Return the labels as they are stored, with an empty string where an image has none; None where none has.

        Integers are written without a fraction, whether they come as 1 or as 1.0: pandas has the latter where a label
        is missing. Accents are joined with their letters, so that no two labels look the same.

        Raises
        ------
        LabelsError
            A label is text that UTF-8 or a codes file cannot hold.
        """
        texts = ["" if value is None else _text(value, at, self.name) for at, value in enumerate(self.values)]
        return texts if any(texts) else None


def check_labels(y: Any, n: int) -> None:
    """Raise where a classifier cannot be fitted to these labels, or be scored on them.

    Parameters
    ----------
    y : array-like, shape (n,) or (n, 1)
        Labels, one an image.
    n : int
        Number of images.

    Raises
    ------
    LabelsError
        As for `Labels.read`; or an image has no label.
    """
    if y is None:
        raise LabelsError("y cannot be None: it must have a label for each image")
    if isinstance(y, Iterator):
        raise LabelsError(f"y is a {type(y).__name__}, which can be read only once; give a list")
    labels = Labels.read(y, n, "y")
    labels.refuse_missing("leave out the images without a label")
    labels.texts()  # refuses what cannot be written into a file
    if any(isinstance(label, bytes) for label in labels.values):
        raise LabelsError("y: labels are bytes, of which scikit-learn makes no classes; decode them to text")


def remarks_on(texts: Iterable[str], what: str = "class") -> list[str]:
    """Return notes on names that look like a missing value, one for each.

    Examples
    --------
    >>> remarks_on(["NA", "EU"])[0][:45]
    "the class 'NA' (1 image) has a name that some"
    """
    return [
        f"the {what} {text!r} ({count} image{'s' * (count > 1)}) has a name that some programs write where a value is "
        f"missing; if these images have no {what}, leave them out"
        for text, count in sorted(Counter(texts).items())
        if text.strip().lower() in LOOKS_MISSING
    ]


def _values(labels: Any, n: int, where: str) -> list[Any]:
    """Return labels as a list of Python's own values, one an image, and None where a label is missing."""
    if hasattr(labels, "to_numpy"):  # a Series or frame of pandas
        labels = labels.to_numpy()
    if hasattr(labels, "__array__"):
        array = labels if isinstance(labels, np.ndarray) else np.asarray(labels)
        if array.dtype.kind not in "iufbUSOT":
            raise LabelsError(f"{where}labels of {array.dtype}; expected integers or text")
        try:
            shape, values = array.shape, array.tolist()
        except SystemError as error:  # NumPy makes text of any number
            raise LabelsError(f"{where}the labels are no text: some of it is no character") from error
    else:
        if isinstance(labels, (Set, Mapping)):
            what = type(labels).__name__
            raise LabelsError(f"{where}labels are given as a {what}, which has no order of images; give a list")
        try:
            values = [labels] if isinstance(labels, (str, bytes)) else list(labels)
        except TypeError as error:
            what = type(labels).__name__
            raise LabelsError(f"{where}labels are given as a {what}; expected one label an image") from error
        lengths = {len(value) if _is_list(value) else -1 for value in values}
        if len(lengths) > 1:
            raise LabelsError(f"{where}some labels are lists, or lists of several lengths; expected one label an image")
        shape = (len(values), *(lengths - {-1}))
    if len(shape) == 2 and shape[1] == 1:
        shape, values = shape[:1], [value[0] for value in values]
    if shape != (n,):
        raise LabelsError(f"{where}{n} images but labels of shape {shape}; expected one label an image")
    scalar = (np.generic, np.ndarray)
    values = [value.item() if isinstance(value, scalar) and value is not np.ma.masked else value for value in values]
    return [None if _is_missing(value) else value for value in values]


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _is_missing(value: Any) -> bool:
    if value is None or value is np.ma.masked:
        return True
    if isinstance(value, (str, bytes)):
        return not value.strip()
    if isinstance(value, float):
        return bool(value != value)
    return type(value).__name__ in ("NAType", "NaTType")  # those of pandas, which need not be imported


def _check_kinds(values: Sequence[Any], where: str) -> None:
    """Raise where labels are of several types, or of one that names no class."""
    first: dict[str, int] = {}
    for at, value in enumerate(values):
        if value is None:
            continue
        kind = next((KINDS[one] for one in type(value).__mro__ if one in KINDS), None)
        if kind is None:
            raise LabelsError(
                f"{where}the label of image {at} is a {type(value).__name__}; expected text or an integer"
            )
        if isinstance(value, float) and not value.is_integer():
            raise LabelsError(f"{where}the label of image {at} is {value!r}; expected integers or text")
        first.setdefault(kind, at)
    if len(first) > 1:
        kinds = " and ".join(
            f"{kind} (image {at}: {shortened(repr(values[at]))})" for kind, at in list(first.items())[:2]
        )
        raise LabelsError(f"{where}labels are of several types, {kinds}; make all of them text, or integers")


def _text(value: Any, at: int, name: str) -> str:
    """Return one label as text that UTF-8 and a codes file can hold."""
    try:
        text = value.decode() if isinstance(value, bytes) else str(int(value) if isinstance(value, float) else value)
        text.encode()
    except UnicodeError as error:
        raise LabelsError(f"{name}: the label of image {at} is no UTF-8 text, {shortened(repr(value))}") from error
    if "\0" in text:
        raise LabelsError(f"{name}: the label of image {at} has a zero byte, {shortened(repr(value))}")
    return composed(text)
