"""Labels new images with a fitted model: what `cnncodes predict` does."""

from __future__ import annotations

import os
from collections.abc import Callable

from cnncodes.images.image_set import Images
from cnncodes.models.model import ProbeModel
from cnncodes.models.prediction import Prediction

__all__ = ["predict"]


def predict(
    images: Images,
    model: str | os.PathLike[str] | ProbeModel = "model.safetensors",
    *,
    min_confidence: float = 0.0,
    allow_outside: bool = False,
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
        A model file, or a model that is loaded already.
    min_confidence : float, default=0.0
        From 0 to 1. An image whose best class is less probable gets no label; its `guess` names that class.
    allow_outside : bool, default=False
        Let a manifest name files outside its folder.
    weights : path, optional
        Path of the weights file, if it has moved since the model was fitted; it must be the same file.
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
        `min_confidence` is not from 0 to 1.

    Examples
    --------
    >>> for one in predict("new/"):  # doctest: +SKIP
    ...     print(one.path, one.label, one.probability)
    """
    fitted = model if isinstance(model, ProbeModel) else ProbeModel.load(model)
    return fitted.predict_images(
        images,
        min_confidence=min_confidence,
        allow_outside=allow_outside,
        weights=weights,
        device=device,
        workers=workers,
        progress=progress,
    )
