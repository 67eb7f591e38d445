"""A short run of fine-tuning on a sample: on which images, by which answers, and what it is called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from comparison_rows import made_up_row
from tiny_network import UNCROPPED, Staged

from cnncodes import ImageSet, advise, extract, register_backbone
from cnncodes.errors import ProbeError
from cnncodes.insight import finetuning_trial
from cnncodes.insight.advise import Advice
from cnncodes.insight.comparison import Comparison
from cnncodes.insight.finetuning_trial import FinetuningTrial, try_finetuning
from cnncodes.probes.estimate import Estimate
from cnncodes.probes.protocol import TrainingData

TRIAL = FinetuningTrial("layer4", ["penultimate"], 2000, 12000, 4, Estimate(0.029, 0.012, 0.046), True, 0.8, 53.2)


@pytest.fixture(scope="module")
def stripes() -> ImageSet:
    """Stripes of three directions in noise, forty each, as a network of random weights hardly tells them apart."""
    register_backbone("staged", Staged, preprocessing=UNCROPPED, overwrite=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    ids, images, labels = [], [], []
    for label, wave in {"across": y, "down": x, "up": x + y}.items():
        for i in range(40):
            stripe = 40 * np.sin(wave * 0.8 + rng.uniform(0, 6))
            ids.append(f"{label}/{i:02}")
            images.append((128 + stripe[..., None] + rng.normal(0, 35, (32, 32, 3))).clip(0, 255).astype(np.uint8))
            labels.append(label)
    return ImageSet(ids, images, labels=labels)


@pytest.fixture(scope="module")
def codes(stripes: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trial") / "codes.h5"
    extract(stripes, path, backbone="staged", precision="fp32", maps="layer3")
    return path


@pytest.fixture(scope="module")
def without_maps(stripes: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("without") / "codes.h5"
    extract(stripes, path, backbone="staged", precision="fp32")
    return path


def test_the_sample_has_its_share_of_each_class_and_the_probe_is_that_of_its_images(
    codes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning_trial, "MAX_IMAGES", 60)
    tasks, calls = [], []
    answer_folds = finetuning_trial.answer_folds

    def answer(task: object, *args: object) -> object:
        tasks.append(task)
        return answer_folds(task, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(finetuning_trial, "answer_folds", answer)
    with TrainingData.open(codes) as data:
        trial = try_finetuning(data, progress=lambda done, total, failed: calls.append((done, total)))
    (task,) = tasks
    assert np.bincount(task.truth).tolist() == [20, 20, 20]
    assert (trial.n, trial.n_all, trial.first) == (60, 120, "layer4")
    probe = task.search.classes[task.search.decision.argmax(axis=1)]
    assert trial.probe_accuracy == np.mean(probe == task.classes[task.truth])
    assert trial.gain.low <= trial.gain.value <= trial.gain.high
    assert calls[-1] == (3 * 4 * 2, 3 * 4 * 2)  # folds, epochs, steps of 32 among the 40 images of a fold
    assert calls == sorted(calls)


def test_the_gain_is_over_the_probe_of_the_layers_that_are_named(codes: Path) -> None:
    with TrainingData.open(codes) as data:
        top, other = try_finetuning(data), try_finetuning(data, layers=["layer1", "layer3"])
        probe = data.search(["layer1", "layer3"], groups=data.groups(), cv=3)
        right = probe.classes[probe.decision.argmax(axis=1)] == data.labels
    assert other.layers == ["layer1", "layer3"]
    assert other.probe_accuracy == right.mean() != top.probe_accuracy
    assert top.probe_accuracy + top.gain.value == pytest.approx(other.probe_accuracy + other.gain.value)


def test_maps_of_the_images_do_as_well_as_maps_that_are_kept(
    codes: Path, without_maps: Path, stripes: ImageSet
) -> None:
    with TrainingData.open(codes) as kept, TrainingData.open(without_maps) as computed:
        first, second = try_finetuning(kept, seed=3), try_finetuning(computed, stripes, seed=3)
        assert replace(first, seconds=0) == replace(second, seconds=0)
        with pytest.raises(ProbeError, match="keeps no maps of layer3"):
            try_finetuning(computed)


@pytest.mark.slow
def test_advice_tries_it_where_it_is_asked_to(codes: Path, without_maps: Path) -> None:
    advice = advise(codes, finetune=True, cv=2)
    assert advice.trial is not None
    assert advice.summary.endswith(advice.trial.answer)
    assert advice.to_dict()["finetuning"]["n"] == 120
    with pytest.raises(ProbeError, match="keeps no maps of layer3"):
        advise(without_maps, finetune=True, cv=2)


def large(size: str = "large") -> Advice:
    return Advice(
        size, "similar", ["penultimate"], [], ["cnncodes fit"], Comparison([made_up_row(["penultimate"])]), None
    )


def test_a_large_set_is_tried_on_its_own_and_without_maps_the_command_is_named(
    codes: Path, without_maps: Path, stripes: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def tried(data: TrainingData, images: object, **running: object) -> FinetuningTrial:
        asked.append((data.file.path, images))
        return TRIAL

    monkeypatch.setattr(finetuning_trial, "try_finetuning", tried)
    monkeypatch.setattr("cnncodes.insight.advise._advise", lambda data, weights, **options: large())
    advice = advise(codes)
    assert (advice.trial, advice.evidence) == (TRIAL, [TRIAL.evidence])
    assert advice.commands == [f"cnncodes finetune {codes} --from layer4", "cnncodes fit"]
    assert advice.summary.endswith(TRIAL.answer)
    assert advice.notes == [TRIAL.not_tried]
    assert advise(without_maps, images=tmp_path).commands[0].endswith(f" --images {tmp_path} --from layer4")
    assert asked == [(codes, None), (without_maps, tmp_path)]
    alone = advise(without_maps)
    assert (alone.trial, alone.commands[0]) == (None, f"cnncodes advise {without_maps} --finetune --images IMAGES")
    assert "large and similar to ImageNet, which usually asks for fine-tuning" in alone.summary
    declined = advise(codes, finetune=False)
    assert (declined.trial, declined.commands[0]) == (None, f"cnncodes advise {codes} --finetune")
    monkeypatch.setattr("cnncodes.insight.advise._advise", lambda data, weights, **options: large("small"))
    assert advise(codes).trial is None
    assert len(asked) == 2
    assert advise(codes, finetune=True).trial == TRIAL


def test_a_set_that_cannot_be_tried_gets_a_note(codes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnncodes.insight.advise._advise", lambda data, weights, **options: large())
    advice = advise(codes, weights=tmp_path / "gone.pth")
    assert advice.trial is None
    assert advice.notes[0].startswith("fine-tuning was not tried: ")


@pytest.mark.parametrize(
    ("gain", "pays", "verdict", "words"),
    [
        (
            (0.029, 0.012, 0.046),
            True,
            "fine-tune",
            "images, gains +2.9 points (+1.2 to +4.6) over the probe of penultimate",
        ),
        ((0.02, -0.004, 0.044), True, "fine-tune", "images, likely gains +2.0 points (-0.4 to +4.4)"),
        ((0.001, -0.005, 0.007), False, "probe", "(-0.5 to +0.7) over the probe of penultimate: the probe is enough"),
        ((0.001, -0.02, 0.022), False, "undecided", "over the probe of penultimate: it may gain with more images"),
    ],
)
def test_what_a_gain_is_called(gain: tuple[float, float, float], pays: bool, verdict: str, words: str) -> None:
    trial = replace(TRIAL, gain=Estimate(*gain), pays=pays)
    assert trial.verdict == trial.evidence.says == verdict
    assert trial.answer.startswith("fine-tuning from layer4, tried on 2,000 of 12,000 ")
    assert words in trial.answer
    assert "2,000 images, 4 epochs, 53 s" in trial.evidence.found
    assert trial.not_tried.endswith("all 12,000 images, more than 4 epochs, lower layers")
