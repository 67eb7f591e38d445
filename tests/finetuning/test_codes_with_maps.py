"""The codes to train on: those of images come with their maps from one pass."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from cnncodes import ImageSet
from cnncodes.errors import SettingError
from cnncodes.extraction.worker_thread import WorkerThread
from cnncodes.finetuning import codes_with_maps as module
from cnncodes.finetuning.codes_with_maps import codes_with_maps
from cnncodes.finetuning.finetune import finetune

NOTHING = dict.fromkeys(("backbone", "weights", "image_size", "resize", "views"))
RUNNING = {"allow_outside": False, "device": None, "workers": None, "progress": None}


def parts(first: str) -> dict[str, object]:
    return {"first": first, "freeze": (), "unfreeze": ()}


@pytest.mark.parametrize(("first", "maps"), [("layer3", ["layer2"]), ("all", []), ("head", [])])
def test_maps_are_kept_with_the_codes_where_training_needs_them(first, maps, stripes):
    with codes_with_maps(stripes, None, {**NOTHING, "backbone": "staged"}, parts(first), RUNNING) as (data, images):
        assert data.file.map_layers == maps
        assert images.ids == stripes.ids
        path = data.file.path
    assert not path.exists()


def test_images_are_decoded_once(stripes, monkeypatch):
    prepare = WorkerThread._prepare
    rows: list[int] = []

    def count(worker, piece, row, remarks):
        rows.append(row)
        return prepare(worker, piece, row, remarks)

    monkeypatch.setattr(WorkerThread, "_prepare", count)
    finetune(stripes, backbone="staged", train_from="layer3", epochs=1)
    assert sorted(rows) == list(range(60))


def test_full_disk_keeps_the_maps_in_memory(stripes, monkeypatch):
    one_pass = finetune(stripes, backbone="staged", train_from="layer3", epochs=1, always=True)
    full = SimpleNamespace(free=1000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: full)
    with codes_with_maps(stripes, None, {**NOTHING, "backbone": "staged"}, parts("layer3"), RUNNING) as (data, _):
        assert data.file.map_layers == []
    two_passes = finetune(stripes, backbone="staged", train_from="layer3", epochs=1, always=True)
    for name, one in one_pass.model.tensors.items():
        np.testing.assert_allclose(one, two_passes.model.tensors[name], atol=1e-3)


def test_images_that_cannot_be_read_are_named(stripes, tmp_path, caplog):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    images = ImageSet([*stripes.ids, "up/broken.png"], [*stripes.sources, broken], [*stripes.labels, "up"])
    result = finetune(images, backbone="staged", train_from="layer3", epochs=1, always=True)
    assert result.model.scores.n == 60
    assert "1 of 61 images are left out, the first is up/broken.png: " in caplog.text


def test_settings_of_a_codes_file_are_those_that_it_was_made_with(striped_codes, stripes):
    with (
        pytest.raises(SettingError, match="image_size can be set for images only"),
        codes_with_maps(striped_codes, stripes, {**NOTHING, "image_size": 64}, parts("layer3"), RUNNING),
    ):
        pass
    with codes_with_maps(striped_codes, None, NOTHING, parts("layer3"), RUNNING) as (data, images):
        assert (data.file.path, images) == (striped_codes, None)
