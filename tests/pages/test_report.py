"""The report: its figures are those of the commands, nothing gets out of its quotes, and a real browser shows it."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_parts import commands_of, open_page

from cnncodes import ProbeModel, audit, compare, evaluate, extract, fit
from cnncodes.errors import ImagesError, MissingLibraryError
from cnncodes.insight.advise import advise
from cnncodes.insight.audit import Audit
from cnncodes.insight.suspects import Suspect
from cnncodes.pages.report import report
from cnncodes.system.shipped import SAMPLE, shipped_path

SHOTS = "CNNCODES_SCREENSHOTS"  # names the folder for the screenshots, as docs/, which the README shows


def test_held_out_figures_are_those_of_evaluate(sample_codes: Path) -> None:
    model = fit(sample_codes, layers="layer2", C=0.01)
    page = report(sample_codes, model=model, advice=False, audit=False)
    expected = evaluate(sample_codes, model).to_dict()
    assert page.figures["held_out"]
    assert page.figures["accuracy"] == expected["test_accuracy"]
    assert page.figures["interval"] == expected["test_interval"]
    assert page.figures["neighbour_accuracy"] == expected["neighbour_accuracy"]
    assert f"{100 * expected['test_accuracy']:.1f}\N{NO-BREAK SPACE}% of the 15 held-out images" in page.answer
    assert page.answer in page.html


def test_without_images_the_page_has_the_small_pictures_of_the_file(hostile: tuple[Path, Path]) -> None:
    page = report(hostile[1], advice=False, audit=False)
    assert page.pictures == 30
    assert "data:image/webp" in page.html
    assert "<code>--images</code>" not in page.html


def test_without_any_pictures_the_page_says_how_to_have_them(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    codes = shutil.copy(hostile[1], tmp_path)
    extract(hostile[0], codes, thumbnails=False)
    page = report(codes, advice=False, audit=False)
    assert page.pictures == 0
    assert "<code>--images</code>" in page.html
    assert "data:image" not in page.html


@pytest.mark.parametrize(("images", "audit", "total"), [(False, False, 4), (False, True, 5), (True, False, 4)])
def test_progress_counts_the_steps_that_the_report_has(
    hostile: tuple[Path, Path], images: bool, audit: bool, total: int
) -> None:
    calls: list[tuple[int, int, int]] = []
    options = {"images": hostile[0]} if images else {}
    report(hostile[1], advice=False, audit=audit, progress=lambda *counts: calls.append(counts), **options)
    assert calls == [(done, total, 0) for done in range(total + 1)]


def test_images_of_other_names_are_refused(hostile: tuple[Path, Path], small_sample: Path) -> None:
    with pytest.raises(ImagesError, match="none of the names of the codes file"):
        report(hostile[1], images=small_sample, advice=False, audit=False)


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_a_missing_library_is_named_with_what_to_install(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingLibraryError, match=rf"needs {library}: pip install 'cnncodes\[report\]'"):
        report("codes.h5")


@pytest.mark.parametrize("other", [False, True])
def test_the_page_has_one_layer_and_says_why(hostile: tuple[Path, Path], other: bool) -> None:
    advice = advise(hostile[1], cv=3)
    if other:  # as if the comparison recommended another one
        advice = replace(advice, layers=["layer2"] if advice.layers != ["layer2"] else ["layer3"])
    page = report(hostile[1], advice=advice, audit=False)
    layer = " + ".join(advice.layers)
    fit_command = commands_of(page.html)[1]
    assert f"A linear SVM on {layer} names" in page.answer
    assert [fit_command[i + 1] for i, word in enumerate(fit_command) if word == "--layer"] == advice.layers
    (recommended,) = re.findall(r'<th scope="row">([^<]*)</th>(?:(?!</tr>).)*>recommended<', page.html)
    assert recommended == layer
    assert f"{layer} is recommended: {advice.reason}. " in page.html
    assert "The classifier of this page is fitted to it." in page.html
    others = next(layers for layers in (["layer2", "layer3"], ["layer3"]) if layers != advice.layers)
    given = report(hostile[1], advice=advice, audit=False, model=fit(hostile[1], layers=others))
    assert f"is a given model, fitted to {' + '.join(others)}." in given.html


def test_figures_say_what_they_are_of(hostile: tuple[Path, Path]) -> None:
    advice = advise(hostile[1], cv=3)
    suspect = Suspect("Sandal0.png", "Sandal", split="", suggested="Trouser", confidence=1.0, label_confidence=0.0)
    audit = Audit(30, {}, suspects=[suspect], notes=["suspect labels: a note"], layers=["layer3"], clf="logreg")
    text = report(hostile[1], advice=advice, audit=audit).html
    layer, best = " + ".join(advice.layers), " + ".join(advice.comparison.probes[0].layers)
    assert "Each figure is the mean of 5 cross-validations, that of the nearest neighbour is from one; the" in text
    assert f"what no training gives, by {layer}" in text
    assert f"nearest neighbour by {best}</th>" in text
    assert "probabilities of logistic regression on layer3. Its folds keep duplicates together" in text
    assert "suspect labels: a note" in text


@pytest.mark.slow
def test_a_real_browser_shows_it_and_it_answers_to_pointer_and_keys(
    hostile: tuple[Path, Path], tmp_path: Path, browser: Any
) -> None:
    path = tmp_path / "report.html"
    report(hostile[1], images=hostile[0]).save(path)
    page, complaints, asked = open_page(browser, path, viewport={"width": 1100, "height": 900})
    canvas, tip = page.locator("#map"), page.locator("#tip")
    data = json.loads(page.locator("#data").text_content())
    assert canvas.get_attribute("data-shown") == "30"

    # keys
    canvas.focus()
    page.keyboard.press("ArrowRight")
    name = canvas.get_attribute("data-chosen")
    assert name in {image["id"] for image in data["images"]}
    assert name in tip.inner_text()
    assert tip.locator(".thumb[role=img]").count() == 1
    page.keyboard.press("ArrowLeft")
    assert canvas.get_attribute("data-chosen") != name
    page.keyboard.press("+")
    assert float(canvas.get_attribute("data-zoom")) == 1.5
    page.keyboard.press("0")
    page.keyboard.press("Escape")
    assert tip.is_hidden()

    # hover and wheel: the leftmost point is at 3 % of the width, as the map leaves 6 % free
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    height = max(abs(image["y"] - 0.5) for image in data["images"]) * 2
    unit = 0.94 * min(box["width"], box["height"] / height)
    first = min(data["images"], key=lambda image: image["x"])
    x = box["x"] + box["width"] / 2 + (first["x"] - 0.5) * unit
    y = box["y"] + box["height"] / 2 + (first["y"] - 0.5) * unit
    page.mouse.move(x + 2, y)
    assert canvas.get_attribute("data-chosen") == first["id"]
    assert tip.is_visible()
    page.mouse.wheel(0, -400)
    page.wait_for_function("document.getElementById('map').dataset.zoom > 1.5")
    assert canvas.get_attribute("data-chosen") == first["id"]  # zoomed about the pointer, it stays under it
    page.get_by_role("button", name="Show all").click()
    assert canvas.get_attribute("data-zoom") == "1.00"
    page.get_by_role("button", name="Zoom in").click()
    assert canvas.get_attribute("data-zoom") == "1.50"

    # classes and mistakes
    page.locator("#legend button", has_text="Sandal").click()
    assert canvas.get_attribute("data-shown") == "20"
    wrong = [image for image in data["images"] if image["predicted"] != image["label"]]
    page.locator("#legend button", has_text="Sandal").click()
    page.get_by_label("Only mistakes").check()
    assert canvas.get_attribute("data-shown") == str(len(wrong))

    # a cell of the confusion matrix
    cell = page.locator(".confusion .right button").first
    cell.click()
    count = int(cell.inner_text())
    panel = page.locator("#cell")
    assert panel.locator("li").count() == count
    assert panel.locator(".thumb[role=img]").count() == count
    assert cell.get_attribute("aria-pressed") == "true"
    parts = panel.locator(":scope > *").evaluate_all("all => all.map((one) => one.tagName)")
    assert parts == ["H3", "BUTTON", "P", "OL"]  # Close comes before the pictures
    page.keyboard.press("Escape")
    assert panel.is_hidden()
    assert page.evaluate("document.activeElement.dataset.label") == cell.get_attribute("data-label")

    assert page.evaluate("document.querySelectorAll('main script').length") == 0
    drawn = page.locator("#mistakes figure > img.evidence[src^='data:image/webp;base64,']").count()
    assert page.evaluate("document.querySelectorAll('img').length") == drawn
    assert complaints == []
    assert asked == [path.as_uri()]


@pytest.mark.slow
def test_it_fits_a_phone(hostile: tuple[Path, Path], tmp_path: Path, browser: Any) -> None:
    path = tmp_path / "report.html"
    report(hostile[1], images=hostile[0], advice=False, audit=False).save(path)
    options = {"viewport": {"width": 390, "height": 800}, "is_mobile": True, "has_touch": True}
    page, complaints, _ = open_page(browser, path, **options)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert complaints == []
    box = page.locator(".confusion").evaluate("""table => {
      table.style.setProperty("--cell", "20rem");  // so that three classes are wider than the phone
      const scroll = table.closest(".scroll");
      scroll.scrollLeft = 300;
      const left = (element) => element.getBoundingClientRect().left;
      return [scroll.scrollLeft, left(scroll), left(table.querySelector("tbody th"))];
    }""")
    assert box[0] == 300
    assert box[2] == pytest.approx(box[1], abs=3)  # the label stays in sight
    data = json.loads(page.locator("#data").text_content())
    points = np.array([[image["x"], image["y"]] for image in data["images"]])
    shape = page.locator("#map").bounding_box()
    needed = shape["width"] * np.ptp(points[:, 1])
    assert shape["height"] == pytest.approx(max(128, min(needed, 0.78 * 800)), abs=2)


@pytest.mark.slow
def test_a_cell_says_that_it_shows_a_part(
    hostile: tuple[Path, Path], tmp_path: Path, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnncodes.pages.shown_images.MIN_IMAGES_PER_CELL", 2)
    path = tmp_path / "report.html"
    report(hostile[1], images=hostile[0], advice=False, audit=False, points=3).save(path)
    page, _, _ = open_page(browser, path)
    cell = page.locator(".confusion .right button").first
    cell.click()
    panel = page.locator("#cell")
    there = panel.locator("li").count()
    assert 2 <= there < int(cell.inner_text())
    note = f"{there} of them are on this page: some of the surest, and those on the map, which are chosen at random."
    assert f"{note} The surest come" in panel.inner_text()


def save_shot(page: Any, path: Path, section: str = "") -> None:
    """Save what is seen, or a section with a margin, in the 256 best colours: that is a third of the bytes."""
    options: dict[str, Any] = {}
    if section:
        page.locator("nav").evaluate("nav => nav.style.position = 'static'")  # not over the section
        box, top = page.locator(section).bounding_box(), page.evaluate("window.scrollY")
        clip = {"x": 0, "y": box["y"] + top + 16, "width": 1000, "height": box["height"]}
        options = {"full_page": True, "clip": clip}
    shot = Image.open(io.BytesIO(page.screenshot(**options))).convert("RGB")
    shot.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE).save(path, optimize=True)


def take_screenshots(browser: Any, path: Path, folder: Path) -> None:
    """Show the beginning, a cell of the confusion matrix, and in the dark the map with pictures."""
    page, complaints, _ = open_page(browser, path, viewport={"width": 1000, "height": 620})
    save_shot(page, folder / "report.png")
    page.locator(".confusion td:not(.right) button").filter(has_text=re.compile("^[3-9]")).first.click()
    page.mouse.move(0, 0)
    save_shot(page, folder / "report-confusion.png", "#confusion")
    dark, more, _ = open_page(browser, path, viewport={"width": 1000, "height": 760}, color_scheme="dark")
    dark.get_by_label("Pictures").check()
    dark.locator("#map").focus()
    for key in ("+", "+", "ArrowRight"):
        dark.keyboard.press(key)
    for _ in range(60):
        if "called" in dark.locator("#tip").inner_text():
            break
        dark.keyboard.press("ArrowLeft")
    save_shot(dark, folder / "report-map.png", "#map-section")
    assert complaints == more == []


@pytest.mark.slow
def test_the_report_on_the_sample_is_small_and_can_be_shown(tmp_path: Path, browser: Any) -> None:
    folder = Path(os.environ.get(SHOTS, tmp_path))
    sample = shipped_path(SAMPLE)
    extract(sample, tmp_path / "sample.h5", resize="squash")
    page = report(tmp_path / "sample.h5", images=sample)
    page.save(tmp_path / "report.html")
    assert page.pictures == 600
    assert len(page.html) < 2_000_000
    assert "Which layer" in page.html
    assert "Would more images help?" in page.html
    assert "Suspect labels" in page.html
    take_screenshots(browser, tmp_path / "report.html", folder)
    assert all(
        (folder / name).stat().st_size < 200_000 for name in ("report.png", "report-confusion.png", "report-map.png")
    )


@pytest.mark.slow
def test_classes_of_one_image_or_of_two_copies_are_no_dead_end(small_sample: Path, tmp_path: Path) -> None:
    for name in ("Bag", "Sandal"):
        shutil.copytree(small_sample / "train" / name, tmp_path / "images" / name)
    shirts = sorted((small_sample / "train" / "Trouser").iterdir())
    for name, path in (("single/1.png", shirts[0]), ("pair/1.png", shirts[1]), ("pair/2.png", shirts[1])):
        (tmp_path / "images" / name).parent.mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "images" / name)
    codes = tmp_path / "codes.h5"
    extract(tmp_path / "images", codes, image_size=64, layers=["layer2", "penultimate"])
    end = "which cannot be both learned from and tested on"
    left_out = [f"the class 'pair' has near-duplicates only, {end}", f"the class 'single' has one image only, {end}"]
    model = fit(codes, layers="layer2")
    comparison = compare(codes)
    audited = audit(codes, layers="layer2")
    made = report(codes)
    for notes in (model.notes, comparison.notes, advise(codes).notes, audited.notes, made.notes):
        assert [note.partition(";")[0] for note in notes if end in note] == left_out
    assert model.classes == ["Bag", "Sandal", "pair", "single"]
    assert (model.scores["n"], model.scores["n_cv"], model.scores["baseline_accuracy"]) == (23, 20, 0.5)
    assert (comparison.recommended.n, comparison.recommended.classes) == (20, ["Bag", "Sandal"])
    assert audited.accuracy is not None
    assert made.figures["n"] == 20
    assert "the right one of 2 classes for" in made.answer
    given = report(codes, model=model, advice=False, audit=False)
    assert (given.figures["n"], given.figures["accuracy"]) == (20, model.scores["cv_accuracy"])


def test_page_of_a_fine_tuned_model_shows_the_answers_that_it_keeps(tuned: tuple[Path, ProbeModel]) -> None:
    path, model = tuned
    page = report(path, model=model, advice=False, audit=False)
    answers = np.array(model.classes)[np.arange(35) % 3]
    right = answers == np.repeat(model.classes, 12)[np.r_[0:5, 6:36]]
    assert (page.figures["n"], page.figures["accuracy"]) == (35, right.mean())
    assert page.answer.startswith("The network, fine-tuned from layer3 on, names the right one of 3 classes for ")
    assert ", each named by a classifier that has not learned from it" in page.answer
    assert "then fine-tuned from layer3 on, 6 epochs, 0.75 of the way from the probe" in page.html
    assert f"{(~right).sum()}</dd>" in page.html.replace("<small>of 35 cross-validated answers</small>", "")
    command = "finetune codes.h5 --from layer3 --clf svm --scale shrunk --cv 3 --seed 0 --always -o model.safetensors"
    assert ["cnncodes", *command.split(" ")] in commands_of(page.html)
