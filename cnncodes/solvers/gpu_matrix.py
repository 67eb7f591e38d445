"""Products with the rows of a dense matrix on a GPU."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from cnncodes.errors import DeviceError, first_line, parameter
from cnncodes.solvers.matrix import Array, Matrix, Rows, Visit

__all__ = ["DeviceRows"]

BLOCK_BYTES = 512 << 20  # rows are copied to float64 on the device in blocks of this size


class DeviceRows(Rows):
    """Rows whose products torch computes on a device; everything else is that of `Rows`.

    Parameters
    ----------
    X, bias
        As for `Rows`. An array is copied to the device; of what stands in for one, a block at a time.
    device : str
        Name of the device, as torch has it.

    Raises
    ------
    DeviceError
        The device cannot be used, or its memory is too small.
    """

    def __init__(self, X: Matrix, bias: float, device: str) -> None:
        super().__init__(X, bias)
        try:
            self.device = torch.device(device)
            torch.zeros(1, dtype=torch.float64, device=self.device)
            self.resident = torch.tensor(X, device=self.device) if isinstance(X, np.ndarray) else None
        except (RuntimeError, TypeError, AssertionError) as error:
            raise DeviceError(
                f"device {device!r} cannot be used to fit ({first_line(error)}); leave {parameter('device')} out"
            ) from error

    @property
    def block_bytes(self) -> int:
        return BLOCK_BYTES

    def _rows(self, index: NDArray | slice, dtype: np.dtype) -> torch.Tensor:
        """Return rows on the device, with the constant column: (m, p)."""
        if self.resident is None:
            part = torch.tensor(self.X[index])
        else:
            part = self.resident[index if isinstance(index, slice) else self._there(index)]
        part = part.to(self.device, _torch_type(dtype))
        return torch.nn.functional.pad(part, (0, 1), value=self.bias) if self.bias else part

    def _there(self, values: NDArray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def scores(self, W: Array) -> Array:
        there, out = self._there(W), np.empty((self.n, W.shape[1]))
        for block in self.blocks(self.n):
            out[block] = (self._rows(block, W.dtype) @ there).cpu().numpy()
        return out

    def pull(self, R: Array) -> Array:
        out = torch.zeros((self.p, R.shape[1]), dtype=torch.float64, device=self.device)
        for block in self.blocks(self.n):
            out += self._rows(block, R.dtype).T @ self._there(R[block])
        return out.cpu().numpy()

    def hessian_dot(self, V: Array, weights: NDArray) -> Array:
        dtype = np.dtype(np.float32 if self.single else np.float64)
        there = self._there(V.astype(dtype))
        out = torch.zeros(V.shape, dtype=torch.float64, device=self.device)
        for block in self.blocks(self.n):
            rows = self._rows(block, dtype)
            out += rows.T @ (rows @ there * self._there(weights[block].astype(dtype)))
        return out.cpu().numpy()

    def sweep(self, W: NDArray, visit: Visit) -> Array:
        there = self._there(W)
        out = np.zeros((self.d, 1))
        for block in self.blocks(self.n):
            rows = self._rows(block, W.dtype)
            out = out + (rows.T @ self._there(visit(block, (rows @ there).cpu().numpy()))).cpu().numpy()
        return out

    def add_gram(self, gram: Array, index: NDArray, weights: Array, sign: float) -> None:
        dtype = np.dtype(np.float32 if self.single else np.float64)
        for block in self.blocks(len(index)):
            rows = self._rows(index[block], dtype)
            rows *= self._there(np.sqrt(weights[block])[:, None].astype(dtype))
            gram += sign * (rows.T @ rows).cpu().numpy()


def _torch_type(dtype: np.dtype) -> torch.dtype:
    return torch.float32 if dtype == np.float32 else torch.float64
