"""What is familiar to a fine-tuned network is found by networks that were not trained on it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from cnncodes import load_backbone
from cnncodes.finetuning.familiarity import learn_tuned_familiarity
from cnncodes.finetuning.head import TunedNetwork
from cnncodes.finetuning.out_of_fold import OutOfFold, Task, answer_folds, train_on_all
from cnncodes.finetuning.state import State
from cnncodes.networks.cut import cut_before
from cnncodes.probes import novelty

SHARE = 0.5


@pytest.fixture(scope="module")
def tuned(task: Task) -> tuple[OutOfFold, TunedNetwork]:
    state = State.open(None, "run")
    return answer_folds(task, state), train_on_all(task, SHARE, state).network


def unit_codes(task: Task, top: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> np.ndarray:
    """Codes of all images by a top with these parameters, divided by their length."""
    maps = torch.from_numpy(np.asarray(task.maps.values[:])).float().reshape(-1, *task.maps.map_shape)
    with torch.no_grad():
        codes = torch.func.functional_call(top, tensors, (maps,)).double().numpy()
    return codes / np.linalg.norm(codes, axis=1, keepdims=True)


def plain_closeness(new: np.ndarray, others: np.ndarray, truth: np.ndarray) -> np.ndarray:
    near = np.sort(new @ others.T, axis=1)[:, -3:].mean(axis=1)
    means = np.stack([others[truth == label].mean(axis=0) for label in range(3)])
    return 0.8 * near + 0.2 * cosine_similarity(new - means.mean(axis=0), means - means.mean(axis=0)).max(axis=1)


def test_closeness_is_that_of_held_out_images_by_the_network_of_their_fold(task, tuned):
    answers, network = tuned
    kept, means, reference = learn_tuned_familiarity(task, answers, network, SHARE)
    top = cut_before(load_backbone("staged"), "layer3").top
    final = {name: one for name, one in network.tensors().items() if not name.startswith("probe.")}
    codes = unit_codes(task, top, final)
    np.testing.assert_allclose(kept, codes, atol=2e-3)
    np.testing.assert_allclose(means, [codes[task.truth == label].mean(axis=0) for label in range(3)], atol=2e-3)
    expected, start = [], {name: one.detach() for name, one in top.named_parameters()}
    for (train, test), trained in zip(task.search.folds, answers.trained, strict=True):
        half = {name: (start[name] + trained[name]) / 2 for name in start}
        assert not any(torch.equal(half[name], final[name]) for name in start)
        codes = unit_codes(task, top, half)
        expected += plain_closeness(codes[test], codes[train], task.truth[train]).tolist()
    assert len(reference) == 60
    np.testing.assert_allclose(reference, np.sort(expected), atol=4e-3)


def test_images_that_no_fold_holds_out_are_kept_and_not_in_the_reference(task, tuned, monkeypatch):
    answers, network = tuned
    kept, _, reference = learn_tuned_familiarity(
        task, OutOfFold(**{**vars(answers), "trained": answers.trained[:1]}), network, SHARE
    )
    assert (len(kept), len(reference)) == (60, len(task.search.folds[0][1]))
    monkeypatch.setattr(novelty, "MAX_CODES", 30)
    kept, means, reference = learn_tuned_familiarity(task, answers, network, SHARE)
    assert (len(kept), len(reference), means.shape) == (30, 30, (3, 16))
