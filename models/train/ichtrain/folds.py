"""Who is trained on and who is not: always whole patients.

Patients are dealt to the folds by what they bleed from, the rarest subtype first, so that four patients with a subdural
bleed do not end up in one fold. The deal depends on the names and labels alone, not on the order of the files.
"""

from __future__ import annotations

import hashlib

import numpy as np

from .data import Set

FOLDS = 5


def patient(study: str) -> str:
    """The patient of a study; a painted study belongs to the patient it was painted on."""
    return study.removesuffix("-painted")


def deal(data: Set, seed: int, folds: int = FOLDS) -> dict[str, int]:
    """Fold of each patient of a set with one study a patient."""
    bleeds = {}
    for i, name in enumerate(data.names):
        bleeds[patient(name)] = data.labels[data.study == i, 1:].sum(0)
    patients_with = np.sum([b > 0 for b in bleeds.values()], axis=0)
    order = np.argsort(patients_with, kind="stable")

    def key(name: str):
        rank = next((r for r, c in enumerate(order) if bleeds[name][c] > 0), len(order))
        return rank, hashlib.sha256(f"{seed} {name}".encode()).hexdigest()

    out: dict[str, int] = {}
    per_rank = np.zeros((len(order) + 1, folds), int)
    total = np.zeros(folds, int)
    for name in sorted(bleeds, key=key):
        rank = key(name)[0]
        fold = min(range(folds), key=lambda f: (per_rank[rank, f], total[f], f))
        out[name] = fold
        per_rank[rank, fold] += 1
        total[fold] += 1
    return out


def outside(data: Set, fold_of: dict[str, int], fold: int | None) -> np.ndarray:
    """Slices of the patients that may be trained on when this fold is held out (None: all)."""
    keep = [fold is None or fold_of[patient(n)] != fold for n in data.names]
    return np.flatnonzero(np.array(keep)[data.study])


def inside(data: Set, fold_of: dict[str, int], fold: int) -> np.ndarray:
    keep = [fold_of[patient(n)] == fold for n in data.names]
    return np.flatnonzero(np.array(keep)[data.study])


def hashed(data: Set, shares: dict[str, float], seed: int) -> dict[str, np.ndarray]:
    """Slices of train, validation, test of synthetic studies: by a hash of the study's name, so that more studies
    later move none of those already there."""
    at = np.array([int(hashlib.sha256(f"{seed} {n}".encode()).hexdigest()[:8], 16) / 2**32 for n in data.names])
    ends = np.cumsum([0.0, *shares.values()])
    ends[-1] = 1.0
    return {k: np.flatnonzero(((at >= a) & (at < b))[data.study]) for k, a, b in zip(shares, ends[:-1], ends[1:])}
