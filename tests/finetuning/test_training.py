"""Training: what is frozen stays, the first answers are the probe's, and a run that is continued is the same run."""

from __future__ import annotations

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from cnncodes.finetuning.cached_maps import CachedMaps
from cnncodes.finetuning.head import BATCH_NORMS, ProbeHead, TunedNetwork
from cnncodes.finetuning.schedule import Recipe
from cnncodes.finetuning.training import Training, decide, mixed
from cnncodes.networks.cut import cut_before
from cnncodes.networks.loading import load_backbone
from cnncodes.networks.pooling import pool
from cnncodes.probes.probe import decide as decide_by_probe
from cnncodes.probes.probe import make_probe
from cnncodes.probes.search import fit_chosen

CPU = torch.device("cpu")
FAMILIES = [  # one network of each kind in the registry, cut in its last stage
    *((name, "layer4") for name in ("resnet18", "densenet121", "googlenet", "mobilenet_v2", "mobilenet_v3_small")),
    *((name, "layer4") for name in ("mnasnet0_5", "shufflenet_v2_x0_5", "efficientnet_b0", "regnet_y_400mf")),
    *((name, "layer4") for name in ("convnext_tiny", "swin_t")),
    *(("squeezenet1_1", "layer3"), ("alexnet", "features.8"), ("vit_b_16", "encoder.layers.encoder_layer_11")),
]


def rows_of(task):
    every = np.arange(len(task.truth))
    return every[every % 5 > 0], every[every % 5 == 0]


def tensors_of(module):
    return {name: one.clone() for name, one in module.state_dict().items()}


def test_first_answers_are_those_of_the_probe(task):
    trained_on, others = rows_of(task)
    network = task.network(trained_on)
    probe = fit_chosen(task.X[trained_on], task.search.classes[task.truth[trained_on]], task.search)
    expected = decide_by_probe(probe, task.X[others]) / task.temperature
    np.testing.assert_allclose(decide(network, task.maps, others, CPU), expected, rtol=1e-3, atol=2e-3)


def test_what_is_trained_moves_and_what_is_frozen_does_not(task):
    training = task.training(rows_of(task)[0])
    before = tensors_of(training.network)
    training.run()
    after = tensors_of(training.network)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name, _ in training.network.named_parameters()}
    still = before.keys() - moved
    assert {name.rpartition(".")[2] for name in still} == {
        *("running_mean", "running_var", "num_batches_tracked"),
        *("mean", "deviation"),
    }
    assert {name.partition(".")[2].partition(".")[0] for name in moved if name.startswith("top.")} == {
        "layer3",
        "layer4",
    }
    assert task.cut.top.state_dict().keys() == {name.removeprefix("top.") for name in before if name.startswith("top.")}
    assert all(torch.equal(one, before[f"top.{name}"]) for name, one in task.cut.top.state_dict().items())


def test_training_learns(task):
    training = task.training(np.arange(len(task.truth)))
    training.run()
    losses = [epoch.loss for epoch in training.curve[1:]]
    assert losses[-1] < losses[0]
    assert len(training.curve) == 4
    assert [epoch.number for epoch in training.curve] == [0, 1, 2, 3]


@pytest.mark.parametrize(("killed_at", "batchnorm"), [*((at, False) for at in range(0, 19, 2)), (7, True)])
def test_run_that_is_continued_is_the_same_run(task, killed_at, batchnorm):
    task = dataclasses.replace(task, recipe=dataclasses.replace(task.recipe, batchnorm=batchnorm))
    whole = task.training(rows_of(task)[0])
    whole.run()

    class KilledError(Exception):
        pass

    kept = []

    def kill(training: Training) -> None:
        if training.step == killed_at:
            values, tensors = training.state()
            kept.append((json.loads(json.dumps(values)), copy.deepcopy(tensors)))
            raise KilledError

    killed = task.training(rows_of(task)[0])
    with pytest.raises(KilledError):
        killed.run(kill)
    continued = task.training(rows_of(task)[0])
    continued.restore(*kept[0])
    steps = []
    continued.run(lambda training: steps.append(training.step))
    assert steps[0] == killed_at
    assert repr(continued.curve) == repr(whole.curve)
    for name, one in whole.network.tensors().items():
        assert torch.equal(one, continued.network.tensors()[name]), name
        assert torch.equal(whole.complete[name], continued.complete[name]), name


def test_parameters_are_mixed(task):
    one, other = {"a": torch.zeros(3)}, {"a": torch.full((3,), 4.0)}
    assert mixed(one, other, 0.25)["a"].tolist() == [1, 1, 1]
    network = task.network(rows_of(task)[0])
    start = network.tensors()
    end = {name: tensor + 0.1 for name, tensor in start.items()}
    rows = np.arange(7)
    by_call = decide(network, task.maps, rows, CPU, mixed(start, end, 0.5))
    assert torch.equal(network.tensors()["layer4.0.weight"], start["layer4.0.weight"])
    network.put(mixed(start, end, 0.5))
    np.testing.assert_array_equal(by_call, decide(network, task.maps, rows, CPU))


def test_rate_is_smaller_at_the_bottom(task):
    training = task.training(rows_of(task)[0])
    training.run(lambda training: None)
    by_name = dict(zip(dict(training.network.named_parameters()), training.optimizer.param_groups, strict=True))
    assert by_name["probe.weight"]["share"] == 1
    assert 0.1 < by_name["top.layer3.0.weight"]["share"] < by_name["top.layer4.0.weight"]["share"] < 1


def test_loss_of_two_classes_is_the_logistic_one(task):
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.top, self.probe = nn.Linear(1, 1), None

        def trained(self) -> dict[str, nn.Parameter]:
            return dict(self.named_parameters())

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return self.top(maps)

    class Maps:
        n_views = 1

        def batch(self, rows: np.ndarray, views: np.ndarray) -> torch.Tensor:
            return torch.tensor([[1.0], [2.0]])

    network = Half()
    rows = np.arange(2)
    training = Training(network, Maps(), np.array([0, 1]), rows, task.recipe, {})  # type: ignore[arg-type]
    decision = network(Maps().batch(rows, rows)).detach().double().numpy()[:, 0]
    expected = np.mean([np.log1p(np.exp(decision[0])), np.log1p(np.exp(-decision[1]))])
    assert training._train(rows, rows) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "first"),
    [("staged", "layer3"), *(pytest.param(*one, marks=pytest.mark.slow) for one in FAMILIES)],
)
def test_frozen_is_frozen_in_all_families(name, first):
    """Bit for bit: parameters, statistics and dropout below the cut, and every second module above it."""
    with pytest.MonkeyPatch.context() as patch:  # initialising millions of parameters is not what is tested
        patch.setattr(nn.init, "trunc_normal_", lambda tensor, *args, **kwargs: tensor.data.normal_(0, 0.02))
        patch.setattr("cnncodes.networks.loading.digest_of", lambda state: "")
        backbone = load_backbone(name, "random")
    before = tensors_of(backbone.module)
    every = cut_before(backbone, first)
    modules = sorted({one.rpartition(".")[0] for one in every.depths})
    cut = cut_before(backbone, first, freeze=modules[::2], kept=[every.below])
    assert (cut.below, 0 < len(cut.depths) < len(every.depths)) == (every.below, True)
    maps = np.random.default_rng(0).normal(size=(6, *cut.map_shape)).astype(np.float32)
    truth = np.arange(6) % 2
    with torch.no_grad():
        X = pool(cut.top(torch.from_numpy(maps)), "avg").double().numpy()
    network = TunedNetwork(copy.deepcopy(cut.top), ProbeHead(make_probe().fit(X, truth), "shrunk", 1.0), "avg", True)
    start = tensors_of(network.top)
    recipe = Recipe(epochs=2, batch_size=6, lr=1e-2, batchnorm=True)
    rows = np.arange(6)
    Training(network, CachedMaps(maps, cut.map_shape), truth, rows, recipe, cut.depths).run()
    end = network.top.state_dict()
    moved = {one for one in start if not torch.equal(start[one], end[one])}
    statistics = {f"{path}.{one}" for path in network.moving for one in ("running_mean", "running_var")}
    assert moved <= cut.depths.keys() | statistics
    assert statistics <= moved
    assert len(moved - statistics) > len(cut.depths) / 2
    assert not any(part.training for part in network.modules() if not isinstance(part, BATCH_NORMS))
    assert all(torch.equal(one, before[path]) for path, one in backbone.module.state_dict().items())
    assert not any(part.training for part in backbone.module.modules())
