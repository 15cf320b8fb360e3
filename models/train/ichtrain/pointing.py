"""Whether the class activation maps fall on the bleeds: bleeds painted, with known outlines, into held-out patients.

The peak of the map of the painted subtype counts as a hit where its cell, or one beside it, touches the bleed. Chance is
the share of cells over the head for which that is so.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from . import folds
from .data import Set
from .export import trained
from .model import WithCAM
from .paint import HALF, KINDS, PAINTERS, Anatomy, blend
from .preprocess import Preprocessor, Square, crop
from .recipe import write_atomically
from .stages import PATIENTS


def example(hu: np.ndarray, kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
    """A slice with a bleed of that kind, and the bleed's outline at full size; None where there is no room."""
    a = Anatomy.find(hu)
    if a is None:
        return None
    mask = PAINTERS[kind](a, rng)
    if mask.sum() < 0.004 * a.inside.sum():
        return None
    out = blend(hu, a, mask, float(np.median(a.hu[a.inside])) + rng.uniform(20, 40), rng, 0.95)
    full = np.zeros(hu.shape, bool)
    large = np.kron(mask, np.ones((HALF, HALF), bool))[: hu.shape[0], : hu.shape[1]]
    full[: large.shape[0], : large.shape[1]] = large
    return out, full


def pointing(recipe: dict, work: Path, a_fold: int = 80) -> None:
    """Writes run/pointing.json: of each subtype how many were painted, found (the class more probable than not being
    flagged at all), pointed at, and what chance would give."""
    data = Set(work / PATIENTS, recipe)
    fold_of = folds.deal(data, recipe["seed"])
    pre = Preprocessor(recipe["manifest"])
    rng = np.random.default_rng(recipe["seed"])
    tally = {k: {"painted": 0, "found": 0, "hits": 0, "chance": 0.0} for k in KINDS}
    for k in tqdm(range(folds.FOLDS), desc="pointing", unit="fold"):
        net = WithCAM(trained(recipe, work / "run" / f"fold-{k}")).eval()
        here = folds.inside(data, fold_of, k)
        calm = rng.permutation(here[data.labels[here, 0]])
        done = 0
        for i in calm:
            if done == a_fold:
                break
            kind = KINDS[done % len(KINDS)]
            patch, s = data.patch(int(i))
            made = example(np.asarray(patch), kind, rng)
            if made is None:
                continue
            done += 1
            hu, mask = made
            with torch.inference_mode():
                logits, cam = net(pre.windows(crop(hu, Square(s.top, s.left, s.side)))[None])
            c = data.classes.index(kind)
            square = crop(mask.astype(np.int16) * 2000 - 1000, s) > 0  # outside the image: none
            near = F.max_pool2d(torch.from_numpy(square)[None, None].float(), 3, 1, 1)
            cells = F.adaptive_max_pool2d(near, cam.shape[2:])
            cells = F.max_pool2d(cells, 3, 1, 1)[0, 0].numpy() > 0
            peak = np.unravel_index(int(cam[0, c].argmax()), cam.shape[2:])
            t = tally[kind]
            t["painted"] += 1
            if logits.softmax(1)[0, 0] < 0.5:
                t["found"] += 1
                t["hits"] += bool(cells[peak])
                t["chance"] += float(cells.mean())
    for name, t in tally.items():
        t["chance"] = round(t["chance"] / max(1, t["found"]), 3)
        print(f"{name:18} {t}")
    write_atomically(work / "run" / "pointing.json", json.dumps(tally, indent=1))
