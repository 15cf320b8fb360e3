"""Bleeds painted into real slices that show none: thousands of distinct bleeds on real anatomy, noise and artefacts.

A public set of a few dozen patients holds too few bleeds to learn from, and a phantom's anatomy is not a patient's.
Here the anatomy is real and the bleed is drawn from the seed: a lens or a crescent along the inner table, blood in the
ventricles, in the sulci and cisterns, a haematoma with its oedema. The texture of the slice stays: only its smooth part
is moved towards the density of blood. As many slices get look-alikes that are no bleeds (calcifications, a dense falx,
streaks of hardening), so that painting itself gives nothing away.

A painted slice belongs to the patient whose slice it was: the splits by patient (folds.py) keep both on one side.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from .recipe import digest, write_atomically

HALF = 2  # masks are made on every second pixel and blurred: a bleed has no edges sharper than that
# Parts of the inside of the skull, below which a bleed is not to be seen and would be a wrong label.
SMALLEST = {"epidural": 0.005, "subdural": 0.005, "intraventricular": 0.0025, "intraparenchymal": 0.0025, "subarachnoid": 0.004}
KINDS = tuple(SMALLEST)


@dataclass
class Anatomy:
    """What is known of a slice, on the coarse grid; lengths in coarse pixels."""

    hu: np.ndarray
    inside: np.ndarray  # within the skull
    depth: np.ndarray  # distance to the inner table
    fluid: np.ndarray  # cerebrospinal fluid
    radius: float  # of a disc of the same area
    angle: np.ndarray  # about the middle
    reach: np.ndarray  # distance to the middle
    middle: tuple[float, float]

    @classmethod
    def find(cls, hu: np.ndarray) -> Anatomy | None:
        """None where the skull is no closed ring about brain: the base and the vertex."""
        coarse = ndimage.uniform_filter(hu.astype(np.float32), HALF)[::HALF, ::HALF]
        bone = ndimage.binary_closing(coarse > 250, iterations=2)
        inside = ndimage.binary_fill_holes(bone) & ~bone
        smooth = ndimage.gaussian_filter(coarse, 1.0)
        inside &= (smooth > -15) & (smooth < 110)
        inside = ndimage.binary_opening(inside, iterations=3)
        labels, count = ndimage.label(inside)
        if count == 0:
            return None
        inside = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
        area = inside.sum()
        if area < 0.12 * inside.size:
            return None
        depth = ndimage.distance_transform_edt(inside).astype(np.float32)
        y, x = ndimage.center_of_mass(inside)
        yy, xx = np.mgrid[: inside.shape[0], : inside.shape[1]].astype(np.float32)
        fluid = inside & (ndimage.gaussian_filter(coarse, 1.5) < 21) & (depth > 1.5)
        return cls(
            coarse, inside, depth, fluid, float(np.sqrt(area / np.pi)), np.arctan2(yy - y, xx - x), np.hypot(yy - y, xx - x), (y, x)
        )  # fmt: skip


def _turn(angle: np.ndarray, about: float) -> np.ndarray:
    return np.abs((angle - about + np.pi) % (2 * np.pi) - np.pi)


def _ripple(a: Anatomy, rng: np.random.Generator, sigma: float) -> np.ndarray:
    """A smooth random field of unit deviation."""
    small = rng.standard_normal([max(4, int(n / sigma)) for n in a.hu.shape])
    field = ndimage.zoom(small, [n / m for n, m in zip(a.hu.shape, small.shape)], order=3, grid_mode=True, mode="nearest")
    return (field / field.std()).astype(np.float32)


def epidural(a: Anatomy, rng: np.random.Generator) -> np.ndarray:
    width = rng.uniform(0.18, 0.75)
    thickest = a.radius * rng.uniform(0.06, 0.32) * min(1.0, width / 0.4)
    t = _turn(a.angle, rng.uniform(-np.pi, np.pi)) / width
    lens = thickest * np.clip(1 - t**2, 0, None) ** rng.uniform(0.6, 1.0)
    return (a.depth < lens) & a.inside


def subdural(a: Anatomy, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.15:  # along the falx
        y, x = a.middle
        yy, xx = np.mgrid[: a.hu.shape[0], : a.hu.shape[1]]
        side = rng.choice((-1, 1))
        away = (xx - x - rng.normal(0, 0.02) * a.radius) * side
        band = (away > -1) & (away < a.radius * rng.uniform(0.03, 0.08))
        ends = np.sort(rng.uniform(-0.95, 0.95, 2))
        return band & (yy - y > ends[0] * a.radius) & (yy - y < max(ends[1], ends[0] + 0.4) * a.radius) & a.inside
    width = rng.uniform(0.6, 1.7)
    about = rng.uniform(-0.35, 0.35) * np.pi  # over one hemisphere
    if rng.random() < 0.5:
        about = np.pi - about
    t = _turn(a.angle, about) / width
    crescent = a.radius * rng.uniform(0.035, 0.17) * np.clip(1 - t**4, 0, None)
    crescent *= 1 + 0.22 * _ripple(a, rng, a.radius / 4)
    return (a.depth < crescent) & a.inside


def intraventricular(a: Anatomy, rng: np.random.Generator) -> np.ndarray:
    labels, count = ndimage.label(a.fluid & (a.depth > 0.22 * a.radius) & (a.reach < 0.65 * a.radius))
    if count == 0:
        return np.zeros_like(a.inside)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    keep = np.flatnonzero(sizes > 0.0025 * a.inside.sum())
    if len(keep) == 0:
        return np.zeros_like(a.inside)
    if rng.random() < 0.4:
        keep = rng.choice(keep, 1)
    ventricles = np.isin(labels, keep)
    if rng.random() < 0.5:
        ventricles = ndimage.binary_dilation(ventricles)
    if rng.random() < 0.6:  # a level: blood sinks to the back of a patient who lies face up
        rows = np.flatnonzero(ventricles.any(1))
        level = rows[0] + (rows[-1] - rows[0]) * rng.uniform(0.1, 0.8)
        ventricles &= (np.arange(len(ventricles)) > level)[:, None]
    return ventricles


def intraparenchymal(a: Anatomy, rng: np.random.Generator) -> np.ndarray:
    size = a.radius * np.exp(rng.uniform(np.log(0.05), np.log(0.36)))
    places = np.argwhere(a.inside & ~a.fluid & (a.depth > max(0.06 * a.radius, 0.7 * size)))
    if len(places) == 0:
        return np.zeros_like(a.inside)
    y, x = places[rng.integers(len(places))]
    yy, xx = np.mgrid[: a.hu.shape[0], : a.hu.shape[1]].astype(np.float32)
    tilt, flat = rng.uniform(0, np.pi), rng.uniform(0.55, 1.0)
    u, v = np.cos(tilt) * (xx - x) + np.sin(tilt) * (yy - y), -np.sin(tilt) * (xx - x) + np.cos(tilt) * (yy - y)
    distance = np.hypot(u, v / flat) * (1 + rng.uniform(0.05, 0.22) * _ripple(a, rng, max(3.0, size / 1.5)))
    return (distance < size) & a.inside


def subarachnoid(a: Anatomy, rng: np.random.Generator) -> np.ndarray:
    brain = np.where(a.inside, a.hu, np.median(a.hu[a.inside]))
    fine, broad = ndimage.gaussian_filter(brain, 1.0), ndimage.gaussian_filter(brain, 5.0)
    sulci = a.inside & (a.depth > 1.5) & ((fine < broad - 3) | a.fluid)
    outer = a.depth < a.radius * rng.uniform(0.15, 0.4)
    cisterns = a.fluid & (a.reach < 0.45 * a.radius)
    where = sulci & outer
    if rng.random() < 0.4:
        where = where | cisterns
    sector = _turn(a.angle, rng.uniform(-np.pi, np.pi)) < rng.uniform(0.3, 1.6)
    if rng.random() < 0.25:
        sector[:] = True
    where &= sector & (_ripple(a, rng, a.radius / 5) > rng.uniform(-2, 0.3))
    if rng.random() < 0.5:
        where = ndimage.binary_dilation(where, iterations=1) & a.inside
    return where


PAINTERS = {k: globals()[k] for k in KINDS}


def blend(hu: np.ndarray, a: Anatomy, mask: np.ndarray, density: float, rng: np.random.Generator, strength: float) -> np.ndarray:
    """hu with its smooth part moved towards density (HU) where the mask is; float32."""
    alpha = ndimage.gaussian_filter(mask.astype(np.float32), rng.uniform(0.6, 1.4)) * strength
    ripple = density + rng.uniform(0, 5) * _ripple(a, rng, max(4.0, a.radius / rng.uniform(3, 12)))
    # Smoothed over the inside alone: with bone in it, blood beside the skull would come out dark.
    weight = ndimage.gaussian_filter(a.inside.astype(np.float32), 2.0)
    smooth = ndimage.gaussian_filter(np.where(a.inside, a.hu, 0), 2.0) / np.maximum(weight, 1e-3)
    change = alpha * np.where(weight > 0.02, ripple - smooth, 0)
    full = ndimage.zoom(change, HALF, order=1, grid_mode=True, mode="nearest")
    out = hu.astype(np.float32)
    h, w = min(out.shape[0], full.shape[0]), min(out.shape[1], full.shape[1])
    out[:h, :w] += full[:h, :w]
    return out


def oedema(hu: np.ndarray, a: Anatomy, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    ring = ndimage.binary_dilation(mask, iterations=int(rng.integers(2, 8))) & ~mask & a.inside
    change = ndimage.gaussian_filter(ring.astype(np.float32), 2.0) * -rng.uniform(3, 12)
    full = ndimage.zoom(change, HALF, order=1, grid_mode=True, mode="nearest")
    h, w = min(hu.shape[0], full.shape[0]), min(hu.shape[1], full.shape[1])
    hu[:h, :w] += full[:h, :w]
    return hu


def lookalike(hu: np.ndarray, a: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """Something dense or dark that is no bleed."""
    yy, xx = np.mgrid[: a.hu.shape[0], : a.hu.shape[1]].astype(np.float32)
    y, x = a.middle
    out = hu.astype(np.float32)
    which = rng.random()
    if which < 0.4:  # calcifications: pineal and plexus, often a pair about the midline
        dy, dx = rng.uniform(-0.3, 0.45) * a.radius, rng.uniform(0, 0.35) * a.radius
        spots = np.zeros_like(a.inside)
        for side in (-1, 1) if rng.random() < 0.6 else (1,):
            r = rng.uniform(1.0, 3.2)
            spots |= np.hypot(yy - y - dy, xx - x - side * dx) < r
        return blend(out, a, spots & a.inside, rng.uniform(90, 400), rng, 1.0)
    if which < 0.6:  # the falx, or the tentorium's straight sinus
        band = (np.abs(xx - x) < rng.uniform(0.8, 2.0)) & a.inside & (np.abs(yy - y) > 0.4 * a.radius)
        return blend(out, a, band, rng.uniform(45, 65), rng, rng.uniform(0.4, 1.0))
    if which < 0.8:  # hardening: a dark or bright band across
        tilt = rng.normal(0, 0.35)
        across = (yy - y) * np.cos(tilt) + (xx - x) * np.sin(tilt) - rng.uniform(-0.6, 0.6) * a.radius
        change = rng.choice((-1, 1)) * rng.uniform(4, 14) * np.exp(-((across / rng.uniform(3, 12)) ** 2))
        change = ndimage.gaussian_filter((change * a.inside).astype(np.float32), 1.5)
    else:  # cupping: brighter towards the bone, all around
        change = rng.uniform(4, 16) * np.exp(-a.depth / rng.uniform(2, 6)) * a.inside
        change = ndimage.gaussian_filter(change.astype(np.float32), 1.0)
    full = ndimage.zoom(change, HALF, order=1, grid_mode=True, mode="nearest")
    h, w = min(out.shape[0], full.shape[0]), min(out.shape[1], full.shape[1])
    out[:h, :w] += full[:h, :w]
    return out


def painted(hu: np.ndarray, rng: np.random.Generator, bleeding_share: float) -> tuple[np.ndarray, list[str]] | None:
    """A slice with what was painted into it: HU int16 and its subtypes. None where there was no room."""
    a = Anatomy.find(hu)
    if a is None:
        return None
    out, labels = hu.astype(np.float32), []
    if rng.random() < 0.4:
        out = lookalike(out, a, rng)
    if rng.random() < bleeding_share:
        for _ in range(2 if rng.random() < 0.12 else 1):
            kind = KINDS[rng.integers(len(KINDS))]
            mask = PAINTERS[kind](a, rng)
            if mask.sum() < SMALLEST[kind] * a.inside.sum() or kind in labels:
                continue
            brain = float(np.median(a.hu[a.inside]))
            density = brain + rng.uniform(14, 45)
            if kind == "subdural" and rng.random() < 0.15:
                density = brain + rng.uniform(8, 16)
            strength = rng.uniform(0.55, 1.0) if kind == "subarachnoid" else rng.uniform(0.85, 1.0)
            if kind == "intraparenchymal" and rng.random() < 0.7:
                out = oedema(out, a, mask, rng)
            a.hu = ndimage.uniform_filter(out, HALF)[::HALF, ::HALF]
            out = blend(out, a, mask, density, rng, strength)
            labels.append(kind)
        if not labels:
            return None
    return np.clip(np.rint(out), -1024, 3071).astype(np.int16), labels


def _paint_study(source: Path, folder: Path, settings: dict, seed: int, key: str) -> int:
    record = json.loads(source.read_text())
    name = f"{record['study']}-painted"
    done = folder / f"{name}.json"
    if done.exists():
        known = json.loads(done.read_text())
        if known["key"] == key:
            return len(known["slices"])
        done.unlink()
    pixels = np.memmap(source.with_suffix(".i16"), np.int16, "r")
    rng = np.random.default_rng([seed, *record["study"].encode()])
    rows, offset = [], 0
    with open(folder / f"{name}.i16", "wb") as out:
        for row in record["slices"]:
            if row["labels"]:
                continue
            h, w = row["shape"]
            hu = pixels[row["offset"] : row["offset"] + h * w].reshape(h, w)
            for _ in range(settings["variants"]):
                result = painted(hu, rng, settings["bleeding_share"])
                if result is None:
                    continue
                patch, labels = result
                out.write(patch.tobytes())
                rows.append({**row, "offset": offset, "labels": labels, "trace": False})
                offset += patch.size
    fields = {"key": key, "study": name, "kind": "painted", "set": record["set"], "headless": 0, "slices": rows}
    write_atomically(done, json.dumps(fields))
    return len(rows)


def paint(recipe: dict, source: Path, folder: Path, workers: int) -> None:
    """Paints into the slices without a bleed of the prepared set in source; goes on where it stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    settings, seed = recipe["paint"], recipe["seed"]
    records = sorted(source.glob("*.json"))
    if not records:
        raise FileNotFoundError(f"nothing prepared in {source}: run `prepare` first")
    keys = [digest([settings, seed, json.loads(r.read_text())["key"]]) for r in records]
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(_paint_study, r, folder, settings, seed, k) for r, k in zip(records, keys)]
        slices = sum(job.result() for job in tqdm(jobs, desc="paint", unit="study"))
    print(f"{len(records)} studies: {slices} painted slices")
