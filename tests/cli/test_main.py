"""The commands: the defaults chain, results go to stdout, errors are one line, exit codes are what they say."""

from __future__ import annotations

import csv
import errno
import inspect
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from cnncodes import extract
from cnncodes.cli.main import main
from cnncodes.codes.file import CodesFile
from cnncodes.codes.load_codes import load_codes
from cnncodes.system.shipped import SAMPLE, shipped_path


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def failed(*words: object) -> str:
    """Run a command that fails, and return its one line."""
    result = run(*words, code=1)
    lines = result.stderr.strip().splitlines()
    assert result.stdout == ""
    assert lines[-1].startswith("error: ")
    assert "Traceback" not in result.stderr
    return lines[-1]


@pytest.fixture
def there(tmp_path: Path, sample_codes: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, with a codes file of the sample."""
    shutil.copy(sample_codes, tmp_path / "codes.h5")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_defaults_chain(small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    extracted = run("extract", small_sample)
    assert "codes.h5: 45 of 45 images, 0 failed" in extracted.stdout
    fitted = run("fit", "--clf", "svm", "--layer", "layer3").stdout
    assert "C was chosen on the same folds; --nested includes that choice" in fitted
    assert "svm on layer3, C = " in fitted
    assert "majority class" in fitted
    assert "held-out accuracy" in fitted
    rows = list(csv.DictReader(io.StringIO(run("predict", small_sample / "test" / "Bag").stdout)))
    assert len(rows) == 5
    assert sum(row["label"] == "Bag" for row in rows) >= 4
    assert all(1 / 3 < float(row["probability"]) <= 1 for row in rows)
    assert "precision" in run("evaluate").stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codes.h5", "model.safetensors"]


def test_json_is_one_object_with_the_promised_keys(there: Path) -> None:
    assert "--nested" not in run("fit", "-C", "0.1").stdout
    fitted = json.loads(run("fit", "--json", "--clf", "logreg", "-C", "0.1").stdout)
    keys = {"n", "classes", "clf", "layers", "C", "cv_accuracy", "cv_interval", "baseline_accuracy"}
    assert keys | {"test_accuracy", "test_interval", "seconds"} <= fitted.keys()
    assert (fitted["n"], fitted["C"], fitted["layers"]) == (30, 0.1, ["penultimate"])
    assert fitted["baseline_accuracy"] == pytest.approx(1 / 3)
    info = json.loads(run("info", "--json").stdout)
    assert {
        "n",
        "complete",
        "ok",
        "failed",
        "pending",
        "layers",
        "backbone",
        "weights_sha256",
        "classes",
    } <= info.keys()
    assert (info["n"], info["ok"], info["complete"]) == (45, 45, True)
    evaluated = json.loads(run("evaluate", "--json").stdout)
    assert evaluated["n"] == 15
    assert np.sum(evaluated["confusion"]) == 15
    assert evaluated["test_accuracy"] == fitted["test_accuracy"]
    compared = json.loads(run("compare", "--clf", "svm", "--layer", "layer1", "--layer", "layer3", "--json").stdout)
    accuracies = [row["cv_accuracy"] for row in compared["rows"]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert {tuple(row["layers"]) for row in compared["rows"]} == {("layer1",), ("layer3",), ()}


def test_a_model_file_can_be_looked_at(there: Path) -> None:
    run("fit", "--layer", "layer3", "-C", "0.1")
    info = json.loads(run("info", "model.safetensors", "--json").stdout)
    assert (info["clf"], info["layers"], info["C"], info["backbone"]) == ("svm", ["layer3"], 0.1, "mobilenet_v2")
    assert "layer3" in run("info", "model.safetensors").stdout


def test_predict_writes_json_and_files_and_records_failures(there: Path, small_sample: Path) -> None:
    run("fit", "-C", "0.01")
    new = there / "new"
    shutil.copytree(small_sample / "test" / "Sandal", new / "deep" / "er")
    (new / "broken.jpg").write_bytes(b"")
    result = run("predict", new, "--format", "json", code=3)
    rows = {row["path"]: row for row in json.loads(result.stdout)}
    unknown = dict.fromkeys(("label", "probability", "novelty", "guess"))
    assert rows["broken.jpg"] == {"path": "broken.jpg", **unknown, "status": "failed"}
    assert sum(row["label"] == "Sandal" for path, row in rows.items() if path.startswith("deep/er/")) >= 4
    assert "broken.jpg" in result.stderr
    run("predict", small_sample / "test" / "Sandal", "-o", "out.csv")
    assert len((there / "out.csv").read_text().splitlines()) == 6
    assert [path.name for path in there.iterdir() if "partial" in path.name] == []


def test_predict_leaves_the_label_empty_where_it_is_unsure(there: Path, small_sample: Path) -> None:
    run("fit", "-C", "0.01")
    sure = run("predict", small_sample / "test")
    assert "unsure" not in sure.stderr
    rows = list(csv.DictReader(io.StringIO(sure.stdout)))
    assert list(rows[0]) == ["path", "label", "probability", "novelty", "guess", "status"]
    assert all(row["label"] == row["guess"] and row["status"] == "labelled" for row in rows)
    assert all(0 <= float(row["novelty"]) < 1 for row in rows)
    least = sorted(float(row["probability"]) for row in rows)[4] + 1e-4  # above the fifth, as it is printed
    cautious = run("predict", small_sample / "test", "--min-confidence", least)
    for row, before in zip(csv.DictReader(io.StringIO(cautious.stdout)), rows, strict=True):
        unsure = float(before["probability"]) < least
        assert row == {**before, **({"label": "", "status": "unsure"} if unsure else {})}
    assert "unsure: 5 of 15 images" in cautious.stderr
    asked = run("predict", small_sample / "test", "--min-confidence", 1, "--format", "json")
    assert {(row["label"], row["status"]) for row in json.loads(asked.stdout)} == {(None, "unsure")}
    assert "unsure: 15 of 15 images" in asked.stderr
    assert "min-confidence" in run("predict", small_sample, "--min-confidence", 80, code=2).stderr


def test_some_failed_images_exit_with_3_and_strict_with_1(there: Path, small_sample: Path) -> None:
    folder = there / "images"
    shutil.copytree(small_sample / "train", folder)
    (folder / "Bag" / "broken.png").write_text("no image")
    for words, code in (((), 3), (("--strict",), 1)):
        result = run("extract", folder, "-o", "new.h5", "--layer", "layer1", *words, code=code)
        assert "30 of 31 images, 1 failed" in result.stdout
        assert "failed: Bag/broken.png: " in result.stderr
    assert json.loads(run("info", "new.h5", "--json").stdout)["failures"].keys() == {"Bag/broken.png"}
    assert "1 images that could not be read" in run("fit", "new.h5", "--layer", "layer1", "-C", "1").stderr


def test_a_manifest_and_arrays_are_extracted(there: Path, small_sample: Path) -> None:
    paths = (
        sorted((small_sample / "train" / "Bag").iterdir())[:3]
        + sorted((small_sample / "train" / "Sandal").iterdir())[:3]
    )
    images = np.stack([np.array(Image.open(path)) for path in paths])
    labels = ["Bag"] * 3 + ["Sandal"] * 3
    np.savez(there / "arrays.npz", images=images, labels=labels)
    for i, path in enumerate(paths):
        shutil.copy(path, there / f"{i}.png")
    table = [f"{i}.png,{label},g{i // 2},{'test' if i % 3 == 2 else 'train'}" for i, label in enumerate(labels)]
    (there / "table.csv").write_text("\n".join(["path,label,group,split", *table]) + "\n")
    run("extract", "arrays.npz", "-o", "a.h5", "--layer", "layer1")
    run("extract", "table.csv", "-o", "t.h5", "--layer", "layer1")
    X, y = load_codes("a.h5", "layer1", return_X_y=True)
    np.testing.assert_array_equal(load_codes("t.h5", "layer1"), X)
    assert y.tolist() == labels
    with CodesFile.open("t.h5") as file:
        assert file.groups.tolist() == ["g0", "g0", "g1", "g1", "g2", "g2"]
        assert file.rows("test").tolist() == [2, 5]


def test_errors_are_one_line_that_says_what_to_do(there: Path, small_sample: Path) -> None:
    (there / "empty").mkdir()
    assert "no images" in failed("extract", "empty")
    assert "no such" in failed("extract", "nowhere")
    assert "no such codes file" in failed("fit", "nowhere.h5")
    assert "cnncodes fit" in failed("predict", small_sample, "-m", "nowhere.safetensors")
    (there / "notes.h5").write_text("notes")
    assert "not a codes file" in failed("info", "notes.h5")
    assert "not a codes file" in failed("extract", small_sample, "-o", "notes.h5")
    assert "cannot be written" in failed("extract", small_sample, "-o", "no/such/codes.h5")
    assert "Did you mean 'layer3'" in failed("fit", "--layer", "layer33")
    assert "Did you mean 'resnet50'" in failed("extract", small_sample, "-o", "x.h5", "--backbone", "resnet5")
    assert "pooling is 'avg', asked 'max'" in failed("extract", small_sample, "--pool", "max")
    assert not (there / "model.safetensors").exists()
    assert not (there / "x.h5").exists()


def test_labels_that_do_not_allow_a_fit_are_refused(there: Path, small_sample: Path) -> None:
    one, single, flat = there / "one", there / "single", there / "flat"
    shutil.copytree(small_sample / "train" / "Bag", one / "Bag")
    shutil.copytree(small_sample / "train" / "Bag", single / "Bag")
    (single / "Sandal").mkdir()
    shutil.copy(next((small_sample / "train" / "Sandal").iterdir()), single / "Sandal")
    shutil.copytree(small_sample / "train" / "Bag", flat)
    for folder in (one, single, flat):
        run("extract", folder, "-o", f"{folder.name}.h5", "--layer", "layer1")
    assert "at least two" in failed("fit", "one.h5", "--layer", "layer1")
    assert "'Sandal'" in failed("fit", "single.h5", "--layer", "layer1")
    assert "no labels" in failed("fit", "flat.h5", "--layer", "layer1")


def test_a_model_refuses_codes_of_another_network(there: Path, small_sample: Path) -> None:
    run("fit", "--layer", "layer1", "-C", "1")
    run("extract", small_sample, "-o", "small.h5", "--image-size", "96", "--layer", "layer1")
    message = failed("evaluate", "small.h5")
    assert "image_size" in message
    assert "preprocessing" in message


def test_the_demo_stops_at_the_first_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    Path("there/codes.h5").write_text("garbage")
    result = run("demo", "--folder", "there", code=1)
    assert "[1/5]" in result.stdout
    assert "[2/5]" not in result.stdout
    assert "no folder can be made there" in run("demo", "--folder", "there/codes.h5", code=1).stderr


def test_mistaken_files_and_names_are_refused_and_nothing_is_lost(there: Path, small_sample: Path) -> None:
    before = Path("codes.h5").read_bytes()
    assert "what the command reads" in run("fit", "-C", "0.01", "-o", "codes.h5", "--force", code=1).stderr
    assert Path("codes.h5").read_bytes() == before
    assert "layer3, layer3" in run("fit", "--layer", "layer3", "--layer", "layer3", code=1).stderr
    assert "--seed" in run("fit", "--seed", "-1", code=2).stderr
    run("fit", "-C", "0.01", "-o", "model.bin")
    assert '"clf": "svm"' in run("info", "model.bin", "--json").stdout
    Path("codes.dat").write_bytes(before)
    assert "held-out accuracy" in run("evaluate", "codes.dat", "-m", "model.bin").stdout
    assert "Did you mean" in run("backbones", "resnt50", code=1).stderr
    assert (
        "is there and not predictions that cnncodes wrote"
        in run("predict", str(small_sample), "-m", "model.bin", "-o", "codes.h5", code=1).stderr
    )
    assert Path("codes.h5").read_bytes() == before
    assert "there is no folder" in run("extract", str(small_sample), "-o", "no/codes.h5", code=1).stderr


def test_output_that_cannot_be_written_is_one_line(there: Path) -> None:
    for environment, words, code in (
        ({"PYTHONIOENCODING": "ascii"}, ["compare", "--clf", "svm", "--layer", "layer1"], 0),
        ({"PYTHONIOENCODING": "cp1252"}, ["--help"], 0),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "cnncodes", *words],
            env={**os.environ, **environment},
            capture_output=True,
            check=False,
        )
        assert (done.returncode, b"Traceback" in done.stderr) == (code, False), done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("words", [["info"], ["info", "--json"], ["backbones", "--json"], ["--help"]])
def test_standard_output_that_is_full_is_named(words: list[str], there: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "cnncodes", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: standard output: No space left on device\n")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EIO, "Input/output error", "a.h5"), "a.h5: Input/output error"),
        (OSError("it cannot be read"), "it cannot be read"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_an_error_of_the_system_is_given_no_name_that_it_lacks(
    error: OSError, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnncodes.neighbours.similar.similar", Mock(side_effect=error))
    before = sys.stdout
    assert run("similar", "query.png", code=1).stderr == f"error: {line}\n"
    assert sys.stdout is before


def test_an_error_about_another_file_is_not_blamed_on_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", "photos/a.png")
    monkeypatch.setattr("cnncodes.pages.report.report", Mock(side_effect=error))
    stderr = run("report", "-o", str(tmp_path / "page.html"), code=1).stderr
    assert stderr == "error: photos/a.png: Permission denied\n"
    assert list(tmp_path.iterdir()) == []


def test_a_shipped_file_that_is_missing_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="reinstall cnncodes: 'data/nothing'"):
        shipped_path("nothing")


def test_defaults_of_extract_are_those_of_the_library() -> None:
    """The numbers stand twice, as the command line starts without torch."""
    in_python = inspect.signature(extract).parameters
    for option in main.commands["extract"].params:
        if option.name in ("image_timeout", "max_pixels"):
            assert option.default == in_python[option.name].default


def test_verify_names_damaged_rows(there: Path) -> None:
    import h5py

    assert "0 damaged" in run("verify").stdout
    with h5py.File("codes.h5", "r+") as h5:
        h5["codes/layer3"][7, 3] += 1
        name = h5["images/id"].asstr()[7]
    result = run("verify", code=1)
    assert f"damaged: {name}\n" in result.stdout


def test_verify_recomputes_a_sample_of_the_images(there: Path, small_sample: Path) -> None:
    found = json.loads(run("verify", "codes.h5", str(small_sample), "--sample", "5", "--json").stdout)
    assert (found["recomputed"], found["wrong"], found["changed"], found["good"]) == (5, [], [], True)
    assert (
        "5 computed again, largest relative error 0, 0 wrong"
        in run("verify", "codes.h5", str(small_sample), "--sample", "5").stdout
    )


def test_shards_are_merged(there: Path, small_sample: Path) -> None:
    for part in ("1/2", "2/2"):
        run("extract", str(small_sample), "--layer", "layer1", "--shard", part, "-o", f"part-{part[0]}.h5")
    assert "45 of 45 images, 0 failed, of 2 parts" in run("merge", "part-1.h5", "part-2.h5", "-o", "merged.h5").stdout
    run("extract", str(small_sample), "--layer", "layer1", "-o", "whole.h5")
    assert Path("merged.h5").read_bytes() == Path("whole.h5").read_bytes()
    assert "is not like 2/8" in run("extract", str(small_sample), "--shard", "two", code=2).stderr


def test_a_manifest_may_leave_its_folder_if_allowed(there: Path, small_sample: Path) -> None:
    run("fit", "-C", "0.01")
    paths = sorted((small_sample / "test").rglob("*.png"))
    Path("away").mkdir()
    Path("away/images.csv").write_text("path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in paths))
    assert "--allow-outside" in run("extract", "away/images.csv", "-o", "away.h5", code=1).stderr
    for words in (
        ["extract", "away/images.csv", "-o", "away.h5"],
        ["predict", "away/images.csv"],
        ["evaluate", "away/images.csv"],
    ):
        run(*words, "--allow-outside")


def test_tables_of_networks_and_layers() -> None:
    table = run("backbones", "resnet*").stdout
    assert "resnet50" in table
    assert "vgg" not in table
    layers = json.loads(run("layers", "resnet18", "--json").stdout)
    by_name = {row["name"]: row for row in layers}
    assert (by_name["layer3"]["map_shape"], by_name["layer3"]["stride"]) == ([256, 14, 14], 16)
    assert by_name["penultimate"]["n_features"] == 512
    assert "Did you mean 'resnet18'" in failed("layers", "resnet181")


@pytest.mark.parametrize("name", list(main.commands))
def test_each_command_has_help_with_examples(name: str) -> None:
    text = run(name, "--help").stdout
    assert f"cnncodes {name}" in text.partition("Examples:")[2]
    assert main.commands[name].help
    for parameter in main.commands[name].params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter.name


def test_wrong_usage_exits_with_2() -> None:
    for words in (["extract"], ["fit", "--clf", "forest"], ["fit", "-C", "many"], ["nonsense"]):
        assert CliRunner().invoke(main, words).exit_code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    "options",
    [
        ["--workers", "1"],
        # batches that take longer than workers are waited for: they are left in the middle of the network
        ["--workers", "2", "--batch-size", "64", "--precision", "fp32", "--image-size", "320"],
    ],
)
def test_ctrl_c_says_how_to_go_on_and_keeps_what_is_done(tmp_path: Path, options: list[str]) -> None:
    out = tmp_path / "codes.h5"
    words = [sys.executable, "-m", "cnncodes", "extract", str(shipped_path(SAMPLE)), "-o", str(out), *options]
    pipe = subprocess.PIPE
    process = subprocess.Popen(words, stderr=pipe, stdout=pipe, text=True, preexec_fn=_heed_ctrl_c)
    while process.poll() is None and not _some_rows_done(out):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    stdout, stderr = process.communicate(timeout=60)
    assert time.monotonic() - sent < 20  # two seconds on a quiet machine
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert f"To continue: cnncodes extract {shipped_path(SAMPLE)} -o {out} {' '.join(options)}" in stderr
    with CodesFile.open(out) as file:
        assert 0 < file.counts["ok"] < 600
        assert len(file.verify()) == 0


def _heed_ctrl_c() -> None:
    """Undo what a shell does to its jobs in the background: they ignore SIGINT, and so do their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _some_rows_done(path: Path) -> bool:
    if not path.exists():
        return False
    with CodesFile.open(path) as file:
        return file.counts["ok"] > 0


@pytest.mark.slow
def test_the_demo_works_from_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    output = run("demo").stdout
    for name in ("extract", "fit", "evaluate", "predict", "compare"):
        assert f"$ cnncodes {name} " in output
    accuracies = dict(re.findall(r"^(layer\d|penultimate)[ *]+svm.*? (\d+\.\d) %", output, re.MULTILINE))
    assert accuracies.keys() == {"layer1", "layer2", "layer3", "penultimate"}
    assert 75 < float(accuracies["layer3"]) < 95
    assert (
        (tmp_path / "cnncodes-demo" / "predictions.csv")
        .read_text()
        .startswith("path,label,probability,novelty,guess,status\n")
    )


@pytest.mark.parametrize("command", ["compare", "advise"])
@pytest.mark.parametrize(("place", "reason"), [("nosuch/x.png", "no such folder"), ("x.foo", "is .png, .svg or .pdf")])
def test_a_plot_that_cannot_be_written_is_refused_before_the_work(
    sample_codes: Path, tmp_path: Path, monkeypatch, command: str, place: str, reason: str
) -> None:
    monkeypatch.setattr(
        "cnncodes.insight.compare.search_C", lambda *args, **kwargs: pytest.fail("it has begun to work")
    )
    result = run(command, sample_codes, "--plot", tmp_path / place, code=1)
    assert reason in result.stderr


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
