"""A trained network that another one learns from (Hinton et al. 2015, Romero et al. 2015).

No ImageNet weights of DenseNet-121 could be had, and from scratch it learns slowly from a few labels a slice. A ResNet-18
that began with ImageNet weights tells it more: how probable each class is, and what is seen at each place. In
cross-validation the teacher is that of the same fold, which has not seen the held-out patients either.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from . import recipe as recipes
from .model import Network, build

TEMPERATURE = 2.0


class Teacher(nn.Module):
    """Two losses for a pupil: the divergence of its probabilities from the teacher's, softened, and one minus the cosine
    between its middle maps, brought to the teacher's channels by a 1x1 convolution of its own, and the teacher's."""

    def __init__(self, recipe: Path, weights: Path, pupil: Network, settings: dict):
        super().__init__()
        self.net = build(recipes.load(recipe)).to(memory_format=torch.channels_last)
        self.net.load_state_dict(torch.load(weights, weights_only=False)["mean"])
        self.net.eval().requires_grad_(False)
        self.hint = nn.Conv2d(pupil.local.in_channels, self.net.local.in_channels, 1)
        self.settings = settings

    def train(self, mode: bool = True) -> Teacher:
        self.hint.train(mode)
        return self

    def forward(self, x: torch.Tensor, logits: torch.Tensor, middle: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            said, _, seen = self.net.forward_training(x)
        cosine = F.cosine_similarity(self.hint(middle).float(), seen.float(), dim=1).mean()
        soft = F.kl_div(
            (logits.float() / TEMPERATURE).log_softmax(1), (said.float() / TEMPERATURE).log_softmax(1),
            reduction="batchmean", log_target=True,
        )  # fmt: skip
        return self.settings["hint"] * (1 - cosine) + self.settings["soft"] * TEMPERATURE**2 * soft
