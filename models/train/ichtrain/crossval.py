"""What cross-validation by patient says: every patient is judged by the run that has not seen him.

Figures, operating points and the paper's protocol all come from the scores that `transfer --fold K` left beside its
weights. A threshold that is judged on the patients it was chosen from looks better than it is: each fold's decisions
use thresholds chosen on the other four. The runs that scored those had learnt from the fold's patients: without runs
that hold out two folds, so much is left.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import folds, metrics
from .data import Set
from .recipe import write_atomically
from .stages import PATIENTS


@dataclass
class HeldOut:
    """Scores of all patients, each from the fold that held him out."""

    data: Set
    fold: np.ndarray  # of each slice
    probabilities: np.ndarray  # [slices, classes]

    @classmethod
    def load(cls, recipe: dict, work: Path, name: str = "held-out.npz") -> HeldOut:
        data = Set(work / PATIENTS, recipe)
        fold_of = folds.deal(data, recipe["seed"])
        fold = np.array([fold_of[n] for n in data.names])[data.study]
        p = np.full((len(data), len(data.classes)), np.nan)
        for k in range(folds.FOLDS):
            path = work / "run" / f"fold-{k}" / name
            if not path.exists():
                raise FileNotFoundError(f"{path} is not there: run `transfer --fold {k}` first")
            scores = np.load(path)
            if not np.array_equal(scores["indices"], np.flatnonzero(fold == k)):
                raise SystemExit(f"{path} is of other patients: the data or the seed changed since")
            p[scores["indices"]] = scores["probabilities"]
        return cls(data, fold, p)


def study_table(h: HeldOut, rule: dict, slices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the patients of some slices: their numbers, their study scores [patients, classes] with that of any hemorrhage
    first, whether they bleed."""
    patients = np.unique(h.data.study[slices])
    members = [slices[h.data.study[slices] == s] for s in patients]
    scores = [metrics.study_scores(h.data.position[m], h.probabilities[m], rule) for m in members]
    return patients, np.array(scores), h.data.study_bleeds[patients]


def choose(h: HeldOut, slices: np.ndarray, rule: dict, goals: list[dict]) -> list[dict]:
    """Thresholds of operating points, in order, from some slices."""
    _, scores, bleeds = study_table(h, rule, slices)
    calm = h.probabilities[slices[h.data.labels[slices, 0]]]
    points = [{"name": o["name"], **metrics.choose_point(calm, scores, bleeds, h.data.classes, o, rule)} for o in goals]
    for line in metrics.raise_in_order(points):
        print("to keep the operating points in order,", line)
    return points


def judge(h: HeldOut, manifest: dict, choose_from: Callable[[np.ndarray], list[dict]]) -> list[dict]:
    """What the thresholds of each operating point that choose_from(slices) gives do to patients they were not chosen on:
    metrics.assess over all folds."""
    chosen = [choose_from(np.flatnonzero(h.fold != k)) for k in range(folds.FOLDS)]
    return [judge_point(h, manifest, [points[i] for points in chosen]) for i in range(len(chosen[0]))]


def judge_point(h: HeldOut, manifest: dict, of_folds: list[dict]) -> dict:
    """The same of one operating point, whose thresholds each fold got from the others."""
    flags = {k: [] for k in ("hit", "truth", "study", "bleeds", "positive", "analysed")}
    for k, chosen in enumerate(of_folds):
        here = np.flatnonzero(h.fold == k)
        at = np.array([chosen["thresholds"][c] for c in h.data.classes[1:]])
        p, labels = h.probabilities[here], h.data.labels[here]
        hit = p[:, 1:] >= at
        flags["hit"].append(np.column_stack([hit.any(1), hit]))
        flags["study"].append(h.data.study[here])
        flags["truth"].append(np.column_stack([~labels[:, 0], labels[:, 1:]]))
        for s in np.unique(h.data.study[here]):
            m = h.data.study[here] == s
            d = metrics.decide(h.data.position[here][m], p[m], manifest, chosen)
            flags["bleeds"].append(h.data.study_bleeds[s])
            flags["positive"].append(d.positive)
            flags["analysed"].append(d.analysed)
    hit, truth, study = (np.concatenate(flags[k]) for k in ("hit", "truth", "study"))

    def pair(hit: np.ndarray, truth: np.ndarray, study: np.ndarray) -> dict:
        return {
            "sensitivity": [round(v, 3) for v in metrics.share(hit[truth], study[truth])],
            "specificity": [round(v, 3) for v in metrics.share(~hit[~truth], study[~truth])],
        }

    names, analysed = ["any", *h.data.classes[1:]], np.array(flags["analysed"])
    return {
        "slice": {n: pair(hit[:, i], truth[:, i], study) for i, n in enumerate(names)},
        # What is not analysed raises no alert, and counts as missed where it bleeds.
        "study": pair(np.array(flags["positive"]), np.array(flags["bleeds"]), np.arange(len(analysed))),
        "not analysed": int((~analysed).sum()),
    }


def operating_points(h: HeldOut, manifest: dict, goals: list[dict]) -> list[dict]:
    """Thresholds from everybody, and what is expected of them."""
    rule = manifest["study_rule"]
    points = choose(h, np.arange(len(h.data)), rule, goals)
    expected = judge(h, manifest, lambda there: choose(h, there, rule, goals))
    return [{**o, "expected": e} for o, e in zip(points, expected)]


def aucs(h: HeldOut, rule: dict) -> dict[str, list[float]]:
    """Slice AUC of each class and of any hemorrhage, and that of patients, with 95 % intervals over patients."""
    labels, p = h.data.labels, h.probabilities
    everything = np.arange(len(p))
    slice_figures = metrics.slice_aucs(p, labels, h.data.classes)
    intervals = metrics.bootstrap(h.data.study, lambda i: metrics.slice_aucs(p[i], labels[i], h.data.classes))
    out = {n: [v, *intervals[n]] for n, v in slice_figures.items()}
    _, scores, bleeds = study_table(h, rule, everything)
    interval = metrics.bootstrap(np.arange(len(bleeds)), lambda i: {"patient": metrics.auc(scores[i, 0], bleeds[i])})
    out["patient"] = [metrics.auc(scores[:, 0], bleeds), *interval["patient"]]
    return out


def paper_protocol(h: HeldOut) -> dict:
    """The source paper's protocol as far as it goes by patient: 80 % train, 10 % validation, 10 % test. The first fold's
    run trained on 80 %; its held-out patients are dealt to validation and test in turn, bleeding and not."""
    here = np.unique(h.data.study[h.fold == 0])
    ordered = sorted(here, key=lambda s: (h.data.study_bleeds[s], h.data.names[s]))
    test = np.flatnonzero(np.isin(h.data.study, ordered[1::2]))
    p, labels = h.probabilities[test], h.data.labels[test]
    out: dict = {"patients": len(ordered[1::2]), "slices": len(test)}
    right = labels[np.arange(len(p)), p.argmax(1)]
    study = h.data.study[test]
    out["accuracy"] = metrics.share(right, study)
    for c, name in enumerate(h.data.classes):
        said, truth = p.argmax(1) == c, labels[:, c]
        out[name] = {
            "sensitivity": metrics.share(said[truth], study[truth]),
            "specificity": metrics.share(~said[~truth], study[~truth]),
            "auc": metrics.auc(p[:, c], truth),
        }
    return out


def accuracy(h: HeldOut) -> dict:
    """The most probable class against the truth over all held-out slices, also with every class given equal weight."""
    said = h.probabilities.argmax(1)
    right = h.data.labels[np.arange(len(said)), said]
    recall = [float((said[t] == c).mean()) for c, t in enumerate(h.data.labels.T)]
    return {"accuracy": metrics.share(right, h.data.study), "balanced": float(np.mean(recall))}


def cross_validate(recipe: dict, work: Path) -> dict:
    """Writes run/cross-validation.json: what the manifest, the card and the README quote."""
    h, m = HeldOut.load(recipe, work), recipe["manifest"]
    rule = m["study_rule"]
    points = operating_points(h, m, recipe["operating_points"])
    histories = [json.loads((work / "run" / f"fold-{k}" / "history.json").read_text()) for k in range(folds.FOLDS)]
    figures = {
        "auc": aucs(h, rule),
        **accuracy(h),
        "paper": paper_protocol(h),
        "operating_points": points,
        "curves": [[[e["epoch"], e["loss"], e["auc"]["any"]] for e in x if "auc" in e] for x in histories],
    }
    write_atomically(work / "run" / "cross-validation.json", json.dumps(figures, indent=1))
    for name, (value, low, high) in figures["auc"].items():
        print(f"{name:18} AUC {value:.3f} ({low:.3f}-{high:.3f})")
    for o in points:
        print(o["name"], o["thresholds"], o.get("study_threshold", ""), "study", o["expected"]["study"], "slice any", o["expected"]["slice"]["any"])
    return figures
