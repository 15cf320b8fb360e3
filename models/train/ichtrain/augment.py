"""Perturbations of a slice before the preprocessing: of the square crop and of the HU values, never of the steps."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from .preprocess import AIR, Square, crop

NOISE_SIDE = 640
NOISE_SIGMAS = (0.0, 0.4, 0.8, 1.2, 1.6)


class Augmenter:
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

    def __call__(self, patch: np.ndarray, s: Square, rng: np.random.Generator) -> np.ndarray:
        """A square of HU, float32 [side, side]."""
        a = self.settings
        if rng.random() < a["flip"]:
            patch = patch[:, ::-1]
            s = Square(s.top, patch.shape[1] - s.left - s.side, s.side)
        side = max(32, round(s.side * (1 + rng.uniform(-a["scale"], a["scale"]))))
        dy, dx = rng.uniform(-a["shift"], a["shift"], 2) * s.side
        s = Square(round(s.top + (s.side - side) / 2 + dy), round(s.left + (s.side - side) / 2 + dx), side)
        if rng.random() < 0.5:
            hu = rotated(patch, s, rng.uniform(-a["rotate_degrees"], a["rotate_degrees"]))
        else:
            hu = crop(np.ascontiguousarray(patch), s).astype(np.float32)
        if rng.random() < 1 / 3:
            sigma = rng.uniform(0.3, max(0.3, a["blur"]))
            hu = ndimage.gaussian_filter(hu, sigma, truncate=2.5)
        hu = hu * (1 + rng.normal(0, a["hu_scale"])) + rng.normal(0, a["hu_offset"])
        field = self.noise[rng.integers(len(self.noise))]
        if side < NOISE_SIDE:
            y, x = rng.integers(0, NOISE_SIDE - side, 2)
            hu += field[y : y + side, x : x + side][:: rng.choice((-1, 1))] * np.float32(rng.uniform(0, a["noise_hu"]))
        return hu.astype(np.float32, copy=False)


def rotated(patch: np.ndarray, s: Square, degrees: float) -> np.ndarray:
    """The square, turned about its centre; float32 [side, side], bilinear, air outside the patch."""
    h, w = patch.shape
    t = torch.from_numpy(patch.astype(np.float32)) - AIR
    c, n = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    cy, cx = s.top + s.side / 2, s.left + s.side / 2
    # affine_grid's coordinates: -1..1 over the output square, -1..1 over the patch (pixel edges).
    theta = torch.tensor(
        [
            [c * s.side / w, -n * s.side / w, 2 * cx / w - 1],
            [n * s.side / h, c * s.side / h, 2 * cy / h - 1],
        ],
        dtype=torch.float32,
    )
    grid = F.affine_grid(theta[None], [1, 1, s.side, s.side], align_corners=False)
    out = F.grid_sample(t[None, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return (out[0, 0] + AIR).numpy()
