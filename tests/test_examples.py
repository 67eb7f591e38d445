"""The notebooks run from the first cell to the last."""

from __future__ import annotations

import shutil
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
