"""The notebooks run from the first cell to the last; exported models are used from other programs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from cnncodes.system.shipped import SAMPLE, shipped_path

EXAMPLES = Path(__file__).parent.parent / "examples"


# What stands before an accuracy that is printed, and the least that it may be
FIGURES = {"quickstart": ("} ", 0.75), "which_layer": ("held out: ", 0.6)}


def test_every_notebook_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.ipynb")} == set(FIGURES)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_code_of_the_quickstart_runs_without_a_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a few images of each class."""
    plt = pytest.importorskip("matplotlib.pyplot")
    few = tmp_path / "few"
    for split, count in (("train", 6), ("test", 2)):
        for folder in (shipped_path(SAMPLE) / split).iterdir():
            (few / split / folder.name).mkdir(parents=True)
            for path in sorted(folder.iterdir())[:count]:
                shutil.copy(path, few / split / folder.name)
    monkeypatch.setattr(
        "cnncodes.system.shipped.shipped_path", lambda name: few if name == SAMPLE else shipped_path(name)
    )
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    plt.close("all")  # of other tests
    plt.switch_backend("agg")
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    space: dict[str, Any] = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            exec(cell.source, space)
    assert len(plt.get_fignums()) == 3
    plt.close("all")
    assert (len(space["images"]), space["classifier"].classes_.shape) == (80, (10,))
    assert space["accuracy"] >= 0.4  # chance is 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_notebook_runs_and_shows_its_pictures(name: str, tmp_path: Path) -> None:
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "commit notebooks without outputs"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    text = "".join(output.get("text", "") for output in outputs)
    before, least = FIGURES[name]
    assert float(text.partition(before)[2].split()[0]) >= least


@pytest.fixture(scope="module")
def exported(small_sample: Path, sample_codes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the sample with the default network, as one ONNX file."""
    from cnncodes import export, fit

    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export(fit(sample_codes, C=0.1), path)
    return path


@pytest.mark.slow
def test_exported_model_is_used_from_python_without_torch(
    exported: Path, small_sample: Path, sample_codes: Path
) -> None:
    images = sorted((small_sample / "test").rglob("*.png"))
    code = (
        "import runpy, sys; sys.modules.update(torch=None, cnncodes=None); "
        f"runpy.run_path({str(EXAMPLES / 'predict_onnx.py')!r}, run_name='__main__')"
    )
    printed = run_example(sys.executable, "-c", code, str(exported), *map(str, images))
    assert_as_predicted(printed, images, sample_codes)


@pytest.mark.slow
def test_exported_model_is_used_from_node(
    exported: Path, small_sample: Path, sample_codes: Path, tmp_path: Path
) -> None:
    node, libraries = shutil.which("node"), "require('onnxruntime-node'); require('sharp')"
    if node is None or subprocess.run([node, "-e", libraries], capture_output=True).returncode:
        pytest.skip("needs Node.js with onnxruntime-node and sharp (NODE_PATH)")
    images = sorted((small_sample / "test").rglob("*.png"))
    classes = tmp_path / "classes.json"
    classes.write_text('["Bag", "Sandal", "Trouser"]')
    printed = run_example(node, str(EXAMPLES / "predict_onnx.cjs"), str(exported), str(classes), *map(str, images))
    assert_as_predicted(printed, images, sample_codes)


def run_example(*command: str) -> list[list[str]]:
    """Run an example, and return the cells of its lines."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


def assert_as_predicted(printed: list[list[str]], images: list[Path], codes: Path) -> None:
    from cnncodes import fit, predict

    expected = predict(list(images), fit(codes, C=0.1))
    assert [label for _, label, _ in printed] == [one.guess for one in expected]
    assert [float(cell) for *_, cell in printed] == pytest.approx([one.probability for one in expected], abs=2e-4)
