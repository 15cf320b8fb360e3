"""ResNet-18 (He et al. 2016) at any base width, with class activation maps; and the choice of a network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .densenet import DenseNet121


class BasicBlock(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.downsample = None
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + skip)


class ResNet18(nn.Module):
    """[N, 3, 224, 224] -> logits [N, classes]. Names of parameters are torchvision's, so that at base width 64
    its published weights load (first convolution of three channels: one HU window each)."""

    def __init__(self, classes: int = 6, base_width: int = 64, channels: int = 3, dropout: float = 0.0):
        super().__init__()
        w = base_width
        self.conv1 = nn.Conv2d(channels, w, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(w)
        self.layer1 = nn.Sequential(BasicBlock(w, w, 1), BasicBlock(w, w, 1))
        self.layer2 = nn.Sequential(BasicBlock(w, 2 * w, 2), BasicBlock(2 * w, 2 * w, 1))
        self.layer3 = nn.Sequential(BasicBlock(2 * w, 4 * w, 2), BasicBlock(4 * w, 4 * w, 1))
        self.layer4 = nn.Sequential(BasicBlock(4 * w, 8 * w, 2), BasicBlock(8 * w, 8 * w, 1))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(8 * w, classes)
        self.local = nn.Conv2d(4 * w, classes - 1, 1)  # training only, see forward_training
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(m, BasicBlock):  # each block starts as the identity: steadier at a high learning rate
                nn.init.zeros_(m.bn2.weight)

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 8 * base_width, 7, 7] at 224 x 224."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.dropout(self.maps(x).mean((2, 3))))

    def forward_training(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits, local evidence for each hemorrhage class [N, classes - 1], and the maps of layer3 that it is drawn from,
        at a sixteenth of the input's size. The evidence is the mean of the four strongest places of a map. A bleed covers
        a small part of a slice; the mean over all places, which the class activation map needs, says little about it at
        first, and the strongest places tell the network early where to look."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        middle = self.layer3(self.layer2(self.layer1(x)))
        evidence = self.local(middle).flatten(2).topk(4, dim=2).values.mean(2)
        return self.fc(self.dropout(self.layer4(middle).mean((2, 3)))), evidence, middle


Network = ResNet18 | DenseNet121


class WithCAM(nn.Module):
    """What is exported: logits [N, classes] and cam [N, classes, 7, 7]. The map of a class is the 1x1 convolution of
    the last features with the weights of the final layer: its mean over the map plus the bias is the logit."""

    def __init__(self, net: Network):
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        f = self.net.maps(x)
        cam = F.conv2d(f, self.net.fc.weight[:, :, None, None])
        return self.net.fc(f.mean((2, 3))), cam


def build(recipe: dict) -> Network:
    m, classes, channels = recipe["model"], len(recipe["manifest"]["classes"]), len(recipe["manifest"]["windows"])
    if m["kind"] == "densenet121":
        return DenseNet121(classes, channels, m["dropout"])
    return ResNet18(classes, m["base_width"], channels, m["dropout"])
