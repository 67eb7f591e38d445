"""Facts about networks that cannot be read off them: one table row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from cnncodes.networks.checkpoint import KeyRules

__all__ = [
    "FIRST_CHOICE",
    "TIMM_FACTS",
    "TOKEN_BLOCKS",
    "TOKEN_POOLINGS",
    "TORCHVISION_FACTS",
    "Facts",
    "TokenPooling",
    "facts_of",
]


@dataclass(frozen=True)
class Facts:
    """What cannot be read off a network: a table row for the names that match `pattern`.

    Attributes
    ----------
    pattern : str
    options : mapping
        Arguments of the builder.
    size_option : str or None
        Argument of the builder that takes the image size, where the network has a fixed one.
    head : str or None
        Module path of the head, where it is not the last `nn.Linear`.
    own_pre_logits : bool
        Whether what the network itself calls the input of its head (`forward_head` with ``pre_logits=True`` in timm) is
        another vector than the one that enters the module `head`: then that is `penultimate`.
    default_size : int or None
        Side in pixels of the images that enter the network, where it is not the side that the weights were trained on.
    stages : mapping of str to str
        Aliases that the strides of the maps do not give.
    keys : KeyRules
    """

    pattern: str
    options: Mapping[str, Any] = field(default_factory=dict)
    size_option: str | None = None
    head: str | None = None
    own_pre_logits: bool = False
    default_size: int | None = None
    stages: Mapping[str, str] = field(default_factory=dict)
    keys: KeyRules = field(default_factory=KeyRules)


# transform_input: their weights expect another normalisation than the preprocessing gives, and redo it themselves.
# The auxiliary heads take no part outside training.
_NO_AUX = {"transform_input": True, "aux_logits": False, "init_weights": False}
TORCHVISION_FACTS = (
    Facts("googlenet", options=_NO_AUX, keys=KeyRules(ignored=("aux1.", "aux2."))),
    Facts("inception_v3", options=_NO_AUX, keys=KeyRules(ignored=("AuxLogits.",))),
    # Module names may no longer hold a dot, the published files still do: norm.1 is norm1.
    Facts("densenet*", keys=KeyRules(renames=((r"(denselayer\d+\.(?:norm|relu|conv))\.(\d)", r"\1\2"),))),
    # The head is a 1x1 convolution, and the deepest map has stride 16: it stands for layer4 as well.
    Facts("squeezenet*", head="classifier.1", stages={"layer4": "features"}),
    Facts("vit_*", size_option="image_size"),
    Facts("*"),
)


def _efficientnet_keys(*blocks_per_stage: int) -> tuple[tuple[str, str], ...]:
    """Map the keys of the package efficientnet-lite-pytorch (blocks counted through) to timm's (stage and block)."""
    places = [(stage, block) for stage, n in enumerate(blocks_per_stage) for block in range(n)]
    stem = [
        (r"^_conv_stem\.", "conv_stem."),
        (r"^_bn0\.", "bn1."),
        (r"^_conv_head\.", "conv_head."),
        (r"^_bn1\.", "bn2."),
        (r"^_fc\.", "classifier."),
    ]
    numbers = [(rf"^_blocks\.{i}\.", f"blocks.{stage}.{block}.") for i, (stage, block) in enumerate(places)]
    # The blocks of stage 0 do not expand: depthwise, pointwise. The others: expand, depthwise, project.
    inside = [
        (r"^(blocks\.\d+\.\d+)\._depthwise_conv\.", r"\1.conv_dw."),
        (r"^(blocks\.0\.\d+)\._project_conv\.", r"\1.conv_pw."),
        (r"^(blocks\.0\.\d+)\._bn([12])\.", r"\1.bn\2."),
        (r"^(blocks\.\d+\.\d+)\._expand_conv\.", r"\1.conv_pw."),
        (r"^(blocks\.\d+\.\d+)\._project_conv\.", r"\1.conv_pwl."),
        (r"^(blocks\.\d+\.\d+)\._bn0\.", r"\1.bn1."),
        (r"^(blocks\.\d+\.\d+)\._bn1\.", r"\1.bn2."),
        (r"^(blocks\.\d+\.\d+)\._bn2\.", r"\1.bn3."),
    ]
    return (*stem, *numbers, *inside)


TIMM_FACTS = (
    # Trained at 518 px, at which an image takes six times as long as at 224 px, the size of DINOv2's own evaluation.
    Facts("vit_*_dinov2", default_size=224),
    # Two heads: of the class token and of the distillation token; of two branches; of the maps of several stages.
    Facts("deit_*_distilled_*", own_pre_logits=True),
    Facts("pit_*_distilled_*", own_pre_logits=True),
    Facts("crossvit_*", own_pre_logits=True),
    Facts("efficientvim_*", own_pre_logits=True),
    # Heads that begin with batch normalisation, or with a layer of their own.
    Facts("levit_*", own_pre_logits=True),
    Facts("efficientvit_m*", own_pre_logits=True),
    Facts("iformer_*", own_pre_logits=True),
    Facts("repvit_*", own_pre_logits=True),
    Facts("shvit_*", own_pre_logits=True),
    Facts("convformer_*", own_pre_logits=True),
    Facts("caformer_*", own_pre_logits=True),
    Facts("*efficientnet_lite0", keys=KeyRules(renames=_efficientnet_keys(1, 2, 2, 3, 3, 4, 1))),
    Facts("*efficientnet_lite[12]", keys=KeyRules(renames=_efficientnet_keys(1, 3, 3, 4, 4, 5, 1))),
    Facts("*"),
)

# Where networks of tokens keep their blocks, and the norm that follows the last one: in timm, in torchvision.
TOKEN_BLOCKS = (("blocks", "norm"), ("encoder.layers", "encoder.ln"))


@dataclass(frozen=True)
class TokenPooling:
    """How the tokens of a network become a code unless a pooling is named: a table row for a kind of network.

    Attributes
    ----------
    pattern : str
        Shell pattern of the names of the networks.
    class_token : bool
        Whether the row is for networks with a class token; where the pattern is ``*``, one that enters their head.
    pooling : str
    source : str
        Who reads such networks so.
    """

    pattern: str
    class_token: bool
    pooling: str
    source: str


TOKEN_POOLINGS = (
    TokenPooling("*dinov[23]*", True, "cls+patches", "DINOv2's linear heads of one block (Oquab et al. 2024)"),
    TokenPooling(
        "*", True, "cls", "ViT (Dosovitskiy et al. 2021), DeiT (Touvron et al. 2021), CLIP (Radford et al. 2021)"
    ),
    # No class token (MLP-Mixer, SigLIP), or one that the head passes over (BEiT, EVA-02).
    TokenPooling("*", False, "patches", "MLP-Mixer (Tolstikhin et al. 2021), BEiT (Bao et al. 2022)"),
)

FIRST_CHOICE = "IMAGENET1K_V1"  # the later recipe costs the codes (Kornblith et al. 2021)


def facts_of(table: tuple[Facts, ...], name: str) -> Facts:
    return next(row for row in table if fnmatch(name, row.pattern))
