"""Places where no file can be are refused before any work."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cnncodes.errors import CnnCodesError, CodesFileError
from cnncodes.system.files import replacing
from cnncodes.system.places import make_folder, refuse_device, refuse_folder_name, refuse_url


def test_the_name_of_a_folder_is_refused_and_others_are_not(tmp_path: Path) -> None:
    for path in ("new/", f"{tmp_path}/"):
        with pytest.raises(CnnCodesError, match=r"it is the name of a folder.; name a file in it"):
            refuse_folder_name(path)
    for path in ("new", tmp_path, "new/codes.h5"):
        refuse_folder_name(path)


@pytest.mark.skipif(os.name != "posix", reason="other systems have other devices")
def test_a_device_and_a_pipe_are_refused_and_files_are_not(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    for path in ("/dev/null", tmp_path / "pipe"):
        with pytest.raises(CodesFileError, match="is a device, a pipe or a socket"):
            refuse_device(path)
    for path in (tmp_path, tmp_path / "file", tmp_path / "new"):
        refuse_device(path)


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("s3://bucket/a b.h5", "aws s3 cp 's3://bucket/a b.h5' 'a b.h5'"),
        (Path("s3://bucket/codes.h5"), "aws s3 cp s3://bucket/codes.h5 codes.h5"),
        ("GS://bucket/codes.h5", "gcloud storage cp GS://bucket/codes.h5 codes.h5"),
        ("https://host/codes.h5?version=2", "curl -L -o codes.h5 'https://host/codes.h5?version=2'"),
        (
            "simplecache::https://host/codes.h5",  # a chain, of which curl knows nothing
            'fs.get(path, sys.argv[2])" simplecache::https://host/codes.h5 codes.h5',
        ),
        (
            "simplecache::hf://datasets/codes.h5",
            'fs.get(path, sys.argv[2])" simplecache::hf://datasets/codes.h5 codes.h5',
        ),
    ],
)
def test_a_url_is_refused_with_the_command_that_copies_it(path: str | Path, command: str) -> None:
    with pytest.raises(CodesFileError, match="is a URL, and the place of a codes file is a disk") as caught:
        refuse_url(path, "a codes file", error_type=CodesFileError)
    assert str(caught.value).endswith(f"{command}`")


@pytest.mark.parametrize(
    "url",
    [
        "https://me:5ecre7@host/codes.h5?version=2&X-Amz-Signature=a/5ecre7",
        Path("https://me:5ecre7@host/codes.h5"),
        "simplecache::https://me:5ecre7@host/codes.h5",
    ],
)
@pytest.mark.parametrize("writing", [False, True])
def test_secrets_of_a_url_are_not_shown(url: str | Path, writing: bool) -> None:
    with pytest.raises(CnnCodesError, match=r"\(what is secret in it is not shown\): `") as caught:
        refuse_url(url, writing=writing)
    message = str(caught.value)
    assert "5ecre7" not in message
    assert "me:" not in message
    assert "host/codes.h5" in message
    assert " codes.h5" in message


def test_an_output_is_written_here_and_copied_then() -> None:
    with pytest.raises(
        CnnCodesError, match=r"write it there, and copy it then: `aws s3 cp out\.csv s3://bucket/out\.csv`"
    ):
        refuse_url("s3://bucket/out.csv", writing=True)
    with pytest.raises(CnnCodesError, match=r"fs.put\(sys.argv\[2\], path\)\" az://box/out.csv out.csv`"):
        refuse_url("az://box/out.csv", writing=True)


def test_names_with_a_colon_are_no_urls(tmp_path: Path) -> None:
    for path in (
        "codes.h5",
        "C:/codes.h5",
        "C://codes.h5",
        "run:1/codes.h5",
        "/data/s3:/codes.h5",
        tmp_path,
        "a b://c",
    ):
        refuse_url(path)


def test_no_folder_is_made_for_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CnnCodesError, match="is a URL"):
        make_folder("s3://bucket/explained")
    with pytest.raises(CnnCodesError, match="is a URL"), replacing(Path("s3://bucket/new")):
        pass
    assert not list(tmp_path.iterdir())


def test_the_command_without_a_program_of_its_own_copies(tmp_path: Path) -> None:
    """`file://` stands for any other kind of store."""
    far, near = tmp_path / "store" / "codes.h5", tmp_path / "codes.h5"
    far.parent.mkdir()
    for writing, source, target in ((False, far, near), (True, near, far)):
        source.write_bytes(b"codes")
        target.unlink(missing_ok=True)
        with pytest.raises(CnnCodesError) as caught:
            refuse_url(far.as_uri(), writing=writing)
        command = shlex.split(str(caught.value).split("`")[1])
        subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True)
        assert target.read_bytes() == b"codes"
