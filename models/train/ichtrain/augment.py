"""Perturbations of a slice before the preprocessing: of the square crop and of the HU values, never of the steps.

What differs between hospitals is perturbed: size and place of the head, resolution and kernel, noise, the scale of the
HU, exports that kept one window in 8 bits, table and head holder. Rotation alone comes after the windows, where it is
cheap.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from .preprocess import Preprocessor, Square, crop

NOISE_SIDE = 640
NOISE_SIGMAS = (0.0, 0.4, 0.8, 1.2, 1.6)


class Augmenter:
    """Settings (recipe, `augmentation`) say how often and how much; see the comments there."""

    def __init__(self, settings: dict):
        self.settings = settings
        # Correlated noise is dear; a few fields, shifted and flipped, serve all slices.
        rng = np.random.default_rng(1)
        self.noise = []
        for sigma in NOISE_SIGMAS:
            if sigma > settings["noise_blur"] + 1e-9:
                break
            field = rng.standard_normal((NOISE_SIDE, NOISE_SIDE)).astype(np.float32)
            field = ndimage.gaussian_filter(field, sigma, mode="wrap") if sigma else field
            self.noise.append(field / field.std())

    def __call__(self, patch: np.ndarray, s: Square, pre: Preprocessor, rng: np.random.Generator) -> torch.Tensor:
        """Model input float32 [channels, height, width] of a perturbed slice."""
        a = self.settings
        if rng.random() < a["flip"]:
            patch = patch[:, ::-1]
            s = Square(s.top, patch.shape[1] - s.left - s.side, s.side)
        side = max(32, round(s.side * (1 + rng.uniform(-a["scale"], a["scale"]))))
        dy, dx = rng.uniform(-a["shift"], a["shift"], 2) * s.side
        s = Square(round(s.top + (s.side - side) / 2 + dy), round(s.left + (s.side - side) / 2 + dx), side)
        hu = crop(np.ascontiguousarray(patch), s).astype(np.float32)
        if rng.random() < a["bare"]:
            hu = without_surroundings(hu)
        # Fine slices always lose some resolution: it is a perturbation of its own, and what follows costs half as much.
        finest = min(len(hu), a["resolution"]["finest"])
        often = rng.random() < a["resolution"]["often"]
        hu = coarser(hu, max(96, round(finest * (rng.uniform(a["resolution"]["least"], 1) if often else rng.uniform(0.8, 1)))))
        if rng.random() < a["sharpen"]["often"]:
            hu += rng.uniform(-0.7, a["sharpen"]["most"]) * (hu - ndimage.uniform_filter(hu, 3))
        hu = hu * np.float32(1 + rng.normal(0, a["hu_scale"])) + np.float32(rng.normal(0, a["hu_offset"]))
        if len(hu) < NOISE_SIDE:
            field = self.noise[rng.integers(len(self.noise))]
            y, x = rng.integers(0, NOISE_SIDE - len(hu), 2)
            hu += field[y : y + len(hu), x : x + len(hu)][:: rng.choice((-1, 1))] * np.float32(rng.uniform(0, a["noise_hu"]))
        if rng.random() < a["exported"]:
            hu = exported(hu, rng)
        t = pre.windows(hu, exact=False)
        if rng.random() < a["rotate"]["often"]:
            t = rotated(t, rng.uniform(-1, 1) * a["rotate"]["degrees"])
        return t


def coarser(hu: np.ndarray, side: int) -> np.ndarray:
    if side >= len(hu):
        return hu
    t = torch.from_numpy(np.ascontiguousarray(hu))[None, None]
    return F.interpolate(t, size=(side, side), mode="bilinear", antialias=True, align_corners=False)[0, 0].numpy()


def without_surroundings(hu: np.ndarray) -> np.ndarray:
    """Air outside the ellipse that the head fills: no table, no head holder, no fingers."""
    n = len(hu)
    r = ((np.arange(n, dtype=np.float32) + 0.5) / n * 2 - 1) ** 2
    return np.where(r[:, None] + r[None, :] > 1.02, np.float32(-1000), hu)


def exported(hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What is left of a slice that was exported as 8 bits of one window around the brain."""
    low, high = rng.uniform(-40, 5), rng.uniform(70, 140)
    step = (high - low) / 255
    return np.rint((np.clip(hu, low, high) - low) / step) * step + low


def rotated(t: torch.Tensor, degrees: float) -> torch.Tensor:
    """[channels, height, width] turned about the middle; the darkest of each channel, air, comes in at the corners."""
    c, n = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    grid = F.affine_grid(torch.tensor([[[c, -n, 0.0], [n, c, 0.0]]]), [1, *t.shape], align_corners=False)
    air = t.amin((1, 2), keepdim=True)
    return F.grid_sample((t - air)[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0] + air
