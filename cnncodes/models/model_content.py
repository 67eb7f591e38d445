"""A model as the fields and the arrays of its file, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnncodes.codes.provenance import Provenance
from cnncodes.models.answered import ANSWERED, Answered
from cnncodes.models.linear_probe import LinearProbe
from cnncodes.models.model_file import ARRAYS, FIELDS, NOVELTY_ARRAYS, TENSOR, TUNED
from cnncodes.models.scores import Scores
from cnncodes.models.tuned import Tuned

__all__ = ["attributes_of", "content_of"]


def content_of(probe: LinearProbe) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the fields and the arrays that the file of a model holds."""
    special = {"description": probe.provenance.to_dict(), "scores": probe.scores.to_dict()}
    fields = {name: special[name] if name in special else getattr(probe, name) for name in FIELDS}
    if probe.tuned is not None:
        fields[TUNED] = probe.tuned.to_dict()
    arrays = {name: getattr(probe, name) for name in (*ARRAYS, *NOVELTY_ARRAYS)}
    tensors = {f"{TENSOR}{name}": array for name, array in probe.tensors.items()}
    answered = {} if probe.answered is None else probe.answered.arrays()
    return fields, {name: array for name, array in arrays.items() if array is not None} | tensors | answered


def attributes_of(fields: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the attributes of the model whose file holds these fields and arrays, as `read_model` checked them."""
    answers = {name: array for name, array in arrays.items() if name in ANSWERED}
    return {
        **{name: value for name, value in fields.items() if name != "description"},
        **{name: array for name, array in arrays.items() if name in (*ARRAYS, *NOVELTY_ARRAYS)},
        "provenance": Provenance.from_dict(fields["description"]),
        "scores": Scores.from_dict(fields["scores"]),
        "tuned": Tuned.from_dict(fields[TUNED]) if TUNED in fields else None,
        "tensors": {name.removeprefix(TENSOR): array for name, array in arrays.items() if name.startswith(TENSOR)},
        "answered": Answered.from_arrays(answers, len(fields["classes"])) if answers else None,
    }
