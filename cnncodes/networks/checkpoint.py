"""Parameters: from a file, read without pickle, into a network that may call them otherwise."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnncodes.errors import WeightsError, first_line

__all__ = ["KeyRules", "digest_of", "fit_state", "read_state"]

State = dict[str, torch.Tensor]

WRAPPERS = ("state_dict", "model", "model_state_dict", "ema")  # where a checkpoint keeps the parameters
PREFIXES = ("module.", "model.", "backbone.", "_orig_mod.")  # what wrapping a network puts before its keys
PREFIX_DEPTH = 3
NOT_NEEDED = ("num_batches_tracked",)  # counters that an eval-mode network does not read
NAMED_KEYS = 5  # how many keys an error names before it counts


@dataclass(frozen=True)
class KeyRules:
    """How the keys of a file become those of the network.

    Attributes
    ----------
    renames : tuple of (pattern, replacement)
        Regular expressions, applied in order to each key.
    ignored : tuple of str
        Beginnings of keys of parts that the network is built without.
    """

    renames: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()

    def rename(self, key: str) -> str:
        for pattern, replacement in self.renames:
            key = re.sub(pattern, replacement, key)
        return key


def digest_of(state: Mapping[str, torch.Tensor]) -> str:
    """Return a SHA-256 over names, shapes, types and values: what identifies parameters that come from no file."""
    digest = hashlib.sha256()
    for key, tensor in state.items():
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the tensors of a ``.safetensors``, ``.pth`` or ``.pt`` file; nothing in the file is ever executed.

    Raises
    ------
    WeightsError
        No such file, not a file of weights, or one that needs arbitrary Python objects.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise many kinds on damaged files
        if re.search(r"\bunsupported (global|class)\b", str(error), re.IGNORECASE):
            raise WeightsError(
                f"{path}: holds Python objects beside tensors, which could run anything when loaded; where you trust "
                "it, save it again from its own program with torch.save(model.state_dict(), FILE)"
            ) from error
        reason = "not a file of PyTorch" if "weights_only" in str(error) else first_line(error)
        raise WeightsError(f"{path}: cannot be read as weights ({reason})") from error
    return _unwrap(content, path)


def _unwrap(content: Any, path: Path) -> State:
    while isinstance(content, Mapping):
        wrapped = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        if len(wrapped) > 1:
            raise WeightsError(
                f"{path}: ambiguous, it holds parameters as {_named(wrapped)}; save the wanted one alone"
            )
        if not wrapped:
            break
        content = content[wrapped[0]]
    tensors = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise WeightsError(f"{path}: holds no parameters by name (a {type(content).__name__}); expected a state dict")
    return tensors


def fit_state(
    network: nn.Module, state: State, *, head: str, rules: KeyRules, allow_partial: bool = False, source: str = "file"
) -> tuple[list[str], bool]:
    """Copy the tensors of a file into a network, which need not have the same head.

    Parameters
    ----------
    network : Module
    state : dict of str to Tensor
        As `read_state` gives it; prefixes such as ``module.`` are stripped.
    head : str
        Module path of the classification head: it may differ or be absent.
    rules : KeyRules
    allow_partial : bool, default=False
        Leave parameters that are missing or have another shape as they are, and note them.
    source : str, default="file"
        What to call the file in messages.

    Returns
    -------
    notes : list of str
        What was not loaded, for the provenance.
    head_loaded : bool

    Raises
    ------
    WeightsError
        A parameter outside the head is missing or has another shape, or it is ambiguous which tensors are meant.
    """
    own = network.state_dict()
    keys = _match_keys(state, own, rules, source)
    faults = _faults(own, {key: state[old] for key, old in keys.items()})
    unexpected = [old for new, old in keys.items() if new not in own and not new.startswith(rules.ignored)]
    unexpected += sorted(state.keys() - set(keys.values()))
    headless = {key: faults[key] for key in faults if key.startswith(f"{head}.")}
    lacking = [fault for key, fault in faults.items() if key not in headless]
    misfit = f"{source}: does not fit the network: {_named(lacking)}"
    if lacking and not allow_partial:
        hint = f"; not used: {_named(unexpected)}" if unexpected else ""
        raise WeightsError(f"{misfit}{hint}; another backbone? (--allow-partial leaves these random)")
    with torch.no_grad():
        for key in own.keys() & keys.keys() - faults.keys():
            own[key].copy_(state[keys[key]])
    broken = [key for key, tensor in own.items() if not torch.isfinite(tensor).all()]
    notes = {
        f"{source}: no head for this network ({_named(headless.values())}); codes need none": headless,
        f"{source}: not used: {_named(unexpected)}": unexpected,
        f"{misfit}; left random": lacking,
        f"{source}: holds values that are not finite: {_named(broken)}": broken,
    }
    return [note for note, cause in notes.items() if cause], not headless


def _faults(own: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Say what is wrong with each key of the network that is missing or has another shape."""
    faults = {}
    for key, tensor in own.items():
        if key not in given:
            if not key.endswith(NOT_NEEDED):
                faults[key] = f"{key} is missing"
        elif given[key].shape != tensor.shape:
            faults[key] = f"{key} is {tuple(given[key].shape)}, expected {tuple(tensor.shape)}"
    return faults


def _match_keys(state: State, own: Mapping[str, Any], rules: KeyRules, source: str) -> dict[str, str]:
    """Map keys of the network to keys of the file, by the prefixes that make the most of them match."""
    candidates = _stripped({key: key for key in state}, PREFIX_DEPTH)
    renamed = [{rules.rename(new): old for new, old in candidate.items()} for candidate in candidates]
    scores = [len(own.keys() & candidate.keys()) for candidate in renamed]
    best = [candidate for candidate, score in zip(renamed, scores, strict=True) if score == max(scores)]
    sets = {frozenset(old for new, old in candidate.items() if new in own) for candidate in best}
    if len(sets) > 1:
        examples = [min(old for old in used) for used in sets]
        raise WeightsError(f"{source}: ambiguous, it holds the network more than once: {_named(sorted(examples))}")
    return best[0]


def _stripped(keys: dict[str, str], depth: int) -> list[dict[str, str]]:
    candidates = [keys]
    for prefix in PREFIXES:
        inner = {new.removeprefix(prefix): old for new, old in keys.items() if new.startswith(prefix)}
        if inner and depth:
            candidates += _stripped(inner, depth - 1)
    return candidates


def _named(keys: Iterable[str]) -> str:
    names: Sequence[str] = list(keys)
    more = len(names) - NAMED_KEYS
    return ", ".join(names[:NAMED_KEYS]) + (f" and {more} more" if more > 0 else "")
