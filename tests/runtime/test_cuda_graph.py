"""Forward passes that are recorded once and replayed: the same codes, and another way where that fails."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import cnncodes.runtime.frozen_network
from cnncodes.extraction.settings import Settings, build_network
from cnncodes.runtime.cuda_graph import CapturedForward
from cnncodes.runtime.frozen_network import MIN_BATCHES_TO_CAPTURE, FrozenNetwork
from cnncodes.runtime.precision import reference_photos

Forward = Callable[[torch.Tensor], dict[str, torch.Tensor]]


def small_network(**settings: object) -> FrozenNetwork:
    return build_network(Settings(layers="layer2", image_size=64, precision="fp32", dtype="float32", **settings))


@pytest.fixture
def graphs_on_processors(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Forward], Forward]], None]:
    """Let networks on a CPU be captured, by a function that takes the place of the recording."""

    def use(record: Callable[[Forward], Forward]) -> None:
        monkeypatch.setattr(cnncodes.runtime.frozen_network, "can_be_captured", lambda device: True)
        monkeypatch.setattr(
            cnncodes.runtime.frozen_network, "CapturedForward", lambda forward, example: record(forward)
        )

    return use


def test_few_batches_are_not_worth_a_recording(graphs_on_processors) -> None:
    graphs_on_processors(lambda forward: pytest.fail("was captured"))
    small_network().warm_up(MIN_BATCHES_TO_CAPTURE - 1)


def test_many_batches_are_captured_once(graphs_on_processors) -> None:
    recorded: list[Forward] = []
    graphs_on_processors(lambda forward: recorded.append(forward) or (lambda batch: forward(batch)))
    network = small_network()
    plain = network._forwards[0]
    for n_batches in (0, MIN_BATCHES_TO_CAPTURE, 1000):
        network.warm_up(n_batches)
    assert recorded == [plain]
    assert network._forwards[0] is not plain
    assert network.notes == []


@pytest.mark.parametrize("change", [lambda codes: codes + 1e-3 * codes.flip(1), lambda codes: codes * np.nan])
def test_a_recording_that_gives_other_codes_is_not_used(graphs_on_processors, change) -> None:
    graphs_on_processors(lambda forward: lambda batch: {name: change(codes) for name, codes in forward(batch).items()})
    network = small_network()
    photos = reference_photos(network.backbone.preprocessing)
    expected = network(photos)["layer2"]
    network.warm_up(MIN_BATCHES_TO_CAPTURE)
    assert network.notes[0].startswith(
        "the network could not be captured as a CUDA graph, and runs as it is (its codes"
    )
    np.testing.assert_array_equal(network(photos)["layer2"], expected)


def test_what_cannot_be_captured_runs_as_it_is(graphs_on_processors) -> None:
    def fail(forward: Forward) -> Forward:
        raise RuntimeError("operation not permitted when stream is capturing\nand much more")

    graphs_on_processors(fail)
    network = small_network()
    photos = reference_photos(network.backbone.preprocessing)
    expected = network(photos)["layer2"]
    network.warm_up(MIN_BATCHES_TO_CAPTURE)
    reason = "operation not permitted when stream is capturing"
    assert network.notes == [f"the network could not be captured as a CUDA graph, and runs as it is ({reason})"]
    np.testing.assert_array_equal(network(photos)["layer2"], expected)


def test_memory_that_runs_out_drops_the_recording(graphs_on_processors) -> None:
    full = [False]

    def record(forward: Forward) -> Forward:
        def replay(batch: torch.Tensor) -> dict[str, torch.Tensor]:
            assert len(batch) == 8, "a recording is of one size"
            if full[0]:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(batch)

        return replay

    graphs_on_processors(record)
    network = small_network(batch_size=8)
    photos = reference_photos(network.backbone.preprocessing)
    expected = network(photos)["layer2"]
    network.warm_up(MIN_BATCHES_TO_CAPTURE)
    assert network.notes == []
    full[0] = True
    np.testing.assert_allclose(network(photos)["layer2"], expected, rtol=1e-4, atol=1e-5)
    assert network.batch_size == 4
    assert network._forwards is network._plain


# ------------------------------------------------------------------------------------------------------- on a GPU


@pytest.fixture(params=["fp32", "bf16"])
def on_gpu(request: pytest.FixtureRequest) -> FrozenNetwork:
    return build_network(Settings(layers=["layer2", "penultimate"], device="cuda", precision=request.param))


def batches_of(network: FrozenNetwork) -> list[torch.Tensor]:
    """Sixteen batches, all different, the last one not full."""
    size = network.backbone.preprocessing.image_size
    generator = torch.Generator().manual_seed(0)
    shape = (16 * network.batch_size - 5, 3, size, size)
    return list(torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).split(network.batch_size))


@pytest.mark.gpu
def test_captured_codes_are_the_codes_bit_for_bit(on_gpu: FrozenNetwork) -> None:
    batches = batches_of(on_gpu)
    on_gpu.warm_up()
    expected = [on_gpu(batch) for batch in batches]
    on_gpu.warm_up(MIN_BATCHES_TO_CAPTURE)
    assert on_gpu.notes == []
    assert isinstance(on_gpu._forwards[0], CapturedForward)
    with ThreadPoolExecutor(8) as pool:
        for batch in (batches, batches[::-1]):
            codes = list(pool.map(on_gpu, batch))
            for one, other in zip(codes, expected if batch is batches else expected[::-1], strict=True):
                for name in one:
                    np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.gpu
def test_captured_codes_do_not_depend_on_the_streams_of_threads(on_gpu: FrozenNetwork) -> None:
    batches = batches_of(on_gpu)
    on_gpu.warm_up(MIN_BATCHES_TO_CAPTURE)
    expected = [on_gpu(batch) for batch in batches]

    def run(batch: torch.Tensor) -> dict[str, np.ndarray]:
        with torch.cuda.stream(torch.cuda.Stream()):
            return on_gpu(batch)

    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(pool.map(run, batches), expected, strict=True):
            for name in one:
                np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.gpu
def test_a_forward_pass_that_waits_for_the_gpu_cannot_be_captured_and_does_no_harm() -> None:
    batch = torch.ones(2, 3, device="cuda")
    with pytest.raises(RuntimeError):
        CapturedForward(lambda batch: {"sum": batch * float(batch.sum().item())}, batch)
    captured = CapturedForward(lambda batch: {"twice": batch * 2}, batch)
    assert captured(3 * batch)["twice"].tolist() == [[6.0] * 3] * 2
    kept = captured(batch)["twice"]
    captured(5 * batch)
    assert kept.tolist() == [[2.0] * 3] * 2, "codes were overwritten by the next batch"


@pytest.mark.gpu
def test_a_captured_network_on_a_full_gpu_goes_on_with_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network(Settings(layers="penultimate", device="cuda", precision="fp32"))
    batch = batches_of(network)[0]
    network.warm_up(MIN_BATCHES_TO_CAPTURE)
    expected = network(batch)["penultimate"].astype(np.float32)

    def full(self: CapturedForward, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(CapturedForward, "__call__", full)
    codes = network(batch)["penultimate"].astype(np.float32)
    assert network.batch_size == 32
    assert network._forwards is network._plain
    assert np.abs(codes - expected).max() <= 1e-3 * np.abs(expected).max()
