"""Trains a network from random weights: what a pretrained one is compared with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnncodes.extraction.settings import Settings, load_named_backbone
from cnncodes.finetuning.head import TunedNetwork
from cnncodes.finetuning.out_of_fold import Task
from cnncodes.finetuning.schedule import epoch_order
from cnncodes.finetuning.training import Training
from cnncodes.networks.backbone import Backbone
from cnncodes.networks.cut import cut_before
from cnncodes.networks.network import RANDOM, USER
from cnncodes.vocabulary import TRAIN_ALL

__all__ = ["ScratchNetwork", "ScratchTraining", "scratch_training"]

RATE, EPOCHS = 10, 4  # times those of fine-tuning: random weights have nothing to lose, and all to learn
STATISTICS_BATCHES = 16  # of training images, which the statistics of batch normalisation are the mean of


class ScratchNetwork(TunedNetwork):
    """A whole network with a new head, which learns statistics of batch normalisation, too, and drops out."""

    def train(self, mode: bool = True) -> ScratchNetwork:
        """Switch all modules between training and answering; the graph of a frozen network would stay as it is."""
        for module in self.modules():
            module.training = mode
        return self


class ScratchTraining(Training):
    """Training of a `ScratchNetwork`: it is in train mode for each step, and answers in eval mode."""

    @torch.no_grad()
    def measure_statistics(self) -> None:
        """Measure the statistics of batch normalisation anew, by which the network answers.

        Running means would be those of parameters that are long gone: they take hundreds of steps to catch up (Wu,
        Johnson 2021, Rethinking "Batch" in BatchNorm).
        """
        layers = [module for module in self.network.modules() if isinstance(module, _BatchNorm)]
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum, layer.training = None, True  # the plain mean over the batches
        batches, views = epoch_order(len(self.rows), self.maps.n_views, 0, self.recipe)
        for rows, of_rows in list(zip(batches, views, strict=True))[:STATISTICS_BATCHES]:
            self.network(self.maps.batch(self.rows[rows], of_rows).to(self.device))
        for layer in layers:
            layer.training = False

    def _train(self, rows: np.ndarray, views: np.ndarray) -> float:
        self.network.train()
        loss = super()._train(rows, views)
        self.network.train(False)
        return loss


def scratch_training(task: Task, settings: Settings, rows: np.ndarray) -> ScratchTraining:
    """Return a training of the whole network from random weights on.

    All parameters have the same rate, ten times that of fine-tuning, and each image is seen four times as often.

    Parameters
    ----------
    task : Task
        The task of the whole network, with the pixels of the images.
    settings : Settings
        Those of the codes, which name the network.
    rows : ndarray of int
        Images that are trained on.
    """
    seed, recipe = task.recipe.seed, task.recipe
    backbone = load_named_backbone(replace(settings, weights=RANDOM, allow_partial=None))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if backbone.library == USER:
            _initialise(backbone)
        cut = cut_before(backbone, TRAIN_ALL)
        n_features, n_outputs = task.X.shape[-1], task.search.decision.shape[1]
        network = ScratchNetwork(cut.top, nn.Linear(n_features, n_outputs), task.pooling, prefix=cut.prefix)
    recipe = replace(
        recipe,
        lr=min(RATE * recipe.lr, 0.5),
        epochs=EPOCHS * recipe.epochs,
        batch_size=max(2, recipe.batch_size),
        batchnorm=True,
    )
    depths = dict.fromkeys(cut.depths, 1.0)
    return ScratchTraining(network, task.maps, task.truth, rows, recipe, depths, device=task.device)


def _initialise(backbone: Backbone) -> None:
    """Draw the parameters anew: the builder of a user's own network may give it trained ones."""
    for module in backbone.module.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
