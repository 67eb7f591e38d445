"""Every public name, used as README and guide use it: type checkers must find no error, and no type must be lost.

This file is checked and never run. `assert_type` fails where the type is another one, or ``Any``.
"""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import numpy as np
from PIL import Image
from torch import nn

import cnncodes
from cnncodes import (
    CNNCodes,
    CNNCodesClassifier,
    CnnCodesError,
    CodesFile,
    DenseLinearSVC,
    DenseLogisticRegression,
    ImageSet,
    Preprocessing,
    ProbeModel,
    RayCluster,
    advise,
    audit,
    compare,
    evaluate,
    export,
    extract,
    finetune,
    fit,
    list_backbones,
    list_layers,
    load_backbone,
    load_codes,
    load_images,
    merge,
    predict,
    register_backbone,
    report,
    similar,
    verify,
)
from cnncodes.exporting.export import Exported
from cnncodes.extraction.engine import NodeRate
from cnncodes.extraction.extract import Extraction
from cnncodes.extraction.verify import Verification
from cnncodes.finetuning.finetune import Finetuning
from cnncodes.insight.advise import Advice
from cnncodes.insight.audit import Audit
from cnncodes.insight.comparison import Comparison
from cnncodes.models.evaluation import EvaluationResult
from cnncodes.models.prediction import Prediction
from cnncodes.neighbours.similar import Neighbour
from cnncodes.networks.backbone import Backbone
from cnncodes.networks.layers import LayerInfo
from cnncodes.networks.registry import BackboneInfo
from cnncodes.pages.report import Report


def show(done: int, total: int, failed: int) -> None:
    assert_type(done, int)


def from_images_to_answers() -> None:
    done = extract("photos/", "codes.h5", backbone="resnet50", layers=["layer3", "penultimate"], progress=show)
    assert_type(done, Extraction)
    assert_type(done.layers, dict[str, int])
    assert_type(extract([Path("a.png"), Path("b.png")], labels=["a", "b"], shard=(1, 2)), Extraction)
    cluster = RayCluster("auto", mixed_nodes=True)
    assert_type(cluster, RayCluster)
    assert_type(extract("photos/", cluster=cluster).nodes, list[NodeRate])
    merge(["part-1.h5", Path("part-2.h5")], "codes.h5")
    checked = verify("codes.h5", "photos/", sample=8)
    assert_type(checked, Verification)
    assert_type(checked.good, bool)

    model = fit("codes.h5", clf="svm", layers="layer3", C="auto", cv=5, progress=show)
    assert_type(model, ProbeModel)
    assert_type(fit("codes.h5", layers=["layer3", "penultimate"], C=0.01, memory_limit=2_000_000_000), ProbeModel)
    assert_type(model.classes, list[str])
    accuracy = model.scores.cross_validated.accuracy
    assert_type(accuracy.value, float)
    assert_type(accuracy.interval, list[float])
    model.save("model.safetensors")
    assert_type(ProbeModel.load(Path("model.safetensors")), ProbeModel)

    answers = predict("photos/", "model.safetensors", min_confidence=0.8)
    assert_type(answers, list[Prediction])
    assert_type(predict([np.zeros((32, 32, 3), np.uint8)], model), list[Prediction])
    assert_type(model.predict_images([Image.new("RGB", (32, 32))]), list[Prediction])
    for answer in answers:
        assert_type(answer.path, str)
        assert_type(answer.label, str | None)
        assert_type(answer.probability, float | None)
        assert_type(answer.status, str)

    tuned = finetune("codes.h5", train_from="layer4", images="photos/", epochs=4, progress=show)
    assert_type(tuned, Finetuning)
    assert_type(tuned.model, ProbeModel)
    assert_type(tuned.gain.value, float)
    assert_type(tuned.answer, str)

    result = evaluate("codes.h5", "model.safetensors")
    assert_type(result, EvaluationResult)
    assert_type(result.notes, list[str])
    assert_type(evaluate(load_images("photos/"), model, device="cpu"), EvaluationResult)


def what_is_in_a_codes_file() -> None:
    with CodesFile.open("codes.h5") as file:
        assert_type(file, CodesFile)
        assert_type(file.n, int)
        assert_type(file.layers, list[str])
        assert_type(file.counts, dict[str, int])
        assert_type(file.complete, bool)
        assert_type(file.ids, np.ndarray)
        assert_type(file.codes(["layer3", "penultimate"], file.rows("train")), np.ndarray)
        assert_type(fit(file), ProbeModel)
    assert_type(load_codes("codes.h5"), np.ndarray)
    X, y = load_codes("codes.h5", layer="layer3", return_X_y=True)
    assert_type(X, np.ndarray)
    assert_type(y, np.ndarray)
    assert_type(DenseLinearSVC(C=0.1).fit(X, y), DenseLinearSVC)
    assert_type(DenseLogisticRegression(C=0.1).fit(X, y), DenseLogisticRegression)


def export_a_model() -> None:
    exported = export("model.safetensors", Path("model.onnx"), dtype="float16", weights="own.pth", overwrite=True)
    assert_type(exported, Exported)
    assert_type(exported.parity.native_difference, float)
    assert_type(exported.n_bytes, int)


def insight() -> None:
    compared = compare(["codes.h5", "others.h5"], clfs=["svm"], layers=["layer3", "layer3+penultimate"], progress=show)
    assert_type(compared, Comparison)
    assert_type(compare("codes.h5", models="tuned.safetensors").rows[0].tuned_from, str | None)
    assert_type(compared.command, str)
    assert_type(compared.recommended.layers, list[str])
    assert_type(compared.rows[0].accuracy.value, float)
    advice = advise("codes.h5")
    assert_type(advice, Advice)
    assert_type(advice.summary, str)
    assert_type(advice.layers, list[str])
    audited = audit("codes.h5", "photos/", layers="layer3")
    assert_type(audited, Audit)
    assert_type(audited.classes, dict[str, int])
    nearest = similar("photos/a/0.png", "codes.h5", k=3, layer="layer3")
    assert_type(nearest, list[Neighbour])
    assert_type(nearest[0].similarity, float)
    page = report("codes.h5", images="photos/", advice=advice, audit=audited)
    assert_type(page, Report)
    assert_type(page.answer, str)
    page.save("report.html", overwrite=True)


def images() -> None:
    found = load_images("photos/")
    assert_type(found, ImageSet)
    assert_type(found.ids, list[str])
    assert_type(found.labels, list[str] | None)
    assert_type(found.classes, list[str])
    assert_type(load_images(np.zeros((2, 28, 28), np.uint8), labels=["shoe", "bag"]), ImageSet)
    assert_type(load_images(found.sources, labels=found.labels), ImageSet)
    assert_type(found.take([0, 1]), ImageSet)


def estimators() -> None:
    found = load_images("photos/")
    transformer = CNNCodes("mobilenet_v2", layer=["layer3", "penultimate"], cache="codes.h5", ignore_profiles=True)
    assert_type(transformer.fit(found.sources), CNNCodes)
    assert_type(transformer.transform(["a.png", Path("b.png")]), np.ndarray)
    assert_type(transformer.get_feature_names_out(), np.ndarray)
    classifier = CNNCodesClassifier(layer="layer3", C=0.1, class_weight={"rose": 2.0})
    labels = ["rose", "tulip"]
    assert_type(classifier.fit(found.sources, labels), CNNCodesClassifier)
    assert_type(classifier.fit(found, labels, sample_weight=[1.0, 2.0], groups=["a", "b"]), CNNCodesClassifier)
    CNNCodesClassifier(cv=3, random_state=np.random.RandomState(0), exact_decode=True, finetune="layer4")
    splits: list[tuple[list[int], list[int]]] = [([0, 1], [2]), ([2], [0, 1])]
    CNNCodesClassifier(cv=splits, random_state=None)
    assert_type(classifier.fit(np.zeros((2, 28, 28), np.uint8), np.arange(2)), CNNCodesClassifier)
    assert_type(classifier.predict(found), np.ndarray)
    assert_type(classifier.predict_proba(found.sources), np.ndarray)
    assert_type(classifier.score(found.sources, labels), float)


def build() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def networks() -> None:
    imagenet = Preprocessing(
        resize=256, image_size=224, interpolation="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    assert_type(imagenet.image_size, int)
    register_backbone("mine", build, preprocessing=imagenet)
    backbone = load_backbone("mine")
    assert_type(backbone, Backbone)
    assert_type(backbone.default_layers, list[str])
    assert_type(backbone.list_layers(), list[LayerInfo])
    assert_type(list_layers("resnet50")[0].name, str)
    rows = list_backbones("resnet*")
    assert_type(rows, list[BackboneInfo])
    assert_type(rows[0].name, str)


def errors() -> None:
    try:
        predict("new/")
    except CnnCodesError as error:
        assert_type(str(error), str)
    assert_type(cnncodes.__version__, str)
