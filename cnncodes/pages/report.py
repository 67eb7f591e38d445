"""Makes the report on a codes file: gathers what is known about it, and writes the page."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.images.image_set import Images
from cnncodes.images.loading import ImageSet, load_images
from cnncodes.images.sheet import Sheet, draw_sheet
from cnncodes.insight import audit as auditing
from cnncodes.insight.advise import Advice, advise
from cnncodes.models.fit import fit
from cnncodes.models.model import ProbeModel
from cnncodes.pages import report_sections as sections
from cnncodes.pages.answers import ask
from cnncodes.pages.plots import COLOURS, draw
from cnncodes.pages.provenance import provenance
from cnncodes.pages.render import is_page, render_page
from cnncodes.pages.scatter import lay_out
from cnncodes.pages.shown_images import choose_images
from cnncodes.probes.protocol import Codes, TrainingData
from cnncodes.system.files import refuse_foreign, writing_text
from cnncodes.system.optional import require
from cnncodes.system.progress import Progress

__all__ = ["REPORT", "Report", "is_report", "report"]

TEMPLATE, REPORT = "report.html.j2", "a report"
MAX_IMAGES_TO_EXAMINE = 5000  # more images get advice, or an audit, only on request
MAX_LARGE_PICTURES = 600
LARGE_SIDE, SMALL_SIDE = 96, 64  # pixels


@dataclass
class Report:
    """A page about a codes file.

    Attributes
    ----------
    html : str
        The page, with everything in it.
    answer : str
        How good the classifier is, in one sentence.
    figures : dict
        ``n``, ``accuracy``, ``interval``, ``balanced_accuracy``, ``balanced_interval``, ``baseline_accuracy``,
        ``neighbour_accuracy``, ``held_out``.
    pictures : int
        Images that are shown as pictures.
    notes : list of str
    """

    html: str
    answer: str
    figures: dict[str, Any]
    pictures: int
    notes: list[str] = field(default_factory=list)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the page.

        Parameters
        ----------
        path : path
            A report that is there is replaced.
        overwrite : bool, default=False
            Replace any other file, too.

        Raises
        ------
        CnnCodesError
            Another file is there, and stays as it is; or the page cannot be written.
        """
        refuse_foreign(path, REPORT, is_report, overwrite=overwrite)
        with writing_text(Path(path)) as stream:
            stream.write(self.html)


def is_report(path: Path) -> bool:
    """Whether a file is such a page."""
    return is_page(path, TEMPLATE)


def report(
    codes: Codes = "codes.h5",
    *,
    model: str | os.PathLike[str] | ProbeModel | None = None,
    images: Images | None = None,
    advice: Advice | bool | None = None,
    audit: auditing.Audit | bool | None = None,
    points: int = 2000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Make a page about a codes file: how good a classifier is, where it errs, and what the images are.

    Parameters
    ----------
    codes : path, CodesFile or TrainingData, default="codes.h5"
        Codes of the images.
    model : path or ProbeModel, optional
        The classifier. By default one is fitted to the layer that `advise` recommends, or without advice to the last.
    images : path, sequence, ndarray or ImageSet, optional
        The images that the codes file was made from. Without them the page has no pictures.
    advice : Advice or bool, optional
        What `advise` returned, with the comparison of the layers and the learning curve; ``True`` calls it. By default
        it is called for at most 5,000 images.
    audit : Audit or bool, optional
        The same of `audit`: suspect labels, duplicates and outliers.
    points : int, default=2000
        Images on the map; if there are more, a random part is shown.
    seed : int, default=0
        Seed of the folds, of that random part, and of the map.
    progress : callable, optional
        Called with (done, total, 0) before the first step, and after each: a comparison of the layers, an audit, the
        answers of the classifier, the map, the pictures and the page, as far as the report has them.

    Returns
    -------
    Report

    Raises
    ------
    MissingLibraryError
        Jinja or matplotlib is missing.
    CnnCodesError
        As for `fit`, `compare` and `load_images`.

    Examples
    --------
    >>> report("codes.h5", images="photos/").save("report.html")  # doctest: +SKIP
    """
    for library in ("jinja2", "matplotlib"):  # before all that takes long
        require(library, "a report")
    options = _options(advice, audit, points, seed, images)
    image_set = None if images is None else load_images(images)
    with TrainingData.open(codes) as training:
        file = training.file
        advice, audit, notes = _wanted(file, advice, audit)
        step_done = _step_counter(progress, 3 + (advice is True) + (audit is True) + (image_set is not None))
        advised, audited = _examine(training, image_set, advice, audit, seed, step_done)
        notes += audited.notes if audited else []
        fitted = _classifier(training, model, advised, seed)
        answers = ask(training, fitted, seed=seed)
        step_done()
        notes = list(dict.fromkeys(notes + answers.notes))
        examples = sections.examples(file)
        found = {**sections.mistakes(file, answers), **sections.audit(audited)}
        shown = sections.rows_of(file, examples, found)
        chosen = choose_images(file.rows(), answers, shown, points, seed)
        places = lay_out(file.codes(fitted.layers, chosen.mapped), scale=fitted.scale, seed=seed)
        step_done()
        sheet = Sheet()
        if image_set is not None:
            names = file.ids[np.union1d(chosen.rows, shown)].tolist()
            side = LARGE_SIDE if len(names) <= MAX_LARGE_PICTURES else SMALL_SIDE
            sheet = draw_sheet(image_set, names, side)
            step_done()
            if sheet.missing:
                notes.append(
                    f"{len(sheet.missing)} pictures are missing: the image is not among those given, or cannot be read"
                )
        answer = sections.sentence(answers, fitted)
        values = {
            **sections.head(file, answers, answer, notes),
            **sections.data(file, examples),
            **_advice(advised, fitted, answers.held_out),
            **sections.confusion(answers),
            **sections.per_class(answers),
            **found,
            **provenance(file, fitted, _name(model), options),
            "mapped": len(chosen.mapped),
            "sheet": sheet,
            "data": sections.script_data(file, answers, chosen, places, sheet, COLOURS),
        }
    figures = {"n": len(answers.rows), **answers.accuracies.to_dict(), "held_out": answers.held_out}
    figures["baseline_accuracy"] = answers.result.baseline_accuracy
    figures["neighbour_accuracy"] = answers.result.neighbour_accuracy
    page = render_page(TEMPLATE, scripts=("pictures.js", "map.js"), **values)
    step_done()
    return Report(page, answer, figures, len(sheet.places), notes)


def _step_counter(progress: Progress | None, total: int) -> Callable[[], None]:
    """Tell `progress` that no step is done yet, and return what to call after each step."""
    done = count()

    def tell() -> None:
        if progress is not None:
            progress(next(done), total, 0)

    tell()
    return tell


def _wanted(
    file: CodesFile, advice: Advice | bool | None, audit: auditing.Audit | bool | None
) -> tuple[Advice | bool, auditing.Audit | bool, list[str]]:
    """Decide by the number of images whether there is advice and an audit where the caller left it open.

    A note says so where something is left out.
    """
    few = file.n <= MAX_IMAGES_TO_EXAMINE
    notes = []
    if not few and None in (advice, audit):
        notes.append(
            f"of more than {MAX_IMAGES_TO_EXAMINE:,} images there is advice, or an audit, only with --advice, --audit"
        )
    return few if advice is None else advice, few if audit is None else audit, notes


def _examine(
    data: TrainingData,
    images: ImageSet | None,
    advice: Advice | bool,
    audit: auditing.Audit | bool,
    seed: int,
    step_done: Callable[[], None],
) -> tuple[Advice | None, auditing.Audit | None]:
    """Ask for advice and for an audit, where they are wanted and not there yet."""
    file = data.file
    if advice is True:
        advice = advise(data, seed=seed)
        step_done()
    if audit is True:
        whole = images is not None and set(images.ids) >= set(file.ids.tolist())
        audit = auditing.audit(data, images if whole else None, layers=file.top_layer, seed=seed)
        step_done()
    return advice or None, audit or None


def _classifier(
    data: TrainingData, model: str | os.PathLike[str] | ProbeModel | None, advice: Advice | None, seed: int
) -> ProbeModel:
    if isinstance(model, ProbeModel):
        return model
    if model is not None:
        return ProbeModel.load(model)
    if advice is None:
        return fit(data, layers=data.file.top_layer, seed=seed)
    row = advice.recommended
    return fit(data, clf=row.clf, layers=row.layers, scale=row.scale, seed=seed)


def _name(model: str | os.PathLike[str] | ProbeModel | None) -> str:
    return "model.safetensors" if model is None or isinstance(model, ProbeModel) else Path(model).name


def _options(
    advice: Advice | bool | None, audit: auditing.Audit | bool | None, points: int, seed: int, images: Any
) -> list[str]:
    """Return the options of the command that makes the same page."""
    words = [] if images is None else ["--images IMAGES"]
    for name, value in (("advice", advice), ("audit", audit)):
        words += [] if value is None else [f"--{name}" if value else f"--no-{name}"]
    usual = {name: one.default for name, one in inspect.signature(report).parameters.items()}
    words += [f"--points {points}"] * (points != usual["points"])
    return words + [f"--seed {seed}"] * (seed != usual["seed"])


def _advice(advice: Advice | None, model: ProbeModel, held_out: bool) -> dict[str, Any]:
    values: dict[str, Any] = {"layers_plot": "", "curve_plot": "", **sections.advice(advice, model, held_out)}
    if advice is not None:
        description = "Accuracy of each layer, from the first to the last; the table below has the figures"
        values["layers_plot"] = draw(advice.comparison, "layers", description)
        if advice.curve is not None:
            values["curve_plot"] = draw(advice.curve, "curve", "Accuracy by the number of training images")
    return values
