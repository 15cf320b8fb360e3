"""AUC, operating points and the study rule, with their intervals; what an assessment is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

if TYPE_CHECKING:
    from .data import Set


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve (ties count half); nan where one side is empty."""
    n, m = int(positive.sum()), int((~positive).sum())
    if n == 0 or m == 0:
        return math.nan
    return float((rankdata(scores)[positive].sum() - n * (n + 1) / 2) / (n * m))


def slice_aucs(probabilities: np.ndarray, labels: np.ndarray, classes: list[str]) -> dict[str, float]:
    """`any` scored by 1 - p(normal), and each class against all other slices."""
    out = {"any": auc(1 - probabilities[:, 0], ~labels[:, 0])}
    for c, name in enumerate(classes):
        if c > 0:
            out[name] = auc(probabilities[:, c], labels[:, c])
    return out


def bootstrap(study: np.ndarray, figure, rounds: int = 1000, seed: int = 7) -> dict[str, tuple[float, float]]:
    """95 % intervals of figure(slice indices) -> {name: value}, drawing whole studies with replacement."""
    rng = np.random.default_rng(seed)
    members = {s: np.flatnonzero(study == s) for s in np.unique(study)}
    names = np.array(list(members))
    drawn: dict[str, list[float]] = {}
    for _ in range(rounds):
        index = np.concatenate([members[s] for s in rng.choice(names, len(names))])
        for name, value in figure(index).items():
            drawn.setdefault(name, []).append(value)
    # A draw without a positive has no AUC and does not count.
    return {
        name: tuple(np.nanpercentile(v, (2.5, 97.5))) if np.isfinite(v).any() else (math.nan, math.nan)
        for name, v in drawn.items()
    }


def wilson(hits: int, n: int) -> tuple[float, float, float]:
    """Proportion with its 95 % interval."""
    if n == 0:
        return math.nan, math.nan, math.nan
    z = 1.959964
    p, d = hits / n, 1 + z * z / n
    centre, half = (p + z * z / (2 * n)) / d, z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / d
    return p, max(0.0, centre - half), min(1.0, centre + half)


def choose_thresholds(
    calm: np.ndarray, scores: np.ndarray, bleeds: np.ndarray, classes: list[str], point: dict
) -> dict[str, float]:
    """Thresholds of one operating point, from the probabilities of the slices without a bleed [slices, classes] and the
    study scores [studies, classes]. Go package infer/adapt does the same.

    One number moves all thresholds together, the share of slices without a bleed that each class may flag: with four
    patients of a subtype, thresholds that moved alone would be chosen by those four. The number is the smallest that
    reaches the point's study sensitivity, or the largest that keeps its study specificity.
    """
    best = None
    for share in np.geomspace(0.0005, 0.4, 120):
        t = np.clip(np.round(np.quantile(calm[:, 1:], 1 - share, axis=0), 3), 0.02, 0.98)
        positive = (scores[:, 1:] >= t).any(1)
        sensitivity, specificity = positive[bleeds].mean(), (~positive[~bleeds]).mean()
        if "study_sensitivity" in point:
            best = t
            if sensitivity >= point["study_sensitivity"] - 1e-9:
                break
        elif specificity >= point["study_specificity"] - 1e-9 or best is None:
            best = t
    assert best is not None
    return dict(zip(classes[1:], (float(v) for v in best)))


@dataclass
class Decision:
    verdict: str  # positive, negative, "too few slices" or gap
    finding: str | None  # the class that leads, also of a negative study
    score: float  # of the finding

    @property
    def positive(self) -> bool:
        return self.verdict == "positive"

    @property
    def analysed(self) -> bool:
        return self.verdict in ("positive", "negative")


def log_odds(p: float) -> float:
    p = min(max(p, 1e-9), 1 - 1e-9)
    return math.log(p / (1 - p))


def study_scores(positions: np.ndarray, probabilities: np.ndarray, rule: dict) -> np.ndarray:
    """For each class the highest threshold at which it would still meet the rule, -1 where no group is large enough: the
    largest, over all groups of `of` neighbours without a gap above maximum_gap_mm, of their `slices`-th largest
    probability."""
    if rule["kind"] != "adjacent":
        raise ValueError(f"study rule {rule['kind']!r} is not known")
    order = np.argsort(positions, kind="stable")
    z, p = positions[order], probabilities[order]
    best = np.full(p.shape[1], -1.0)
    for start in range(len(z)):
        end = start + 1
        while end < len(z) and end - start < rule["of"] and z[end] - z[end - 1] <= rule["maximum_gap_mm"]:
            end += 1
        if end - start >= rule["slices"]:
            best = np.maximum(best, np.sort(p[start:end], axis=0)[-rule["slices"]])
    return best


def operating_point(manifest: dict, name: str | None = None) -> dict:
    """The point of a manifest by its name, or its default. Raises KeyError."""
    points = {o["name"]: o for o in manifest["operating_points"]}
    return points[name or manifest["operating_point"]]


def decide(positions: np.ndarray, probabilities: np.ndarray, manifest: dict, thresholds: dict[str, float]) -> Decision:
    """The manifest's study rule over the slices of one study at an operating point, as Go package infer/study decides.

    The finding is the class whose study score lies farthest above its threshold, in log-odds. A positive study is
    positive however incomplete it is.
    """
    rule, classes = manifest["study_rule"], manifest["classes"]
    z, scores = np.sort(positions), study_scores(positions, probabilities, rule)
    finding, score = None, math.nan
    if (scores >= 0).any():
        lead = max(range(1, len(classes)), key=lambda c: log_odds(scores[c]) - log_odds(thresholds[classes[c]]))
        finding, score = classes[lead], float(scores[lead])
        if score >= thresholds[finding]:
            return Decision("positive", finding, score)
    if len(z) < rule["minimum_slices"]:
        return Decision("too few slices", finding, score)
    if np.diff(z).max() > rule["maximum_gap_mm"]:
        return Decision("gap", finding, score)
    return Decision("negative", finding, score)


def assess(data: Set, indices: np.ndarray, p: np.ndarray, manifest: dict, thresholds: dict[str, float]) -> dict:
    """Figures of the slices `indices` of data at an operating point, with 95 % intervals: bootstrap over studies for AUC,
    Wilson for proportions."""
    classes = data.classes
    kept = ~data.doubtful[indices]
    labels, study, q = data.labels[indices][kept], data.study[indices][kept], p[kept]
    aucs = slice_aucs(q, labels, classes)
    intervals = bootstrap(study, lambda i: slice_aucs(q[i], labels[i], classes))
    out: dict = {"slices": {}, "studies": {}}
    for name in ["any", *classes[1:]]:
        c = classes.index(name) if name != "any" else 0
        truth = ~labels[:, 0] if name == "any" else labels[:, c]
        at = np.array([thresholds[k] for k in classes[1:]])
        flagged = (q[:, 1:] >= at).any(1) if name == "any" else q[:, c] >= at[c - 1]
        out["slices"][name] = {
            "positive": int(truth.sum()),
            "negative": int((~truth).sum()),
            "auc": [aucs[name], *intervals[name]],
            "sensitivity": wilson(int((flagged & truth).sum()), int(truth.sum())),
            "specificity": wilson(int((~flagged & ~truth).sum()), int((~truth).sum())),
        }
    hit = q.argmax(1)
    right = labels[np.arange(len(q)), hit]
    out["accuracy"] = wilson(int(right.sum()), len(right))
    doubtful = data.doubtful[indices]
    out["doubtful"] = [int(doubtful.sum()), int((p[doubtful].argmax(1) > 0).sum())]

    table: dict[str, dict[str, int]] = {}
    bleeding = [0, 0]
    calm = [0, 0]
    by_kind: dict[str, list[int]] = {}
    unanalysed = 0
    for s in np.unique(data.study[indices]):
        m = data.study[indices] == s
        d = decide(data.position[indices][m], p[m], manifest, thresholds)
        if not d.analysed:
            unanalysed += 1
            continue
        kind, bleeds = data.kinds[s], bool(data.study_bleeds[s])
        row = table.setdefault(kind, {})
        found = d.finding if d.positive else "negative"
        row[found] = row.get(found, 0) + 1
        tally = bleeding if bleeds else calm
        tally[1] += 1
        tally[0] += d.positive == bleeds
        k = by_kind.setdefault(kind, [0, 0])
        k[1] += 1
        k[0] += d.positive == bleeds
    out["studies"] = {
        "sensitivity": [*wilson(*bleeding), *bleeding],
        "specificity": [*wilson(*calm), *calm],
        "by_kind": by_kind,
        "findings": table,
        "not analysed": unanalysed,
    }
    return out


def expected(figures: dict, protocol: str) -> dict | None:
    """What a manifest states of an operating point: sensitivity and specificity of what `assess` found, each as value, low
    and high end, to three digits; None where no study could be asked. Questions without figures are left out."""

    def pair(f: dict) -> dict | None:
        found = {k: [round(float(v), 3) for v in f[k][:3]] for k in ("sensitivity", "specificity")}
        return None if any(math.isnan(v) for values in found.values() for v in values) else found

    study = pair(figures["studies"])
    if study is None:
        return None
    slices = {name: pair(f) for name, f in figures["slices"].items()}
    return {"protocol": protocol, "slice": {k: v for k, v in slices.items() if v}, "study": study}
