"""Two recipes that answer as one, as Go package infer/ensemble lets their models: what they reach in cross-validation.

Their folds hold the same patients out, so that nobody is judged by a run that has seen him.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from . import metrics
from .crossval import HeldOut, aucs, choose, judge
from .recipe import write_atomically

FILE = "ensemble.json"


def mean_log_odds(p: np.ndarray) -> np.ndarray:
    """The probability whose log-odds are the mean of those along the first axis."""
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return 1 / (1 + np.exp(-np.log(p / (1 - p)).mean(0)))


def together(members: list[HeldOut]) -> HeldOut:
    first = members[0]
    for m in members[1:]:
        if m.data.names != first.data.names or not np.array_equal(m.fold, first.fold):
            raise SystemExit("the recipes hold out other patients: they need the same data and seed")
    return HeldOut(first.data, first.fold, mean_log_odds(np.stack([m.probabilities for m in members])))


def choose_together(members: list[HeldOut], slices: np.ndarray, rule: dict, goals: list[dict]) -> list[dict]:
    """Each member's own thresholds, averaged: a site that takes two models has only what their manifests say."""

    def mean(values: list[float]) -> float:
        return float(mean_log_odds(np.array(values)))

    out = []
    for chosen in zip(*(choose(m, slices, rule, goals) for m in members)):
        point: dict = {"thresholds": {c: mean([t["thresholds"][c] for t in chosen]) for c in chosen[0]["thresholds"]}}
        if "study_threshold" in chosen[0]:
            point["study_threshold"] = mean([t["study_threshold"] for t in chosen])
        out.append(point)
    return out


def ensemble(recipes: list[dict], works: list[Path]) -> None:
    """Writes run/ensemble.json beside every member: what the cards and the handbook quote."""
    members = [HeldOut.load(r, w) for r, w in zip(recipes, works)]
    m = recipes[0]["manifest"]
    rule = m["study_rule"]
    if any(r["manifest"]["study_rule"] != rule for r in recipes):
        raise SystemExit("the recipes have different study rules: their models cannot answer together")
    h = together(members)
    goals = recipes[0]["operating_points"]
    expected = judge(h, m, lambda there: choose_together(members, there, rule, goals))
    points = [{"name": o["name"], "expected": e} for o, e in zip(goals, expected)]
    figures = {"members": [r["name"] for r in recipes], "auc": aucs(h, rule), "operating_points": points}
    for w in works:
        write_atomically(w / "run" / FILE, json.dumps(figures, indent=1))
    for name, (value, low, high) in figures["auc"].items():
        print(f"{name:18} AUC {value:.3f} ({low:.3f}-{high:.3f})")
    for o in points:
        print(o["name"], "study", o["expected"]["study"], "slice any", o["expected"]["slice"]["any"])
