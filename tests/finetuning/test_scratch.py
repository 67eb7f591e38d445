"""Training from random weights: what it starts from, what it learns, and that it is a fair comparison."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from tiny_network import UNCROPPED, Staged

from cnncodes import load_backbone, register_backbone
from cnncodes.extraction.settings import Settings
from cnncodes.finetuning.out_of_fold import Task
from cnncodes.finetuning.scratch import ScratchTraining, scratch_training
from cnncodes.finetuning.training import decide

SETTINGS = Settings(backbone="staged", image_size=32)


def training_of(task: Task) -> ScratchTraining:
    return scratch_training(task, SETTINGS, np.arange(60))


def test_weights_are_random_and_those_of_the_seed(whole_task: Task) -> None:
    def trained_network() -> Staged:
        network = Staged()
        torch.nn.init.constant_(network.layer1[0].weight, 1.0)
        return network

    before = torch.random.get_rng_state()
    register_backbone("staged", trained_network, preprocessing=UNCROPPED, overwrite=True)
    try:
        recipes = [replace(whole_task.recipe, seed=seed) for seed in (0, 0, 1)]
        trainings = [training_of(replace(whole_task, recipe=recipe)) for recipe in recipes]
        first, again, other = (training.network.tensors() for training in trainings)
    finally:
        register_backbone("staged", Staged, preprocessing=UNCROPPED, overwrite=True)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layer1.0.weight"], other["layer1.0.weight"])
    assert first["layer1.0.weight"].std() > 0.01
    assert first["probe.weight"].shape == (3, 16)


def test_it_learns_with_ten_times_the_rate_in_train_mode(whole_task: Task) -> None:
    training = training_of(whole_task)
    assert training.recipe.epochs == 12
    assert {group["share"] * training.recipe.lr for group in training.optimizer.param_groups} == {3e-2}
    modes = []
    training.network.top.get_submodule("layer1.1").register_forward_hook(
        lambda module, *_: modes.append(module.training)
    )
    start = training.network.tensors()
    training.run()
    assert modes == [True] * 96
    assert training.curve[-1].loss < 0.7 * training.curve[1].loss
    assert all(not torch.equal(start[name], one) for name, one in training.network.tensors().items())
    frozen = load_backbone("staged").module
    assert all(not parameter.requires_grad for parameter in frozen.parameters())


def test_it_answers_with_the_statistics_of_its_training_images(whole_task: Task) -> None:
    training = training_of(whole_task)
    training.run()
    training.measure_statistics()
    norm = training.network.top.get_submodule("layer1.1")
    seen = []
    norm.register_forward_hook(lambda module, args, _: seen.append(args[0]))
    decide(training.network, whole_task.maps, np.arange(60), whole_task.device)
    values = torch.cat(seen)
    np.testing.assert_allclose(norm.running_mean, values.mean(dim=(0, 2, 3)), atol=5e-3)  # batches have 7 or 8 images
    np.testing.assert_allclose(norm.running_var, values.var(dim=(0, 2, 3)), rtol=0.2)
    assert not any(module.training for module in training.network.modules())


def test_no_batch_has_a_single_image(whole_task: Task) -> None:
    training = scratch_training(
        replace(whole_task, recipe=replace(whole_task.recipe, batch_size=1)), SETTINGS, np.arange(5)
    )
    sizes = []
    training.network.register_forward_hook(lambda module, args, _: sizes.append(len(args[0])))
    training.run()
    assert sorted(set(sizes)) == [2, 3]
