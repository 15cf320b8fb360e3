"""From HU to model input, exactly as the daemon does it (Go package infer/pixel).

The steps, whose parameters all stand in the manifest:

1. find the head on a coarse grid: threshold, one 3x3 erosion, largest 4-connected component, its box. Where no value
   of the grid lies below the threshold, as in a slice that was exported in one window, the lowest of them is taken for
   air and the threshold of this slice is that value + 10 HU;
2. crop a square around the box with a margin; what lies outside the image is air;
3. window the crop in HU, one channel a window, to 0..1;
4. resample each channel to the input size with the antialiased triangle filter;
5. normalise.

Training perturbs the square and the HU values (data.py), never these steps. Both sides agree within 1e-4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

AIR = -1024
GRID = 128  # cells along the shorter side of the image, at least
CLIPPED_AIR = 10  # HU by which the head stands out at least from air that an export has cut off
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])


class NoHead(ValueError):
    """No component large enough to be a head: the slice is not analysed."""


@dataclass(frozen=True)
class Box:
    """Pixels of the head, both ends included."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def height(self) -> int:
        return self.y1 - self.y0 + 1

    @property
    def width(self) -> int:
        return self.x1 - self.x0 + 1


@dataclass(frozen=True)
class Square:
    """The crop: may reach beyond the image."""

    top: int
    left: int
    side: int


def find_head(hu: np.ndarray, threshold: float, minimum_area: float) -> Box:
    """Box of the head in hu [rows, columns]. Raises NoHead."""
    rows, columns = hu.shape
    step = max(1, min(rows, columns) // GRID)
    grid = hu[::step, ::step]
    lowest = int(grid.min())
    if lowest >= threshold:
        threshold = lowest + CLIPPED_AIR
    mask = grid >= threshold
    mask = ndimage.binary_erosion(mask, structure=np.ones((3, 3), bool), border_value=0)
    labels, count = ndimage.label(mask, structure=CROSS)
    if count == 0:
        raise NoHead("nothing above the threshold")
    # Labels are numbered in raster order, and argmax takes the first of equals: the tie rule of the contract.
    cells = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    best = int(np.argmax(cells))
    if cells[best] < minimum_area * mask.size:
        raise NoHead(f"largest component has {cells[best]} of {mask.size} cells")
    ys, xs = ndimage.find_objects(labels)[best]
    # One cell more on each side undoes the erosion; a cell stands for step x step pixels.
    return Box(
        y0=max(0, (ys.start - 1) * step),
        x0=max(0, (xs.start - 1) * step),
        y1=min(rows, (ys.stop + 1) * step) - 1,
        x1=min(columns, (xs.stop + 1) * step) - 1,
    )


def square(box: Box, margin: float) -> Square:
    side = math.floor(max(box.height, box.width) * (1 + 2 * margin) + 0.5)  # halves up, as Go's math.Round
    return Square(
        top=(box.y0 + box.y1 + 1 - side) // 2,
        left=(box.x0 + box.x1 + 1 - side) // 2,
        side=side,
    )


def crop(hu: np.ndarray, s: Square) -> np.ndarray:
    """The square of hu, int16 [side, side], air outside the image."""
    rows, columns = hu.shape
    out = np.full((s.side, s.side), AIR, hu.dtype)
    y0, y1 = max(0, s.top), min(rows, s.top + s.side)
    x0, x1 = max(0, s.left), min(columns, s.left + s.side)
    if y0 < y1 and x0 < x1:
        out[y0 - s.top : y1 - s.top, x0 - s.left : x1 - s.left] = hu[y0:y1, x0:x1]
    return out


class Preprocessor:
    """Steps 1 to 5 for one manifest (a dict as read from YAML); size, for training alone, in place of the manifest's."""

    def __init__(self, manifest: dict, size: int | None = None):
        c = manifest["crop"]
        self.threshold, self.margin, self.minimum_area = c["threshold"], c["margin"], c["minimum_area"]
        if manifest["resample"] != "triangle":
            raise ValueError(f"resample: {manifest['resample']!r} is not known; triangle is")
        self.size = (size, size) if size else (manifest["input"]["height"], manifest["input"]["width"])
        w = manifest["windows"]
        shape = (len(w), 1, 1)
        self.low = torch.tensor([x["centre"] - x["width"] / 2 for x in w], dtype=torch.float32).reshape(shape)
        self.range = torch.tensor([x["width"] for x in w], dtype=torch.float32).reshape(shape)
        n = manifest["normalisation"]
        self.mean = torch.tensor(n["mean"], dtype=torch.float32).reshape(shape)
        self.std = torch.tensor(n["std"], dtype=torch.float32).reshape(shape)

    def locate(self, hu: np.ndarray) -> Square:
        return square(find_head(hu, self.threshold, self.minimum_area), self.margin)

    def windows(self, hu: np.ndarray | torch.Tensor, exact: bool = True) -> torch.Tensor:
        """Steps 3 to 5 on a cropped square [side, side]; float32 [channels, height, width].

        The daemon computes the weights of step 4 in float64, torch in the type of the values: exact=False takes
        float32, which is off by some 1e-6 and twice as fast, enough for training."""
        t = torch.as_tensor(hu).to(torch.float32)
        v = ((t - self.low) / self.range).clamp_(0, 1)
        v = F.interpolate(
            v[None].double() if exact else v[None], size=self.size, mode="bilinear", antialias=True, align_corners=False
        )[0]
        return (v.float() - self.mean) / self.std

    def __call__(self, hu: np.ndarray) -> torch.Tensor:
        """hu int16 [rows, columns] -> float32 [channels, height, width]. Raises NoHead."""
        return self.windows(crop(hu, self.locate(hu)))
