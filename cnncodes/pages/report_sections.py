"""The contents of each section of a report, ready for its template."""

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
from cnncodes.pages.provenance import PROBE_NAMES
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
    "script_data",
    "section_rows",
    "sentence",
]

EXAMPLES_PER_CLASS, MAX_EXAMPLES = 6, 300  # pictures of a class, and of all classes together
MAX_MATRIX_CLASSES = 40  # nobody can read a larger confusion matrix
MAX_CONFUSED_PAIRS = 12  # pairs of classes that are listed, the most often confused first
MAX_PICTURES_PER_SECTION = 24  # mistakes, suspect labels, pairs of duplicates or outliers


def sentence(answers: Answers, model: ProbeModel) -> str:
    """Say in one sentence how good the classifier is."""
    accuracy, result = answers.accuracies.accuracy, answers.result
    n, plural = len(answers.rows), "" if len(answers.rows) == 1 else "s"
    images = f"the {n} held-out image{plural}" if answers.held_out else f"{n} image{plural}"
    protocol = "" if answers.held_out else ", each named by a classifier that has not learned from it"
    constant = "always answering the most frequent class"
    verdict = (
        f"{constant} would be right for {percent(result.baseline_accuracy)}"
        if accuracy.low > result.baseline_accuracy
        else f"that is not significantly better than {constant} ({percent(result.baseline_accuracy)})"
    )
    return (
        f"{_name(model)} names the right one of {len(result.classes)} classes "
        f"for {percent(accuracy.value)} of {images}{protocol} (95\N{NO-BREAK SPACE}% interval "
        f"{interval(accuracy.low, accuracy.high)}); {verdict}."
    )


def _name(model: ProbeModel) -> str:
    if model.tuned is not None:
        return f"The network, fine-tuned from {model.tuned.first} on,"
    return f"{PROBE_NAMES[model.clf]} on {' + '.join(model.layers)}"


def head(file: CodesFile, answers: Answers, answer: str, notes: Sequence[str]) -> dict[str, Any]:
    """Give the top of the page: the answer in a sentence, the most important figures and the notes."""
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
        "The classifier names the classes of held-out images, from which it has not learned."
        if answers.held_out
        else "In one cross-validation, a classifier that has not learned from an image names its class."
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
    count = int(np.clip(MAX_EXAMPLES // len(classes), 1, EXAMPLES_PER_CLASS))
    chosen: dict[str, list[int]] = {}
    for label in classes.tolist():
        members = rows[labels == label]
        chosen[label] = members[np.linspace(0, len(members) - 1, min(count, len(members))).astype(int)].tolist()
    return chosen


def data(file: CodesFile, examples: dict[str, list[int]]) -> dict[str, Any]:
    """Give the number of images in each class and split, and the images that could not be read."""
    rows = file.rows()
    labels, splits = file.labels[rows], file.splits[rows]
    names = sorted(set(splits.tolist()), key=lambda name: ("train", "val", "test", "").index(name))
    largest = np.unique(labels, return_counts=True)[1].max()
    classes = [
        {
            "name": label,
            "counts": [int(((labels == label) & (splits == name)).sum()) for name in names],
            "share": float((labels == label).sum() / largest),
            "examples": file.ids[example_rows].tolist(),
        }
        for label, example_rows in examples.items()
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
    source = "Each figure is from one cross-validation"
    if repeats > 1:
        source = f"Each figure is the mean of {repeats} cross-validations, that of the nearest neighbour is from one"
    top_source = "one cross-validation, on the layer of the classifier alone"
    if held_out or model.tuned is not None:
        top_source = "the held-out images" if held_out else "the cross-validation of the fine-tuned network"
    curve_text = ""
    if advice.curve is not None:
        low, high = map(points, advice.curve.gain_interval)
        curve_text = (
            f"Twice as many training images would bring {points(advice.curve.gain)} points of accuracy on "
            f"{' + '.join(advice.layers)} (95\N{NO-BREAK SPACE}% interval {low} to {high})."
        )
        if gains := ", ".join(f"{name} ({points(gain)})" for name, gain in advice.curve.helped_most()):
            curve_text += f" The last doubling helped these classes most, in points of recall: {gains}."
    return {
        "layers": rows,
        "layers_text": f"{source}; the figures at the top of the page are from {top_source}.",
        "choice": _choice(advice, model),
        "evidence": advice.evidence,
        "case": advice.summary,
        "curve_text": curve_text,
    }


def _choice(advice: Advice, model: ProbeModel) -> str:
    """Say why the layer is recommended, and whether the classifier is fitted to it."""
    text = f"{' + '.join(advice.layers)} is recommended: {advice.reason}. "
    if model.tuned is not None:
        return text + f"The classifier of this page is a given model, fine-tuned from {model.tuned.first} on."
    if model.layers == advice.layers:
        return text + "The classifier of this page is fitted to it."
    return text + f"The classifier of this page is a given model, fitted to {' + '.join(model.layers)}."


def confusion(answers: Answers) -> dict[str, Any]:
    """Give the confusion matrix, unless it is too large to read, and the pairs of classes most often confused."""
    counts = answers.result.confusion
    off_diagonal = counts - np.diag(np.diag(counts))
    order = np.argsort(-off_diagonal, axis=None, kind="stable")[:MAX_CONFUSED_PAIRS]
    pairs = [
        {"label": int(i), "predicted": int(j), "count": int(off_diagonal[i, j])}
        for i, j in zip(*np.unravel_index(order, off_diagonal.shape), strict=True)
        if off_diagonal[i, j]
    ]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    small = len(counts) <= MAX_MATRIX_CLASSES
    cells = [
        [{"count": int(count), "share": float(share)} for count, share in zip(*row, strict=True)]
        for row in zip(counts, shares, strict=True)
    ]
    return {"labels": answers.result.classes, "matrix": cells if small else [], "pairs": pairs}


def per_class(answers: Answers) -> dict[str, Any]:
    """Give recall, precision and F1 of each class, and the class that it is most often taken for."""
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
    """Give the wrong answers that the classifier is most sure of."""
    positions = answers.mistakes[:MAX_PICTURES_PER_SECTION]
    return {
        "mistakes": [
            {
                "id": str(file.ids[answers.rows[position]]),
                "label": str(answers.result.y[position]),
                "predicted": str(answers.result.predicted[position]),
                "confidence": float(answers.confidence[position]),
            }
            for position in positions.tolist()
        ]
    }


def audit(result: Audit | None) -> dict[str, Any]:
    """Give what is probably wrong with the images, the worst first."""
    if result is None:
        return {"suspects": [], "duplicates": [], "outliers": []}
    judge = f"{PROBE_NAMES[result.clf]} on {' + '.join(result.layers)}" if result.clf in PROBE_NAMES else "A classifier"
    duplicates = []
    for pair in result.duplicates[:MAX_PICTURES_PER_SECTION]:
        remarks = ["the same file" if pair.kind == "exact" else f"alike ({pair.similarity:.2f})"]
        remarks += [f"labelled {pair.label} and {pair.other_label}"] * pair.across_classes
        remarks += [f"in {pair.split} and {pair.other_split}"] * pair.across_splits
        duplicates.append({**pair.to_dict(), "remark": ", ".join(remarks)})
    return {
        "suspects": [suspect.to_dict() for suspect in result.suspects[:MAX_PICTURES_PER_SECTION]],
        "n_suspects": len(result.suspects),
        "judge": judge[:1].lower() + judge[1:],
        "duplicates": duplicates,
        "n_duplicates": len(result.duplicates),
        "outliers": [outlier.to_dict() for outlier in result.outliers[:MAX_PICTURES_PER_SECTION]],
        "n_outliers": len(result.outliers),
    }


def section_rows(file: CodesFile, examples: dict[str, list[int]], findings: dict[str, Any]) -> list[int]:
    """Return the rows of the images that the sections on mistakes, findings and classes show."""
    pairs = findings["duplicates"]
    names = [item["id"] for kind in ("mistakes", "suspects", "outliers") for item in findings[kind]]
    names += [pair[end] for pair in pairs for end in ("id", "other")]
    row_of = {name: row for row, name in enumerate(file.ids.tolist())}
    return [*(row_of[name] for name in names), *(row for example_rows in examples.values() for row in example_rows)]


def script_data(
    file: CodesFile,
    answers: Answers,
    shown_images: ShownImages,
    places: np.ndarray,
    sheet: Sheet,
    colours: Sequence[str],
) -> dict[str, Any]:
    """Give the images of the page for its scripts: names, labels, answers, places on the map and on the sheet."""
    classes = sorted({*answers.result.classes, *file.labels[file.rows()].tolist()})
    number_of = {label: i for i, label in enumerate(classes)}
    answer_of = {int(row): i for i, row in enumerate(answers.rows)}
    place_of = {int(row): place for row, place in zip(shown_images.map_rows, np.round(places, 4).tolist(), strict=True)}
    images = []
    for row in shown_images.rows.tolist():
        name, answer = str(file.ids[row]), answer_of.get(row)
        x, y = place_of.get(row, (None, None))
        images.append(
            {
                "id": name,
                "label": number_of[str(file.labels[row])],
                "predicted": -1 if answer is None else number_of[str(answers.result.predicted[answer])],
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
