"""`CNNCodes`: the codes are right, a cache computes nothing twice, and what does not fit is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

import cnncodes.extraction.fill
from cnncodes import CNNCodes, load_codes
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
    run_batches = cnncodes.extraction.fill.run_batches
    monkeypatch.setattr(
        cnncodes.extraction.fill,
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
