"""Whether fine-tuning pays is asked on images that were not trained on, in pairs with the probe."""

from __future__ import annotations

import numpy as np
import pytest

from cnncodes.finetuning import out_of_fold
from cnncodes.finetuning.out_of_fold import OutOfFold, answer_folds, folds_to_answer, train_on_all
from cnncodes.finetuning.state import State
from cnncodes.probes.decision_values import winner


def answers(right: dict[float, int], n: int = 200, groups: np.ndarray | None = None) -> OutOfFold:
    """So many right answers of n for each share, the first ones."""
    truth = np.arange(n) % 2
    decision = {}
    for share, count in right.items():
        sign = np.where(np.arange(n) < count, 1, -1) * (2 * truth - 1)
        decision[share] = sign[:, None].astype(float)
    return OutOfFold(np.arange(n), decision, truth, np.full(n, "") if groups is None else groups)


def test_best_share_is_that_with_most_right_answers():
    out = answers({0.0: 150, 0.5: 160, 1.0: 155})
    assert out.best_share() == 0.5
    assert answers({0.0: 160, 0.5: 150, 1.0: 155}).best_share(tuned=True) == 1.0


def test_probe_is_kept_where_it_is_better_by_more_than_the_standard_error():
    """Of 200 images it answers 1 or 5 more right, and none less: standard errors of about 0.7 and 1.2 points."""
    assert answers({0.0: 160, 0.5: 150, 1.0: 159}).best_share() == 1.0
    assert answers({0.0: 160, 0.5: 150, 1.0: 155}).best_share() == 0.0


def test_gain_has_an_interval_that_is_wider_for_groups():
    gain, low, high = answers({0.0: 150, 1.0: 170}).gain(1.0)
    assert gain == pytest.approx(0.1)
    assert 0.04 < low < 0.08
    assert 0.12 < high < 0.16
    groups = np.repeat(np.arange(20), 10).astype(str)
    _, low_of_groups, high_of_groups = answers({0.0: 150, 1.0: 170}, groups=groups).gain(1.0)
    assert low_of_groups < low
    assert high_of_groups > high


def test_it_pays_where_the_gain_is_larger_than_its_standard_error():
    """Of 200 images 8 or 20 more are right, and none less: standard errors of about 1.4 and 2.1 points."""
    assert answers({0.0: 150, 1.0: 170}).pays(1.0)
    assert answers({0.0: 150, 1.0: 158}).pays(1.0)
    assert not answers({0.0: 150, 1.0: 151}).pays(1.0)
    assert not answers({0.0: 150, 1.0: 140}).pays(1.0)
    assert not answers({0.0: 150, 1.0: 170}).pays(0.0)


def test_gain_of_the_best_of_several_is_believed_less():
    _, low, high = answers({0.0: 150, 1.0: 160}).gain(1.0)
    _, low_of_best, high_of_best = answers({0.0: 150, 0.25: 155, 0.5: 155, 0.75: 155, 1.0: 160}).gain(1.0)
    assert low_of_best < low
    assert high_of_best == pytest.approx(high)


def test_as_many_folds_are_trained_as_answer_enough_images():
    def folds(size: int, n: int):
        return [(np.arange(0), np.arange(size))] * n

    assert [folds_to_answer(folds(*one)) for one in ((100, 3), (700, 3), (1000, 5), (5000, 5))] == [3, 3, 2, 1]


def test_first_answers_are_those_of_the_probe_and_each_image_is_answered_by_who_has_not_seen_it(task):
    seen: dict[int, set[int]] = {}

    def watch(training, job):
        seen[job] = set(training.rows.tolist())

    epochs = []
    out = answer_folds(task, State(None, ""), watch, lambda what, epoch: epochs.append((what, epoch.number)))
    assert out.rows.tolist() == list(range(len(task.truth)))
    probe = task.search.predictions
    assert (task.search.classes[winner(out.decision[0.0])] == probe).all()
    for job, (train, test) in enumerate(task.search.folds):
        assert seen[job] == set(train.tolist())
        assert not seen[job] & set(test.tolist())
    assert epochs == [(f"fold {fold} of 3", number) for fold in (1, 2, 3) for number in range(4)]


def test_state_spares_what_is_done(task, tmp_path, monkeypatch):
    monkeypatch.setattr(out_of_fold.State, "is_due", lambda self: True)
    state = State(tmp_path / "state", "run")
    whole = answer_folds(task, state)
    network = train_on_all(task, 0.5, state).network
    steps: list[int] = []
    again = State.open(tmp_path / "state", "run")
    repeated = answer_folds(task, again, lambda training, job: steps.append(job))
    end = train_on_all(task, 0.5, again, lambda training, job: steps.append(job)).network
    assert steps == []
    for share, decision in whole.decision.items():
        np.testing.assert_array_equal(decision, repeated.decision[share])
    assert all((one == end.tensors()[name]).all() for name, one in network.tensors().items())
