"""Which network for what: a table row each, with who measured it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RECOMMENDED", "Recommendation"]

TORCHVISION = "torchvision's table of weights"
DINOV2 = "README of facebookresearch/dinov2"
BSD, APACHE, NON_COMMERCIAL = "BSD-3-Clause", "apache-2.0", "CC-BY-NC-4.0"
V1, SWAG = "IMAGENET1K_V1", "IMAGENET1K_SWAG_LINEAR_V1"
VIT_S, VIT_B = "timm:vit_small_patch14_dinov2", "timm:vit_base_patch14_dinov2"
TRAINED, LINEAR = "trained", "linear"


@dataclass(frozen=True)
class Recommendation:
    """A network that is worth a try, and the accuracy on ImageNet-1K that its publishers report.

    Attributes
    ----------
    name, weights : str
        What ``--backbone`` and ``--weights`` take.
    use : str
        What it is taken for.
    millions : float
        Number of parameters, in millions.
    top1 : float
        Accuracy on ImageNet-1K in percent.
    measured : {"trained", "linear"}
        ``trained``: the network was trained on these classes. ``linear``: a linear classifier on the frozen network
        was, which is how codes are used.
    source : str
        Who reports it.
    licence : str
        Licence of the weights.
    """

    name: str
    weights: str
    use: str
    millions: float
    top1: float
    measured: str
    source: str
    licence: str


RECOMMENDED = (
    Recommendation("mobilenet_v2", V1, "the default: ships along", 3.5, 71.9, TRAINED, TORCHVISION, BSD),
    Recommendation("resnet18", V1, "small, plain convolutions", 11.7, 69.8, TRAINED, TORCHVISION, BSD),
    Recommendation("resnet50", V1, "convolutions, 2,048 features", 25.6, 76.1, TRAINED, TORCHVISION, BSD),
    Recommendation(VIT_S, "lvd142m", "transformer, trained without labels", 21.0, 81.1, LINEAR, DINOV2, APACHE),
    Recommendation(VIT_B, "lvd142m", "the same, larger", 86.0, 84.5, LINEAR, DINOV2, APACHE),
    Recommendation("regnet_y_16gf", SWAG, "large convolutions", 83.6, 84.0, LINEAR, TORCHVISION, NON_COMMERCIAL),
)
