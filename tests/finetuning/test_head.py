"""The probe as a module gives the decision values of the fitted probe."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_network import UNCROPPED
from torch import nn

from cnncodes import CodesFile, extract, load_backbone, register_backbone
from cnncodes.extraction.from_maps import UpperPart
from cnncodes.finetuning.head import HEAD, ProbeHead, TunedNetwork
from cnncodes.networks.cut import cut_before
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


class Tokens(nn.Module):
    """Its head takes tokens, the first of which is the class token."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token, self.stem = nn.Parameter(torch.randn(1, 1, 8)), nn.Conv2d(3, 8, 8, 8)
        self.mix, self.head = nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        return self.head(torch.relu(self.mix(x + x.mean(dim=1, keepdim=True))))[:, 0]


@pytest.mark.parametrize("pooling", ["cls", "patches", "cls+patches"])
def test_codes_are_those_of_the_codes_file_where_tokens_enter_the_head(pooling, stripes, tmp_path):
    register_backbone("tokens", Tokens, preprocessing=UNCROPPED, overwrite=True)
    options = {"layers": "penultimate", "maps": "mix:input", "precision": "fp32", "dtype": "float32"}
    extract(stripes, tmp_path / "codes.h5", backbone="tokens", pooling=pooling, **options)
    cut = cut_before(load_backbone("tokens"), "mix")
    with CodesFile.open(tmp_path / "codes.h5") as file:
        codes, maps = file.codes("penultimate", np.arange(60)), file.maps("mix:input", np.arange(60))[:]
        by_maps = UpperPart(file.provenance, "mix:input", {}).codes(
            file.maps("mix:input", np.arange(60)), np.arange(60)
        )
    network = TunedNetwork(cut.top, nn.Linear(codes.shape[1], 3), pooling, prefix=cut.prefix)
    with torch.no_grad():
        np.testing.assert_allclose(network.codes(torch.from_numpy(maps).float()), codes, atol=5e-3)
    np.testing.assert_allclose(by_maps, codes, atol=5e-3)
