"""Labels new images with a fitted model: what `cnncodes predict` does."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from cnncodes.errors import SettingError, parameter
from cnncodes.images.image_set import Images
from cnncodes.models.model import ProbeModel
from cnncodes.models.prediction import Prediction
from cnncodes.system.imports import import_torch
from cnncodes.vocabulary import IMAGENET

__all__ = ["predict", "require_no_backbone"]


def predict(
    images: Images,
    model: str | os.PathLike[str] | ProbeModel = "model.safetensors",
    *,
    min_confidence: float = 0.0,
    allow_outside: bool = False,
    backbone: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    device: str | None = None,
    workers: int | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> list[Prediction]:
    """Label images with the weights, preprocessing and layers that the model was fitted with.

    Parameters
    ----------
    images : path, sequence, ndarray or ImageSet
        Any folder, file or manifest, or what `load_images` takes; labels are not needed.
    model : path or ProbeModel, default="model.safetensors"
        A model file, or a model that is loaded already. ``"imagenet"`` is a pretrained network with its own head: it
        says which of the classes that it was trained on (ImageNet's 1,000, as a rule) each image is.
    min_confidence : float, default=0.0
        From 0 to 1. An image whose best class is less probable gets no label; its `guess` names that class.
    allow_outside : bool, default=False
        Let a manifest name files outside its folder.
    backbone : str, optional
        For ``"imagenet"`` alone: which network, as for `extract`; by default ``mobilenet_v2``.
    weights : path or str, optional
        Path of the weights file, if it has moved since the model was fitted; it must be the same file. For
        ``"imagenet"`` a file, or a name of published weights.
    device : str, optional
        ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; by default the device of the training codes.
    workers : int, optional
        Threads that decode images; by default one a core.
    progress : callable, optional
        Called with (done, total, failed), the numbers of images.

    Returns
    -------
    list of Prediction
        In the order of the images; one that cannot be read has no label, and its `reason` says why.

    Raises
    ------
    ModelFileError
        There is no such model file, or it is damaged.
    ImagesError
        There are no images.
    MismatchError
        The weights that are found here are not those that the model was fitted with.
    SettingError
        `min_confidence` is not from 0 to 1, or a backbone is given for a model that was fitted.

    Examples
    --------
    >>> for one in predict("new/"):  # doctest: +SKIP
    ...     print(one.path, one.label, one.probability)
    >>> predict("china.jpg", "imagenet")[0].label  # doctest: +SKIP
    'palace'
    """
    options: dict[str, Any] = {"allow_outside": allow_outside, "device": device, "workers": workers}
    options |= {"min_confidence": min_confidence, "progress": progress}
    if model == IMAGENET:
        import_torch()
        from cnncodes.models.pretrained import PretrainedNetwork

        return PretrainedNetwork(backbone, weights).predict_images(images, **options)
    require_no_backbone(backbone)
    fitted = model if isinstance(model, ProbeModel) else ProbeModel.load(model)
    return fitted.predict_images(images, weights=weights, **options)


def require_no_backbone(backbone: str | None) -> None:
    """Raise `SettingError` if a network is named for a model that was fitted, which has its own."""
    if backbone is not None:
        raise SettingError(
            f"a fitted model has its own network; {parameter('backbone', backbone)} belongs to "
            f"{parameter('model', IMAGENET)}"
        )
