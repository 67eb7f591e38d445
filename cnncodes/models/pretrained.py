"""A pretrained network with its own head: what it says of images before anything is learned from yours."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import torch

from cnncodes.errors import BackboneError
from cnncodes.extraction.in_memory import Computed, in_memory
from cnncodes.extraction.settings import Settings, load_named_backbone
from cnncodes.images.image_set import Images
from cnncodes.images.loading import ImageSet, load_images
from cnncodes.models.prediction import Prediction, make_predictions, require_probability
from cnncodes.networks.backbone import Backbone
from cnncodes.networks.class_names import ClassNames, class_names
from cnncodes.networks.layers import INPUT
from cnncodes.networks.network import RANDOM
from cnncodes.probes.decision_values import softmax
from cnncodes.runtime.tuning import tuned_network
from cnncodes.runtime.workload import Workload
from cnncodes.system.process import inference_settings
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import AUTO, DEFAULT_POOLING, IMAGENET

__all__ = ["PretrainedNetwork"]

logger = logging.getLogger(__name__)

TOLERANCE = 1e-3  # of the largest answer: what float32 may lose where a layer is computed apart from the network


class PretrainedNetwork:
    """A network with its weights, its own head, and the classes of that head.

    Parameters
    ----------
    backbone : str, optional
        As for `load_backbone`; by default ``mobilenet_v2``.
    weights : str or path, optional
        A name of published weights, or a file; by default those of the backbone's first choice.

    Attributes
    ----------
    backbone : Backbone
    layer : str
        The node that gives the answers, before the softmax.
    names : ClassNames
        Numbers from 0 on where nobody has named the classes.
    notes : list of str
        What a user should know of the answers.

    Raises
    ------
    BackboneError, WeightsError
        There is no such network, it has no classes, or its weights are not at hand.
    """

    def __init__(self, backbone: str | None = None, weights: str | os.PathLike[str] | None = None) -> None:
        with inference_settings():
            self.backbone = load_named_backbone(Settings(backbone, None if weights is None else os.fspath(weights)))
            self.layer, n_classes = _answering_layer(self.backbone)
        names = class_names(self.backbone)
        self.notes = list(self.backbone.notes)
        if names is None:
            names = ClassNames(tuple(map(str, range(n_classes))))
            self.notes.append(
                f"the names of the {n_classes:,} classes of {self.backbone.name} are not known: see their numbers"
            )
        if len(names.names) != n_classes:
            raise BackboneError(f"{self.backbone.name} has {n_classes} classes, and {len(names.names)} names for them")
        self.names = names
        if self.backbone.weights == RANDOM:
            self.notes.append(f"the weights of {self.backbone.name} are random, and so are its answers")
        if Path(IMAGENET).is_file():
            self.notes.append(f"{IMAGENET} means the network's own classes; a model file of that name is ./{IMAGENET}")

    def answer(
        self,
        images: ImageSet,
        *,
        device: str | None = None,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> tuple[Computed, np.ndarray]:
        """Return which images could be read, and the answers to these before the softmax, shape (n_ok, n_classes).

        Parameters
        ----------
        images : ImageSet
        device, workers, progress
            As for `cnncodes.models.predict.predict`.
        """
        with inference_settings():
            network = tuned_network(
                self.backbone,
                [self.layer],
                DEFAULT_POOLING,
                device=device or AUTO,
                precision="fp32",
                dtype="float32",
                workload=Workload(len(images), workers),
            )
        computed = in_memory(images, network, workers=workers, progress=progress)
        return computed, computed.codes[self.layer].astype(np.float64)

    def predict_images(
        self,
        images: Images,
        *,
        min_confidence: float = 0.0,
        allow_outside: bool = False,
        device: str | None = None,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> list[Prediction]:
        """Return the most probable class of each image, without a novelty.

        Parameters
        ----------
        images, min_confidence, allow_outside, device, workers, progress
            As for `cnncodes.models.predict.predict`.
        """
        require_probability(min_confidence)
        for note in self.notes:
            logger.warning("%s", note)
        image_set = load_images(images, labelled=False, allow_outside=allow_outside)
        computed, scores = self.answer(image_set, device=device, workers=workers, progress=progress)
        best = scores.argmax(axis=1)
        guesses = [self.names.names[i] for i in best.tolist()]
        probabilities = softmax(scores)[np.arange(len(best)), best]
        return make_predictions(image_set.ids, computed, guesses, probabilities, None, min_confidence)


def _answering_layer(backbone: Backbone) -> tuple[str, int]:
    """Return the layer whose output, averaged over its map, is what the whole network answers, and its length."""
    if not getattr(backbone.module, "num_classes", True):  # of timm: trained without classes
        raise BackboneError(f"{backbone.name} has no classes of its own: it was trained without any")
    node, output = [(node, output) for node, output in backbone.outputs().items() if not node.endswith(INPUT)][-1]
    side = backbone.preprocessing.image_size
    x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    answer, layer = backbone.module(x), backbone.extractor([node])(x)[node]
    layer = layer.flatten(2).mean(dim=2) if layer.ndim > 2 else layer
    same = isinstance(answer, torch.Tensor) and answer.flatten(1).shape == layer.shape
    if not same or float((answer.flatten(1) - layer).abs().max()) > TOLERANCE * float(layer.abs().max()):
        raise BackboneError(f"{backbone.name}: what it answers is no output of one layer; choose another network")
    return node, output.shape[0]
