"""ImageNet weights of ResNet-18 through layer3, for a network that then sees HU windows in place of colours.

The files are torchvision's IMAGENET1K_V1 with each batch norm folded into its convolution (weight and bias). A network
with an identity batch norm and these weights computes what torchvision's does, but cannot be trained on: the first
batch would normalise the folded scale away. So the statistics of every convolution's output are measured once on real
input and written into its batch norm, together with the scale and shift that undo them. The function stays the same,
and the norms are those of a network in training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from .model import ResNet18



def load(net: ResNet18, folder: Path, sample: torch.Tensor) -> list[str]:
    """Loads what is in folder (NAME.weight.npy, NAME.bias.npy); sample is model input [N, channels, h, w].
    Returns the names of the convolutions that stay as they were drawn."""
    modules = dict(net.named_modules())
    pairs = []
    for name, conv in modules.items():
        if isinstance(conv, nn.Conv2d) and name != "local":
            stem, _, last = name.rpartition("conv")
            norm = f"{stem}bn{last}" if name.rpartition(".")[2].startswith("conv") else name[:-1] + "1"
            pairs.append((name, conv, modules[norm]))
    missing, loaded = [], []
    with torch.no_grad():
        for name, conv, norm in pairs:
            weight = folder / f"{name}.weight.npy"
            if not weight.exists():
                missing.append(name)
                continue
            conv.weight.copy_(torch.from_numpy(np.load(weight)))
            loaded.append((conv, norm, torch.from_numpy(np.load(folder / f"{name}.bias.npy"))))
            norm.weight.fill_(1)
            norm.bias.copy_(loaded[-1][2])
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)
        seen: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}

        def measure(module: nn.Module, _, out: torch.Tensor) -> None:
            seen[module] = out.mean((0, 2, 3)), out.var((0, 2, 3))

        hooks = [conv.register_forward_hook(measure) for conv, _, _ in loaded]
        before = net.eval().maps(sample)
        for hook in hooks:
            hook.remove()
        for conv, norm, bias in loaded:
            mean, variance = seen[conv]
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
            norm.weight.copy_((variance + norm.eps).sqrt())
            norm.bias.copy_(bias + mean)
        after = net.maps(sample)
        worst = float((before - after).abs().max() / before.abs().max())
        assert worst < 1e-3, f"the batch norms change what the network computes: {worst}"
    net.train()
    return missing

