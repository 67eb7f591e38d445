"""The page of a classifier: a real browser answers as `predict` does, and asks for nothing."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import tracemalloc
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from report_parts import HOSTILE

from cnncodes import fit, predict
from cnncodes.display import for_csv
from cnncodes.errors import CnnCodesError, ExportError
from cnncodes.exporting.export import Exported
from cnncodes.exporting.parity import Parity
from cnncodes.models.model import ProbeModel
from cnncodes.pages import classifier_page as module
from cnncodes.pages.classifier_page import ENCODING, FIRST, as_text, export_page, is_classifier_page
from cnncodes.probes.novelty import class_means, to_keep
from cnncodes.system.shipped import RUNTIME, shipped_path

SUM_OF_RED_AND_BLUE = """(canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let [red, blue] = [0, 0];
  for (let i = 0; i < data.length; i += 4) { red += data[i]; blue += data[i + 2]; }
  return [red, blue].map((sum) => sum / (data.length / 4));
}"""


@pytest.fixture(scope="module")
def model(sample_codes: Path) -> ProbeModel:
    return fit(sample_codes, C=0.01)


def decoded(text: str, n_bytes: int) -> bytes:
    """Undo `as_text`, slowly."""
    bits = "".join(f"{ord(one) - FIRST:015b}" for one in text)
    return bytes(int(bits[i : i + 8], 2) for i in range(0, 8 * n_bytes, 8))


@pytest.mark.parametrize("n_bytes", [0, 1, 2, 13, 15, 16, 1000])
def test_characters_hold_any_bytes(n_bytes):
    data = np.random.default_rng(n_bytes).integers(0, 256, n_bytes, np.uint8).tobytes()
    text = as_text(data)
    assert decoded(text, n_bytes) == data
    assert len(text) == -(-8 * n_bytes // 15)


def test_characters_take_little_more_memory_than_the_bytes():
    data = np.random.default_rng(0).integers(0, 256, 4_000_000, np.uint8).tobytes()
    tracemalloc.start()
    text = as_text(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * len(data)
    assert decoded(text[80_000:80_800], 1500) == data[150_000:151_500]  # behind the end of a block


def test_characters_are_letters_that_html_keeps():
    every = {unicodedata.category(chr(FIRST + number)) for number in range(1 << 15)}
    assert not every & {"Cc", "Cs", "Co", "Zs"}
    assert chr(FIRST + 0x7FFF).encode(ENCODING) == b"\xff\xb3"


def fake_export(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    def export(model: ProbeModel, out: Path, **options: Any) -> Exported:
        Path(out).write_bytes(content)
        return Exported(str(out), options["dtype"], len(content), 3, Parity(0.0, 0.0, 0.0, None, 1, 1), [])

    monkeypatch.setattr(module, "export", export)


def test_the_page_holds_the_model_and_the_runtime(model, tmp_path, monkeypatch):
    fake_export(monkeypatch, b"a model")
    hostile = replace(model, classes=[HOSTILE, *model.classes[1:]])
    exported = export_page(hostile, tmp_path / "page.html")
    content = (tmp_path / "page.html").read_bytes()
    assert exported.n_bytes == len(content)
    html = content.decode("utf-16")
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', html)[1])
    held = {name: re.search(rf'id="{name}">(.*?)</script>', html)[1] for name in ("model", "runtime")}
    assert gzip.decompress(decoded(held["model"], facts["lengths"]["model"])) == b"a model"
    runtime = shipped_path(RUNTIME).read_bytes()
    assert facts["lengths"]["runtime"] == len(runtime)
    assert decoded(held["runtime"][:8000], 15000) == runtime[:15000]
    assert HOSTILE not in html
    assert re.search("default-src .{1,6}none.{1,6}; ", html)
    assert re.findall(r'(?:src|href)="(?!data:|#)', html) == []


def test_another_file_is_not_replaced(model, tmp_path, monkeypatch):
    fake_export(monkeypatch, b"a model")
    page = tmp_path / "page.html"
    page.write_text("mine")
    with pytest.raises(CnnCodesError, match="not a page of a classifier"):
        export_page(model, page)
    assert page.read_text() == "mine"
    export_page(model, page, overwrite=True)
    export_page(model, page)
    page.write_text(page.read_text(encoding="utf-16"))  # as pages were before
    assert is_classifier_page(page)


def test_a_model_that_answers_otherwise_leaves_no_page(model, tmp_path, monkeypatch):
    def export(*args: Any, **options: Any) -> Exported:
        raise ExportError("answers otherwise")

    monkeypatch.setattr(module, "export", export)
    with pytest.raises(ExportError):
        export_page(model, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_runtime_is_refused(model, tmp_path, monkeypatch):
    script = tmp_path / "script.mjs"
    script.write_text("nothing is exported")
    monkeypatch.setattr(module, "shipped_path", lambda name: script)
    fake_export(monkeypatch, b"a model")
    with pytest.raises(ExportError, match="install cnncodes again"):
        export_page(model, tmp_path / "page.html")


@pytest.mark.slow
def test_a_browser_answers_as_predict_does(model, small_sample, photos, tmp_path, browser):
    pytest.importorskip("onnxruntime")
    assert export_page(model, tmp_path / "page.html").n_bytes < 10.5e6
    folder = tmp_path / "new"
    folder.mkdir()
    sources = [*sorted((small_sample / "test").rglob("*.png"))[::3], *sorted(photos.rglob("0.png"))]
    for i, path in enumerate(sources):
        with Image.open(path) as image:
            image.save(folder / f"{i:02}.png")
    with Image.open(sources[0]) as image:  # clear pixels are white
        clear = Image.new("RGBA", image.size, (0, 0, 0, 0))
        clear.paste(image.convert("RGB"), (2, 2))
        clear.save(folder / "clear.png")
    (folder / "=broken.png").write_bytes(b"nothing")
    expected = {one.path: one for one in predict(folder, model)}

    context = browser.new_context(viewport={"width": 360, "height": 700}, color_scheme="dark", accept_downloads=True)
    page = context.new_page()
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_selector("body[data-ready=yes]", timeout=120_000)
    page.set_input_files("#files", sorted(folder.iterdir()))
    page.wait_for_selector(f'body[data-answered="{len(expected)}"]', timeout=120_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.focus("#threshold")
    page.keyboard.press("Home")  # 0 %: no answer is unsure
    with page.expect_download() as download:
        page.focus("#save")
        page.keyboard.press("Enter")
    rows = {row["path"]: row for row in csv.DictReader(io.StringIO(Path(download.value.path()).read_text()))}
    assert rows.pop("'=broken.png")["status"] == "failed"
    assert expected.pop("=broken.png").status == "failed"
    assert rows.keys() == expected.keys()
    for path, one in expected.items():
        assert rows[path]["guess"] == rows[path]["label"] == one.guess
        assert float(rows[path]["probability"]) == pytest.approx(one.probability, abs=2e-3)
        assert float(rows[path]["novelty"]) == pytest.approx(one.novelty, abs=0.05)
    page.focus("#where")
    page.keyboard.press("Space")
    heats = page.locator("canvas.heat")
    assert heats.count() == len(expected)
    sums = heats.nth(0).evaluate(SUM_OF_RED_AND_BLUE)
    (told,) = model.explain(folder / "00.png")
    drawn = np.asarray(told.draw(), float)
    assert sums == pytest.approx([drawn[..., 0].mean(), drawn[..., 2].mean()], abs=4)
    page.focus("#threshold")
    page.keyboard.press("End")  # 99 %
    n_unsure = sum(one.probability < 0.989 for one in expected.values())
    assert abs(page.locator("b.unsure", has_text="unsure").count() - n_unsure) <= 1
    page.focus("#clear")
    page.keyboard.press("Enter")
    assert page.locator("#results li").count() == 0
    assert requests == [(tmp_path / "page.html").as_uri()]
    assert errors == []


@pytest.mark.slow
def test_a_page_of_many_images_and_classes_is_hardly_larger(model, tmp_path):
    pytest.importorskip("onnxruntime")
    k, n, random = 60, 1000, np.random.default_rng(0)
    codes = to_keep(random.gamma(0.6, 1, (n, model.coef.shape[1])))
    many = replace(
        model,
        classes=[f"class {i:02}" for i in range(k)],
        coef=random.normal(0, np.abs(model.coef).mean(), (k, codes.shape[1])),
        intercept=np.zeros(k),
        training_codes=codes,
        class_means=class_means(codes, np.arange(n) % k),
        familiarity=np.sort(random.uniform(0.3, 0.9, n)),
    )
    exported = export_page(many, tmp_path / "page.html")
    assert exported.n_bytes < 10.5e6
    assert exported.parity.n_same_labels == exported.parity.n_images
    assert exported.parity.novelty_difference < 0.01


@pytest.fixture(scope="module")
def page_file(model, tmp_path_factory) -> Path:
    pytest.importorskip("onnxruntime")
    path = tmp_path_factory.mktemp("page") / "page.html"
    export_page(replace(model, familiarity=np.repeat(model.familiarity, 10)), path)  # as of 300 images
    return path


@pytest.fixture(scope="module")
def opened(page_file, browser):
    context = browser.new_context(accept_downloads=True)
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.wait_for_selector("body[data-ready=yes]", timeout=120_000)
    yield page
    context.close()


@pytest.fixture
def page(opened):
    yield opened
    if opened.is_enabled("#clear"):
        opened.click("#clear")


def saved_rows(page: Any) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.click("#save")
    return list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))


@pytest.mark.slow
def test_cells_are_those_of_predict(page, tmp_path):
    names = ["+1.png", "-1.png", "@home.png", "-a(b).png", " =1.png", "=1.png"]
    for name in names:
        (tmp_path / name).write_bytes(b"nothing")
    page.set_input_files("#files", [tmp_path / name for name in names])
    page.wait_for_selector(f'body[data-answered="{len(names)}"]')
    assert [row["path"] for row in saved_rows(page)] == [for_csv(name) for name in names]


@pytest.mark.slow
def test_clearing_also_stops_what_waits(page, tmp_path):
    for i in range(12):
        Image.new("RGB", (30, 30), (20 * i, 0, 0)).save(tmp_path / f"{i:02}.png")
    page.set_input_files("#files", sorted(tmp_path.glob("*.png")))
    page.wait_for_selector('body[data-answered="2"]')
    page.click("#clear")
    (tmp_path / "last.png").write_bytes(b"nothing")
    page.set_input_files("#files", [tmp_path / "last.png"])
    page.wait_for_selector('body[data-answered="1"]')
    page.wait_for_timeout(1500)
    assert [row["path"] for row in saved_rows(page)] == ["last.png"]
    assert page.locator("#results li").count() == 1


@pytest.mark.slow
def test_what_cannot_be_used_is_said(page, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("no image")
    page.set_input_files("#folder", tmp_path / "folder")
    page.locator("#status", has_text="there is no image in what was given").wait_for(timeout=5_000)


@pytest.mark.slow
def test_clear_pixels_are_white_where_it_looked(page, tmp_path):
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGB", (64, 64), "white").save(tmp_path / "white.png")
    page.set_input_files("#files", [tmp_path / "clear.png", tmp_path / "white.png"])
    page.wait_for_selector('body[data-answered="2"]')
    clear, white = (page.locator("canvas.heat").nth(i).evaluate(SUM_OF_RED_AND_BLUE) for i in range(2))
    assert clear == white


@pytest.mark.slow
def test_no_image_is_less_familiar_than_all(page, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    for i, one in enumerate(noise):
        Image.fromarray(one).resize((500, 300), Image.Resampling.NEAREST).save(tmp_path / f"{i}.png")
    page.set_input_files("#files", sorted(tmp_path.glob("*.png")))
    page.wait_for_selector('body[data-answered="3"]')
    texts = page.locator(".novel").all_inner_texts()
    shares = [float(row["novelty"]) for row in saved_rows(page)]
    assert max(shares) > 0.995
    expected = [min(int(100 * share), 99) for share in shares if share >= 0.95]
    assert texts == [
        f"unlike all classes: more than {share}\N{NO-BREAK SPACE}% of the training images look more familiar"
        for share in expected
    ]


@pytest.mark.slow
def test_a_white_picture_on_a_clear_ground_is_seen(page, model, tmp_path):
    picture = Image.new("RGBA", (120, 90), (0, 0, 0, 0))
    ImageDraw.Draw(picture).polygon([(10, 80), (60, 5), (100, 70)], fill="white")
    picture.save(tmp_path / "white.png")
    (expected,) = predict(tmp_path / "white.png", model)
    page.set_input_files("#files", tmp_path / "white.png")
    page.wait_for_selector('body[data-answered="1"]')
    (row,) = saved_rows(page)
    assert (row["guess"], float(row["probability"])) == (expected.guess, pytest.approx(expected.probability, abs=2e-3))
    assert page.locator("canvas.heat").evaluate(SUM_OF_RED_AND_BLUE)[1] < 120  # on black


def drag(page: Any, *paths: Path, drop: bool = True) -> None:
    """Drag files and folders of the disk onto a page."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ["dragEnter", "dragOver", *(["drop"] if drop else [])]:
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 300, "data": data})


@pytest.mark.slow
def test_files_and_folders_are_dragged_onto_the_page(page, model, tmp_path):
    folder = tmp_path / "folder"
    (folder / "deep" / "er").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for path, colour in ((tmp_path / "a.png", "red"), (folder / "b.png", "blue"), (folder / "deep/er/c.png", "green")):
        Image.new("RGB", (40, 30), colour).save(path)
    (folder / "deep" / "notes.txt").write_text("no image")
    drag(page, tmp_path / "a.png", drop=False)
    assert page.evaluate("document.body.className") == "dragged"
    drag(page, tmp_path / "a.png", folder)
    page.wait_for_selector('body[data-answered="3"]')
    rows = {row["path"]: row for row in saved_rows(page)}
    assert rows.keys() == {"a.png", "folder/b.png", "folder/deep/er/c.png"}
    for one in predict([tmp_path / "a.png", folder / "b.png", folder / "deep/er/c.png"], model):
        (row,) = (row for path, row in rows.items() if path.endswith(Path(one.path).name))
        assert (row["guess"], float(row["probability"])) == (one.guess, pytest.approx(one.probability, abs=2e-3))
    assert page.evaluate("document.body.className") == ""
    drag(page, tmp_path / "empty")
    page.locator("#status", has_text="there is no image in what was given").wait_for(timeout=5_000)


@pytest.mark.slow
def test_a_folder_is_chosen(page, tmp_path):
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/b.png"):
        Image.new("RGB", (40, 30), "red").save(tmp_path / "folder" / name)
    (tmp_path / "folder" / "notes.txt").write_text("no image")
    page.set_input_files("#folder", tmp_path / "folder")
    page.wait_for_selector('body[data-answered="2"]')
    assert {row["path"] for row in saved_rows(page)} == {"folder/a.png", "folder/deep/b.png"}


@pytest.mark.slow
def test_the_camera_is_answered_until_it_is_stopped(page, model):
    page.click("#camera")
    page.wait_for_selector("#camera-answer b")
    assert page.get_attribute("#camera", "aria-pressed") == "true"
    answers = page.locator("#camera-answer li").all_inner_texts()
    shares, classes = zip(*(re.match(r"\s*(\d+)\s%\s(.+)", one).groups() for one in answers), strict=True)
    assert len(set(classes)) == 3
    assert set(classes) <= set(model.classes)
    assert sorted(map(int, shares), reverse=True) == list(map(int, shares))
    page.evaluate("window.tracks = document.getElementById('video').srcObject.getTracks()")
    page.click("#camera")
    assert page.evaluate("tracks.map((one) => one.readyState)") == ["ended"]
    assert page.is_hidden("#camera-panel")
    assert page.get_attribute("#camera", "aria-pressed") == "false"
