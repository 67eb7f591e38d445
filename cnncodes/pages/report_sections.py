"""What each section of a report says, ready for its template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import cnncodes
from cnncodes.codes.file import CodesFile
from cnncodes.display import points
from cnncodes.images.sheet import Sheet
from cnncodes.insight.advise import Advice
from cnncodes.insight.audit import Audit
from cnncodes.models.model import ProbeModel
from cnncodes.pages.answers import Answers
from cnncodes.pages.provenance import PROBES
from cnncodes.pages.render import interval, percent
from cnncodes.pages.shown_images import ShownImages
from cnncodes.probes.intervals import wilson_interval

__all__ = [
    "advice",
    "audit",
    "confusion",
    "data",
    "examples",
    "head",
    "mistakes",
    "per_class",
    "rows_of",
    "script_data",
    "sentence",
]

EXAMPLES_OF_A_CLASS, MAX_EXAMPLES = 6, 300  # pictures of a class, and of all classes together
MAX_CLASSES_OF_MATRIX = 40  # nobody can read a larger confusion matrix
CONFUSED_PAIRS = 12  # pairs of classes that are listed, the most often confused first
SUREST = 24  # mistakes that are shown


def sentence(answers: Answers, model: ProbeModel) -> str:
    """Say how good the classifier is."""
    accuracy, result = answers.accuracies.accuracy, answers.result
    n, plural = len(answers.rows), "" if len(answers.rows) == 1 else "s"
    of = f"the {n} held-out image{plural}" if answers.held_out else f"{n} image{plural}"
    how = "" if answers.held_out else ", each asked about without having learned from it"
    always = "always answering the most frequent class"
    verdict = (
        f"{always} would be right for {percent(result.baseline_accuracy)}"
        if accuracy.low > result.baseline_accuracy
        else f"that is not significantly better than {always} ({percent(result.baseline_accuracy)})"
    )
    return (
        f"{PROBES[model.clf]} on {' + '.join(model.layers)} names the right one of {len(result.classes)} classes for "
        f"{percent(accuracy.value)} of {of}{how} (95\N{NO-BREAK SPACE}% interval "
        f"{interval(accuracy.low, accuracy.high)}); {verdict}."
    )


def head(file: CodesFile, answers: Answers, answer: str, notes: Sequence[str]) -> dict[str, Any]:
    accuracies, result = answers.accuracies, answers.result
    layers = " + ".join(result.about["layers"])
    kind = "held-out" if answers.held_out else "cross-validated"
    rows = [
        (term, percent(estimate.value), interval(estimate.low, estimate.high))
        for term, estimate in (("Accuracy", accuracies.accuracy), ("Balanced over classes", accuracies.balanced))
    ]
    rows.append(("Most frequent class", percent(result.baseline_accuracy), "what no learning gives"))
    if result.neighbour_accuracy is not None:
        rows.append(("Nearest neighbour", percent(result.neighbour_accuracy), f"what no training gives, by {layers}"))
    rows.append(("Mistakes", str(len(answers.mistakes)), f"of {len(answers.rows)} {kind} answers"))
    protocol = (
        "Answers to held-out images, from which the classifier has not learned."
        if answers.held_out
        else "Answers of one cross-validation: each image was asked about by a classifier that had not learned from it."
    )
    return {
        "name": file.path.name,
        "answer": answer,
        "figures": rows,
        "notes": notes,
        "protocol": protocol,
        "version": cnncodes.__version__,
    }


def examples(file: CodesFile) -> dict[str, list[int]]:
    """Return a few rows of each class, spread evenly."""
    rows = file.rows()
    labels = file.labels[rows]
    classes = np.unique(labels)
    count = int(np.clip(MAX_EXAMPLES // len(classes), 1, EXAMPLES_OF_A_CLASS))
    chosen: dict[str, list[int]] = {}
    for label in classes.tolist():
        members = rows[labels == label]
        chosen[label] = members[np.linspace(0, len(members) - 1, min(count, len(members))).astype(int)].tolist()
    return chosen


def data(file: CodesFile, examples: dict[str, list[int]]) -> dict[str, Any]:
    rows = file.rows()
    labels, splits = file.labels[rows], file.splits[rows]
    names = sorted(set(splits.tolist()), key=lambda name: ("train", "val", "test", "").index(name))
    most = np.unique(labels, return_counts=True)[1].max()
    classes = [
        {
            "name": label,
            "counts": [int(((labels == label) & (splits == name)).sum()) for name in names],
            "share": float((labels == label).sum() / most),
            "examples": file.ids[of_class].tolist(),
        }
        for label, of_class in examples.items()
    ]
    failures = {str(file.ids[row]): str(file.errors[row]) for row in np.flatnonzero(file.failed)}
    counts = {"ok": len(rows), "failed": len(failures)}
    return {"classes": classes, "splits": names, "counts": counts, "failures": failures}


def advice(advice: Advice | None, model: ProbeModel, held_out: bool) -> dict[str, Any]:
    """Give the comparison of the layers, the evidence, and what more images would bring."""
    if advice is None:
        return {"layers": [], "layers_text": "", "choice": "", "evidence": [], "case": "", "curve_text": ""}
    comparison, best = advice.comparison, advice.recommended
    rows = [{**row.to_dict(), "name": row.name, "recommended": row is best} for row in comparison.rows]
    repeats = best.repeats
    mean = f"Each figure is the mean of {repeats} cross-validations" if repeats > 1 else "It is one cross-validation"
    at_top = (
        "those at the top of the page are of the held-out images"
        if held_out
        else "those at the top of the page are of one, on the layer of the classifier alone"
    )
    text = ""
    if advice.curve is not None:
        low, high = map(points, advice.curve.gain_interval)
        text = (
            f"Twice as many training images would bring {points(advice.curve.gain)} points of accuracy on "
            f"{' + '.join(advice.layers)} (95\N{NO-BREAK SPACE}% interval {low} to {high})."
        )
        if most := ", ".join(f"{name} ({points(gain)})" for name, gain in advice.curve.helped_most()):
            text += f" The last doubling helped most: {most} points of recall."
    return {
        "layers": rows,
        "layers_text": f"{mean}, the nearest neighbour of one; {at_top}." if repeats > 1 else f"{mean}; {at_top}.",
        "choice": _choice(advice, model),
        "evidence": advice.evidence,
        "case": advice.summary,
        "curve_text": text,
    }


def _choice(advice: Advice, model: ProbeModel) -> str:
    """Say by what the layer was chosen, and why where another rule or the user chose otherwise."""
    layer = " + ".join(advice.layers)
    text = f"Recommended is {layer}: its log loss is the smallest, so its probabilities are nearest to the labels. "
    simplest = advice.comparison.recommended.layers
    if simplest != advice.layers:
        text += (
            f"{' + '.join(simplest)} is simpler, and not significantly less accurate than the best; but where images "
            "are few that proves little: on 50 small data sets, the layer so chosen lost 3.1 points against the best, "
            "and that of the smallest log loss 0.4. "
        )
    if model.layers == advice.layers:
        return text + "The classifier of this page is fitted to it."
    return text + f"The classifier of this page is another one, which was given: it is on {' + '.join(model.layers)}."


def confusion(answers: Answers) -> dict[str, Any]:
    """Give the matrix, where it can be looked at, and the pairs of classes that are most often confused."""
    counts = answers.result.confusion
    off = counts - np.diag(np.diag(counts))
    order = np.argsort(-off, axis=None, kind="stable")[:CONFUSED_PAIRS]
    pairs = [
        {"label": int(i), "predicted": int(j), "count": int(off[i, j])}
        for i, j in zip(*np.unravel_index(order, off.shape), strict=True)
        if off[i, j]
    ]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    small = len(counts) <= MAX_CLASSES_OF_MATRIX
    cells = [
        [{"count": int(count), "share": float(share)} for count, share in zip(*row, strict=True)]
        for row in zip(counts, shares, strict=True)
    ]
    return {"labels": answers.result.classes, "matrix": cells if small else [], "pairs": pairs}


def per_class(answers: Answers) -> dict[str, Any]:
    result = answers.result
    counts = result.confusion
    rows = []
    for i, (name, figures) in enumerate(result.per_class.items()):
        row: dict[str, Any] = {"name": name, **figures, "taken_for": ""}
        if figures["n"]:
            row["interval"] = wilson_interval(int(counts[i, i]), int(figures["n"]))
            others = counts[i].copy()
            others[i] = 0
            if others.any():
                row["taken_for"] = f"{result.classes[int(others.argmax())]} ({others.max()})"
        rows.append(row)
    return {"per_class": rows}


def mistakes(file: CodesFile, answers: Answers) -> dict[str, Any]:
    shown = answers.mistakes[:SUREST]
    return {
        "mistakes": [
            {
                "id": str(file.ids[answers.rows[at]]),
                "label": str(answers.result.y[at]),
                "predicted": str(answers.result.predicted[at]),
                "confidence": float(answers.confidence[at]),
            }
            for at in shown.tolist()
        ]
    }


def audit(found: Audit | None) -> dict[str, Any]:
    """Give what is probably wrong with the images, the worst first."""
    if found is None:
        return {"suspects": [], "duplicates": [], "outliers": []}
    judge = f"{PROBES[found.clf]} on {' + '.join(found.layers)}" if found.clf in PROBES else "A classifier"
    duplicates = []
    for pair in found.duplicates[:SUREST]:
        remarks = ["the same file" if pair.kind == "exact" else f"alike ({pair.similarity:.2f})"]
        remarks += [f"labelled {pair.label} and {pair.other_label}"] * pair.across_classes
        remarks += [f"in {pair.split} and {pair.other_split}"] * pair.across_splits
        duplicates.append({**pair.to_dict(), "remark": ", ".join(remarks)})
    return {
        "suspects": [suspect.to_dict() for suspect in found.suspects[:SUREST]],
        "n_suspects": len(found.suspects),
        "judge": judge[:1].lower() + judge[1:],
        "duplicates": duplicates,
        "n_duplicates": len(found.duplicates),
        "outliers": [outlier.to_dict() for outlier in found.outliers[:SUREST]],
        "n_outliers": len(found.outliers),
    }


def rows_of(file: CodesFile, examples: dict[str, list[int]], found: dict[str, Any]) -> list[int]:
    """Return the rows of the images that are named in sections of their own."""
    pairs = found["duplicates"]
    names = [item["id"] for kind in ("mistakes", "suspects", "outliers") for item in found[kind]]
    names += [pair[end] for pair in pairs for end in ("id", "other")]
    row_of = {name: row for row, name in enumerate(file.ids.tolist())}
    return [*(row_of[name] for name in names), *(row for of_class in examples.values() for row in of_class)]


def script_data(
    file: CodesFile, answers: Answers, chosen: ShownImages, places: np.ndarray, sheet: Sheet, colours: Sequence[str]
) -> dict[str, Any]:
    """Give the images of the page for its scripts: names, labels, answers, places on the map and on the sheet."""
    classes = sorted({*answers.result.classes, *file.labels[file.rows()].tolist()})
    number = {label: i for i, label in enumerate(classes)}
    at = {int(row): i for i, row in enumerate(answers.rows)}
    spot = {int(row): place for row, place in zip(chosen.mapped, np.round(places, 4).tolist(), strict=True)}
    images = []
    for row in chosen.rows.tolist():
        name, answer = str(file.ids[row]), at.get(row)
        x, y = spot.get(row, (None, None))
        images.append(
            {
                "id": name,
                "label": number[str(file.labels[row])],
                "predicted": -1 if answer is None else number[str(answers.result.predicted[answer])],
                "confidence": None if answer is None else round(float(answers.confidence[answer]), 3),
                "x": x,
                "y": y,
                "place": sheet.places.get(name, -1),
            }
        )
    return {
        "classes": classes,
        "colours": colours,
        "columns": max(sheet.columns, 1),
        "side": sheet.side,
        "images": images,
    }
