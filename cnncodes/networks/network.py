"""A network that can be built: its builder, the weights published for it, and the choice among them."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from cnncodes.errors import BackboneError, WeightsError, nearest, parameter
from cnncodes.networks.checkpoint import fit_state, read_published, read_state
from cnncodes.networks.facts import Facts
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.networks.snapshots import lasting_path
from cnncodes.networks.weights import WeightsEntry, file_digest, locate
from cnncodes.system.places import refuse_url

__all__ = ["BUILT_IN", "RANDOM", "USER", "Network", "WeightsChoice"]

USER = "user"  # the library of networks that a user registered
BUILT_IN = "builder"  # weights that a user's own builder gives its network
RANDOM = "random"
SEED = 0  # with which random parameters are drawn


@dataclass(frozen=True)
class WeightsChoice:
    """The weights that were chosen for a network.

    Attributes
    ----------
    entry : WeightsEntry
        Gives the preprocessing, also for a file of the user's own.
    name : str
        Name of the weights, path of their file, or ``random``.
    path : Path or None
        Without a file, the parameters are those that the builder gives.
    sha256 : str
        Digest of the bytes of the file; empty without a file.
    published : bool
        Whether the licence and the classes of the entry hold for these weights.
    """

    entry: WeightsEntry
    name: str
    path: Path | None = None
    sha256: str = ""
    published: bool = False


@dataclass(frozen=True)
class Network:
    """A network that can be built, and the weights published for it.

    Attributes
    ----------
    name : str
    library : str
        ``torchvision``, ``timm`` or ``user``.
    build : callable
        ``build(entry)`` gives the module with random parameters, ``build(entry, state)`` with those of the entry's own
        file where `loads_itself`.
    weights : mapping of str to WeightsEntry
    default : str
        Name of the weights that are taken unless others are named.
    facts : Facts
    loads_itself : bool
        Whether the library itself loads its published files, which it may convert.
    """

    name: str
    library: str
    build: Callable[..., nn.Module]
    weights: Mapping[str, WeightsEntry]
    default: str
    facts: Facts
    loads_itself: bool = False

    def preprocessing(self, entry: WeightsEntry) -> Preprocessing:
        """Return the preprocessing of weights, at the size that images have unless one is asked for."""
        return entry.preprocessing.override(self.facts.default_size)

    def head(self, module: nn.Module) -> str:
        """Return the module path of the classification head.

        Raises
        ------
        BackboneError
            The network has no such module.
        """
        linear = [path for path, part in module.named_modules() if isinstance(part, nn.Linear)]
        head = self.facts.head or (linear[-1] if linear else None)
        if head is None or head not in dict(module.named_modules()):
            raise BackboneError(
                f"{self.name}: the head {head!r} is no module of the network; "
                "say which one classifies: register_backbone(..., head=PATH)"
            )
        return head

    def choose_weights(self, weights: str | os.PathLike[str] | None = None, *, located: bool = True) -> WeightsChoice:
        """Find weights by their name or file, fetching published ones that are not in the cache.

        Parameters
        ----------
        weights : str or path, optional
            A name of published weights, a file, or ``random``; by default `default`.
        located : bool, default=True
            Whether published weights are needed, and not only what is known about them: then nothing is fetched.

        Raises
        ------
        WeightsError
            There are no such weights, or their file is damaged or cannot be fetched.
        """
        name = self.default if weights is None else os.fspath(weights)
        if name in self.weights:
            entry = self.weights[name]
            if name == BUILT_IN or not located:
                return WeightsChoice(entry, name, published=True)
            return WeightsChoice(entry, name, *locate(entry), published=True)
        default = self.weights[self.default]
        if name == RANDOM:
            return WeightsChoice(default, name)
        refuse_url(name, "a file of weights", error_type=WeightsError)
        path = Path(name)
        if not path.is_file():
            raise WeightsError(
                f"{self.name} has no weights {name!r}, and there is no such file.{nearest(name, self.weights)} "
                f"There are {', '.join(self.weights)}; a file that has moved is named with "
                f"{parameter('weights', 'FILE')}"
            )
        sha256 = file_digest(path)
        for entry in self.weights.values():  # a copy of a published file counts as that file, wherever it lies
            if entry.digest_prefix and sha256.startswith(entry.digest_prefix) and not self.loads_itself:
                return WeightsChoice(entry, str(lasting_path(path)), path, sha256, published=True)
        return WeightsChoice(default, str(lasting_path(path)), path, sha256)

    def load(self, choice: WeightsChoice, *, allow_partial: bool = False) -> tuple[nn.Module, list[str], bool]:
        """Build the network and load the chosen weights into it.

        Parameters
        ----------
        choice : WeightsChoice
        allow_partial : bool, default=False
            Accept a file that lacks parameters; they stay random, and the notes say so.

        Returns
        -------
        module : Module
        notes : list of str
            Which parts of the file or of the network were left out.
        head_loaded : bool
            Whether the classification head is that of the file.

        Raises
        ------
        WeightsError
            The file cannot be read, or does not fit.
        """
        with _own_random_state():
            if choice.path is None:
                return self.build(choice.entry), [], True
            if choice.published and self.loads_itself:
                return self.build(choice.entry, read_published(choice.path)), [], True
            module = self.build(choice.entry)
            notes, head_loaded = fit_state(
                module,
                read_state(choice.path),
                head=self.head(module),
                rules=self.facts.keys,
                allow_partial=allow_partial,
                source=choice.path.name,
            )
            return module, notes, head_loaded


_building = threading.RLock()  # a builder may load another backbone


@contextlib.contextmanager
def _own_random_state() -> Iterator[None]:
    """Let random parameters be those of our seed, one network at a time; the caller's random state stays."""
    with _building, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SEED)  # torch.manual_seed would seed GPUs, too
        yield
