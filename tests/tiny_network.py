"""Small networks of one's own, and what they expect."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from cnncodes.networks.backbone import Backbone
from cnncodes.networks.loading import load_backbone
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.networks.registry import register_backbone

PLAIN = Preprocessing(40, 32, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
UNCROPPED = Preprocessing(32, 32, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 4, stride=4)
        self.relu = nn.ReLU(inplace=True)
        self.classify = nn.Linear(6, 2)
        self.extra = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.conv(x)).mean(dim=(2, 3))
        return torch.cat([self.extra(x), self.classify(x * 2)], dim=1)


class Straight(nn.Module):
    """Traceable; in-place by a function and by a method, which may overwrite what is kept."""

    def __init__(self, method: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, stride=4)
        self.method = method
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        x = x.relu_() if self.method else F.relu(x, True)
        return self.head(x.mean(dim=(2, 3)))


class Staged(nn.Module):
    """Four stages with batch normalisation, as the large networks have them, and a dropout before the head."""

    def __init__(self, n_classes: int = 5) -> None:
        super().__init__()
        widths = (3, 8, 8, 12, 16)
        for i, stride in enumerate((4, 2, 2, 2)):
            convolution = nn.Conv2d(widths[i], widths[i + 1], 2 * stride - 1, stride, padding=stride - 1)
            stage = nn.Sequential(convolution, nn.BatchNorm2d(widths[i + 1]), nn.ReLU(inplace=True))
            self.add_module(f"layer{i + 1}", stage)
        self.dropout, self.fc = nn.Dropout(0.5), nn.Linear(widths[-1], n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.dropout(x.mean(dim=(2, 3))))


def own(builder: object, name: str = "own") -> Backbone:
    register_backbone(name, builder, preprocessing=UNCROPPED, overwrite=True)  # type: ignore[arg-type]
    return load_backbone(name)


def images(size: int = 32, n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))
