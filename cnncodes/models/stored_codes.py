"""The codes of the images of a codes file as a model takes them: kept there, or computed from the maps kept there."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.errors import MismatchError, ProbeError, parameter
from cnncodes.images.loading import ImageSet
from cnncodes.models.match import require_match
from cnncodes.models.model import ProbeModel
from cnncodes.system.imports import import_torch
from cnncodes.vocabulary import PIXELS

if TYPE_CHECKING:
    from cnncodes.codes.maps import Maps
    from cnncodes.extraction.from_maps import UpperPart

__all__ = ["StoredCodes", "require_same_network"]


class StoredCodes:
    """The codes of images of a codes file as a model takes them.

    The codes that a file keeps are those of the network as its weights are. Where a model has fine-tuned it, its codes
    are computed from the maps of the layer below; where the file does not keep these, from the images.

    Parameters
    ----------
    file : CodesFile
        Open for reading.
    model : ProbeModel
    images : ImageSet, optional
        The images that the file was made from.
    weights, device, workers
        As for `cnncodes.models.predict.predict`.

    Attributes
    ----------
    notes : list of str
        What the user should know about these codes.

    Raises
    ------
    MismatchError
        The file was not made as the codes of the model were.
    ProbeError
        The model takes codes that the file does not give.
    """

    def __init__(
        self,
        file: CodesFile,
        model: ProbeModel,
        images: ImageSet | None = None,
        *,
        weights: str | os.PathLike[str] | None = None,
        device: str | None = None,
        workers: int | None = None,
    ) -> None:
        self._file, self._model, self._images = file, model, images
        self._weights, self._device, self._workers = weights, device, workers
        self.notes: list[str] = []
        require_same_network(file, model)
        if not model.tensors:
            return
        if self._maps is None and images is None:
            raise ProbeError(self._no_maps())
        if self._maps is not None and (precision := file.provenance.precision) != model.provenance.precision:
            self.notes.append(
                f"the maps of {file.path} were computed in {precision}; of images, the model computes them in "
                f"{model.provenance.precision}"
            )

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Return codes, float32, shape (n, n_features) or (n, n_views, n_features).

        Parameters
        ----------
        rows : ndarray of int, shape (n,)

        Raises
        ------
        CodesFileError
            Codes or maps are damaged.
        MismatchError
            An image is not among those that were given, or is another one than the file was made from.
        """
        if not self._model.tensors:
            return self._file.codes(self._model.layers, rows)
        if self._maps is not None:
            return self._upper.codes(self._maps, rows)
        return self._from_images(rows)

    @cached_property
    def _upper(self) -> UpperPart:
        import_torch()
        from cnncodes.extraction.from_maps import UpperPart

        where: dict[str, Any] = {"weights": self._weights, "device": self._device}
        return UpperPart(self._model.provenance, self._below, self._model.tensors, **where)

    @cached_property
    def _maps(self) -> Maps | None:
        if self._below == PIXELS or not self._file.map_layers:
            return None
        return self._upper.maps_of(self._file)

    @property
    def _below(self) -> str:
        return PIXELS if self._model.tuned is None else self._model.tuned.below

    def _no_maps(self) -> str:
        keep = ""
        if self._below != PIXELS:
            keep = f", or let the file keep the maps of {self._below}: {parameter('maps', [self._below], of='extract')}"
        return (
            f"{self._file.path} has codes of the network before it was fine-tuned, which do not fit the model; "
            f"give the images instead{keep}"
        )

    def _from_images(self, rows: np.ndarray) -> np.ndarray:
        import_torch()
        from cnncodes.extraction.in_memory import images_named

        assert self._images is not None
        images = images_named(self._images, self._file.ids[rows].tolist(), self._file.path)
        computed = self._model.compute_codes(images, weights=self._weights, device=self._device, workers=self._workers)
        if computed.failures:
            row, reason = next(iter(computed.failures.items()))
            raise MismatchError(f"{images.ids[row]}: {reason}; {self._file.path} has codes of it")
        changed = (computed.sha256 != self._file.sha256[rows]).any(axis=1)
        if changed.any():
            raise MismatchError(
                f"{images.ids[int(changed.argmax())]} is another image than in {self._file.path}; extract again"
            )
        return self._model.concatenated(computed.codes)


def require_same_network(file: CodesFile, model: ProbeModel) -> None:
    """Raise `MismatchError` if a codes file was not made as the codes of a model were, before any fine-tuning."""
    is_tuned = bool(model.tensors)  # it computes its codes itself, in its own precision
    require_match(model.provenance, model.layers, file.provenance, str(file.path), other_precision=is_tuned)
