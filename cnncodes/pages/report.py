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
from cnncodes.errors import parameter
from cnncodes.finetuning.curves import Curves
from cnncodes.images.image_set import Images
from cnncodes.images.loading import ImageSet, load_images
from cnncodes.images.sheet import Sheet, draw_sheet
from cnncodes.insight import audit as auditing
from cnncodes.insight.advise import Advice, advise
from cnncodes.models.fit import fit
from cnncodes.models.model import ProbeModel
from cnncodes.pages import report_sections as sections
from cnncodes.pages.answers import ask
from cnncodes.pages.curves_section import curves_section, load_curves
from cnncodes.pages.evidence import evidence
from cnncodes.pages.plots import COLOURS, draw
from cnncodes.pages.provenance import provenance
from cnncodes.pages.render import is_page, render_page
from cnncodes.pages.scatter import lay_out
from cnncodes.pages.shown_images import choose_images
from cnncodes.pages.stored_images import stored_images
from cnncodes.probes.protocol import Codes, TrainingData
from cnncodes.probes.scaling import scaling_of
from cnncodes.system.files import refuse_foreign, writing_text
from cnncodes.system.optional import require
from cnncodes.system.progress import Progress

__all__ = ["REPORT", "Report", "is_report", "report"]

TEMPLATE, REPORT = "report.html.j2", "a report"
MAX_IMAGES_TO_EXAMINE = 5000  # more images get advice, or an audit, only on request
MAX_LARGE_PICTURES = 600  # if a page has more pictures, all of them are small
LARGE_SIDE, SMALL_SIDE = 96, 64  # pixels


@dataclass
class Report:
    """A page about a codes file.

    Attributes
    ----------
    html : str
        The page; it loads nothing else.
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
            Where to write the page. An earlier report in this place is replaced.
        overwrite : bool, default=False
            Replace a file that is no report, too.

        Raises
        ------
        CnnCodesError
            The file in this place is no report, and stays as it is; or the page cannot be written.
        """
        refuse_foreign(path, REPORT, is_report, overwrite=overwrite)
        with writing_text(Path(path)) as stream:
            stream.write(self.html)


def is_report(path: Path) -> bool:
    """Whether a file is a page that `report` made."""
    return is_page(path, TEMPLATE)


def report(
    codes: Codes = "codes.h5",
    *,
    model: str | os.PathLike[str] | ProbeModel | None = None,
    images: Images | None = None,
    allow_outside: bool = False,
    advice: Advice | bool | None = None,
    audit: auditing.Audit | bool | None = None,
    explain: bool | None = None,
    curves: str | os.PathLike[str] | Curves | None = None,
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
        The classifier. By default one is fitted: to the layer that `advise` recommends, or without advice to the last
        layer.
    images : path, sequence, ndarray or ImageSet, optional
        The images that the codes file was made from. Without them the page has the small pictures that the file keeps.
        A fine-tuned model is asked about them, unless the file keeps the maps of the layer below what was trained.
    allow_outside : bool, default=False
        Let a manifest name files outside its folder.
    advice : Advice or bool, optional
        What `advise` returned, with the comparison of the layers and the learning curve; ``True`` calls it. By default
        it is called for at most 5,000 images.
    audit : Audit or bool, optional
        What `audit` returned, with suspect labels, duplicates and outliers; ``True`` calls it. By default it is called
        for at most 5,000 images.
    explain : bool, optional
        Show which places of the images speak for the wrong answers, for which the network runs over these images
        again, and classifiers of a cross-validation are fitted again. By default this is done for at most 5,000 images,
        where `images` are given.
    curves : path or Curves, optional
        What fine-tuning came to beside training from random weights: ``finetune(…, curves=True).curves``, or the file
        that ``cnncodes finetune --curves FILE.json`` wrote.
    points : int, default=2000
        Images on the map; if there are more, a random part is shown.
    seed : int, default=0
        Seed of the folds, of that random part, and of the map.
    progress : callable, optional
        Called with (done, total, 0) before the first step and after each. The steps are a comparison of the layers, an
        audit, the answers of the classifier, the map, the pictures and the page; the report may lack some of them.

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
    for library in ("jinja2", "matplotlib"):  # before anything that takes long
        require(library, "a report")
    options = _options(advice, audit, explain, points, seed, images)
    image_set = None if images is None else load_images(images, allow_outside=allow_outside)
    loaded = _loaded(model)
    tuning = load_curves(curves)
    options += ["--curves FILE.json"] * (tuning is not None)
    with TrainingData.open(codes) as training:
        file = training.file
        advice, audit, notes = _choose_parts(file, advice, audit)
        has_pictures = image_set is not None or file.has_thumbnails
        step_done = _step_counter(progress, 3 + (advice is True) + (audit is True) + has_pictures)
        advice_result, audit_result = _examine(training, image_set, advice, audit, seed, step_done)
        notes += audit_result.notes if audit_result else []
        classifier = loaded or _classifier(training, advice_result, seed)
        answers = ask(training, classifier, seed=seed, images=image_set)
        step_done()
        notes = list(dict.fromkeys(notes + answers.notes))
        examples = sections.examples(file)
        findings = {**sections.mistakes(file, answers), **sections.audit(audit_result)}
        explained: dict[str, str] = {}
        if image_set is not None and (file.n <= MAX_IMAGES_TO_EXAMINE if explain is None else explain):
            shown_mistakes = answers.mistakes[: len(findings["mistakes"])]
            explained, reasons = evidence(training, classifier, answers, image_set, shown_mistakes)
            notes += reasons
        section_rows = sections.section_rows(file, examples, findings)
        shown_images = choose_images(file.rows(), answers, section_rows, points, seed)
        map_codes = file.codes(classifier.layers, shown_images.map_rows)
        widths = [file.n_features(name) for name in classifier.layers]
        places = lay_out(map_codes, scale=scaling_of(classifier.scale, widths), seed=seed)
        step_done()
        sheet = Sheet()
        if has_pictures:
            names = file.ids[np.union1d(shown_images.rows, section_rows)].tolist()
            side = LARGE_SIDE if len(names) <= MAX_LARGE_PICTURES else SMALL_SIDE
            sheet = draw_sheet(stored_images(file, names, side) if image_set is None else image_set, names, side)
            step_done()
            if sheet.missing:
                reason = "the image is not among those given, or cannot be read"
                if image_set is None:
                    reason = "the codes file does not keep them"
                notes.append(f"{len(sheet.missing)} pictures are missing: {reason}")
        answer = sections.sentence(answers, classifier)
        values = {
            **sections.head(file, answers, answer, notes),
            **sections.data(file, examples),
            **_advice(advice_result, classifier, answers.held_out),
            **curves_section(tuning),
            **sections.confusion(answers),
            **sections.per_class(answers),
            **findings,
            **provenance(file, classifier, _name(model), options),
            "n_on_map": len(shown_images.map_rows),
            "sheet": sheet,
            "explained": explained,
            "data": sections.script_data(file, answers, shown_images, places, sheet, COLOURS),
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


def _choose_parts(
    file: CodesFile, advice: Advice | bool | None, audit: auditing.Audit | bool | None
) -> tuple[Advice | bool, auditing.Audit | bool, list[str]]:
    """Return `advice` and `audit`, by the number of images where they are None, and a note if that leaves them out."""
    is_small = file.n <= MAX_IMAGES_TO_EXAMINE
    notes = []
    if not is_small and None in (advice, audit):
        notes.append(
            f"more than {MAX_IMAGES_TO_EXAMINE:,} images: advice and an audit are made only with "
            f"{parameter('advice', True)}, {parameter('audit', True)}"
        )
    return is_small if advice is None else advice, is_small if audit is None else audit, notes


def _examine(
    data: TrainingData,
    images: ImageSet | None,
    advice: Advice | bool,
    audit: auditing.Audit | bool,
    seed: int,
    step_done: Callable[[], None],
) -> tuple[Advice | None, auditing.Audit | None]:
    """Return the advice and the audit: those that were given, or new ones where they are ``True``."""
    file = data.file
    if advice is True:
        advice = advise(data, finetune=False, seed=seed)
        step_done()
    if audit is True:
        is_complete = images is not None and all(name in images.row_of for name in file.ids.tolist())
        audit = auditing.audit(data, images if is_complete else None, layers=file.top_layer, seed=seed)
        step_done()
    return advice or None, audit or None


def _loaded(model: str | os.PathLike[str] | ProbeModel | None) -> ProbeModel | None:
    return model if model is None or isinstance(model, ProbeModel) else ProbeModel.load(model)


def _classifier(data: TrainingData, advice: Advice | None, seed: int) -> ProbeModel:
    if advice is None:
        return fit(data, layers=data.file.top_layer, seed=seed)
    row = advice.recommended
    return fit(data, clf=row.clf, layers=row.layers, scale=row.scale, seed=seed)


def _name(model: str | os.PathLike[str] | ProbeModel | None) -> str:
    return "model.safetensors" if model is None or isinstance(model, ProbeModel) else Path(model).name


def _options(
    advice: Advice | bool | None,
    audit: auditing.Audit | bool | None,
    explain: bool | None,
    points: int,
    seed: int,
    images: Any,
) -> list[str]:
    """Return the options of the command that makes the same page."""
    words = [] if images is None else ["--images IMAGES"]
    for name, value in (("advice", advice), ("audit", audit), ("explain", explain)):
        words += [] if value is None else [f"--{name}" if value else f"--no-{name}"]
    defaults = {name: parameter.default for name, parameter in inspect.signature(report).parameters.items()}
    words += [f"--points {points}"] * (points != defaults["points"])
    return words + [f"--seed {seed}"] * (seed != defaults["seed"])


def _advice(advice: Advice | None, model: ProbeModel, held_out: bool) -> dict[str, Any]:
    values: dict[str, Any] = {"layers_plot": "", "curve_plot": "", **sections.advice(advice, model, held_out)}
    if advice is not None:
        description = "Accuracy of each layer, from the first to the last; the table below has the figures"
        values["layers_plot"] = draw(advice.comparison, "layers", description)
        if advice.curve is not None:
            values["curve_plot"] = draw(advice.curve, "curve", "Accuracy by the number of training images")
    return values
