"""Chooses how a frozen network is run on this device: layers, batch size, precision, fusion, and whether to compile.

Each choice is tried on photographs and compared with float32, so that a faster network never gives other codes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.errors import SettingError, nearest
from cnncodes.networks.pooling import POOLINGS
from cnncodes.runtime.devices import devices_of, resolve_device
from cnncodes.runtime.first_pass import FirstPass, measure_backbone
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.runtime.maps import add_maps
from cnncodes.runtime.plan import Plan
from cnncodes.runtime.precision import (
    LEADING,
    MIN_COSINE,
    PRECISIONS,
    fits_float16,
    has_fast_bf16,
    largest_difference,
    lowest_cosine,
)
from cnncodes.runtime.workload import Workload, choose_compiling
from cnncodes.vocabulary import AUTO, CODE_TYPES, PENULTIMATE

if TYPE_CHECKING:
    from cnncodes.networks.backbone import Backbone

__all__ = ["choose_plan", "tuned_network"]

logger = logging.getLogger(__name__)

DECISIVE = (PENULTIMATE,)  # the layer whose codes decide on the precision, whichever layers are wanted
BATCH_SIZES = {"cpu": 8, "cuda": 64, "mps": 32}  # on a CPU a batch whose maps stay in the cache is the fastest
# Bytes. In a worker thread, glibc takes new memory from the system for each map that is larger, all of it zeroed first.
LARGEST_MAP = 32 << 20
# By how much fused codes may differ, relative to the largest: in float32 they are only summed in another order.
FUSED_TOLERANCE = {"fp32": 1e-3, "bf16": 0.25}


def tuned_network(
    backbone: Backbone,
    layers: Sequence[str],
    pooling: str | None = None,
    *,
    device: str = AUTO,
    precision: str = AUTO,
    batch_size: int | None = None,
    dtype: str = AUTO,
    compiled: bool | None = None,
    leading: int = 0,
    maps: Sequence[str] = (),
    workload: Workload | None = None,
) -> FrozenNetwork:
    """Return a network that runs by the plan that is best for this device.

    Parameters
    ----------
    backbone : Backbone
    layers : sequence of str
        Layers whose codes are wanted.
    pooling : str, optional
        One of `POOLINGS`, for all layers; by default that of the backbone.
    device : str, default="auto"
        ``cuda`` without an index uses every GPU; ``cuda:1`` uses that one.
    precision : {"auto", "fp32", "bf16", "fp16"}, default="auto"
        ``auto`` is bfloat16 where the device is fast at it and the codes agree with those in float32.
    batch_size : int, optional
        By default 8 on a CPU, or fewer where the maps are large; 64 on a GPU. It is halved until a batch fits into the
        memory.
    dtype : {"auto", "float16", "float32"}, default="auto"
        Type of the codes; ``auto`` is float16 for each layer whose codes it holds.
    compiled : bool, optional
        Whether to compile; by default, if that saves more time for the workload than it takes.
    leading : int, default=0
        How many of the first layers compute in float32 if the precision is lower: at least so many. With the number
        that was found before, none is tried that is known to be too small.
    maps : sequence of str, default=()
        Layers whose maps are wanted, too.
    workload : Workload, optional
        By default there are no images, and nothing is compiled unless `compiled` says so.

    Returns
    -------
    FrozenNetwork
        Not compiled yet: that is left to its `warm_up`.

    Raises
    ------
    SettingError
        There is no such pooling, precision or type of codes, no layer is given, or there are no such maps.
    BackboneError
        The backbone has no such layer.
    DeviceError
        The device is not there, or its memory does not hold one image.

    Examples
    --------
    >>> import torch
    >>> from cnncodes.networks.loading import load_backbone
    >>> network = tuned_network(load_backbone("mobilenet_v2"), ["penultimate"], device="cpu", precision="fp32")
    >>> network(torch.zeros(2, 3, 224, 224, dtype=torch.uint8))["penultimate"].shape
    (2, 1280)
    """
    pooling = backbone.default_pooling if pooling is None else pooling
    for value, values, what in (
        (pooling, POOLINGS, "pooling"),
        (precision, (AUTO, *PRECISIONS), "precision"),
        (dtype, (AUTO, *CODE_TYPES), "type of codes"),
    ):
        if value not in values:
            raise SettingError(f"no {what} {value!r}.{nearest(value, values)} There are {', '.join(values)}")
    devices = tuple(devices_of(resolve_device(device)))
    plan = Plan(devices, tuple(layers), pooling, batch_size or BATCH_SIZES[devices[0].type], dtype=dtype)
    first = measure_backbone(backbone, plan)
    computed = tuple(name for name in first.layers if name not in first.links)
    network = FrozenNetwork(backbone, replace(plan, computed=computed))
    adapt_batch_size = batch_size is None and devices[0].type == "cpu"
    plan = choose_plan(network, first, precision, leading=leading, adapt_batch_size=adapt_batch_size)
    network.apply(plan)
    if maps:
        add_maps(network, maps)
    compile_it, reason = choose_compiling(network, compiled, workload or Workload())
    logger.info("%s: %s", "to be compiled" if compile_it else "not compiled", reason)
    network.plan = replace(network.plan, compiled=compile_it, reason=reason)
    return network


# ------------------------------------------------------------------------------------ layers, precision and fusion


@dataclass
class _Trial:
    """A network that runs photographs by one plan after another, and its codes of them in float32."""

    network: FrozenNetwork
    batch_sizes: Mapping[str, int]  # by precision; empty where the size does not depend on it
    reference: Mapping[str, np.ndarray]  # codes in float32, of the layers that are computed
    leading: int = 0  # the smallest number of first layers in float32 that is tried

    def run(self, precision: str, leading: int = 0, *, fused: bool) -> None:
        """Let the network run in this precision from now on."""
        self.network.apply(self.plan(self.network.plan.computed, precision, leading, fused=fused))

    def plan(self, computed: Sequence[str], precision: str = "fp32", leading: int = 0, *, fused: bool = False) -> Plan:
        """Return a plan for these layers, with a batch size that suits the precision."""
        now = self.network.plan
        size = self.batch_sizes.get(precision, now.batch_size)
        changes: dict[str, Any] = {"precision": precision, "leading": leading, "fused": fused, "batch_size": size}
        return replace(now, computed=tuple(computed), **changes)

    def measure_reference(self, computed: Sequence[str]) -> None:
        """Let the network compute these layers in float32, and compare with their codes from now on."""
        self.network.apply(self.plan(computed))
        self.reference = self.network.photo_codes()

    def agreement(self) -> float:
        """Return the lowest cosine to the codes in float32; 0 where fusing has gone wrong."""
        plan = self.network.plan
        try:
            codes = self.network.photo_codes()
        except RuntimeError as error:  # raised by an operation of oneDNN
            if not plan.fused:
                raise
            logger.info("fused convolutions do not run: %s", error)
            return 0.0
        if plan.fused and not largest_difference(self.reference, codes) <= FUSED_TOLERANCE[plan.precision]:
            return 0.0
        return lowest_cosine(self.reference, codes)


def choose_plan(
    network: FrozenNetwork,
    first: FirstPass,
    precision: str = AUTO,
    *,
    leading: int = 0,
    adapt_batch_size: bool = False,
) -> Plan:
    """Choose layers to compute, batch size, types of codes, precision and fusion.

    Parameters
    ----------
    network : FrozenNetwork
        Runs the wanted layers in float32, but for links. It is left with some plan that was tried.
    first : FirstPass
        What one pass tells about the network.
    precision : {"auto", "fp32", "bf16", "fp16"}, default="auto"
    leading : int, default=0
        The smallest number of first layers in float32 that is tried for a lower precision.
    adapt_batch_size : bool, default=False
        Take smaller batches where maps are large.

    Returns
    -------
    Plan
    """
    sizes = {name: _cached_batch(first.largest_map, name) for name in PRECISIONS} if adapt_batch_size else {}
    trial = _Trial(network, sizes, {}, leading)
    computed = network.plan.computed
    trial.measure_reference(computed)
    layers, type_notes = choose_dtypes(first, network.plan.dtype, trial.reference)
    precision, leading, fused, precision_notes = _choose_precision(trial, precision)
    plan = trial.plan(computed, precision, leading, fused=fused)
    return replace(plan, layers=layers, links=first.links, notes=(*plan.notes, *type_notes, *precision_notes))


def _cached_batch(largest_map: int, precision: str) -> int:
    """Return how many images a CPU computes at once: a power of two, so few that `LARGEST_MAP` holds each map."""
    fitting = LARGEST_MAP // max(1, largest_map * PRECISIONS[precision].itemsize)
    return min(BATCH_SIZES["cpu"], 2 ** int(math.log2(max(1, fitting))))


def choose_dtypes(
    first: FirstPass, dtype: str, reference: Mapping[str, np.ndarray]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the layers with the type that their codes are kept in, and notes.

    Parameters
    ----------
    first : FirstPass
    dtype : {"auto", "float16", "float32"}
        ``auto`` is float16 for each layer whose codes it holds.
    reference : mapping of str to ndarray of float32
        Codes of photographs, for each layer that is no link.
    """
    types = {
        name: ("float16" if fits_float16(reference[first.links.get(name, name)]) else "float32")
        if dtype == AUTO
        else dtype
        for name in first.layers
    }
    notes = [
        f"the codes of {name} are kept in float32: float16 does not hold their range"
        for name in first.layers
        if dtype == AUTO and types[name] == "float32"
    ]
    return {name: {**layer, "dtype": types[name]} for name, layer in first.layers.items()}, notes


def _choose_precision(trial: _Trial, precision: str) -> tuple[str, int, bool, list[str]]:
    """Return precision, how many of the first layers need float32 if the rest runs in fewer bits, fusion, and notes.

    The `penultimate` codes decide, whatever layers are wanted, so that those of all files agree.
    """
    device = trial.network.plan.devices[0]
    if precision == "fp32" or (precision == AUTO and not has_fast_bf16(device)):
        logger.info("fp32: %s", "as asked" if precision == "fp32" else f"{device} is not fast at bf16")
        fused, notes = _may_fuse(trial)
        return "fp32", 0, fused, notes
    lower = "bf16" if precision == AUTO else precision
    trial = _decisive(trial)
    fused, notes = True, list[str]()
    leading, agreement = _lower_until_agreed(trial, lower, fused=True)
    if not agreement >= MIN_COSINE:
        fused, notes = _may_fuse(trial)
        if not fused or not agreement:  # fusing may have been the reason
            fused = False
            leading, agreement = _lower_until_agreed(trial, lower, fused=False)
    agrees = agreement >= MIN_COSINE
    chosen, leading = (lower, leading) if agrees or precision != AUTO else ("fp32", 0)
    if not agrees:
        lost = f"the codes in {lower} agree with float32 to cosine {agreement:.4f} only"
        notes.append(f"computed in {chosen}; {lost}")
    return chosen, leading, fused, notes


def _decisive(trial: _Trial) -> _Trial:
    """Return a trial of the decisive codes, with a network of its own unless the one that is there computes no more."""
    plan = trial.network.plan
    if plan.computed == DECISIVE:
        return trial
    other = replace(trial, network=FrozenNetwork(trial.network.backbone, replace(plan, computed=DECISIVE)))
    if set(DECISIVE) <= trial.reference.keys():  # in float32, a layer does not depend on what else is computed
        return replace(other, reference={name: trial.reference[name] for name in DECISIVE})
    other.measure_reference(DECISIVE)
    return other


def _lower_until_agreed(trial: _Trial, precision: str, *, fused: bool) -> tuple[int, float]:
    """Keep more and more of the first layers in float32 until codes agree; return how many, and the cosine."""
    for leading in [number for number in LEADING if number >= trial.leading] or LEADING[-1:]:
        trial.run(precision, leading, fused=fused)
        agreement = trial.agreement()
        logger.info("%s, %d first layers in float32: lowest cosine %.5f", precision, leading, agreement)
        if agreement >= MIN_COSINE:
            break
    return leading, agreement


def _may_fuse(trial: _Trial) -> tuple[bool, list[str]]:
    """Whether fusing in float32 changes the codes by no more than another order of summation does; and notes."""
    trial.run("fp32", fused=True)
    if not trial.network.plan.fused or trial.agreement():
        return True, []
    return False, ["convolutions run by themselves: fused with what follows them, the codes would be others"]
