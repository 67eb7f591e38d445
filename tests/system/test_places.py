"""Places where no file can be are refused before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnncodes.errors import CnnCodesError, CodesFileError
from cnncodes.system.places import refuse_device, refuse_folder_name


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
