"""`CNNCodesClassifier(finetune=…)`: what is kept, what it answers, and what is refused."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold
from tiny_network import UNCROPPED, Staged

from cnncodes import (
    CNNCodesClassifier,
    ImageSet,
    ProbeModel,
    extract,
    finetune,
    load_backbone,
    register_backbone,
)
from cnncodes.errors import BackboneError, SettingError
from cnncodes.extraction.sources import read_source
from cnncodes.finetuning.out_of_fold import OutOfFold
from cnncodes.finetuning.schedule import Recipe

FIRST, EPOCHS = "layer3", 2


@pytest.fixture(scope="module", autouse=True)
def staged() -> None:
    register_backbone("staged", Staged, preprocessing=UNCROPPED, overwrite=True)


@pytest.fixture(autouse=True)
def few_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnncodes.finetuning.schedule.Recipe", partial(Recipe, epochs=EPOCHS))


@pytest.fixture(scope="module")
def stripes() -> tuple[np.ndarray, np.ndarray]:
    """Stripes of three directions in noise, and their numbers: as text, 10 stands before 2."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    waves, labels = {2: y, 10: x, -1: x + y}, np.array([2, 10, -1] * 10)
    images = [
        128 + 40 * np.sin(waves[label] * 0.8 + rng.uniform(0, 6))[..., None] + rng.normal(0, 35, (32, 32, 3))
        for label in labels.tolist()
    ]
    return np.array(images).clip(0, 255).astype(np.uint8), labels


@pytest.fixture
def it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OutOfFold, "pays", lambda self, share: True)
    best_share = OutOfFold.best_share
    monkeypatch.setattr(OutOfFold, "best_share", lambda self, tuned=False: best_share(self, tuned=True))


def classifier(**settings: object) -> CNNCodesClassifier:
    return CNNCodesClassifier("staged", **{"cv": 3, "finetune": FIRST, **settings})  # type: ignore[arg-type]


def by_hand(model: ProbeModel, images: np.ndarray) -> np.ndarray:
    """Decision values by plain torch: the network with the tensors of the model, and the head on it."""
    network, codes = load_backbone("staged").module, []
    state = {**network.state_dict(), **{name: torch.from_numpy(one) for name, one in model.tensors.items()}}
    network.fc.register_forward_pre_hook(lambda module, args: codes.append(args[0]))
    with torch.no_grad():
        pixels = UNCROPPED.normalise(torch.from_numpy(images).permute(0, 3, 1, 2))
        torch.func.functional_call(network, state, (pixels,))
    X = codes[0].double().numpy()
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    return (X - model.mean) / model.deviation @ model.coef.T + model.intercept


@pytest.mark.usefixtures("it_pays")
def test_tuned_network_answers_as_plain_torch_does(stripes: tuple, tmp_path: Path) -> None:
    images, y = stripes
    fitted = classifier().fit(images, y)
    assert fitted.classes_.tolist() == [-1, 2, 10]
    assert fitted.finetuning_.model.classes == ["-1", "10", "2"]
    expected = by_hand(fitted.finetuning_.model, images)[:, [0, 2, 1]]
    np.testing.assert_allclose(fitted.decision_function(images), expected, rtol=1e-3, atol=1e-3)
    assert {name.partition(".")[0] for name in fitted.finetuning_.model.tensors} == {"layer3", "layer4"}
    np.testing.assert_array_equal(fitted.predict(images), fitted.classes_[expected.argmax(axis=1)])
    assert fitted.score(images, y) == np.mean(fitted.predict(images) == y)
    chances = np.exp(expected / fitted.temperature_)
    np.testing.assert_allclose(
        fitted.predict_proba(images), chances / chances.sum(axis=1, keepdims=True), rtol=1e-2, atol=1e-4
    )
    assert fitted.cv_accuracy_ == pytest.approx(fitted.finetuning_.probe_accuracy + fitted.finetuning_.gain.value)
    fitted.finetuning_.model.save(tmp_path / "model.safetensors")
    model = ProbeModel.load(tmp_path / "model.safetensors")
    assert [int(one.label) for one in model.predict_images(images)] == fitted.predict(images).tolist()
    assert model.answered is not None
    image_set = ImageSet([str(i) for i in range(len(images))], list(images))
    places = model.answered.places(np.stack([read_source(image_set, row)[1] for row in range(len(images))]))
    answers = np.array(model.classes)[model.answered.classes[places]].astype(int)
    assert np.mean(answers == y) == pytest.approx(fitted.cv_accuracy_)


@pytest.mark.slow
@pytest.mark.usefixtures("it_pays")
def test_two_classes_keep_their_order_whatever_their_names(stripes: tuple, tmp_path: Path) -> None:
    images, y = stripes
    images, y = images[y > 0], y[y > 0]
    fitted = classifier().fit(images, y)
    assert fitted.classes_.tolist() == [2, 10]
    decision = fitted.decision_function(images)
    assert decision.shape == (20,)
    np.testing.assert_array_equal(fitted.predict(images), np.where(decision > 0, 10, 2))
    fitted.finetuning_.model.save(tmp_path / "model.safetensors")
    predictions = ProbeModel.load(tmp_path / "model.safetensors").predict_images(images)
    assert [int(one.label) for one in predictions] == fitted.predict(images).tolist()


@pytest.mark.slow
@pytest.mark.usefixtures("it_pays")
def test_it_comes_to_what_the_command_comes_to(stripes: tuple, tmp_path: Path) -> None:
    images, y = stripes
    names = np.array([f"class {label:3}" for label in y])
    image_set = ImageSet([f"{i:02}" for i in range(30)], list(images), labels=names.tolist())
    extract(image_set, tmp_path / "codes.h5", backbone="staged", precision="fp32")
    expected = finetune(tmp_path / "codes.h5", images=image_set, train_from=FIRST, epochs=EPOCHS, guard=False)
    fitted = classifier(precision="fp32").fit(images, names)
    result = fitted.finetuning_
    assert (result.share, result.epochs, result.gain) == (expected.share, expected.epochs, expected.gain)
    for name, one in expected.model.tensors.items():
        np.testing.assert_allclose(result.model.tensors[name], one, atol=1e-4)
    assert result.model.trained_on == expected.model.trained_on
    assert result.model.scores.cross_validated == expected.model.scores.cross_validated


def test_probe_is_kept_where_it_does_not_pay(stripes: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    images, y = stripes
    monkeypatch.setattr(OutOfFold, "pays", lambda self, share: False)
    monkeypatch.setattr(OutOfFold, "best_share", lambda self, tuned=False: float(tuned))
    fitted, probe = classifier().fit(images, y), classifier(finetune=None).fit(images, y)
    assert fitted.finetuning_.answer.endswith("the probe is kept")
    assert probe.finetuning_ is None
    np.testing.assert_array_equal(fitted.decision_function(images), probe.decision_function(images))
    assert (fitted.cv_accuracy_, fitted.temperature_) == (probe.cv_accuracy_, probe.temperature_)


@pytest.mark.slow
@pytest.mark.usefixtures("it_pays")
def test_contract_of_scikit_learn(stripes: tuple) -> None:
    images, y = stripes
    unfitted = classifier()
    copy = clone(unfitted)
    assert copy.get_params() == unfitted.get_params()
    assert copy.finetune == FIRST
    before = unfitted.get_params()
    fitted = unfitted.fit(images, y)
    assert fitted.get_params() == before
    assert all(name.endswith("_") or name.startswith("_") for name in vars(fitted).keys() - before.keys())
    decision, content = fitted.decision_function(images), pickle.dumps(fitted)
    assert pickle.dumps(fitted) == content
    np.testing.assert_array_equal(pickle.loads(content).decision_function(images), decision)
    np.testing.assert_allclose(fitted.decision_function(images[::-1])[::-1], decision, atol=1e-4)
    np.testing.assert_array_equal(clone(fitted).fit(images, y).decision_function(images), decision)
    assert fitted.set_params(finetune=None).fit(images, y).finetuning_ is None
    vars(fitted).pop("finetune")
    vars(fitted).pop("finetuning_")
    older = pickle.loads(pickle.dumps(fitted))
    assert (older.get_params()["finetune"], older.finetuning_) == (None, None)
    older.predict(images[:1])


@pytest.mark.slow
@pytest.mark.usefixtures("it_pays")
@pytest.mark.parametrize("settings", [{"views": "flip"}, {"finetune": "head"}, {"finetune": "all", "clf": "logreg"}])
def test_cache_holds_codes_and_changes_no_answer(stripes: tuple, tmp_path: Path, settings: dict) -> None:
    images, y = stripes
    plain = classifier(**settings, precision="fp32").fit(images, y)
    cached = classifier(**settings, precision="fp32", cache=tmp_path / "codes.h5").fit(images, y)
    np.testing.assert_allclose(cached.decision_function(images), plain.decision_function(images), atol=2e-2)


@pytest.mark.slow
def test_groups_and_splitters_stay_as_they_are(stripes: tuple) -> None:
    images, y = stripes
    groups = np.repeat(np.arange(10), 3)
    fitted = classifier(cv=GroupKFold(2)).fit(images, y, groups=groups)
    assert fitted.finetuning_.n_answers == 30
    probe = classifier(cv=GroupKFold(2), finetune=None).fit(images, y, groups=groups)
    assert fitted.finetuning_.probe_accuracy == probe.cv_accuracy_
    search = GridSearchCV(classifier(cv=2), {"finetune": [None, "head"]}, cv=StratifiedKFold(2)).fit(images, y)
    assert search.best_params_["finetune"] in (None, "head")
    assert classifier(cv=2, random_state=np.random.RandomState(0)).fit(images, y).finetuning_ is not None


def test_what_cannot_be_tuned_is_refused_before_the_work(stripes: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    images, y = stripes
    monkeypatch.setattr("cnncodes.estimators.classifier.CNNCodes.fit", lambda *args, **options: pytest.fail("too late"))
    with pytest.raises(SettingError, match="finetune starts from the probe on 'penultimate', and layer is 'layer3'"):
        classifier(layer="layer3").fit(images, y)
    with pytest.raises(SettingError, match="class_weight must be None"):
        classifier(class_weight="balanced").fit(images, y)
    with pytest.raises(SettingError, match="sample_weight must be None"):
        classifier().fit(images, y, np.ones(30))
    with pytest.raises(BackboneError, match="no layer"):
        classifier(finetune="layer9").fit(images, y)
