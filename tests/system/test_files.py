"""Outputs are whole or not there, stay what they were, and take the place of no input or file of another program."""

from __future__ import annotations

import ast
import errno
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.numpy import save_file

import cnncodes
from cnncodes import ProbeModel, extract, fit, merge, report
from cnncodes.cli.main import main
from cnncodes.errors import CnnCodesError, CodesFileError
from cnncodes.system.files import refuse_foreign, replacing, writing_text


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


def test_folders_and_links_to_inputs_are_no_place_and_pipes_are(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")

    def check(name: str, *inputs: object) -> None:
        refuse_foreign(tmp_path / name, "a table", lambda path: False, overwrite=True, inputs=inputs)

    with pytest.raises(CnnCodesError, match="it is a folder"):
        check(".")
    with pytest.raises(CnnCodesError, match=r"\(there is no folder .*/no\); make that first"):
        check("no/table.csv")
    check("pipe")
    with pytest.raises(CnnCodesError, match="is what the command reads"):
        check("link", tmp_path / "mine")
    check("link", tmp_path / "nothing", np.zeros(3), None)
    check("dangling")
    check("new")


def write(path: Path, content: str = "ours", **options: bool) -> None:
    with replacing(path, error_type=CodesFileError, **options) as partial:
        partial.write_text(content)


def test_of_two_that_write_at_a_time_the_last_wins_and_none_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")
        assert len(list(tmp_path.iterdir())) == 2
    assert path.read_text() == "first"  # it ended last
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("there", [True, False])
def test_a_file_that_takes_one_writer_refuses_the_second(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "file"
    if there:
        path.write_text("theirs")
    first = replacing(path, one_writer=True)
    first.__enter__().write_text("of the first")
    if there:
        with pytest.raises(CodesFileError, match="is writing to it"):
            write(path, one_writer=True)
        first.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    else:
        write(path, one_writer=True)
        with pytest.raises(CnnCodesError, match="is writing to it"):
            first.__exit__(None, None, None)
    assert path.read_text() == ("theirs" if there else "ours")
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as partial:
        partial.write_text(str(1 / 0))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write(path)
    assert path.read_text() == "ours"


def test_what_a_killed_process_left_is_cleared_away_even_if_ours_has_its_number(tmp_path: Path) -> None:
    script = f"""
import os, pathlib
from cnncodes.system.files import replacing
with replacing(pathlib.Path({str(tmp_path / "file")!r})) as partial:
    os._exit(9)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    (left,) = tmp_path.iterdir()
    assert re.fullmatch(r"\.file\.\w{16}\.partial", left.name)
    (tmp_path / f"{left.name}.txt").write_text("a user's")
    (tmp_path / f".other{left.name}").write_text("of another file")
    with replacing(tmp_path / "file") as partial:
        write(tmp_path / "file", "of another run meanwhile")
        partial.write_text("new")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"{left.name}.txt", f".other{left.name}", "file"}
    assert (tmp_path / "file").read_text() == "new"


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


def test_mode_and_owner_are_kept_and_nobody_reads_along(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)
    owner = 65534 if os.geteuid() == 0 else os.geteuid()
    os.chown(path, owner, -1)
    inode = path.stat().st_ino
    with replacing(path) as partial:
        partial.write_text("new")
        assert stat.S_IMODE(partial.stat().st_mode) == 0o600
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid, path.read_text()) == (0o640, owner, "new")
    assert path.stat().st_ino != inode


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o777, 0)])
def test_a_new_file_has_the_mode_that_the_umask_gives(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        write(tmp_path / "file")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_model_is_saved_under_any_umask(there: Path) -> None:
    model = ProbeModel.load("model.safetensors")
    before = os.umask(0o777)
    try:
        model.save("new.safetensors")
    finally:
        os.umask(before)
    assert Path("new.safetensors").read_bytes() == Path("model.safetensors").read_bytes()


def test_a_file_whose_owner_cannot_be_kept_is_written_in_place(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "file"
    path.write_text("old, and longer than the new")
    path.chmod(0o602)
    inode = path.stat().st_ino
    monkeypatch.setattr(os, "fchown", lambda *_: (_ for _ in ()).throw(PermissionError()))
    true_fstat = os.fstat
    other = os.stat_result((0o100600, 1, 1, 1, 12345, 12345, 3, 0, 0, 0))
    monkeypatch.setattr(os, "fstat", lambda fd: other if fd > 2 and not true_fstat(fd).st_size else true_fstat(fd))
    write(path, "")
    monkeypatch.undo()
    assert (path.read_text(), path.stat().st_ino, stat.S_IMODE(path.stat().st_mode)) == ("", inode, 0o602)


def test_links_in_a_circle_stay(tmp_path: Path) -> None:
    for name, other in (("one", "two"), ("two", "one")):
        (tmp_path / name).symlink_to(other)
    with (
        pytest.raises(CnnCodesError, match=r"one: cannot be written \(its link leads in a circle"),
        replacing(tmp_path / "one") as partial,
    ):
        partial.write_bytes(b"x")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_symlink()) == ["one", "two"]


def test_links_stay_links(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_text("old, and longer than the new")
    (tmp_path / "link").symlink_to("deep/file")
    (tmp_path / "dangling").symlink_to("deep/none")
    os.link(tmp_path / "deep" / "file", tmp_path / "hard")
    for name in ("link", "dangling"):
        write(tmp_path / name)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_text() == "ours"
    assert (tmp_path / "hard").samefile(tmp_path / "deep" / "file")
    write(tmp_path / "hard", "again")
    assert (tmp_path / "link").read_text() == "again"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["dangling", "deep", "file", "hard", "link", "none"]
    write(tmp_path / "hard", "codes", one_writer=True)  # never half a codes file: the other name keeps the old one
    assert ((tmp_path / "hard").read_text(), (tmp_path / "link").read_text()) == ("codes", "again")


def test_a_hard_link_is_not_lost_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, offset: int, size: int) -> None:
        os.ftruncate(handle, offset + size - 1)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "file").write_text("old")
    os.link(tmp_path / "file", tmp_path / "hard")
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(CodesFileError, match=r"/file: cannot be written \(No space left on device\); make room on the"):
        write(tmp_path / "file", "new, and longer")
    assert (tmp_path / "hard").read_text() == "old"


def test_a_pipe_is_sent_the_content_and_stays_a_pipe(there: Path) -> None:
    os.mkfifo("pipe")
    received: list[str] = []
    for words in (["predict", QUERY, "-o", "pipe"], ["fit", "-C", "0.01", "--cv", "2", "-o", "pipe"]):
        reader = threading.Thread(target=lambda: received.append(Path("pipe").read_bytes().decode("latin-1")))
        reader.start()
        run(*words)
        reader.join()
        assert Path("pipe").is_fifo()
    assert re.fullmatch(r"path,label,.*\n(.+\n){5}", received[0])
    assert "cnncodes-model" in received[1]
    for words in (["extract", "photos", "-o", "pipe"], ["extract", "photos", "--shard", "1/1", "-o", "pipe"]):
        assert "error: pipe: " in run(*words, code=1).stderr
        assert Path("pipe").is_fifo()
    assert [path.name for path in there.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize(
    "redirection",
    ["> all.txt", *(pytest.param(one, marks=pytest.mark.slow) for one in (">> all.txt", "| cat > all.txt"))],
)
def test_standard_output_is_written_to_under_its_name_too(there: Path, redirection: str) -> None:
    command = f"{sys.executable} -m cnncodes predict {QUERY} -o /dev/stdout"
    subprocess.run(f"(echo first; {command}; echo last) {redirection}", shell=True, check=True, stderr=subprocess.PIPE)
    lines = Path("all.txt").read_text().splitlines()
    assert (lines[0], lines[1][:11], lines[-1], len(lines)) == ("first", "path,label,", "last", 8)


def test_a_place_that_cannot_be_written_is_named_as_the_user_names_it(there: Path, monkeypatch) -> None:
    true_open = os.open

    def refuse(path, flags, *more, **options):
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return true_open(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", refuse)
    shutil.copy(next((there / QUERY).iterdir()), "query.png")
    for words, out, _ in [*OUTPUTS.values(), (["extract", "photos", "-o"], "new.h5", [])]:
        result = run(*words, out, code=1)
        line = f"error: {out}: cannot be written (Read-only file system); choose another place\n"
        assert (result.stdout, result.stderr) == ("", line)


def test_a_protected_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(CodesFileError, match=r"file: cannot be written \(Permission denied\); choose another place"):
        write(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "old"


def test_a_name_may_be_as_long_as_the_system_takes_it(tmp_path: Path) -> None:
    for name in ("n" * 255, "é" * 127):
        write(tmp_path / name)
        assert (tmp_path / name).read_text() == "ours"


# Where files are opened for writing, and why not by `replacing`
WRITERS = {
    "system/files.py": "the way itself",
    "system/locks.py": "locks, which hold nothing",
    "cluster/worker_folder.py": "what is being decoded on a node, until the next worker on it starts",
    "codes/columns.py": "rows of a codes file, each with its checksum",
    "codes/layout.py": "space for a file that `replacing` gave",
    "codes/structure.py": "the digest of a file that `replacing` gave",
    "codes/writer.py": "a file that `replacing` gave",
    "exporting/export.py": "a file that `replacing` gave",
    "models/explanation.py": "a picture in a file that `replacing` gave",
    "models/model_file.py": "a file that `replacing` gave",
    "finetuning/state.py": "a file that `replacing` gave",
    "cli/output.py": "a plot in a file that `replacing` gave",
    "pages/classifier_page.py": "a page in a file that `replacing` gave",
    "pages/plots.py": "a plot in memory",
    "extraction/journal.py": "which images are being decoded, as long as the process lives",
}
WRITING_CALLS = {
    *("write_text", "write_bytes", "touch", "mkstemp", "mkdtemp", "NamedTemporaryFile", "savefig", "memmap"),
    *(
        "save_file",
        "to_csv",
        "to_json_file",
        "tofile",
        "copyfile",
        "copy2",
        "copytree",
        "move",
        "symlink_to",
        "truncate",
    ),
}


def writes(call: ast.Call) -> bool:
    text = ast.unparse(call)
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    if last in ("open", "File", "fdopen"):
        modes = re.findall(r"[\"']([rwaxbt+]{1,4})[\"']", text)
        return any(set(mode) & set("wax+") for mode in modes) or "O_CREAT" in text
    return last in WRITING_CALLS or name in ("os.replace", "os.rename", "np.save", "np.savez", "torch.save")


def test_no_other_place_writes_files() -> None:
    package = Path(cnncodes.__file__).parent
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if path.relative_to(package).parts[0] != "data"
        and any(writes(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    }
    assert found == set(WRITERS)


def test_the_name_of_a_folder_is_not_taken_for_that_of_a_file(made: Path, tmp_path: Path) -> None:
    line = f"error: {tmp_path}/new/: cannot be written (it is the name of a folder); name a file in it\n"
    codes, images, model = made / "codes.h5", made / "photos", made / "model.safetensors"
    for words in (
        ["extract", images, "-o"],
        ["fit", codes, "-o"],
        ["predict", images, "--model", model, "-o"],
        ["report", codes, "-o"],
        ["audit", codes, "-o"],
    ):
        assert run(*words, f"{tmp_path}/new/", code=1).stderr == line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="other systems have other devices")
def test_codes_are_not_kept_in_a_device_or_a_pipe(made: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/null", tmp_path / "pipe"):
        line = f"error: {path}: is a device, a pipe or a socket, in which codes cannot be kept; name a file\n"
        assert run("extract", made / "photos", "-o", path, code=1).stderr == line
