"""The state of a run of fine-tuning, from which the same command goes on after a kill, with the same result."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cnncodes.system.files import refuse_foreign, replacing

__all__ = ["STATE", "State", "is_state"]

logger = logging.getLogger(__name__)

FORMAT = "cnncodes-finetuning"
STATE = "a state of fine-tuning"
MIN_SECONDS = 10.0  # between two writes
TIME_SHARE = 20  # a write may take one in so many seconds


@dataclass
class State:
    """What is known of a run: what the jobs that are done came to, and how far the one after them is.

    Parameters
    ----------
    path : Path or None
        Without a file nothing is kept.
    run : str
        Digest of all that decides the run; the state of another one is not taken up.

    Attributes
    ----------
    n_done : int
        Number of jobs that are done.
    arrays : dict of str to Tensor
        Tensors of the jobs that are done.
    job : (dict, dict) or None
        What `cnncodes.finetuning.training.Training.state` gave for the next job.
    """

    path: Path | None
    run: str
    n_done: int = 0
    arrays: dict[str, torch.Tensor] = field(default_factory=dict)
    job: tuple[dict[str, Any], dict[str, torch.Tensor]] | None = None
    written: float = field(default_factory=time.monotonic)
    pause: float = MIN_SECONDS

    @classmethod
    def open(cls, path: Path | None, run: str) -> State:
        """Take up the state of the same run, or begin one.

        Raises
        ------
        CnnCodesError
            A file is there that is no state, or it cannot be written.
        """
        state = cls(path, run)
        if path is None:
            return state
        refuse_foreign(path, STATE, is_state)
        if not path.is_file() or not path.stat().st_size:
            return state
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})[FORMAT])
                if header["run"] != run:
                    logger.warning("%s is of another run, and is begun anew", path)
                    return state
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            state.n_done, job = header["n_done"], header["job"]
            state.arrays = {name[5:]: one for name, one in tensors.items() if name.startswith("done/")}
            state.job = job and (job, {name[4:]: one for name, one in tensors.items() if name.startswith("job/")})
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s is damaged, and is begun anew (%s)", path, type(error).__name__)
            return cls(path, run)
        return state

    def finish_job(self, arrays: dict[str, torch.Tensor]) -> None:
        """Keep what a job came to."""
        self.arrays |= {f"{self.n_done}/{name}": one for name, one in arrays.items()}
        self.n_done += 1
        self.job = None
        self.write()

    def arrays_of(self, prefix: str) -> dict[str, torch.Tensor]:
        """Return the tensors of jobs that are done whose names begin with a prefix, without it."""
        return {name.removeprefix(prefix): one for name, one in self.arrays.items() if name.startswith(prefix)}

    def is_due(self) -> bool:
        """Whether it is time to write."""
        return self.path is not None and time.monotonic() - self.written >= self.pause

    def write(self) -> None:
        """Write the state as a whole."""
        if self.path is None:
            return
        started = time.monotonic()
        values, tensors = self.job or (None, {})
        header = {"run": self.run, "n_done": self.n_done, "job": values}
        parts = {f"done/{name}": one for name, one in self.arrays.items()}
        parts |= {f"job/{name}": one for name, one in tensors.items()}
        plain = {name: one.detach().cpu().contiguous().clone() for name, one in parts.items()}
        with replacing(self.path) as partial:
            save_file(plain, partial, metadata={FORMAT: json.dumps(header)})
        self.written = time.monotonic()
        self.pause = max(MIN_SECONDS, TIME_SHARE * (self.written - started))


def is_state(path: Path) -> bool:
    """Whether a file says that it is a state of fine-tuning."""
    try:
        with safe_open(path, framework="pt") as file:
            return FORMAT in (file.metadata() or {})
    except SafetensorError:
        return False
