"""`CNNCodes`: the codes are right, a cache computes nothing twice, and what does not fit is refused."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

import cnncodes.extraction.cache
import cnncodes.extraction.fill
from cnncodes import CNNCodes, CNNCodesClassifier, extract, load_codes
from cnncodes.errors import CodesFileError, ImagesError, MismatchError


def test_codes_are_those_of_the_codes_file(data: tuple, sample_codes: Path) -> None:
    paths, _ = data
    transformer = CNNCodes(layer=["layer3", "layer1"])
    codes = transformer.fit_transform(paths)
    np.testing.assert_array_equal(codes, load_codes(sample_codes, ["layer3", "layer1"], split="train"))
    assert transformer.n_features_out_ == 120
    assert transformer.provenance_.weights_sha256.startswith("b0353104")
    arrays = np.stack([np.array(Image.open(path)) for path in paths[:4]])
    np.testing.assert_array_equal(transformer.transform(arrays), codes[:4])
    np.testing.assert_array_equal(transformer.transform([Image.open(path) for path in paths[:4]]), codes[:4])
    np.testing.assert_array_equal(transformer.transform(np.array(paths[:4])), codes[:4])


@pytest.mark.parametrize("cached", [False, True])
def test_tokens_are_pooled_as_extract_pools_them(cached: bool, data: tuple, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    paths = [Path(path) for path in data[0][:2]]
    extract(paths, tmp_path / "codes.h5", backbone="timm:test_vit", weights="random")
    transformer = CNNCodes(
        "timm:test_vit", layer="layer4", weights="random", cache=tmp_path / "cache.h5" if cached else None
    )
    codes = transformer.fit_transform(paths)
    np.testing.assert_array_equal(codes, load_codes(tmp_path / "codes.h5", "layer4"))
    assert transformer.provenance_.pooling == "cls"
    assert transformer.get_params()["pooling"] is None
    restored = pickle.loads(pickle.dumps(transformer))
    np.testing.assert_array_equal(restored.transform(paths), codes)
    older = CNNCodes("timm:test_vit", layer="layer4", weights="random", pooling="avg").fit(paths)  # their default
    averages = pickle.loads(pickle.dumps(older)).transform(paths)
    assert np.abs(averages - codes).max() > 0.1


def test_the_order_of_images_does_not_matter(data: tuple) -> None:
    paths = data[0][:12]
    transformer = CNNCodes(layer="layer3").fit(paths)
    codes = transformer.transform(paths)
    np.testing.assert_array_equal(transformer.transform(paths[::-1])[::-1], codes)
    np.testing.assert_array_equal(np.vstack([transformer.transform([path]) for path in paths[:3]]), codes[:3])


def test_feature_names_and_pandas_output(data: tuple) -> None:
    transformer = CNNCodes(layer=["layer1", "layer2"]).set_output(transform="pandas")
    frame = transformer.fit_transform(data[0][:3])
    assert list(frame.columns) == [f"layer1_{i}" for i in range(24)] + [f"layer2_{i}" for i in range(32)]
    assert frame.columns.tolist() == transformer.get_feature_names_out().tolist()


def test_in_a_pipeline_with_cross_validation(data: tuple, tmp_path: Path) -> None:
    paths, y = data
    pipe = make_pipeline(CNNCodes(layer="layer3", cache=tmp_path / "codes.h5"), StandardScaler(), LinearSVC(C=0.01))
    assert cross_val_score(pipe, paths, y, cv=3).mean() >= 0.7


def test_a_cache_tells_apart_images_of_the_same_bytes(tmp_path: Path) -> None:
    """A palette, and an EXIF tag, are part of the picture."""
    indices = np.random.default_rng(0).integers(0, 2, (40, 40), dtype=np.uint8)
    images = [Image.fromarray(indices, "P") for _ in range(2)]
    images[0].putpalette([255, 0, 0, 0, 0, 255])
    images[1].putpalette([0, 255, 0, 255, 255, 255])
    turned = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    images += [turned, turned.copy()]
    images[3].getexif()[0x0112] = 3
    cached = CNNCodes(layer="layer1", cache=tmp_path / "codes.h5").fit_transform(images)
    np.testing.assert_array_equal(cached, CNNCodes(layer="layer1").fit_transform(images))
    assert np.abs(cached[0] - cached[1]).max() > 0.01 < np.abs(cached[2] - cached[3]).max()


def test_a_cache_made_with_other_settings_is_refused(data: tuple, tmp_path: Path) -> None:
    paths = data[0][:4]
    cache = tmp_path / "codes.h5"
    CNNCodes(layer="layer1", cache=cache, image_size=64).fit_transform(paths)
    for other in (CNNCodes(layer="layer1", cache=cache), CNNCodes(layer="layer1", cache=cache, image_size=96)):
        with pytest.raises(MismatchError, match=r"preprocessing.image_size is 64, asked"):
            other.fit_transform(paths)
    CNNCodes(layer="layer1", cache=cache, image_size=64).fit_transform(paths)
    CNNCodes(layer="layer1", cache=tmp_path / "random.h5", weights="random").fit_transform(paths)
    with pytest.raises(MismatchError, match=r"weights is 'random', asked 'IMAGENET1K_V1'"):
        CNNCodes(layer="layer1", cache=tmp_path / "random.h5").fit_transform(paths)
    with pytest.raises(CodesFileError, match="cannot be written"):
        CNNCodes(layer="layer1", cache=tmp_path / "no" / "codes.h5").fit_transform(paths)


def test_a_search_over_layers_runs_no_image_twice(data: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, y = data
    seen: list[int] = []
    run_batches = cnncodes.extraction.engine.run_batches
    monkeypatch.setattr(
        cnncodes.extraction.engine,
        "run_batches",
        lambda images, rows, *rest, **options: seen.extend(rows) or run_batches(images, rows, *rest, **options),
    )
    pipe = make_pipeline(CNNCodes(cache=tmp_path / "codes.h5"), StandardScaler(), LinearSVC(C=0.01))
    search = GridSearchCV(pipe, {"cnncodes__layer": ["layer1", "layer3", "penultimate"]}, cv=3)
    search.fit(paths, y)
    assert len(seen) == len(paths)
    assert search.best_score_ >= 0.7
    search.predict(paths)
    assert len(seen) == len(paths)


@pytest.mark.parametrize("views", ["none", "flip"])
def test_to_fit_and_to_have_the_codes_reads_each_image_once(
    views: str, data: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [0, 1, 2, 20, 21, 22]
    paths, y = [data[0][row] for row in rows], np.array(["a", "a", "a", "b", "b", "b"])
    options: dict[str, Any] = {"layer": "layer1", "image_size": 64, "views": views}
    plain = CNNCodes(**options)
    expected = plain.fit(paths).transform(paths)
    np.testing.assert_array_equal(plain.fit_transform(paths), expected)
    reads: list[int] = []
    all_digests = cnncodes.extraction.cache.all_digests
    monkeypatch.setattr(
        cnncodes.extraction.cache, "all_digests", lambda images: reads.append(len(images)) or all_digests(images)
    )
    cached = CNNCodes(**options, cache=tmp_path / "codes.h5")
    np.testing.assert_array_equal(cached.fit_transform(paths), expected)
    assert reads == [6]
    classifier = CNNCodesClassifier(**options, cache=tmp_path / "codes.h5", C=1.0, cv=2).fit(paths, y)
    assert reads == [6, 6]
    np.testing.assert_array_equal(classifier.codes_.transform(paths), expected)


def test_a_codes_file_of_the_command_line_is_a_cache(
    data: tuple, sample_codes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "codes.h5"
    shutil.copy(sample_codes, cache)
    build = cnncodes.extraction.settings.build_network
    monkeypatch.setattr("cnncodes.extraction.kept_network.build_network", lambda *_: pytest.fail("a network was built"))
    transformer = CNNCodes(layer="layer3", cache=cache)
    np.testing.assert_array_equal(transformer.fit_transform(data[0]), load_codes(cache, "layer3", split="train"))
    monkeypatch.setattr("cnncodes.extraction.kept_network.build_network", build)
    new = Image.new("RGB", (60, 50), "red")
    added = transformer.transform([new, data[0][0]])
    np.testing.assert_array_equal(added, CNNCodes(layer="layer3").fit([new]).transform([new, data[0][0]]))
    extra = CNNCodes(layer="features.5", cache=cache).fit_transform(data[0][:3])
    np.testing.assert_array_equal(extra, CNNCodes(layer="features.5").fit_transform(data[0][:3]))
    np.testing.assert_array_equal(transformer.transform(data[0]), load_codes(sample_codes, "layer3", split="train"))
    with pytest.raises(MismatchError, match="image_size"):
        CNNCodes(layer="layer3", image_size=96, cache=cache).fit(data[0])


def test_what_is_no_image_is_refused(data: tuple, tmp_path: Path) -> None:
    transformer = CNNCodes(layer="layer1").fit(data[0])
    for wrong in (np.ones((3, 4)), np.ones(3), [], ["nowhere.jpg"], [1, 2]):
        with pytest.raises(ImagesError):
            transformer.transform(wrong)
    (tmp_path / "broken.png").write_bytes(b"")
    with pytest.raises(ImagesError, match=r"broken.png.*leave this image out"):
        transformer.transform([tmp_path / "broken.png"])


@pytest.mark.parametrize("parameters", [{"pooling": "sum"}, {"image_size": 0}, {"layer": 3}, {"resize": "stretch"}])
def test_wrong_parameters_are_refused_by_fit(parameters: dict[str, Any], data: tuple) -> None:
    transformer = CNNCodes(**parameters)
    with pytest.raises(ValueError, match=next(iter(parameters))):
        transformer.fit(data[0][:2])


SMALL: dict[str, Any] = {"layer": "layer1", "image_size": 32}


def test_a_column_of_paths_may_come_in_many_ways(data: tuple) -> None:
    paths = data[0][:4]
    transformer = CNNCodes(**SMALL).fit(paths)
    expected = transformer.transform(paths)
    frame = pd.DataFrame({"path": paths, "size": range(4)}, index=list("wxyz"))
    columns = [frame["path"], frame[["path"]], frame[["path"]].to_numpy(), np.array(paths)[:, None]]
    columns += [
        [[path] for path in paths],
        frame["path"].astype("category"),
        frame[["path"]].astype("string"),
        frame["path"].map(Path).to_frame(),
    ]
    pictures = np.empty((4, 1), object)
    pictures[:, 0] = [np.array(Image.open(path)) for path in paths]
    for column in [*columns, pictures, pd.DataFrame(pictures)]:
        np.testing.assert_array_equal(transformer.transform(column), expected)
    with pytest.raises(ImagesError, match=r"table of shape \(4, 2\); give the one column of the images"):
        transformer.transform(frame)
    with pytest.raises(ImagesError, match="empty: no images were given"):
        transformer.transform(pd.DataFrame({"path": []}))


@pytest.mark.parametrize("columns", ["path", ["path"]])
def test_a_column_transformer_takes_the_paths_of_a_frame(data: tuple, columns: str | list[str]) -> None:
    paths, y = data
    frame = pd.DataFrame({"path": paths, "size": np.arange(30.0)}, index=[f"row{i}" for i in range(30)])
    both = ColumnTransformer([("codes", CNNCodes(**SMALL), columns)], remainder="passthrough")
    rows = both.set_output(transform="pandas").fit_transform(frame)
    assert rows.index.tolist() == frame.index.tolist()
    assert rows.columns.tolist() == [f"codes__layer1_{i}" for i in range(24)] + ["remainder__size"]
    assert rows.columns.tolist() == both.get_feature_names_out().tolist()
    np.testing.assert_array_equal(rows.to_numpy()[:, :24], CNNCodes(**SMALL).fit_transform(paths))
    assert make_pipeline(both, LinearSVC(C=0.01)).fit(frame, y).score(frame, y) > 0.5


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda paths: (path for path in paths), "X is a generator, which can be read only once; give a list"),
        (iter, "X is a list_iterator, which can be read only once"),
        (lambda paths: map(Path, paths), "X is a map, which can be read only once"),
        (set, "X is a set, which has no order of images"),
        (dict.fromkeys, "X is a dict, which has no order of images"),
    ],
)
def test_what_cannot_be_read_again_in_the_same_order_is_refused_before_it_is_used_up(
    data: tuple, make: Callable[[list[str]], Any], words: str
) -> None:
    paths, y = data
    fitted = CNNCodesClassifier(C=0.1, cv=2, **SMALL).fit(paths, y)
    strange = make(paths)
    for call in (
        lambda: CNNCodes(**SMALL).fit(strange),
        lambda: CNNCodes(**SMALL).fit_transform(strange),
        lambda: fitted.codes_.transform(strange),
        lambda: fitted.fit(strange, y),
        lambda: fitted.predict(strange),
        lambda: fitted.score(strange, y),
    ):
        with pytest.raises(ImagesError, match=words):
            call()
    assert len(list(strange)) == 30


def test_a_cache_with_exactly_decoded_images_is_used(small_sample: Path, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)).save(tmp_path / "photo.jpg")
    photo = [tmp_path / "photo.jpg"]
    extract(photo, tmp_path / "codes.h5", layers="layer1", image_size=32, exact_decode=True)
    exact = CNNCodes(exact_decode=True, **SMALL)
    expected = exact.fit_transform(photo)
    np.testing.assert_array_equal(
        CNNCodes(cache=tmp_path / "codes.h5", exact_decode=True, **SMALL).fit_transform(photo), expected
    )
    assert np.abs(CNNCodes(**SMALL).fit_transform(photo) - expected).max() > 1e-3
    with pytest.raises(MismatchError, match="exact"):
        CNNCodes(cache=tmp_path / "codes.h5", **SMALL).fit(photo)
    older = CNNCodes(**SMALL)
    del older.exact_decode
    assert pickle.loads(pickle.dumps(older)).exact_decode is False
