"""The pictures of the report that show what speaks for a wrong answer."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
from PIL import Image

from cnncodes.codes.views import as_rows, repeated
from cnncodes.errors import CnnCodesError
from cnncodes.images.loading import ImageSet
from cnncodes.models.model import ProbeModel
from cnncodes.pages.answers import Answers
from cnncodes.probes.probe import make_probe
from cnncodes.probes.protocol import TrainingData
from cnncodes.system.imports import import_torch
from cnncodes.vocabulary import LEARNED_SCALINGS

__all__ = ["evidence"]

SIDE, WEBP_QUALITY = 192, 78  # pixels; in the small, colours blur more than shapes


def evidence(
    data: TrainingData, model: ProbeModel, answers: Answers, images: ImageSet, positions: np.ndarray
) -> tuple[dict[str, str], list[str]]:
    """Draw which places of some images speak for the class that they were called, rather than for their label.

    It is asked of the classifier that gave the answer: where that is one of a cross-validation, it is fitted again to
    the images of its folds.

    Parameters
    ----------
    data : TrainingData
    model : ProbeModel
    answers : Answers
        Of `ask`, for this model.
    images : ImageSet
        Those without an image of the wanted id are no error: they get no picture.
    positions : ndarray of int
        Positions of the answers.

    Returns
    -------
    pictures : dict of str to str
        By id, as data URI.
    notes : list of str
        Why there are none, where the model does not allow it.
    """
    import_torch()
    from cnncodes.models.explain import explain

    folds = [(np.arange(0), positions)] if answers.folds is None else answers.folds
    pictures: dict[str, str] = {}
    try:
        for train, test in folds:
            wanted = _by_answer(data, answers, images, np.intersect1d(positions, test))
            if wanted:
                classifier = model if answers.held_out else _fitted_to(data, model, answers.rows[train])
            for (label, against), rows in wanted.items():
                other = against if against in classifier.classes else None
                chosen = images.take(rows)
                for explanation in explain(classifier, chosen, label=label, against=other, owner=model):
                    pictures[explanation.path] = _as_uri(explanation.draw())
    except CnnCodesError as error:
        return {}, [f"what speaks for the wrong answers is not shown: {error}"]
    return pictures, []


def _by_answer(
    data: TrainingData, answers: Answers, images: ImageSet, positions: np.ndarray
) -> dict[tuple[str, str], list[int]]:
    """Return rows of the images, by the class that each was called, and its label."""
    rows: dict[tuple[str, str], list[int]] = {}
    for position in positions.tolist():
        name = str(data.file.ids[answers.rows[position]])
        if name in images.row_of:
            pair = str(answers.result.predicted[position]), str(answers.result.y[position])
            rows.setdefault(pair, []).append(images.row_of[name])
    return rows


def _fitted_to(data: TrainingData, model: ProbeModel, rows: np.ndarray) -> ProbeModel:
    """Return the model as it is when it is fitted to some images only, with the same C."""
    X, y = data.codes(model.layers, rows), data.file.labels[rows]
    scaling = data.scaling(model.layers, model.scale)
    probe = make_probe(model.clf, C=model.C, scale=scaling, class_weight=model.scores.class_weight)
    scaler, classifier = probe.fit(as_rows(X), repeated(y, X)).named_steps.values()
    learned = {"mean": scaler.mean_, "deviation": scaler.scale_} if model.scale in LEARNED_SCALINGS else {}
    return replace(
        model,
        classes=[str(label) for label in classifier.classes_],
        coef=classifier.coef_,
        intercept=classifier.intercept_,
        **learned,
    )


def _as_uri(picture: Image.Image) -> str:
    stream = io.BytesIO()
    picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(stream, "WEBP", quality=WEBP_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
