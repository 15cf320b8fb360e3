"""Prepared studies: the head of every slice in HU, kept at full resolution.

`prepare` writes one pair of files a study: NAME.i16 (the patches, int16, one after the other) and NAME.json (where
each lies, its square crop within the patch, its truth). The JSON is written last: a study that has one is finished,
and a run that was stopped goes on with the next.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from . import sources
from .preprocess import AIR, NoHead, Preprocessor, Square, crop
from .recipe import digest, write_atomically


def _prepare_study(study: sources.Study, manifest: dict, ring: float, folder: Path, key: str) -> tuple[int, int]:
    """Returns slices with a head and slices without one."""
    done = folder / f"{study.name}.json"
    if done.exists():
        known = json.loads(done.read_text())
        if known["key"] == key:
            return len(known["slices"]), known["headless"]
        done.unlink()
    pre = Preprocessor(manifest)
    rows, headless, offset = [], 0, 0
    with open(folder / f"{study.name}.i16", "wb") as out:
        for s in study.slices:
            hu, position = sources.read(s.path)
            try:
                sq = pre.locate(hu)
            except NoHead:
                headless += 1
                continue
            # The patch is the part of the image within the square and its ring; outside is air for the crop anyway.
            r = round(sq.side * ring)
            y0, y1 = max(0, sq.top - r), min(hu.shape[0], sq.top + sq.side + r)
            x0, x1 = max(0, sq.left - r), min(hu.shape[1], sq.left + sq.side + r)
            patch = np.ascontiguousarray(hu[y0:y1, x0:x1])
            out.write(patch.tobytes())
            rows.append(
                {
                    "file": s.path.name,
                    "position": s.position if position is None else position,
                    "offset": offset,
                    "shape": patch.shape,
                    "origin": [y0, x0],  # of the patch in the image
                    "square": [sq.top - y0, sq.left - x0, sq.side],
                    "labels": [c for c in sources.SUBTYPES if s.labels[c]],
                    "trace": s.trace,
                }
            )
            offset += patch.size
    rows.sort(key=lambda row: row["position"])
    record = {"key": key, "study": study.name, "kind": study.kind, "set": study.set, "headless": headless, "slices": rows}
    write_atomically(done, json.dumps(record))
    return len(rows), headless


def prepare(recipe: dict, kind: str, folders: list[Path], folder: Path, workers: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    studies = sources.open_sources(kind, folders)
    ring = recipe["data"]["ring"]
    base = {"crop": recipe["manifest"]["crop"], "ring": ring, "format": 4}
    # A set that was written anew has other file times.
    keys = [digest([base, [(s.path.name, s.path.stat().st_mtime_ns, s.labels, s.trace) for s in t.slices]]) for t in studies]
    slices = headless = 0
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(_prepare_study, t, recipe["manifest"], ring, folder, k) for t, k in zip(studies, keys)]
        for job in tqdm(jobs, desc=f"prepare {kind}", unit="study"):
            a, b = job.result()
            slices, headless = slices + a, headless + b
    names = {t.name for t in studies}
    for left in folder.glob("*.json"):  # of a set that was here before
        if left.stem not in names:
            left.with_suffix(".i16").unlink(missing_ok=True)
            left.unlink()
    print(f"{len(studies)} studies: {slices} slices with a head, {headless} without one")


class Set:
    """The prepared studies of a folder, flattened to slices; arrays run over slices in study and position order."""

    def __init__(self, folder: Path, recipe: dict):
        records = [json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))]
        if not records:
            raise FileNotFoundError(f"nothing prepared in {folder}: run `prepare` first")
        self.classes: list[str] = recipe["manifest"]["classes"]
        self.names = [r["study"] for r in records]
        self.kinds = [r["kind"] for r in records]
        self.sets = [r["set"] for r in records]
        self.rows = [row for r in records for row in r["slices"]]
        self.study = np.array([i for i, r in enumerate(records) for _ in r["slices"]])
        self.labels = np.zeros((len(self.rows), len(self.classes)), bool)  # [slices, classes], normal first
        for i, row in enumerate(self.rows):
            for c in row["labels"]:
                self.labels[i, self.classes.index(c)] = True
        self.labels[:, 0] = ~self.labels[:, 1:].any(1)
        self.position = np.array([r["position"] for r in self.rows])
        # Too little blood to be asked for, too much to be called normal.
        self.doubtful = np.array([r["trace"] for r in self.rows])
        self.study_bleeds = np.array([self.labels[self.study == i, 1:].any() for i in range(len(records))])
        self._folder = folder
        self._maps: dict[int, np.memmap] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def patch(self, i: int) -> tuple[np.ndarray, Square]:
        """HU int16 of slice i, and its square crop within it."""
        s, row = int(self.study[i]), self.rows[i]
        if s not in self._maps:
            self._maps[s] = np.memmap(self._folder / f"{self.names[s]}.i16", np.int16, "r")
        h, w = row["shape"]
        return self._maps[s][row["offset"] : row["offset"] + h * w].reshape(h, w), Square(*row["square"])

    def merged(self, i: int, rng: np.random.Generator) -> np.ndarray:
        """HU of slice i with a part of the slice above or below it, as a thicker slice shows them; int16, the patch's
        shape. As it is where that slice would bring in a bleed that slice i does not show."""
        patch, _ = self.patch(i)
        j = i + int(rng.choice((-1, 1)))
        if not 0 <= j < len(self) or self.study[j] != self.study[i] or (self.labels[j, 1:] & ~self.labels[i, 1:]).any():
            return patch
        other, (y, x) = self.patch(j)[0], np.subtract(self.rows[j]["origin"], self.rows[i]["origin"])
        there = np.full(patch.shape, AIR, np.float32)
        y0, y1 = max(0, y), min(patch.shape[0], y + other.shape[0])
        x0, x1 = max(0, x), min(patch.shape[1], x + other.shape[1])
        there[y0:y1, x0:x1] = other[y0 - y : y1 - y, x0 - x : x1 - x]
        weight = np.float32(rng.uniform(0.15, 0.45))
        return np.rint(patch * (1 - weight) + there * weight).astype(np.int16)

    def square(self, i: int) -> np.ndarray:
        return crop(*self.patch(i))


def targets(labels: np.ndarray, smoothing: float = 0.0) -> np.ndarray:
    """Softmax targets [slices, classes]: a slice with several subtypes shares the probability evenly among them."""
    t = labels.astype(np.float32)
    t /= t.sum(1, keepdims=True)
    return t * (1 - smoothing) + smoothing / t.shape[1]
