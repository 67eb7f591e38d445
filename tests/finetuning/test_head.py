"""The probe as a module gives the decision values of the fitted probe."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cnncodes.finetuning.head import HEAD, ProbeHead, TunedNetwork
from cnncodes.probes.probe import make_probe


@pytest.mark.parametrize("scale", ["shrunk", "standard", "l2", "none"])
@pytest.mark.parametrize("clf", ["svm", "logreg"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_first_answers_are_those_of_the_probe(scale, clf, n_classes):
    rng = np.random.default_rng(0)
    y = np.arange(60) % n_classes
    X = rng.normal(size=(60, 12)) + 3 + np.eye(12)[y]
    X[:, 5] = 1 + 1e-7 * rng.normal(size=60)  # nearly dead
    X[3] = 0
    probe = make_probe(clf, C=1.0, scale=scale).fit(X, y)
    decision = torch.from_numpy(probe.decision_function(X).reshape(60, -1) / 0.3)
    with torch.no_grad():
        ours = ProbeHead(probe, scale, 0.3)(torch.from_numpy(X).float())
    torch.testing.assert_close(ours.double(), decision, rtol=1e-4, atol=1e-4)


def test_network_stays_in_eval_mode_and_takes_over_what_it_gave():
    X, y = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 2
    probe = make_probe().fit(X, y)
    top = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)).eval()
    network = TunedNetwork(top, ProbeHead(probe, "shrunk", 1.0), "avg").train()
    assert not any(module.training for module in network.modules())
    x = torch.randn(2, 3, 5, 5)
    before, tensors = network(x), network.tensors()
    assert sorted(tensors) == sorted(["0.weight", "0.bias", "1.weight", "1.bias", f"{HEAD}weight", f"{HEAD}bias"])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert not torch.allclose(network(x), before)
    network.put(tensors)
    assert torch.equal(network(x), before)


def test_batch_normalisation_that_is_trained_moves_its_statistics_if_asked():
    probe = make_probe().fit(np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 2)
    parts = [nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False)]
    top = nn.Sequential(*parts).eval()
    top[3].requires_grad_(False)
    network = TunedNetwork(top, ProbeHead(probe, "shrunk", 1.0), "avg", batchnorm=True).train()
    assert [part.training for part in top] == [False, True, False, False, False]
    start = network.tensors()
    assert {name for name in start if "running" in name} == {"1.running_mean", "1.running_var"}
    x = torch.randn(8, 3, 5, 5)
    maps = top[0](x)
    network(x)
    moved = network.tensors()
    torch.testing.assert_close(moved["1.running_mean"], 0.1 * maps.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(moved["1.running_var"], 0.9 + 0.1 * maps.var(dim=(0, 2, 3)))
    assert torch.equal(top[3].running_mean, torch.zeros(4))
    network.put(start)
    assert torch.equal(top[1].running_mean, torch.zeros(4))
    network.train(False)
    assert not top[1].training
