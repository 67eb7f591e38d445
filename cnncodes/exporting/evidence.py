"""What each place of an image adds to the decision values, as operators: that of `ProbeModel.explain`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnncodes.errors import BackboneError
from cnncodes.exporting.answers import add_classifier, joined, lengths
from cnncodes.exporting.graph import Value
from cnncodes.models.map_source import MapSource, source_of
from cnncodes.models.model import ProbeModel
from cnncodes.networks.backbone import Backbone
from cnncodes.vocabulary import DEFAULT_POOLING, NO_VIEWS

__all__ = ["add_evidence", "evidence_sources"]


def evidence_sources(backbone: Backbone, model: ProbeModel) -> dict[str, MapSource]:
    """Return the map that each layer of a model is the mean of; nothing if one is not, or if there are views."""
    provenance = model.provenance
    if provenance.preprocessing.views != NO_VIEWS:
        return {}
    try:
        sources = {layer: source_of(backbone, layer, provenance.pooling) for layer in model.layers}
    except BackboneError:
        return {}
    return sources if all(one.pooling == DEFAULT_POOLING for one in sources.values()) else {}


def add_evidence(maps: Sequence[Value], codes: Sequence[Value], model: ProbeModel, *, small: bool) -> dict[str, Value]:
    """Add what each place adds to each decision value, for each layer.

    Parameters
    ----------
    maps : sequence of Value of float32, shape (n, C, H, W)
        Those that the layers are means of.
    codes : sequence of Value of float32, shape (n, C)
        Their means.
    model : ProbeModel
    small : bool
        As for `cnncodes.exporting.answers.add_answers`.

    Returns
    -------
    dict of str to Value of float32, shape (n, k, H, W)
        ``evidence0`` and so on, in the order of the layers: the sum of their means over the places, with
        `cnncodes.models.explain.constants`, is the decision.
    """
    graph = maps[0].graph
    weights = graph.op("Transpose", add_classifier(graph, model, small=small), perm=[1, 0])
    ends = np.cumsum([0, *(model.provenance.layers[layer].n_features for layer in model.layers)])
    parts = [joined(graph, codes)] * len(codes) if model.scale == "l2" else codes
    evidence = {}
    for i, (one, rows) in enumerate(zip(maps, parts, strict=True)):
        of_layer = graph.op("Slice", weights, ends[i : i + 1], ends[i + 1 : i + 2], np.array([1]))
        added = graph.op("Conv", one, of_layer.shaped(*model.coef.shape[:1], -1, 1, 1))
        if model.scale in ("l2", "shrunk"):
            added = added / lengths(rows).shaped(-1, 1, 1, 1)
        evidence[f"evidence{i}"] = added
    return evidence
