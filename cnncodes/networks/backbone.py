"""The frozen network with verified weights, the preprocessing that belongs to it, and its layers."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from cnncodes.errors import BackboneError, MismatchError, SettingError, first_line, nearest, parameter
from cnncodes.networks.extractor import Tap, build_extractor, network_up_to
from cnncodes.networks.facts import Facts
from cnncodes.networks.layers import INPUT, STAGES, LayerInfo, Survey, find_stages, survey
from cnncodes.networks.outputs import Output, Prefix
from cnncodes.networks.pre_logits import OWN_PRE_LOGITS
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.networks.tokens import NORMED, default_pooling, final_norm, token_stages
from cnncodes.vocabulary import CLASS, DEFAULT_POOLING, PATCHES, PENULTIMATE

__all__ = ["Backbone"]


@dataclass(frozen=True, eq=False)
class Backbone:
    """A frozen network: eval mode, no gradients, nothing in place.

    Attributes
    ----------
    name : str
    weights : str
        Name of the weights, path of their file, or ``random``.
    weights_sha256 : str
        Digest of the bytes of the file; without a file, of names and values of the parameters.
    licence : str or None
        Licence of the weights.
    preprocessing : Preprocessing
    categories : tuple of str or None
        Classes of the head, where they are known.
    module : Module
    head : str
        Module path of the classification head.
    notes : list of str
        What a user should know: parts that were not loaded, a licence that restricts their use.
    library : str
        Which package the network is from, with its version.
    native_size : int
        Side in pixels of the images that the weights expect.
    allow_partial : bool
        Whether a file was allowed to lack parameters.

    Raises
    ------
    BackboneError
        The network cannot take images of the size of the preprocessing.
    """

    name: str
    weights: str
    weights_sha256: str
    licence: str | None
    preprocessing: Preprocessing
    categories: tuple[str, ...] | None = field(repr=False)
    module: nn.Module = field(repr=False)
    head: str
    notes: list[str]
    library: str
    native_size: int
    allow_partial: bool
    facts: Facts = field(repr=False)
    surveys: dict[int, Survey] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._survey(self.preprocessing.image_size)

    @functools.cached_property
    def aliases(self) -> dict[str, str]:
        """The node of each alias: the stages or blocks that the network has, and `penultimate`."""
        native = self._survey(self.native_size)
        stages = find_stages(self.module, native, self.head) or token_stages(self.module, native.outputs)
        own = PENULTIMATE in native.outputs
        return {**stages, **self.facts.stages, PENULTIMATE: PENULTIMATE if own else self.head + INPUT}

    @property
    def default_layers(self) -> list[str]:
        """What is kept unless layers are named: ``layer1`` … ``layer4`` (stages, or blocks), and `penultimate`."""
        return list(self.aliases)

    @functools.cached_property
    def default_pooling(self) -> str:
        """What makes codes of the layers unless a pooling is named."""
        outputs = self._survey(self.native_size).outputs
        return default_pooling(self.name, self.module, outputs, self.aliases.get("layer4", ""))

    def prefixes(self, layers: Iterable[str], pooling: str) -> dict[str, Prefix]:
        """Return the tokens before the patches in each layer, and refuse a pooling that a layer does not allow.

        Parameters
        ----------
        layers : iterable of str
            Aliases or module paths.
        pooling : str
            One of `cnncodes.vocabulary.POOLINGS`.

        Raises
        ------
        SettingError
            Class tokens or patches are asked for where there are none.
        """
        outputs = {layer: self.outputs()[self.resolve(layer)] for layer in layers}
        for layer, output in outputs.items():
            tokens, prefix = len(output.shape) == 2, output.prefix
            no_class = CLASS in pooling and len(output.shape) > 1 and not (prefix is not None and prefix.has_class)
            if no_class or (PATCHES in pooling and tokens and prefix is None):
                missing = "class token" if no_class else "tokens that are patches of the image"
                raise SettingError(
                    f"{layer} of {self.name} has no {missing}, which {parameter('pooling', pooling)} asks for; choose "
                    f"{parameter('pooling', DEFAULT_POOLING)}, or other layers ({parameter('layers', ['NAME'])})"
                )
        return {layer: output.prefix or Prefix() for layer, output in outputs.items()}

    def list_layers(self, image_size: int | None = None) -> list[LayerInfo]:
        """Return a row for each layer, in the order of computation.

        Parameters
        ----------
        image_size : int, optional
            Side of the image in pixels; by default that of the preprocessing.
        """
        return self._survey(image_size or self.preprocessing.image_size).table(self.aliases)

    def outputs(self) -> Mapping[str, Output]:
        """Return what each node gives for one image of the size of the preprocessing, in the order of computation."""
        return self._survey(self.preprocessing.image_size).outputs

    def order(self) -> Mapping[str, int]:
        """Return when a module is first entered (``PATH:input``), and left for the last time (``PATH``), in a pass."""
        return self._survey(self.preprocessing.image_size).order

    def with_tensors(self, tensors: Mapping[str, torch.Tensor]) -> Backbone:
        """Return this backbone with other values for some of its parameters or statistics; the others are shared.

        Parameters
        ----------
        tensors : mapping of str to Tensor
            By the names of the parameters and buffers.

        Raises
        ------
        MismatchError
            The network has no such parameter or buffer, or one of another shape.
        """
        parameters = dict(self.module.named_parameters())
        named = {**dict(self.module.named_buffers()), **parameters}
        for name, tensor in tensors.items():
            if name not in named or named[name].shape != tensor.shape:
                there = f"has shape {tuple(named[name].shape)}" if name in named else "is not there"
                raise MismatchError(
                    f"{self.name}: the parameter {name:.100} {there}, and the fine-tuned one has {tuple(tensor.shape)}"
                )
        values = {
            id(named[name]): nn.Parameter(tensor, False) if name in parameters else tensor
            for name, tensor in tensors.items()
        }
        shared = {id(one): one for one in (*self.module.parameters(), *self.module.buffers())}
        return replace(self, module=copy.deepcopy(self.module, shared | values), surveys=dict(self.surveys))

    def resolve(self, layer: str) -> str:
        """Return the node of a layer: a module path, or ``PATH:input`` for what enters that module.

        Raises
        ------
        BackboneError
            There is no such layer; the message names the nearest ones.
        """
        node = self.aliases.get(layer, layer)
        outputs = self._survey(self.native_size).outputs
        if node in outputs:
            return node
        paths = [name for name in outputs if not name.endswith((INPUT, NORMED))]
        why = "" if self.aliases.keys() & STAGES.keys() else " (it has no feature maps at strides 4 to 32, nor blocks)"
        raise BackboneError(
            f"{self.name} has no layer {layer!r}{why}.{nearest(layer, [*self.aliases, *paths])} There are "
            f"{', '.join(self.aliases)}, and module paths such as {paths[len(paths) // 2]}; "
            f"`cnncodes layers {self.name}` lists all"
        )

    def extractor(self, layers: Sequence[str]) -> nn.Module:
        """Cut the network after the deepest of these layers.

        Parameters
        ----------
        layers : sequence of str
            Aliases or module paths.

        Returns
        -------
        Module
            Maps a normalised float batch (n, 3, S, S) to a dict with, under each name as given, a (n, C, H, W) map or a
            (n, D) vector (from networks with tokens also (n, tokens, D)). Stays in eval mode; shares the parameters
            of this backbone.
        """
        if not layers:
            raise SettingError(f"no layer asked for; {self.name} has {', '.join(self.aliases)}")
        native = self._survey(self.native_size)
        nodes = {layer: self.resolve(layer) for layer in layers}
        taps = {layer: self._tap(node, native.outputs[node]) for layer, node in nodes.items()}
        return build_extractor(self.module, taps, native.calls)

    def up_to_head(self) -> nn.Module:
        """Return a copy of the network that ends at what enters its head; its parameters keep their names."""
        native, node = self._survey(self.native_size), self.aliases[PENULTIMATE]
        return network_up_to(self.module, self._tap(node, native.outputs[node]), native.calls)

    def _tap(self, node: str, output: Output) -> Tap:
        norm = final_norm(self.module, output.width) if node.endswith(NORMED) else None
        return Tap(node.removesuffix(NORMED), output.channels_last, norm)

    def describe(self) -> dict[str, Any]:
        """Return the provenance, ready for JSON: all that decides what the codes are, beside layers and runtime."""
        return {
            "backbone": self.name,
            "library": self.library,
            "weights": self.weights,
            "weights_sha256": self.weights_sha256,
            "licence": self.licence,
            "preprocessing": self.preprocessing.to_dict(),
            "allow_partial": self.allow_partial,
            "notes": list(self.notes),
            **({"head_input": OWN_PRE_LOGITS} if self.aliases[PENULTIMATE] == PENULTIMATE else {}),
        }

    def _survey(self, image_size: int) -> Survey:
        if image_size not in self.surveys:
            native = None if image_size == self.native_size else self._survey(self.native_size)
            try:
                self.surveys[image_size] = survey(self.module, image_size, native)
            except Exception as error:  # networks refuse a size in many ways
                raise BackboneError(
                    f"{self.name} cannot take images of {image_size} × {image_size} px ({first_line(error)}); "
                    f"its weights expect {self.native_size}"
                ) from error
        return self.surveys[image_size]
