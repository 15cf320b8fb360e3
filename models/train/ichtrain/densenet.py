"""DenseNet-121 (Huang et al. 2017) with class activation maps; parameter names as torchvision's."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn


class DenseLayer(nn.Module):
    def __init__(self, cin: int, growth: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(cin)
        self.conv1 = nn.Conv2d(cin, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, 1, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(F.relu(self.norm2(y)))], 1)


def transition(cin: int, cout: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            norm=nn.BatchNorm2d(cin), relu=nn.ReLU(), conv=nn.Conv2d(cin, cout, 1, bias=False), pool=nn.AvgPool2d(2)
        )
    )


class DenseNet121(nn.Module):
    """[N, channels, 224, 224] -> logits [N, classes]."""

    def __init__(self, classes: int, channels: int = 3, dropout: float = 0.0, growth: int = 32):
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                conv0=nn.Conv2d(channels, 64, 7, 2, 3, bias=False),
                norm0=nn.BatchNorm2d(64),
                relu0=nn.ReLU(),
                pool0=nn.MaxPool2d(3, 2, 1),
            )
        )
        width = 64
        for block, layers in enumerate((6, 12, 24, 16), 1):
            dense = nn.Sequential()
            for n in range(layers):
                dense.add_module(f"denselayer{n + 1}", DenseLayer(width, growth))
                width += growth
            self.features.add_module(f"denseblock{block}", dense)
            if block == 3:
                self.local = nn.Conv2d(width, classes - 1, 1)  # training only, see ResNet18.forward_training
            if block < 4:
                width //= 2
                self.features.add_module(f"transition{block}", transition(2 * width, width))
        self.features.add_module("norm5", nn.BatchNorm2d(width))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(width, classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight)

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 1024, 7, 7] at 224 x 224."""
        return F.relu(self.features(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.dropout(self.maps(x).mean((2, 3))))

    def forward_training(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As ResNet18.forward_training; local evidence from the third block."""
        for name, part in self.features.named_children():
            x = part(x)
            if name == "denseblock3":
                middle = F.relu(x)
        evidence = self.local(middle).flatten(2).topk(4, dim=2).values.mean(2)
        return self.fc(self.dropout(F.relu(x).mean((2, 3)))), evidence, middle
