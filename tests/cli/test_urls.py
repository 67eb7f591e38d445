"""Our own files lie on a disk of this machine: every command says so of a URL, and makes no folder called `s3:`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import failed
from digit_codes import names, write_codes
from PIL import Image

from cnncodes import fit
from cnncodes.cli.main import main

URL = "s3://bucket/folder/file.h5"
PLOT = "s3://bucket/folder/file.png"
CODES, MODEL, FOLDER, IMAGE = "codes.h5", "model.safetensors", "photos", "photos/a/0.png"
READ = [  # what a command reads beside images, and what else is typed
    ("advise codes", [URL]),
    ("advise weights", [CODES, "--weights", URL]),
    ("audit codes", [URL]),
    ("compare codes", [CODES, URL]),
    ("compare models", ["-m", URL, CODES]),
    ("evaluate data", [URL]),
    ("evaluate model", [CODES, "--model", URL]),
    ("evaluate weights", [CODES, "--weights", URL]),
    ("export model", [URL]),
    ("export weights", [MODEL, "--weights", URL]),
    ("extract weights", [FOLDER, "-o", "new.h5", "--weights", URL]),
    ("finetune data", [URL]),
    ("finetune weights", [CODES, "--weights", URL]),
    ("fit codes", [URL]),
    ("info file", [URL]),
    ("merge parts", [URL]),
    ("predict model", [FOLDER, "--model", URL]),
    ("predict weights", [FOLDER, "--model", "imagenet", "--weights", URL]),
    ("report codes", [URL]),
    ("report model", [CODES, "--model", URL]),
    ("report curves", [CODES, "--model", MODEL, "--curves", URL]),
    ("similar codes", [IMAGE, "--codes", URL]),
    ("similar weights", [IMAGE, "--codes", CODES, "--weights", URL]),
    ("verify file", [URL]),
]
WRITTEN = [
    ("advise picture", [CODES, "--plot", PLOT]),
    ("audit out", [CODES, "-o", URL]),
    ("compare picture", [CODES, "--plot", PLOT]),
    ("demo folder", ["--folder", URL]),
    ("export out", [MODEL, "-o", URL]),
    ("export page", [MODEL, "--page", URL]),
    ("extract out", [FOLDER, "-o", URL]),
    ("finetune out", [CODES, "-o", URL]),
    ("finetune files", [CODES, "--curves", PLOT]),
    ("fit out", [CODES, "-o", URL]),
    ("merge out", [CODES, "-o", URL]),
    ("predict out", [FOLDER, "-o", URL]),
    ("predict explain", [FOLDER, "--explain", URL]),
    ("report out", [CODES, "-o", URL]),
    ("similar html", [IMAGE, "--codes", CODES, "--html", URL]),
]
IMAGES = {"images", "query"}  # may lie anywhere
NO_FILES = {"backbone", "layers", "layer", "maps", "pooling", "device", "shard", "C", "memory_limit", "pattern"}
NO_FILES |= {"train_from", "freeze", "unfreeze", "address"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("urls")
    write_codes(folder / CODES, np.arange(200), names(np.arange(200)))
    fit(folder / CODES, layers="penultimate", C=0.01).save(folder / MODEL)
    for name in ("a", "b"):
        (folder / FOLDER / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(folder / FOLDER / name / "0.png")
    return folder


@pytest.mark.parametrize(("asked", "words"), READ + WRITTEN, ids=[asked for asked, _ in READ + WRITTEN])
def test_a_url_is_refused_with_the_command_that_copies(
    asked: str, words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    message = failed(asked.split()[0], *words)
    url = PLOT if PLOT in words else URL
    name = url.rpartition("/")[2]
    written = (asked, words) in WRITTEN
    assert message.startswith(f"error: {url}: is a URL, and ")
    assert ("write it there" if written else "name the copy") in message
    assert message.endswith(f": `aws s3 cp {name} {url}`" if written else f": `aws s3 cp {url} {name}`")
    assert {file.name for file in folder.iterdir()} == {CODES, MODEL, FOLDER}


def test_every_path_of_every_command_is_tried() -> None:
    options = {
        f"{name} {option.name}"
        for name, command in main.commands.items()
        for option in command.params
        if option.type.name == "text" and option.name not in IMAGES | NO_FILES
    }
    assert options == {asked for asked, _ in READ + WRITTEN}
