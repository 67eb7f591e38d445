"""A comparison as a table, a plot, a command, and rows of JSON."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from comparison_rows import made_up_row, row_of
from digit_codes import LAYERS

from cnncodes.errors import SettingError
from cnncodes.insight.compare import compare
from cnncodes.insight.comparison import Comparison


def test_the_command_fits_what_is_recommended(comparison: Comparison, codes: Path) -> None:
    import shlex

    words = shlex.split(comparison.command)
    assert words[:3] == ["cnncodes", "fit", str(codes)]
    assert [words[i + 1] for i, word in enumerate(words) if word == "--layer"] == comparison.recommended.layers


def test_each_row_names_its_file_where_there_are_several(codes: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.h5"  # of the same network
    shutil.copy(codes, other)
    found = compare([codes, other], clfs=["svm"], layers="layer1", cv=3, repeats=1)
    headers, rows = found.table()
    assert headers[:2] == ["codes", "layer"]
    assert sorted(row[0] for row in rows if row[2] == "svm") == ["codes.h5", "other.h5"]
    assert {row["codes"] for row in found.to_dict()["rows"] if row["clf"] == "svm"} == {str(codes), str(other)}
    assert "<th>codes</th>" in found._repr_html_()
    same_name = tmp_path / "b" / "codes.h5"
    same_name.parent.mkdir()
    shutil.copy(codes, same_name)
    rows = compare([codes, same_name], clfs=["svm"], layers="layer1", cv=3, repeats=1).table()[1]
    assert sorted(row[0] for row in rows if row[2] == "svm") == sorted([str(codes), str(same_name)])


def test_the_plot_has_a_line_for_each_probe(comparison: Comparison, tmp_path: Path) -> None:
    axes = comparison.plot()
    names, values = axes.get_xticklabels(), axes.containers[0].lines[0].get_ydata()
    assert [name.get_text() for name in names] == ["layer1", "penultimate"]
    np.testing.assert_allclose(values, [row_of(comparison, name).accuracy.value for name in LAYERS])
    axes.figure.canvas.draw()
    assert axes.get_legend().get_window_extent().y0 >= axes.get_window_extent().y1  # over no line


def test_only_concatenations_cannot_be_drawn_by_depth(codes: Path) -> None:
    found = compare(codes, clfs=["svm"], layers=["layer1+penultimate"] * 2, cv=3, repeats=1)
    assert len([row for row in found.rows if row.layers]) == 1
    with pytest.raises(SettingError, match="no layer by itself to draw"):
        found.plot()


def test_tables_for_notebooks(comparison: Comparison) -> None:
    assert comparison.to_frame()["layers"].tolist() == [" + ".join(row.layers) for row in comparison.rows]
    html = comparison._repr_html_()
    assert html.count("<tr>") == 1 + len(comparison.rows)
    assert f"{100 * comparison.rows[0].accuracy.value:.1f} %" in html


def test_a_row_has_the_keys_of_json_in_their_order() -> None:
    keys = [
        "codes",
        "backbone",
        "pooling",
        "layers",
        "depth",
        "n",
        "classes",
        "n_features",
        "baseline_accuracy",
        "clf",
        "scale",
        "C",
        "cv_accuracy",
        "cv_interval",
        "cv_balanced_accuracy",
        "cv_balanced_interval",
        "cv_log_loss",
        "repeats",
        "seconds",
        "difference",
        "difference_interval",
        "recommended",
    ]
    row = made_up_row(["layer1", "layer3"], 0.75, log_loss=0.25, difference_interval=[-0.1, 0.05])
    assert list(row.to_dict()) == keys
    assert row.name == "layer1 + layer3"
    assert (row.to_dict()["cv_accuracy"], row.to_dict()["cv_interval"]) == (0.75, [0.65, 0.85])
    assert (row.to_dict()["cv_log_loss"], row.to_dict()["difference_interval"]) == (0.25, [-0.1, 0.05])
    neighbour = made_up_row([], clf="neighbour", C=None, log_loss=None, by_layers=["layer3"])
    assert list(neighbour.to_dict()) == [*keys[:9], "by_layers", *keys[9:]]
    assert neighbour.name == "nearest neighbour by layer3"
    assert made_up_row([], clf="majority").name == "majority class"


def test_rows_are_sorted_and_only_probes_have_layers() -> None:
    rows = [
        made_up_row(["layer1"], 0.7, n_features=16),
        made_up_row([], 0.9, clf="neighbour"),
        made_up_row(["layer3"], 0.8, n_features=64),
        made_up_row(["layer2"], 0.8, n_features=32, recommended=True),
    ]
    comparison = Comparison(rows)
    assert [row.name for row in comparison.rows] == ["nearest neighbour", "layer2", "layer3", "layer1"]
    assert [row.name for row in comparison.probes] == ["layer2", "layer3", "layer1"]
    assert comparison.recommended.layers == ["layer2"]
    assert comparison.command == "cnncodes fit codes.h5 --clf svm --layer layer2"
