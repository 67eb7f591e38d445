"""The report: its figures are those of the commands, nothing gets out of its quotes, and a real browser shows it."""

from __future__ import annotations

import base64
import csv
import html.parser
import io
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cnncodes import ImageSet, evaluate, extract, fit, similar
from cnncodes.cli.main import main
from cnncodes.codes.file import CodesFile
from cnncodes.codes.load_codes import load_codes
from cnncodes.errors import ImagesError, MissingLibraryError
from cnncodes.images.sheet import draw_sheet
from cnncodes.insight.advise import advise
from cnncodes.insight.audit import Audit
from cnncodes.insight.suspects import Suspect
from cnncodes.models.evaluation import EvaluationResult
from cnncodes.pages.answers import Answers, ask
from cnncodes.pages.choosing import OF_A_CELL, choose
from cnncodes.pages.montage import montage
from cnncodes.pages.plots import draw
from cnncodes.pages.report import report
from cnncodes.pages.scatter import lay_out
from cnncodes.pages.sections import sentence
from cnncodes.probes.calibration import softmax
from cnncodes.probes.search import search_C
from cnncodes.system.shipped import SAMPLE, shipped_path

HOSTILE = "</script><script>alert(1)</script>"
ODD_NAME = 'it\'s "a" <img src=x onerror=alert(2)> & {{ 7 * 7 }} 0.png'
SHOTS = "CNNCODES_SCREENSHOTS"  # names the folder for the screenshots, as docs/, which the README shows


@pytest.fixture(scope="module")
def hostile(small_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A manifest with a hostile class and file name, and its codes file."""
    folder = tmp_path_factory.mktemp("hostile")
    with (folder / "images.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label"])
        for label, name in ((HOSTILE, "Bag"), ("Sandal", "Sandal"), ("Trouser", "Trouser")):
            for i, path in enumerate(sorted((small_sample / "train" / name).iterdir())):
                there = ODD_NAME if (i, name) == (0, "Bag") else f"{name}{i}.png"
                shutil.copy(path, folder / there)
                writer.writerow([there, label])
    extract(folder / "images.csv", folder / "codes.h5", layers=["layer2", "layer3"])
    return folder / "images.csv", folder / "codes.h5"


class Scripts(html.parser.HTMLParser):
    """Collects what is in the script elements, and all attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        self.inside = tag == "script"
        if self.inside:
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[-1] += data


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


def test_without_a_split_the_figures_are_those_of_the_cross_validation(hostile: tuple[Path, Path]) -> None:
    model = fit(hostile[1], layers="layer2")
    with CodesFile.open(hostile[1]) as file:
        answers = ask(file, model)
    search = search_C(*load_codes(hostile[1], "layer2", return_X_y=True))
    assert search.C == model.C
    expected = softmax(search.decision, search.temperature).max(axis=1)
    np.testing.assert_allclose(answers.confidence, expected, rtol=0.01)
    assert not answers.held_out
    assert len(answers.rows) == 30
    assert answers.accuracies.accuracy.value == model.scores["cv_accuracy"]
    assert answers.result.neighbour_accuracy == model.scores["neighbour_accuracy"]
    assert ((answers.confidence > 1 / 3) & (answers.confidence <= 1)).all()


def test_nothing_gets_out_of_its_quotes(hostile: tuple[Path, Path]) -> None:
    made = report(hostile[1], images=hostile[0], advice=False, audit=False)
    page = Scripts(made.html)
    assert len(page.texts) == 3  # the data, and two scripts of ours
    data = json.loads(page.texts[0])
    assert HOSTILE in data["classes"]
    assert ODD_NAME in {image["id"] for image in data["images"]}
    assert "alert(" not in page.texts[1] + page.texts[2]
    assert not {name for name, _ in page.attributes if name.startswith("on")}
    assert "onerror=alert(2)> &" not in made.html
    assert HOSTILE not in made.html
    assert "{{ 7 * 7 }}" in made.html  # and not 49
    assert made.pictures == 30


def test_a_page_asks_nothing_of_any_other(hostile: tuple[Path, Path]) -> None:
    text = report(hostile[1], images=hostile[0], advice=False, audit=False).html
    places = [value or "" for name, value in Scripts(text).attributes if name in ("src", "href", "xlink:href")]
    assert all(place.startswith("#") for place in places), places
    assert all(url.startswith(("data:image/webp;base64,", "#")) for url in re.findall(r"url\(([^)]*)\)", text))
    assert "default-src &#39;none&#39;" in text
    assert "@import" not in text


def test_without_images_the_page_says_how_to_have_pictures(hostile: tuple[Path, Path]) -> None:
    page = report(hostile[1], advice=False, audit=False)
    assert page.pictures == 0
    assert "<code>--images</code>" in page.html
    assert "data:image" not in page.html


def test_images_of_other_names_are_refused(hostile: tuple[Path, Path], small_sample: Path) -> None:
    with pytest.raises(ImagesError, match="none of the names of the codes file"):
        report(hostile[1], images=small_sample, advice=False, audit=False)


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_a_missing_library_is_named_with_what_to_install(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingLibraryError, match=rf"needs {library}: pip install 'cnncodes\[report\]'"):
        report("codes.h5")


def test_small_pictures_are_where_the_sheet_says() -> None:
    colours = {"red": (250, 10, 10), "green": (10, 200, 10), "blue": (20, 20, 240)}
    arrays = [np.full((30, 60, 3), colour, np.uint8) for colour in colours.values()]
    images = ImageSet(list(colours), arrays)
    sheet = draw_sheet(images, ["blue", "gone", "red", "green", "blue"], 32)
    assert sheet.missing == ["gone"]
    assert (sheet.columns, sheet.lines, len(sheet.places)) == (2, 2, 3)
    data = base64.b64decode(sheet.data.partition(",")[2])
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    assert pixels.shape == (64, 64, 4)
    for name, place in sheet.places.items():
        cell = pixels[place // 2 * 32 :, place % 2 * 32 :][:32, :32]
        np.testing.assert_allclose(cell[12:20, 4:28, :3].mean(axis=(0, 1)), colours[name], atol=12)
        assert cell[1, :, 3].max() == 0  # twice as wide as high: clear above


def answers_of(y: np.ndarray, predicted: np.ndarray, rows: np.ndarray, confidence: np.ndarray) -> Answers:
    result = EvaluationResult(y, predicted, sorted({*y, *predicted}), 0.5, {}, 0.0)
    return Answers(rows, result, confidence, True, [])


def test_the_map_is_a_fair_sample_and_each_cell_has_its_images() -> None:
    rng = np.random.default_rng(0)
    y = rng.choice(["a", "b", "c"], 5000, p=[0.6, 0.39, 0.01])
    predicted = np.where(rng.random(5000) < 0.98, y, rng.choice(["a", "b", "c"], 5000))
    answers = answers_of(y, predicted, np.arange(5000), rng.random(5000))
    chosen = choose(np.arange(5000), answers, [4999], 400, 0)
    assert len(chosen.mapped) == 400
    assert set(chosen.mapped) < set(chosen.rows)
    assert 4999 in chosen.rows
    assert np.mean(y[chosen.mapped] == "a") == pytest.approx(0.6, abs=0.08)
    assert np.mean((y != predicted)[chosen.mapped]) < 0.04
    for label in "abc":
        for answer in "abc":
            cell = np.flatnonzero((y == label) & (predicted == answer))
            surest = cell[np.argsort(-answers.confidence[cell])][:OF_A_CELL]
            assert set(surest) <= set(chosen.rows)
    few = choose(np.arange(300), answers, [], 400, 0)
    assert len(few.rows) == len(few.mapped) == 300


def test_like_codes_lie_together() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 40)
    X = rng.normal(size=(120, 30)) + 6 * rng.normal(size=(3, 30))[y]
    places = lay_out(X)
    assert places[:, 0].min() == pytest.approx(0)
    assert places[:, 0].max() == pytest.approx(1)
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1) + 9 * np.eye(120)
    assert np.mean(y[distances.argmin(axis=1)] == y) > 0.99
    np.testing.assert_array_equal(places, lay_out(X))


@pytest.mark.parametrize("n", [0, 1, 2, 4, 6])
def test_a_few_images_can_be_laid_out(n: int) -> None:
    places = lay_out(np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32))
    assert places.shape == (n, 2)
    assert np.isfinite(places).all()


def test_a_plot_has_its_own_ids_the_colours_of_the_page_and_no_date() -> None:
    class Line:
        def plot(self, ax: Any = None) -> None:
            ax.plot([1, 2], [3, 4], label="<a>")
            ax.legend()

    svg = draw(Line(), "layers", 'says "it" <all>')
    assert svg == draw(Line(), "layers", 'says "it" <all>')
    assert 'aria-label="says &#34;it&#34; &lt;all&gt;"' in svg
    ids, used = (set(re.findall(pattern, svg)) for pattern in (r'\bid="([^"]*)"', r"#([\w-]+)[\")]"))
    assert ids
    assert used <= ids
    assert all(name.startswith("layers-") for name in ids)
    assert "currentColor" in svg
    assert not re.search(r"<metadata|<style|20\d\d-\d\d", svg)
    assert "&lt;a&gt;" in svg


def test_the_command_writes_a_file_and_says_the_answer(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    words = ["report", hostile[1], "--no-advice", "--no-audit", "-o", out, "--points", 20, "--json"]
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)
    assert (made["n"], made["pictures"]) == (30, 0)
    assert made["answer"] in out.read_text(encoding="utf-8")
    assert "A random 20 of 30 images" in out.read_text(encoding="utf-8")


def commands_of(text: str) -> list[list[str]]:
    block = re.search(r"<pre><code>(.*?)</code>", text, re.DOTALL)
    assert block is not None
    return [shlex.split(line) for line in unescape(block[1]).strip().splitlines()]


def test_the_commands_of_a_page_make_it_again(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(words: list[str]) -> None:
        result = CliRunner().invoke(main, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output

    images = str(small_sample / "train")
    first, again = tmp_path / "first", tmp_path / "again"
    for folder in (first, again):
        folder.mkdir()
    monkeypatch.chdir(first)
    extraction = "--dtype float32 --views flip --exact-decode --image-size 96 --pool max"
    call(["extract", images, *extraction.split(" ")])
    probe = "--layer layer3 -C 5 --scale l2 --clf logreg --class-weight balanced --cv 3"
    call(["fit", *probe.split(" "), "-o", "it's.safetensors"])
    asked = "--seed 3 --points 20 --no-audit --no-advice"
    call(["report", *asked.split(" "), "--model", "it's.safetensors", "--images", images])
    text = (first / "report.html").read_text(encoding="utf-8")
    monkeypatch.chdir(again)
    for words in commands_of(text):
        assert words[0] == "cnncodes"
        call([images if word == "IMAGES" else word for word in words[1:]])
    assert (again / "report.html").read_text(encoding="utf-8") == text
    assert "fingerprint of its settings" in text


@pytest.mark.parametrize("other", [False, True])
def test_the_page_has_one_layer_and_says_why(hostile: tuple[Path, Path], other: bool) -> None:
    advice = advise(hostile[1], cv=3)
    names = ["layer2", "layer3"]
    simplest = advice.comparison.recommended["layers"]
    if other:  # as if the log loss chose another one than the simplest
        advice = replace(advice, layers=[name for name in names if [name] != simplest])
    page = report(hostile[1], advice=advice, audit=False)
    (layer,) = advice.layers
    fit_command = commands_of(page.html)[1]
    assert f"A linear SVM on {layer} names" in page.answer
    assert fit_command[fit_command.index("--layer") + 1] == layer
    (recommended,) = re.findall(r'<th scope="row">([^<]*)</th>(?:(?!</tr>).)*>recommended<', page.html)
    assert recommended == layer
    assert f"Recommended is {layer}: its log loss is the smallest" in page.html
    assert ("is simpler, and not significantly less accurate" in page.html) == (simplest != [layer])
    assert "The classifier of this page is fitted to it." in page.html
    given = report(hostile[1], advice=advice, audit=False, model=fit(hostile[1], layers=names))
    assert "which was given: it is on layer2 + layer3." in given.html


def test_figures_say_what_they_are_of(hostile: tuple[Path, Path]) -> None:
    advice = advise(hostile[1], cv=3)
    suspect = Suspect("Sandal0.png", "Sandal", split="", suggested="Trouser", confidence=1.0, label_confidence=0.0)
    audit = Audit(30, {}, suspects=[suspect], notes=["suspect labels: a note"], layers=["layer3"], clf="logreg")
    text = report(hostile[1], advice=advice, audit=audit).html
    (layer,) = advice.layers
    best = next(row["layers"][0] for row in advice.comparison.rows if row["layers"])
    assert "Each figure is the mean of 5 cross-validations, the nearest neighbour of one; those at the top" in text
    assert f"what no training gives, by {layer}" in text
    assert f"nearest neighbour by {best}</th>" in text
    assert "probabilities of logistic regression on layer3, on folds that keep duplicates together" in text
    assert "suspect labels: a note" in text


def test_what_is_not_significant_is_not_called_worse() -> None:
    y = np.array(["a", "b"] * 10)
    answers = answers_of(y, np.where(np.arange(20) < 8, y, "a"), np.arange(20), np.ones(20))
    model: Any = SimpleNamespace(clf="svm", layers=["layer3"])
    assert "that is not significantly better than always answering the most frequent class" in sentence(answers, model)


@pytest.fixture
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def open_page(browser: Any, path: Path, **options: Any) -> tuple[Any, list[str], list[str]]:
    """Open a page; return it, the complaints so far, and what it asked for."""
    page = browser.new_context(**options).new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    return page, complaints, asked


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

    assert page.evaluate("document.querySelectorAll('main script, img').length") == 0
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
    monkeypatch.setattr("cnncodes.pages.choosing.OF_A_CELL", 2)
    path = tmp_path / "report.html"
    report(hostile[1], images=hostile[0], advice=False, audit=False, points=3).save(path)
    page, _, _ = open_page(browser, path)
    cell = page.locator(".confusion .right button").first
    cell.click()
    panel = page.locator("#cell")
    there = panel.locator("li").count()
    assert 2 <= there < int(cell.inner_text())
    told = f"{there} of them are on this page: some of the surest, and those of the map, a random part. The surest come"
    assert told in panel.inner_text()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_the_pictures_of_a_montage_do_not_cover_each_other(
    sample_codes: Path, small_sample: Path, tmp_path: Path, browser: Any, width: int
) -> None:
    query = sorted((small_sample / "test" / "Bag").iterdir())[0]
    path = tmp_path / "similar.html"
    path.write_text(montage(query, similar(query, sample_codes), small_sample), encoding="utf-8")
    page, complaints, _ = open_page(browser, path, viewport={"width": width, "height": 900})
    boxes = [thumb.bounding_box() for thumb in page.locator(".gallery .thumb").all()]
    assert len(boxes) == 9
    for i, one in enumerate(boxes):
        assert 140 < one["width"] <= 176
        assert one["x"] + one["width"] <= width
        for other in boxes[:i]:
            apart = (abs(one[at] - other[at]) >= one[side] for at, side in (("x", "width"), ("y", "height")))
            assert any(apart), (one, other)
    assert complaints == []


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
