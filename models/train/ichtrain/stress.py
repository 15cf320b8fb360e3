"""Stand-ins for other hospitals: the held-out patients again, changed as other sites' images differ.

A network that leans on a shortcut (the table, the borders of a window, the traces of JPEG, one hospital's noise) keeps
its figures in cross-validation and loses them here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from tqdm import tqdm

from . import folds, metrics
from .augment import coarser, without_surroundings
from .data import Set
from .export import trained
from .preprocess import Preprocessor
from .recipe import write_atomically
from .stages import PATIENTS

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]

CHANGES: dict[str, Change] = {
    "as it is": lambda hu, rng: hu,
    "no table, no head holder": lambda hu, rng: without_surroundings(hu),
    "8 bits of the window 40/80": lambda hu, rng: np.rint(np.clip(hu, 0, 80) * (255 / 80)) * (80 / 255),
    "half the resolution": lambda hu, rng: coarser(hu, len(hu) // 2),
    "smoothed": lambda hu, rng: ndimage.gaussian_filter(hu, 1.2),
    "sharpened": lambda hu, rng: hu + 1.0 * (hu - ndimage.uniform_filter(hu, 3)),
    "noise of 8 HU": lambda hu, rng: hu + 8 * rng.standard_normal(hu.shape, np.float32),
    "5 HU more": lambda hu, rng: hu + 5,
    "5 HU less": lambda hu, rng: hu - 5,
    "mirrored": lambda hu, rng: hu[:, ::-1].copy(),
}


def stress(recipe: dict, work: Path, every: int = 2) -> None:
    """AUC of any hemorrhage on every second held-out slice under each change; run/stress.json."""
    data = Set(work / PATIENTS, recipe)
    fold_of = folds.deal(data, recipe["seed"])
    pre = Preprocessor(recipe["manifest"])
    indices = np.arange(0, len(data), every)
    fold = np.array([fold_of[n] for n in data.names])[data.study[indices]]
    nets = [trained(recipe, work / "run" / f"fold-{k}").eval().to(memory_format=torch.channels_last) for k in range(folds.FOLDS)]
    out = {}
    for name, change in CHANGES.items():
        rng = np.random.default_rng(recipe["seed"])
        scores = np.zeros((len(indices), len(data.classes)))
        for k in tqdm(range(folds.FOLDS), desc=name, unit="fold"):
            here = np.flatnonzero(fold == k)
            for part in np.array_split(here, max(1, len(here) // 32)):
                x = torch.stack([pre.windows(change(data.square(int(indices[i])).astype(np.float32), rng)) for i in part])
                with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                    scores[part] = nets[k](x.to(memory_format=torch.channels_last)).float().softmax(1).numpy()
        out[name] = metrics.slice_aucs(scores, data.labels[indices], data.classes)
        print(f"{name:28} any {out[name]['any']:.3f}")
    write_atomically(work / "run" / "stress.json", json.dumps(out, indent=1))
