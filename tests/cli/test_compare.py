"""`cnncodes compare`: the table, and a plot that fails."""

from __future__ import annotations

from pathlib import Path

from command_line import run


def test_a_plot_needs_a_layer_by_itself(sample_codes: Path, tmp_path: Path) -> None:
    result = run("compare", sample_codes, "--layer", "layer1+layer2", "--plot", tmp_path / "x.png", code=2)
    assert "joins several" in result.stderr


def test_the_table_is_there_though_the_plot_fails(sample_codes: Path, tmp_path: Path, monkeypatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    words = ["--clf", "svm", "--layer", "layer1", "--repeats", "1", "--cv", "2"]
    result = run("compare", sample_codes, *words, "--plot", tmp_path / "x.png", code=1)
    assert "layer1 *" in result.stdout
    assert "no space left on device" in result.stderr
