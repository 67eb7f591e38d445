"""Networks that are ready to run: the last one of an object is kept for it, as long as the object lives."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np

from cnncodes.extraction.settings import Settings, build_network
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.runtime.workload import Workload, choose_compiling

__all__ = ["forget_network", "ready_network"]


class _Ready:
    """The network that an owner ran last, as it is and, once that was worth it, compiled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.settings: Settings | None = None
        self.plain: FrozenNetwork | None = None
        self.compiled: FrozenNetwork | None = None
        self.batch_size = 0

    def network(
        self, settings: Settings, workload: Workload, tensors: Mapping[str, np.ndarray] | None
    ) -> FrozenNetwork:
        with self.lock:  # other threads wait for the one that builds
            plain = self._plain(settings, tensors)
            compile_it, reason = choose_compiling(plain, settings.compile, workload)
            if not compile_it:
                return plain
            if self.compiled is None:
                self.compiled = FrozenNetwork(plain.backbone, replace(plain.plan, compiled=True, reason=reason))
            return self.compiled

    def _plain(self, settings: Settings, tensors: Mapping[str, np.ndarray] | None) -> FrozenNetwork:
        """Return the network of these settings, built anew if another one was kept, or if its batches were halved."""
        if self.plain is None or self.settings != settings or self.plain.batch_size != self.batch_size:
            self.settings = self.plain = self.compiled = None  # frees the memory of the former one first
            self.plain = build_network(replace(settings, compile=False), tensors=tensors)
            self.settings, self.batch_size = settings, self.plain.batch_size
        return self.plain


_networks: WeakKeyDictionary[object, _Ready] = WeakKeyDictionary()  # a copy of an owner begins without a network
_lock = threading.Lock()


def ready_network(
    settings: Settings,
    workload: Workload | None = None,
    *,
    owner: object | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
) -> FrozenNetwork:
    """Return a network by these settings: the one that was kept for the owner, or a new one, which is kept.

    Parameters
    ----------
    settings : Settings
    workload : Workload, optional
        Images that the network is to run on, which decide whether to compile it unless the settings do.
    owner : object, optional
        Whose codes are computed: a model, an estimator, an opened file. Its network is kept until the owner is
        gone, or runs another one. Without an owner nothing is kept.
    tensors : mapping of str to ndarray, optional
        As for `build_network`; those of an owner never change.

    Returns
    -------
    FrozenNetwork
        Other threads may run it at the same time: its plan is not to be changed.
    """
    if owner is None:
        return build_network(settings, workload, tensors=tensors)
    with _lock:
        ready = _networks.setdefault(owner, _Ready())
    return ready.network(settings, workload or Workload(), tensors)


def forget_network(owner: object) -> None:
    """Let the next network of an owner be a new one, as after another file of weights took the place of the first."""
    with _lock:
        _networks.pop(owner, None)
