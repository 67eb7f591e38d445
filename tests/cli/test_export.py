"""The command `export`, with an exporter that writes nothing: it is tested in tests/exporting."""

from __future__ import annotations

import json
from typing import Any

import pytest
from command_line import failed, run

from cnncodes.errors import ExportError
from cnncodes.exporting import export as module
from cnncodes.exporting.export import Exported
from cnncodes.exporting.parity import Parity
from cnncodes.exporting.quantization import Cost
from cnncodes.pages import classifier_page

NO_OPTIONS = {"weights": None, "images": None, "allow_outside": False}
COST = Cost(200, 0.9, 0.91, (-0.005, 0.025))
PARITY = Parity(2e-6, 3e-4, 1e-4, 0.001, 20, 19)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    def export(model: str, out: str, **options: Any) -> Exported:
        calls.append({"model": model, "out": out, **options})
        return Exported(
            out,
            options["dtype"],
            10_100_000,
            358,
            PARITY,
            ["no commercial use"],
            COST if options["dtype"] == "int8" else None,
        )

    monkeypatch.setattr(module, "export", export)
    return calls


def test_export_prints_how_closely_the_file_agrees(calls):
    result = run("export")
    assert calls == [
        {**NO_OPTIONS, "model": "model.safetensors", "out": "model.onnx", "dtype": "float32", "overwrite": False}
    ]
    for text in ("19 of 20 images", "2.0e-06", "3.0e-04", "1.0e-03", "10.1 MB", "358 operators", "model.onnx"):
        assert text in result.stdout
    assert result.stderr == "note: no commercial use\n"


def test_export_hands_on_its_options(calls):
    run("export", "a.safetensors", "-o", "b.onnx", "--fp16", "--weights", "w.pth", "--force")
    assert calls == [
        {
            "model": "a.safetensors",
            "out": "b.onnx",
            "dtype": "float16",
            "weights": "w.pth",
            "images": None,
            "allow_outside": False,
            "overwrite": True,
        }
    ]


def test_int8_prints_what_it_costs(calls):
    printed = run("export", "--int8", "--images", "photos/").stdout
    assert calls == [
        {
            **NO_OPTIONS,
            "model": "model.safetensors",
            "out": "model.onnx",
            "dtype": "int8",
            "images": "photos/",
            "overwrite": False,
        }
    ]
    assert "90.0 %, loses 1.0 points (-0.5 to 2.5) on 200 images" in printed
    assert "exclude each other" in run("export", "--int8", "--fp16", code=2).stderr


def test_json_has_the_figures(calls):
    printed = json.loads(run("export", "--fp16", "--json").stdout)
    assert printed["dtype"] == "float16"
    assert printed["n_bytes"] == 10_100_000
    assert printed["parity"]["native_difference"] == 2e-6


def test_a_mismatch_is_an_error(monkeypatch):
    def export(*args: Any, **options: Any) -> Exported:
        raise ExportError("the exported file answers otherwise than the model")

    monkeypatch.setattr(module, "export", export)
    assert "answers otherwise" in failed("export")


def test_a_page_is_written_alone_or_beside_the_file(calls, monkeypatch):
    pages: list[tuple[str, str, dict[str, Any]]] = []

    def export_page(model: str, page: str, **options: Any) -> Exported:
        pages.append((model, page, options))
        return Exported(page, "float16", 10_400_000, 358, PARITY, ["no commercial use"])

    monkeypatch.setattr(classifier_page, "export_page", export_page)
    alone = run("export", "--page", "model.html")
    assert calls == []
    assert pages == [("model.safetensors", "model.html", {"weights": None, "overwrite": False})]
    assert "model.html" in alone.stdout
    both = json.loads(run("export", "-o", "model.onnx", "--page", "model.html", "--json").stdout)
    assert both["path"] == "model.onnx"
    assert both["page"]["path"] == "model.html"
