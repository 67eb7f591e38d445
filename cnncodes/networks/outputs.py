"""What a node of a network gives for one image: a map, a sequence of tokens, or a vector."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Output", "Prefix"]


@dataclass(frozen=True)
class Prefix:
    """The tokens of a sequence that stand before those of the patches.

    Attributes
    ----------
    n_tokens : int
    has_class : bool
        Whether the first of them is a class token.
    """

    n_tokens: int = 0
    has_class: bool = False


@dataclass(frozen=True)
class Output:
    """What one node gives for one image: its shape in (C, H, W) order, and whether the network has (H, W, C).

    `prefix` are the tokens before the patches in a sequence (tokens, D); None if that is no grid of patches.
    """

    shape: tuple[int, ...]
    channels_last: bool
    stride: int | None
    prefix: Prefix | None = None

    @property
    def width(self) -> int:
        """How many numbers there are at each place of a map, or in each token; length of a vector."""
        return self.shape[-1] if len(self.shape) == 2 else self.shape[0]

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the patches in a sequence of tokens; None for anything else."""
        if len(self.shape) != 2 or self.prefix is None:
            return None
        side = math.isqrt(self.shape[0] - self.prefix.n_tokens)
        return side, side
