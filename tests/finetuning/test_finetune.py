"""The whole way: from images to a model file that labels new images as the trained network does."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_network import UNCROPPED, Staged

from cnncodes import CodesFile, ImageSet, ProbeModel, evaluate, extract, fit, load_backbone, predict, register_backbone
from cnncodes.errors import BackboneError, CnnCodesError, MismatchError, ProbeError, SettingError
from cnncodes.finetuning import out_of_fold
from cnncodes.finetuning.finetune import Finetuning, finetune
from cnncodes.finetuning.result import StoppedError
from cnncodes.finetuning.training import Epoch

QUICK = {"train_from": "layer3", "epochs": 3, "batch_size": 8, "lr": 3e-3}


@pytest.fixture(scope="module")
def result(striped_codes, stripes) -> Finetuning:
    return finetune(striped_codes, images=stripes, always=True, **QUICK)


def by_hand(model: ProbeModel, images: ImageSet) -> np.ndarray:
    """Decision values by plain torch: the network with the tensors of the model, and the probe on it."""
    network = load_backbone("staged").module
    state = {**network.state_dict(), **{name: torch.from_numpy(one) for name, one in model.tensors.items()}}
    pixels = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images.sources])
    codes = []
    with torch.no_grad():
        network.fc.register_forward_pre_hook(lambda module, args: codes.append(args[0]))
        torch.func.functional_call(network, state, (UNCROPPED.normalise(pixels),))
    X = codes[0].double().numpy()
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    return (X - model.mean) / model.deviation @ model.coef.T + model.intercept


def test_model_answers_as_plain_torch_does(result, stripes, tmp_path):
    result.model.save(tmp_path / "model.safetensors")
    model = ProbeModel.load(tmp_path / "model.safetensors")
    assert model.same_as(result.model)
    decision = by_hand(model, stripes)
    computed = model.compute_codes(stripes)
    np.testing.assert_allclose(
        model.decision_function(model.concatenated(computed.codes)), decision, rtol=1e-2, atol=2e-2
    )
    expected = np.array(model.classes)[decision.argmax(axis=1)]
    predictions = predict(stripes, tmp_path / "model.safetensors")
    assert np.mean([one.label == label for one, label in zip(predictions, expected, strict=True)]) > 0.97
    assert {name.partition(".")[0] for name in model.tensors} == {"layer3", "layer4"}
    frozen = load_backbone("staged").module.state_dict()
    assert not any(np.array_equal(one, frozen[name].numpy()) for name, one in model.tensors.items())


def test_scores_are_out_of_fold_and_beside_those_of_the_probe(result, striped_codes):
    probe = fit(striped_codes, cv=3)
    assert result.probe_accuracy == probe.scores.cross_validated.accuracy.value
    scores = result.model.scores
    assert scores.cross_validated.accuracy.value == pytest.approx(result.probe_accuracy + result.gain.value)
    assert scores.n_cv == result.n_answers == 60
    assert "fine-tuned from layer3 on" in scores.protocol
    assert result.gain.low <= result.gain.value <= result.gain.high
    assert result.pays or result.gain.low < 0
    assert result.share in out_of_fold.SHARES
    tuned = result.model.tuned
    assert tuned is not None
    assert (tuned.first, tuned.below, tuned.share) == ("layer3", "layer2", result.share)
    assert result.to_dict()["gain_interval"] == [result.gain.low, result.gain.high]
    assert result.model.info()["tuned"]["parameters"] == 2676
    assert result.model.notes[-1] == result.answer


def test_probe_is_kept_where_fine_tuning_spoils_the_network(striped_codes, stripes):
    result = finetune(striped_codes, images=stripes, **{**QUICK, "lr": 0.5})
    assert not result.pays
    assert result.model.tuned is None
    assert "does not pay" in result.answer
    assert result.answer.endswith("the probe is kept")
    probe = fit(striped_codes, cv=3)
    np.testing.assert_array_equal(result.model.coef, probe.coef)
    assert result.model.scores == probe.scores


def test_it_pays_where_the_network_has_learned_nothing_of_use(striped_codes, stripes, monkeypatch):
    """The gain is that of networks whose answers are right, as if training had found all."""

    def perfect(network, maps, rows, device, tensors=None):
        truth = np.repeat(np.arange(3), 20)[rows]
        return 2.0 * np.eye(3)[truth]

    monkeypatch.setattr(out_of_fold, "decide", perfect)
    result = finetune(striped_codes, images=stripes, **QUICK)
    assert result.pays
    assert result.gain.value == pytest.approx(1 - result.probe_accuracy)
    assert result.answer.startswith("fine-tuning from layer3 gains +")
    assert result.gain.low > 0
    assert result.model.tuned is not None
    assert result.model.scores.cross_validated.accuracy.value == 1


@pytest.mark.parametrize("views", ["none", pytest.param("flip", marks=pytest.mark.slow)])
def test_maps_of_the_codes_file_give_the_model_of_the_images(views, stripes, tmp_path):
    """Within the rounding of float16: the network ran on other batches when the maps were kept."""
    options = {"backbone": "staged", "layers": "penultimate", "precision": "fp32", "views": views}
    extract(stripes, tmp_path / "codes.h5", **options)
    computed = finetune(tmp_path / "codes.h5", images=stripes, always=True, **QUICK)
    extract(stripes, tmp_path / "codes.h5", maps="layer2", **options)
    kept = finetune(tmp_path / "codes.h5", always=True, **QUICK)
    assert (kept.share, kept.epochs) == (computed.share, computed.epochs)
    for name, one in kept.model.tensors.items():
        np.testing.assert_allclose(one, computed.model.tensors[name], atol=1e-3)
    np.testing.assert_allclose(kept.model.coef, computed.model.coef, rtol=2e-2, atol=2e-3)
    assert [one.label for one in predict(stripes, kept.model)] == [
        one.label for one in predict(stripes, computed.model)
    ]


def test_weights_that_are_others_than_those_of_the_maps_are_refused(stripes, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(Staged().state_dict(), path)
    extract(stripes, tmp_path / "codes.h5", backbone="staged", weights=path, maps="layer2", layers="penultimate")
    shutil.copy(path, tmp_path / "moved.pth")
    torch.save(Staged().state_dict(), path)
    with pytest.raises(MismatchError, match="put the original file back"):
        finetune(tmp_path / "codes.h5", **QUICK)
    path.unlink()
    finetune(tmp_path / "codes.h5", weights=tmp_path / "moved.pth", **{**QUICK, "epochs": 1})


class KilledError(Exception):
    pass


@pytest.mark.parametrize(
    "killed_at", [15, *(pytest.param(at, marks=pytest.mark.slow) for at in range(1, 74) if at % 3)]
)
def test_killed_run_goes_on_and_gives_the_same_bytes(killed_at, result, striped_codes, stripes, tmp_path, monkeypatch):
    monkeypatch.setattr(out_of_fold.State, "is_due", lambda self: True)
    calls = 0

    def kill(done: int, total: int, failed: int) -> None:
        nonlocal calls
        calls += total > 60  # steps, not images
        if calls == killed_at:
            raise KilledError

    state = tmp_path / "model.state"
    with pytest.raises(KilledError):
        finetune(striped_codes, images=stripes, always=True, state=state, progress=kill, **QUICK)
    assert state.is_file()
    steps = []
    continued = finetune(
        striped_codes,
        images=stripes,
        always=True,
        state=state,
        progress=lambda done, total, failed: steps.append(done) if total > 60 else None,
        **QUICK,
    )
    assert steps[0] >= killed_at - 4  # nothing is done again; each of four jobs calls before its first step, too
    continued.model.save(tmp_path / "continued.safetensors")
    result.model.save(tmp_path / "whole.safetensors")
    assert (tmp_path / "continued.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


@pytest.mark.parametrize(("steps", "epochs"), [(2, 0), (8, 1), (15, 1), (23, 2)])
def test_stop_of_the_last_training_gives_the_network_so_far(steps, epochs, result, striped_codes, stripes, tmp_path):
    """Three epochs have eight steps each; the same call then goes on to the end."""
    options = {"images": stripes, "always": True, "state": tmp_path / "state", **QUICK}
    seen = []

    def stop(what: str, epoch: Epoch) -> None:
        seen.append(what)
        if seen.count("all images") == steps + 1:
            raise KeyboardInterrupt

    with pytest.raises(StoppedError) as stopped:
        finetune(striped_codes, on_step=stop, **options)
    so_far = stopped.value.result
    assert (so_far.stopped_after, so_far.to_dict()["stopped_after"]) == (epochs, epochs)
    assert f"was stopped after {epochs} complete epochs: " in so_far.model.notes[-1]
    if epochs:
        assert so_far.model.tuned.epochs == epochs
        assert so_far.model.scores.cross_validated.accuracy.value == so_far.probe_accuracy + so_far.gain.value
        assert "may be more than that of this" in so_far.model.notes[-1]
        assert len(predict(stripes, so_far.model)) == 60
    else:
        assert so_far.model.tuned is None
        assert so_far.model.scores == fit(striped_codes, cv=3).scores
    whole = finetune(striped_codes, **options)
    assert (whole.stopped_after, whole.model.tuned.epochs) == (None, 3)
    assert whole.model.same_as(result.model)


def test_loss_is_told_after_each_step(striped_codes, stripes):
    told: list[tuple[str, Epoch]] = []
    finetune(striped_codes, images=stripes, on_step=lambda what, epoch: told.append((what, epoch)), **QUICK)
    assert list(dict.fromkeys(what for what, _ in told))[:3] == ["fold 1 of 3", "fold 2 of 3", "fold 3 of 3"]
    first, second = told[:2]
    assert (first[1].number, second[1].number) == (1, 1)
    assert np.isnan(first[1].loss)
    assert second[1].loss > 0


def test_images_alone_are_enough_and_held_out_ones_are_scored(stripes, tmp_path):
    splits = ["test" if name.endswith(("18", "19")) else "train" for name in stripes.ids]
    images = ImageSet(stripes.ids, stripes.sources, stripes.labels, splits=splits)
    result = finetune(images, backbone="staged", views="flip", always=True, **{**QUICK, "epochs": 1})
    model = result.model
    assert (model.scores.n, model.scores.n_test) == (54, 6)
    assert model.provenance.preprocessing.views == "flip"
    again = evaluate(images.take([row for row, split in enumerate(splits) if split == "test"]), model)
    assert model.scores.held_out is not None
    extract(images, tmp_path / "codes.h5", backbone="staged", views="flip")
    assert result.probe_test_accuracy == fit(tmp_path / "codes.h5", cv=3).scores.held_out.accuracy
    assert result.to_dict()["probe_test_accuracy"] == result.probe_test_accuracy.value
    assert again.accuracies.accuracy == model.scores.held_out.accuracy


def test_class_of_one_image_is_learned_and_not_scored(stripes):
    """As by the probe: the folds leave it out, and the model that is kept knows it."""
    labels = ["alone", *stripes.labels[1:]]
    splits = ["test" if name.endswith("19") else "train" for name in stripes.ids]
    images = ImageSet(stripes.ids, stripes.sources, labels, splits=splits)
    result = finetune(images, backbone="staged", always=True, **{**QUICK, "epochs": 1})
    model = result.model
    assert model.classes == ["across", "alone", "down", "up"]
    assert (model.scores.n, model.scores.n_cv, result.n_answers, model.scores.n_test) == (57, 56, 56, 3)
    assert model.coef.shape[0] == 4
    decision = by_hand(model, images)
    X = model.concatenated(model.compute_codes(images).codes)
    np.testing.assert_allclose(model.decision_function(X), decision, rtol=1e-2, atol=5e-2)
    answered = np.array(model.classes)[decision[[19, 39, 59]].argmax(axis=1)]
    assert model.scores.held_out.accuracy.value == np.mean(answered == ["across", "down", "up"])


@pytest.mark.parametrize("n", [2, 3])
def test_few_images_give_a_model_that_has_held_none_back(n, stripes):
    images = stripes.take([*range(n), *range(20, 32)])
    result = finetune(images, backbone="staged", always=True, **{**QUICK, "epochs": 1})
    assert result.n_answers == n + 12
    assert len(predict(stripes, result.model)) == 60


@pytest.mark.parametrize(("train_from", "n_parts"), [("head", 0), ("layer4", 1), ("layer1", 4), ("all", 4)])
def test_each_part_can_be_the_first(train_from, n_parts, striped_codes, stripes):
    options = {**QUICK, "train_from": train_from, "epochs": 1}
    model = finetune(striped_codes, images=stripes, always=True, **options).model
    assert len({name.partition(".")[0] for name in model.tensors}) == n_parts
    computed = model.compute_codes(stripes)
    X = model.concatenated(computed.codes)
    np.testing.assert_allclose(model.decision_function(X), by_hand(model, stripes), rtol=1e-2, atol=5e-2)


@pytest.fixture(scope="module")
def codes_with_maps(stripes, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("maps") / "codes.h5"
    extract(stripes, path, backbone="staged", precision="fp32", dtype="float32", maps="layer2")
    return path


@pytest.mark.parametrize(
    ("names", "trained", "what"),
    [
        ({"freeze": "layer3"}, {"layer4"}, "layer3 without layer3"),
        ({"freeze": ["*.1", "*.bias"]}, {"layer3", "layer4"}, "layer3 without *.1, *.bias"),
        ({"unfreeze": "layer1.0", "freeze": "layer4"}, {"layer1", "layer3"}, "layer3 with layer1.0 without layer4"),
    ],
)
def test_parts_that_are_frozen_by_name_do_not_move(names, trained, what, striped_codes, stripes):
    model = finetune(striped_codes, images=stripes, always=True, **QUICK, **names).model
    assert {name.partition(".")[0] for name in model.tensors} == trained
    assert (model.tuned.first, f"fine-tuning from {what} " in model.notes[-1]) == (what, True)
    np.testing.assert_allclose(
        model.decision_function(model.concatenated(model.compute_codes(stripes).codes)),
        by_hand(model, stripes),
        rtol=1e-2,
        atol=5e-2,
    )


def test_batch_normalisation_moves_its_statistics_if_asked(striped_codes, stripes, tmp_path):
    model = finetune(striped_codes, images=stripes, always=True, batchnorm=True, freeze="layer3", **QUICK).model
    moved = {"layer4.1.running_mean", "layer4.1.running_var"}
    assert {name for name in model.tensors if "running" in name} == moved
    frozen = load_backbone("staged").module.state_dict()
    assert not any(np.array_equal(model.tensors[name], frozen[name]) for name in moved)
    model.save(tmp_path / "model.safetensors")
    loaded = ProbeModel.load(tmp_path / "model.safetensors")
    np.testing.assert_allclose(
        loaded.decision_function(loaded.concatenated(loaded.compute_codes(stripes).codes)),
        by_hand(model, stripes),
        rtol=1e-2,
        atol=5e-2,
    )


def test_network_without_a_graph_is_trained_and_gives_the_model_of_its_twin(stripes, caplog, tmp_path):
    """A network that can be traced is the independent route: the same parameters move to the same place."""

    class Untraceable(Staged):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if x.sum() < 1e9 else -x)

    register_backbone("untraceable", Untraceable, preprocessing=UNCROPPED, overwrite=True)
    options = {**QUICK, "always": True, "freeze": "layer1"}
    whole = finetune(stripes, backbone="untraceable", **{**options, "train_from": "all"})
    assert "the network runs from the pixels on in every step, and is not computed once" in caplog.text
    cut = finetune(stripes, backbone="staged", **{**options, "train_from": "all"})
    assert (whole.share, whole.epochs) == (cut.share, cut.epochs)
    assert {name.partition(".")[0] for name in whole.model.tensors} == {"layer2", "layer3", "layer4"}
    for name, one in cut.model.tensors.items():
        np.testing.assert_allclose(whole.model.tensors[name], one, atol=2e-3)
    whole.model.save(tmp_path / "model.safetensors")
    assert predict(stripes, tmp_path / "model.safetensors") == predict(stripes, whole.model)
    expected = by_hand(whole.model, stripes)
    X = whole.model.concatenated(whole.model.compute_codes(stripes).codes)
    np.testing.assert_allclose(whole.model.decision_function(X), expected, rtol=1e-2, atol=5e-2)


def test_codes_of_the_network_before_are_refused(result, striped_codes):
    with pytest.raises(ProbeError, match="codes of the network before it was fine-tuned"):
        evaluate(striped_codes, result.model)


def test_training_images_are_never_scored_as_new_ones(result, codes_with_maps, stripes):
    by_codes, by_images = evaluate(codes_with_maps, result.model), evaluate(stripes, result.model)
    assert by_codes.only_seen
    assert "the model was fitted on: the accuracy is far too good" in " ".join(by_codes.notes)
    assert "seen_accuracy" in by_codes.to_dict()
    assert "test_accuracy" not in by_codes.to_dict()
    assert by_codes.predicted.tolist() == by_images.predicted.tolist()


def test_out_of_fold_answers_are_kept_with_the_model(result, striped_codes, tmp_path):
    result.model.save(tmp_path / "model.safetensors")
    model = ProbeModel.load(tmp_path / "model.safetensors")
    with CodesFile.open(striped_codes) as file:
        places, labels = model.answered.places(file.sha256), file.labels
    answers = np.array(model.classes)[model.answered.classes[places]]
    assert places.min() == 0
    assert np.mean(answers == labels) == model.scores.cross_validated.accuracy.value
    assert ((model.answered.confidence > 1 / 3) & (model.answered.confidence <= 1)).all()


def test_held_out_images_of_the_classes_are_not_novel_to_the_network(stripes):
    splits = ["test" if int(name[-2:]) >= 14 else "train" for name in stripes.ids]
    images = ImageSet(stripes.ids, stripes.sources, stripes.labels, splits=splits)
    model = finetune(images, backbone="staged", always=True, **QUICK).model
    assert (len(model.training_codes), len(model.familiarity)) == (42, 42)
    held_out = images.take([row for row, split in enumerate(splits) if split == "test"])
    known = np.array([one.novelty for one in model.predict_images(held_out)])
    assert np.mean(known >= 0.95) <= 0.2
    assert 0.2 < np.median(known) < 0.8


def test_tuned_head_fits_the_codes_in_their_precision(stripes, tmp_path):
    extract(stripes, tmp_path / "codes.h5", backbone="staged", layers="penultimate", precision="bf16")
    model = finetune(tmp_path / "codes.h5", always=True, **{**QUICK, "train_from": "head"}).model
    assert (model.provenance.precision, model.tensors) == ("bf16", {})
    probe = fit(tmp_path / "codes.h5", cv=3)
    np.testing.assert_array_equal(model.familiarity, probe.familiarity)  # the network is the same
    np.testing.assert_array_equal(model.training_codes, probe.training_codes)
    assert not any("fp32" in note for note in model.notes)
    by_codes, by_images = evaluate(tmp_path / "codes.h5", model), evaluate(stripes, model)
    assert by_codes.accuracies.accuracy == by_images.accuracies.accuracy


def test_part_that_is_not_there_is_found_before_the_images_are_read(stripes, monkeypatch):
    monkeypatch.setattr("cnncodes.finetuning.codes_with_maps.extract", lambda *args, **options: pytest.fail("too late"))
    with pytest.raises(BackboneError, match="no layer 'layer9'"):
        finetune(stripes, backbone="staged", train_from="layer9")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"train_from": "layer9"}, BackboneError, "no layer 'layer9'"),
        ({"freeze": "layer5"}, BackboneError, "has no part 'layer5'. Did you mean 'layer4'"),
        ({"batchnorm": True, "freeze": "*.1"}, SettingError, "no batch normalisation whose statistics could move"),
        ({"batchnorm": True, "batch_size": 1}, SettingError, "batches of at least 2"),
        ({"epochs": 0}, SettingError, "0 epochs"),
        ({"image_size": 64}, SettingError, "image_size can be set for images only"),
        ({"images": None}, CnnCodesError, "keeps no maps of layer2"),
    ],
)
def test_what_cannot_be_is_refused(options, error, message, striped_codes, stripes):
    with pytest.raises(error, match=message):
        finetune(striped_codes, **{"images": stripes, **QUICK, **options})
