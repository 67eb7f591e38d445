"""Refuses codes that were made otherwise than those that a model was fitted with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnncodes.codes.checks import cut
from cnncodes.codes.provenance import Provenance
from cnncodes.errors import MismatchError, parameter
from cnncodes.vocabulary import PENULTIMATE

__all__ = ["require_match"]


def require_match(
    ours: Provenance, layers: Sequence[str], theirs: Provenance, name: str, *, other_precision: bool = False
) -> None:
    """Raise `MismatchError` if codes were made otherwise than those of a model.

    Parameters
    ----------
    ours : Provenance
        How the codes of the model were made.
    layers : sequence of str
        Layers that the model takes.
    theirs : Provenance
        How the codes were made.
    name : str
        Name of the codes in the error.
    other_precision : bool, default=False
        Take codes that were computed in another precision.
    """
    here, there = _made_with(ours), _made_with(theirs)
    if other_precision:
        here["precision"] = there["precision"]
    if all(_is_vector(ours, layer) and _is_vector(theirs, layer) for layer in layers):
        here["pooling"] = there["pooling"]  # which has nothing to pool
    if PENULTIMATE not in layers:
        here["head_input"] = there["head_input"]
    differences = [
        f"{field} is {there.get(field)!r} there and {here.get(field)!r} in the model"
        for field in dict.fromkeys([*here, *there])
        if there.get(field) != here.get(field)
    ]
    differences += [f"layer {layer!r} is not there" for layer in layers if layer not in theirs.layers]
    widths = [
        (layer, theirs.layers[layer].n_features, ours.layers[layer].n_features)
        for layer in layers
        if layer in theirs.layers
    ]
    differences += [
        f"{layer} has {width} features there and {own} in the model" for layer, width, own in widths if width != own
    ]
    if differences:
        advice = "Use codes that were made like those that the model was fitted on"
        if there["preprocessing.ignore_profiles"] != (ignored := here["preprocessing.ignore_profiles"]):
            option = f"{'with' if ignored else 'without'} {parameter('ignore_profiles', True, of='extract')}"
            advice += f": extract to a new file {option}, or fit the model again on codes like these"
        raise MismatchError(f"{name} does not fit the model: {cut('; '.join(differences))}. {advice}")


def _made_with(provenance: Provenance) -> dict[str, Any]:
    """Return what must be the same for codes to fit a model."""
    fields = {
        name: getattr(provenance, name) for name in ("backbone", "weights_sha256", "head_input", "pooling", "precision")
    }
    preprocessing = provenance.preprocessing
    # files leave the usual out
    unwritten = {name: getattr(preprocessing, name) for name in ("views", "resized_by", "ignore_profiles")}
    return fields | {f"preprocessing.{name}": value for name, value in (preprocessing.to_dict() | unwritten).items()}


def _is_vector(provenance: Provenance, layer: str) -> bool:
    return layer in provenance.layers and len(provenance.layers[layer].map_shape) == 1
