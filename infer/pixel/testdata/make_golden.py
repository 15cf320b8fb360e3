"""Golden vectors for the preprocessing of infer/pixel: golden.json and golden.bin.gz.

Written from the manifest's text with other means than the Go code (scipy, torch), and from nothing else in
this repository. Needs numpy, scipy, torch:

    python make_golden.py
"""

import gzip
import json
import math
import pathlib

import numpy as np
import torch
from scipy import ndimage

WINDOWS = [(40, 80), (80, 200), (600, 2800)]
THRESHOLD, MARGIN, MINIMUM_AREA = -300, 0.06, 0.04
MEAN, STD = [0.5, 0.45, 0.4], [0.25, 0.2, 0.3]


def head(rows, columns, cy, cx, ry, rx, seed, table=None, fill=-1000):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:rows, 0:columns].astype(float)
    d = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2
    hu = np.full((rows, columns), float(fill))
    inside = d < 1
    hu[inside] = 900
    brain = d < 0.8
    texture = ndimage.gaussian_filter(rng.normal(size=(rows, columns)), 3) * 60
    hu[brain] = (34 + texture)[brain]
    bleed = ((y - cy + 0.3 * ry) / (0.25 * ry)) ** 2 + ((x - cx - 0.3 * rx) / (0.2 * rx)) ** 2 < 1
    hu[bleed & brain] += 35
    if table is not None:
        hu[table : table + 3] = 60
    return np.rint(hu).astype(np.int16)


def find_head(hu):
    rows, columns = hu.shape
    s = max(1, min(rows, columns) // 128)
    grid = hu[::s, ::s]
    threshold = THRESHOLD if (grid < THRESHOLD).any() else int(grid.min()) + 10
    mask = grid >= threshold
    padded = np.pad(mask, 1)  # outside counts as not set
    eroded = np.ones_like(mask)
    for dy in range(3):
        for dx in range(3):
            eroded &= padded[dy : dy + mask.shape[0], dx : dx + mask.shape[1]]
    labels, n = ndimage.label(eroded)  # four neighbours; numbered in raster order
    if n == 0:
        return None
    cells = [int((labels == k).sum()) for k in range(1, n + 1)]
    k = cells.index(max(cells)) + 1
    if cells[k - 1] < MINIMUM_AREA * mask.size:
        return None
    ys, xs = np.nonzero(labels == k)
    top, bottom = max(0, (ys.min() - 1) * s), min(rows, (ys.max() + 2) * s) - 1
    left, right = max(0, (xs.min() - 1) * s), min(columns, (xs.max() + 2) * s) - 1
    return [int(v) for v in (top, left, bottom, right)]


def model_input(hu, box, height, width):
    top, left, bottom, right = box
    side = math.floor(max(bottom - top + 1, right - left + 1) * (1 + 2 * MARGIN) + 0.5)
    y0, x0 = (top + bottom + 1 - side) // 2, (left + right + 1 - side) // 2
    pad = side
    air = np.pad(hu, pad, constant_values=-1024)
    cut = air[y0 + pad : y0 + pad + side, x0 + pad : x0 + pad + side].astype(np.float32)
    channels = []
    for (centre, range_), mean, std in zip(WINDOWS, MEAN, STD, strict=True):
        v = np.clip((cut - np.float32(centre - range_ / 2)) / np.float32(range_), 0, 1)
        t = torch.nn.functional.interpolate(
            torch.from_numpy(v)[None, None], size=(height, width), mode="bilinear", antialias=True, align_corners=False
        )[0, 0].numpy()
        channels.append((t - np.float32(mean)) / np.float32(std))
    return [y0, x0, side], np.stack(channels).astype(np.float32)


def two_squares(gap):
    hu = np.full((100, 90), -1000, np.int16)
    hu[10:40, 50:80] = 40
    hu[40 + gap : 70 + gap, 5:35] = 40
    return hu


def ring():
    y, x = np.mgrid[0:120, 0:120]
    r = np.hypot(y - 60, x - 60)
    return np.where((r > 45) & (r < 46.5), 900, -1000).astype(np.int16)


# name, HU, height, width, every how-manieth value of the expected input is kept along both sides
CASES = [
    ("small, enlarged", head(64, 64, 31, 33, 24, 19, 1), 56, 56, 1),
    ("odd sizes", head(97, 131, 47.5, 66, 38, 33, 2), 32, 48, 1),
    ("touches the left edge, table", head(150, 200, 70, 30, 52, 44, 3, table=133), 40, 40, 1),
    ("fills the slice", head(128, 129, 64, 64, 90, 90, 4), 32, 32, 1),
    ("grid of every second pixel", head(301, 263, 150, 128, 110, 90, 5, table=285), 64, 56, 1),
    ("grid of every third pixel, tall", head(420, 385, 200, 190, 170, 150, 6), 224, 224, 7),
    ("shrunk far", head(200, 180, 100, 90, 85, 75, 7), 16, 20, 1),
    ("size of the model, no multiple of four", head(120, 120, 60, 60, 50, 45, 8), 35, 33, 1),
    ("padding around the circle", head(140, 140, 70, 70, 50, 42, 9, fill=-2048), 32, 32, 1),
    ("two alike: the first in raster order", two_squares(3), 24, 24, 1),
    ("nothing but air", np.full((80, 80), -1000, np.int16), 24, 24, 1),
    ("a ring that the erosion takes away", ring(), 24, 24, 1),
    ("too small for a head", head(160, 160, 80, 80, 17, 15, 10), 24, 24, 1),
    ("air clipped at 0 HU, grid of every second pixel", np.clip(head(270, 300, 130, 160, 100, 80, 11), 0, 80), 32, 32, 1),
    ("air clipped, no head", np.full((80, 80), -20, np.int16), 24, 24, 1),
]


def main():
    here = pathlib.Path(__file__).parent
    index, data = [], b""
    for name, hu, height, width, stride in CASES:
        case = {"name": name, "rows": hu.shape[0], "columns": hu.shape[1], "height": height, "width": width, "stride": stride}
        data += hu.astype("<i2").tobytes()
        box = find_head(hu)
        if box is not None:
            square, expected = model_input(hu, box, height, width)
            data += np.ascontiguousarray(expected[:, ::stride, ::stride]).astype("<f4").tobytes()
            case |= {"box": box, "square": square}
        index.append(case)
    (here / "golden.json").write_text(json.dumps({
        "windows": [{"centre": c, "width": w} for c, w in WINDOWS],
        "crop": {"threshold": THRESHOLD, "margin": MARGIN, "minimum_area": MINIMUM_AREA},
        "mean": MEAN, "std": STD, "cases": index,
    }, indent=1) + "\n")
    (here / "golden.bin.gz").write_bytes(gzip.compress(data, 9, mtime=0))


main()
