"""No output takes the place of a file that its command has not written, nor of what the command reads."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.numpy import save_file

from cnncodes import ProbeModel, extract, fit, merge, report
from cnncodes.cli.main import main
from cnncodes.errors import CnnCodesError, CodesFileError, ModelFileError
from cnncodes.system.files import refuse_foreign, replacing, waiting_lock, writer_lock, writing_text


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def made(small_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small codes file, its images, and a model."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(small_sample, folder / "photos")
    extract(folder / "photos", folder / "codes.h5", layers=["layer1", "penultimate"], image_size=64)
    fit(folder / "codes.h5", C=0.01, cv=2).save(folder / "model.safetensors")
    return folder


@pytest.fixture
def there(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def photo(path: Path) -> None:
    Image.new("RGB", (30, 20), "red").save(path, "PNG")


def weights(path: Path) -> None:
    save_file({"layer.weight": np.ones((2, 3), np.float32)}, path)


def text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


QUERY = "photos/test/Bag"
OUTPUTS = {  # command, its output, files of others
    "fit": (["fit", "-C", "0.01", "--cv", "2", "-o"], "model.safetensors", [weights, photo, text("my notes")]),
    "predict": (
        ["predict", QUERY, "-o"],
        "labels.csv",
        [text("path,label\na.png,a\n"), text('[{"path": "a.png"}]'), text("path,label,probability\n"), photo],
    ),
    "predict --format json": (["predict", QUERY, "--format", "json", "-o"], "labels.json", [text('{"a": 1}')]),
    "audit": (["audit", "--cv", "2", "-o"], "audit.csv", [text("id,label\n1,2\n"), text("kind\n"), photo]),
    "report": (
        ["report", "--no-advice", "--no-audit", "--points", "20", "-o"],
        "report.html",
        [text("<!DOCTYPE html>\n<title>cnncodes report</title>\n"), photo],
    ),
    "similar": (
        ["similar", "query.png", "--images", "photos", "-k", "3", "--html"],
        "similar.html",
        [text("<html>mine</html>"), photo],
    ),
    "compare": (
        ["compare", "--clf", "svm", "--layer", "layer1", "--cv", "2", "--repeats", "1", "--plot"],
        "plot.png",
        [photo, text("no picture")],
    ),
    "advise": (["advise", "--cv", "2", "--plot"], "plot.svg", [text("<svg xmlns='http://www.w3.org/2000/svg'/>")]),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_file_of_another_is_overwritten_by_force_only(there: Path, name: str, monkeypatch) -> None:
    words, out, others = OUTPUTS[name]
    shutil.copy(next((there / QUERY).iterdir()), "query.png")
    target = Path(out)
    for write in others:
        target.unlink(missing_ok=True)
        write(target)
        before = target.read_bytes()
        result = run(*words, out, code=1)
        assert result.stdout == ""
        assert f"error: {out}: is there and not " in result.stderr
        assert "stays as it is; choose another name, or overwrite it with --force" in result.stderr
        assert target.read_bytes() == before
    run(*words, out, "--force")
    first = target.read_bytes()
    assert first != before
    run(*words, out)  # its own
    assert len(target.read_bytes()) > 0
    target.write_bytes(b"")
    run(*words, out)
    assert len(target.read_bytes()) > 0
    assert [path.name for path in there.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (["fit", "codes.h5", "-C", "0.01", "-o"], "codes.h5"),
        (["predict", "list.csv", "-o"], "list.csv"),
        (["predict", "photo.png", "-o"], "photo.png"),
        (["predict", "list.csv", "-o"], "photo.png"),
        (["audit", "codes.h5", "list.csv", "-o"], "photo.png"),
        (["predict", "photo.png", "--weights", "weights.pth", "-o"], "weights.pth"),
        (["predict", "photos", "-o"], "photos/test/Bag/mine.png"),
        (["audit", "codes.h5", "photos", "-o"], "photos/test/Bag/mine.png"),
        (["audit", "codes.h5", "-o"], "codes.h5"),
        (["report", "-m", "model.safetensors", "-o"], "model.safetensors"),
        (["report", "--images", "photos", "-o"], "photos/test/Bag/mine.png"),
        (["similar", "photo.png", "--images", "photos", "--html"], "photo.png"),
        (["compare", "codes.png", "--plot"], "codes.png"),
        (["advise", "codes.png", "--plot"], "codes.png"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_a_command_reads_stays_even_by_force(there: Path, words: list[str], out: str) -> None:
    photo(Path("photos/test/Bag/mine.png"))
    photo(Path("photo.png"))
    shutil.copy("codes.h5", "codes.png")
    Path("weights.pth").write_bytes(b"weights")
    Path("list.csv").write_text("path,label,probability,novelty,guess,status\nphoto.png,Bag,,,,\n")  # as predict writes
    before = Path(out).read_bytes()
    for force in ([], ["--force"]):
        result = run(*words, out, *force, code=1)
        assert "stays as it is; choose another name" in result.stderr
        assert Path(out).read_bytes() == before


def test_an_image_or_a_table_is_no_codes_file(there: Path) -> None:
    photo(Path("photo.png"))
    Path("list.csv").write_text("path,label\nphoto.png,a\n")
    with h5py.File("mine.h5", "w") as h5:
        h5["x"] = np.arange(5)
    for words in (["extract", "list.csv"], ["extract", "photo.png"], ["merge", "codes.h5"]):
        for out in ("photo.png", "list.csv", "mine.h5"):
            before = Path(out).read_bytes()
            run(*words, "-o", out, code=1)
            assert Path(out).read_bytes() == before


def test_parts_never_replace_codes_that_they_do_not_hold(there: Path) -> None:
    settings = {"layers": ["layer1"], "image_size": 64}
    for i in (1, 2):
        extract("photos", f"part-{i}.h5", shard=(i, 2), **settings)
    parts = ["part-1.h5", "part-2.h5"]
    before = {name: Path(name).read_bytes() for name in ("codes.h5", *parts)}
    message = run("merge", *parts, "-o", "codes.h5", code=1).stderr  # of other layers
    assert "codes.h5: is there already, and 45 of its rows with codes would go: 10 of 'train/" in message
    assert "is one of the parts" in run("merge", *parts, "-o", "part-2.h5", code=1).stderr
    assert {name: Path(name).read_bytes() for name in before} == before
    merge(parts, "whole.h5")
    whole = Path("whole.h5").read_bytes()
    merge(parts, "whole.h5")
    assert Path("whole.h5").read_bytes() == whole
    photo(Path("photos/more.png"))
    extract("photos/more.png", "whole.h5", add=True)
    added = Path("whole.h5").read_bytes()
    with pytest.raises(CodesFileError, match=r"1 of its rows with codes would go: 'more.png'"):
        merge(parts, "whole.h5")
    assert Path("whole.h5").read_bytes() == added


def test_python_refuses_as_the_commands_do(there: Path) -> None:
    weights(Path("weights.safetensors"))
    Path("notes.html").write_text("my notes")
    before = Path("weights.safetensors").read_bytes()
    model = ProbeModel.load("model.safetensors")
    page = report("codes.h5", model=model, advice=False, audit=False, points=20)
    with pytest.raises(CnnCodesError, match="is there and not a model file"):
        model.save("weights.safetensors")
    with pytest.raises(CnnCodesError, match="is there and not a report"):
        page.save("notes.html")
    assert (Path("weights.safetensors").read_bytes(), Path("notes.html").read_text()) == (before, "my notes")
    model.save("weights.safetensors", overwrite=True)
    assert ProbeModel.load("weights.safetensors").classes == model.classes
    page.save("notes.html", overwrite=True)
    page.save("notes.html")
    assert Path("notes.html").read_text(encoding="utf-8") == page.html


def test_folders_pipes_and_links_to_inputs_are_no_place(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")

    def check(name: str, *inputs: object) -> None:
        refuse_foreign(tmp_path / name, "a table", lambda path: False, overwrite=True, inputs=inputs)

    for name, reason in ((".", "a folder"), ("pipe", "no regular file")):
        with pytest.raises(CnnCodesError, match=f"it is {reason}"):
            check(name)
    with pytest.raises(CnnCodesError, match="is what the command reads"):
        check("link", tmp_path / "mine")
    check("link", tmp_path / "nothing", np.zeros(3), None)
    check("dangling")
    check("new")


def replace(path: Path, error_type: type[CnnCodesError], meanwhile: Callable[[], object] = lambda: None) -> None:
    with replacing(path, error_type=error_type) as partial:
        partial.write_text("ours")
        meanwhile()


@pytest.mark.parametrize("kind", [CodesFileError, ModelFileError, CnnCodesError])
def test_a_file_that_somebody_writes_is_not_replaced_and_the_error_is_of_its_kind(tmp_path: Path, kind) -> None:
    path = tmp_path / "file"
    path.write_text("theirs")
    with writer_lock(path), pytest.raises(kind, match="is writing to it") as caught:
        replace(path, kind)
    assert type(caught.value) is kind
    assert path.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_appears_in_the_meantime_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(ModelFileError, match="is writing to it"):
        replace(path, ModelFileError, lambda: path.write_text("theirs"))
    assert path.read_text() == "theirs"


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        replace(path, CodesFileError, lambda: 1 / 0)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    replace(path, CodesFileError)
    assert path.read_text() == "ours"


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".file.999999999.partial").write_text("half")  # no system has so many processes
    (tmp_path / f".file.{os.getpid()}0.partial.txt").write_text("a user's")
    with replacing(tmp_path / "file") as partial:
        partial.write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".file.{os.getpid()}0.partial.txt", "file"]


def test_a_table_and_a_model_of_somebody_who_writes_them_name_their_own_error(there: Path) -> None:
    table = there / "table.csv"
    table.write_text("theirs")
    with writer_lock(table), pytest.raises(CnnCodesError) as caught:
        writing_text(table).__enter__()
    assert type(caught.value) is CnnCodesError
    model = ProbeModel.load(there / "model.safetensors")
    with writer_lock(there / "model.safetensors"), pytest.raises(ModelFileError, match="is writing to it"):
        model.save(there / "model.safetensors")


def test_a_waiting_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    events: list[str] = []
    inside, first_is_in = threading.Event(), threading.Event()

    def second() -> None:
        first_is_in.wait()
        with waiting_lock(tmp_path / "cache.h5"):
            events.append("second")
        inside.set()

    thread = threading.Thread(target=second)
    thread.start()
    with waiting_lock(tmp_path / "cache.h5"):
        first_is_in.set()
        assert not inside.wait(0.2)
        events.append("first")
    thread.join()
    assert events == ["first", "second"]
    assert [path.name for path in tmp_path.iterdir()] == [".cache.h5.lock"]


def test_the_content_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append(("sync", os.fstat(file).st_ino)), sync(file)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append(("name", os.stat(a).st_ino)), replace(a, b)))
    target = tmp_path / "table.csv"
    with writing_text(target) as stream:
        stream.write("a,b\n")
    inode = target.stat().st_ino
    assert calls == [("sync", inode), ("name", inode), ("sync", tmp_path.stat().st_ino)]
    assert target.read_text() == "a,b\n"
