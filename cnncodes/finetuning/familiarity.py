"""How familiar training images look to a fine-tuned network, and how familiar new ones of their classes will.

The kept network draws the images that it was trained on together, so they look closer to each other than new images
will to them. How close new images come is seen on the folds: the network of a fold was not trained on all of them.
"""

from __future__ import annotations

import copy

import numpy as np
import torch

from cnncodes.finetuning.head import HEAD, TunedNetwork
from cnncodes.finetuning.out_of_fold import OutOfFold, Task
from cnncodes.finetuning.training import ANSWER_BATCH, mixed
from cnncodes.networks.pooling import pool
from cnncodes.probes.novelty import class_means, closeness, rows_to_keep, to_keep

__all__ = ["learn_tuned_familiarity"]


def learn_tuned_familiarity(
    task: Task, answers: OutOfFold, network: TunedNetwork, share: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what new codes of a fine-tuned network are compared with, and how close held-out images were.

    Parameters
    ----------
    task : Task
    answers : OutOfFold
        With what training changed in the network of each fold.
    network : TunedNetwork
        The one that is kept.
    share : float
        How far its parameters are on the way from the probe.

    Returns
    -------
    kept : ndarray of float16, shape (m, n_features)
        Codes by `network`, as `cnncodes.probes.novelty.learn_familiarity` keeps them.
    means : ndarray of float64, shape (n_classes, n_features)
    reference : ndarray, shape (j,)
        Closeness of held-out images to the training images of their fold, by its network, sorted. At most m: no fold
        need hold out every image.
    """
    rows = rows_to_keep(task.truth, network.probe.weight.shape[1])
    kept = to_keep(_codes(task, network.top, rows))
    reference = []
    start = {name: one.cpu() for name, one in task.cut.top.state_dict().items()}
    for (_, test), trained in zip(task.search.folds, answers.trained, strict=False):
        end = {name: one for name, one in trained.items() if not name.startswith(HEAD)}
        top = copy.deepcopy(task.cut.top)
        top.load_state_dict(mixed(start, end, share), strict=False)
        scored = rows[rows < task.n_scored]
        codes, is_held_out = to_keep(_codes(task, top, scored)), np.isin(scored, test)
        others, truth = codes[~is_held_out], task.truth[scored][~is_held_out]
        if is_held_out.any():
            reference.append(closeness(codes[is_held_out], others, class_means(others, truth)))
    return kept, class_means(kept, task.truth[rows]), np.sort(np.concatenate(reference))


@torch.no_grad()
def _codes(task: Task, top: torch.nn.Module, rows: np.ndarray) -> np.ndarray:
    """Return the codes of images, of which views are averaged, shape (n, n_features)."""
    top = top.to(task.device).to(memory_format=torch.channels_last).eval()
    parts = []
    for piece in np.array_split(rows, max(1, -(-len(rows) * task.maps.n_views // ANSWER_BATCH))):
        codes = pool(top(task.maps.batch(piece).to(task.device)), task.pooling, task.cut.prefix).cpu().numpy()
        parts.append(codes.reshape(len(piece), task.maps.n_views, -1).mean(axis=1))
    return np.concatenate(parts)
