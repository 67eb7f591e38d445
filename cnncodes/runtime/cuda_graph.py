"""Records a forward pass on a GPU as a CUDA graph, so that a batch costs one call and not one for each kernel."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch

__all__ = ["CapturedForward", "can_be_captured"]

WARM_UP_RUNS = 3  # before it is recorded: libraries set themselves up, and choose their kernels, in the first runs


def can_be_captured(device: torch.device) -> bool:
    """Whether the device has CUDA graphs."""
    return device.type == "cuda"


class CapturedForward:
    """A forward pass for batches of one shape, on one GPU, recorded once and replayed for each batch.

    Uncaptured, Python launches each of some hundred kernels while it holds its lock, for which the threads that decode
    images wait. The kernels are the same, and so are the codes, bit for bit. Safe to call from several threads.

    Parameters
    ----------
    forward : callable
        Maps a batch to a dict of tensors. It must not wait for the GPU, nor copy from the memory of the host.
    batch : Tensor
        An example, on the GPU.

    Raises
    ------
    RuntimeError
        The forward pass does what a graph cannot hold, or the memory of the GPU does not hold its maps twice.

    References
    ----------
    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """

    def __init__(self, forward: Callable[[torch.Tensor], dict[str, torch.Tensor]], batch: torch.Tensor) -> None:
        self._device = batch.device
        self._replaying = threading.Lock()  # the buffers hold one batch
        self._graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.device(self._device):
            self._batch = batch.clone()
            current, side = torch.cuda.current_stream(), torch.cuda.Stream()
            side.wait_stream(current)
            with torch.cuda.stream(side):
                for _ in range(WARM_UP_RUNS):
                    forward(self._batch)
            current.wait_stream(side)
            # In this mode, what other threads do on the GPU in the meantime does no harm to the recording.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._codes = forward(self._batch)
            self._is_read = torch.cuda.Event()

    def __call__(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        with self._replaying, torch.inference_mode(), torch.cuda.device(self._device):
            stream = torch.cuda.current_stream()
            stream.wait_event(self._is_read)  # another thread may have a stream of its own
            self._batch.copy_(batch)
            self._graph.replay()
            codes = {name: values.clone() for name, values in self._codes.items()}
            self._is_read.record(stream)
        return codes
