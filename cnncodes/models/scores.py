"""The scores of a model, with the protocol by which they were found: what `--json` prints and the model file keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from cnncodes.errors import ModelFileError
from cnncodes.probes.estimate import Accuracies, Estimate

__all__ = ["Scores"]

PREFIXES = {"cross_validated": "cv_", "nested": "nested_", "held_out": "test_"}  # of the keys of each pair of estimates
ALWAYS = "class_weight"  # its ``None`` is a value; any other field that is ``None`` has no key


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores(Mapping[str, Any]):
    """How good a model is, and how that was found.

    It is also a read-only mapping with the keys of ``cnncodes fit --json``: ``scores["cv_accuracy"]`` is
    ``scores.cross_validated.accuracy.value``, and ``scores["cv_interval"]`` its interval. What was not measured is
    ``None``, and has no key.

    Attributes
    ----------
    n : int
        Training images.
    n_cv : int
        Images behind the cross-validated figures: fewer than `n` if memory did not hold all, or a class has one image.
    classes : list of str
    clf : {"svm", "logreg"}
    layers : list of str
    n_features : int
        Numbers that the probe takes for each image, or view of an image.
    scale : {"shrunk", "standard", "l2", "none"}
    C : float
    class_weight : {"balanced"}, optional
    cv : int
        Folds.
    seed : int
        Seed of the shuffle into folds.
    C_searched : bool
        Whether `C` was chosen by cross-validation.
    cross_validated : Accuracies
        Estimates from out-of-fold predictions; their keys begin with ``cv_``.
    protocol : str
        How the cross-validated figures were found, in words.
    baseline_accuracy : float
        Accuracy of always answering the most frequent class.
    neighbour_accuracy : float
        Accuracy of answering with the class of the nearest training image, on the same folds.
    n_duplicates : int, optional
        Training images with a near-duplicate among them; ``None`` without the guard against these.
    n_test_duplicates : int, optional
        Held-out images that were left out, because a training image is a near-duplicate.
    duplicates_by_codes : bool, optional
        Whether near-duplicates were looked for, or exact copies only.
    unguarded_accuracy : float, optional
        What the cross-validated accuracy would have been without the guard, if there are near-duplicates.
    nested : Accuracies, optional
        Estimates that include the choice of C, by folds within folds; their keys begin with ``nested_``.
    n_test : int, optional
        Held-out images that were scored.
    held_out : Accuracies, optional
        Estimates from the held-out images; their keys begin with ``test_``.
    n_test_grouped : int, optional
        Held-out images that were left out, because their group has training images.
    unguarded_test_accuracy, ungrouped_test_accuracy : float, optional
        What the held-out accuracy would have been with those near-duplicates, or with those groups.
    seconds : float, optional
        Duration of the fit, in older model files; the same input now gives the same file.

    Examples
    --------
    >>> model = fit("codes.h5", layers="layer3")  # doctest: +SKIP
    >>> print(model.scores.cross_validated.accuracy)  # doctest: +SKIP
    83.3 % (62.0 to 93.9 %)
    >>> model.scores["cv_accuracy"], model.scores["cv_interval"]  # doctest: +SKIP
    (0.8333333333333334, [0.6198540402754995, 0.9387707952246194])
    """

    # In the order of the keys
    n: int
    n_cv: int
    classes: list[str]
    clf: str
    layers: list[str]
    n_features: int
    scale: str
    C: float
    class_weight: str | None = None
    cv: int
    seed: int
    C_searched: bool
    cross_validated: Accuracies
    protocol: str
    baseline_accuracy: float
    neighbour_accuracy: float
    n_duplicates: int | None = None
    n_test_duplicates: int | None = None
    duplicates_by_codes: bool | None = None
    unguarded_accuracy: float | None = None
    nested: Accuracies | None = None
    n_test: int | None = None
    held_out: Accuracies | None = None
    n_test_grouped: int | None = None
    unguarded_test_accuracy: float | None = None
    ungrouped_test_accuracy: float | None = None
    seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the scores ready for JSON."""
        values: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Accuracies):
                values |= value.to_dict(PREFIXES[field.name])
            elif value is not None or field.name == ALWAYS:
                values[field.name] = value
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scores:
        """Return the scores that `to_dict` made these values of.

        Parameters
        ----------
        values : mapping
            It may come from anyone.

        Raises
        ------
        ModelFileError
            A value is missing, is not what it should be, or has a key that scores do not have.
        """
        rest = dict(values)
        arguments: dict[str, Any] = {}
        for field in fields(cls):
            kind, _, optional = str(field.type).partition(" | ")
            if kind == "Accuracies":
                arguments[field.name] = _taken_accuracies(rest, PREFIXES[field.name], optional=bool(optional))
            elif field.name in rest or not optional:
                arguments[field.name] = _taken(rest, field.name, kind, optional=field.name == ALWAYS)
        if rest:
            raise ModelFileError(f"scores.{min(map(str, rest)):.60} is no score")
        return cls(**arguments)

    def __getitem__(self, key: str) -> Any:
        return self.to_dict()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_dict())

    def __len__(self) -> int:
        return len(self.to_dict())


KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {  # by annotation: in words, and the test of a value
    "int": ("a count", lambda value: type(value) is int and 0 <= value < 2**63),
    "float": ("a number", lambda value: type(value) is float and math.isfinite(value)),
    "str": ("text", lambda value: isinstance(value, str)),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "list[str]": ("a list of names", lambda value: _is_list(value, str)),
    "interval": ("two numbers", lambda value: _is_list(value, float) and len(value) == 2),
}


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)


def _taken(rest: dict[str, Any], key: str, kind: str, *, optional: bool = False) -> Any:
    """Take a value out of those that are left, or raise `ModelFileError`."""
    words, is_right = KINDS[kind]
    value = rest.pop(key, None)
    if not (is_right(value) or (optional and value is None)):
        raise ModelFileError(f"scores.{key} is {value!r:.60}, expected {words}")
    return value


def _taken_accuracies(rest: dict[str, Any], prefix: str, *, optional: bool) -> Accuracies | None:
    if optional and not any(key.startswith(prefix) for key in rest):
        return None
    estimates = [
        Estimate(_taken(rest, f"{prefix}{name}accuracy", "float"), *_taken(rest, f"{prefix}{name}interval", "interval"))
        for name in ("", "balanced_")
    ]
    return Accuracies(*estimates)
