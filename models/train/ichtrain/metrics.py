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


def wilson(hits: float, n: int) -> tuple[float, float, float]:
    """Proportion with its 95 % interval."""
    if n == 0:
        return math.nan, math.nan, math.nan
    z = 1.959964
    p, d = hits / n, 1 + z * z / n
    centre, half = (p + z * z / (2 * n)) / d, z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / d
    return p, max(0.0, centre - half), min(1.0, centre + half)


def share(right: np.ndarray, study: np.ndarray, rounds: int = 2000, seed: int = 7) -> tuple[float, float, float]:
    """Share of `right` with its 95 % interval over studies: slices of one head are no independent trials. Whole studies
    drawn with replacement or, where each counts once or all draws agree, Wilson's with as many trials as there are studies.
    Go function assess.Share does the same."""
    if len(right) == 0:
        return math.nan, math.nan, math.nan
    names, at = np.unique(study, return_inverse=True)
    n = len(names)
    hits, of = np.bincount(at, right, n), np.bincount(at, minlength=n)
    value = float(hits.sum() / of.sum())
    if n < len(right):
        drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), rounds)
        low, high = np.percentile((drawn @ hits) / (drawn @ of), (2.5, 97.5))
        if low < high:
            return value, min(float(low), value), max(float(high), value)
    _, low, high = wilson(value * n, n)
    return value, min(low, value), max(high, value)


def choose_point(calm: np.ndarray, scores: np.ndarray, bleeds: np.ndarray, classes: list[str], point: dict, rule: dict) -> dict:
    """What an operating point of a manifest says of thresholds: `thresholds` of slices and, under a rule of kind evidence,
    `study_threshold`. From the probabilities of the slices without a bleed [slices, classes] and the study scores [studies,
    classes]. Go package infer/adapt does the same.

    One number moves the thresholds of all classes together, the share of slices without a bleed that each class may flag:
    with four patients of a subtype, thresholds that moved alone would be chosen by those four. Under a rule of kind adjacent
    it is the smallest that reaches the point's study sensitivity, or the largest that keeps its study specificity. Under one
    of kind evidence the study has a threshold of its own for these, and it is the largest that keeps the point's slice
    specificity.
    """
    best = None
    for share in np.geomspace(0.0005, 0.4, 120):
        t = np.clip(np.round(np.quantile(calm[:, 1:], 1 - share, axis=0), 3), 0.02, 0.98)
        positive = (scores[:, 1:] >= t).any(1)
        if rule["kind"] == "evidence":
            enough = (calm[:, 1:] < t).all(1).mean() >= point["slice_specificity"] - 1e-9
        elif "study_sensitivity" in point:
            best = t
            if positive[bleeds].mean() >= point["study_sensitivity"] - 1e-9:
                break
            continue
        else:
            enough = (~positive[~bleeds]).mean() >= point["study_specificity"] - 1e-9
        if enough or best is None:
            best = t
    assert best is not None
    out: dict = {"thresholds": dict(zip(classes[1:], (float(v) for v in best)))}
    if rule["kind"] == "evidence":
        out["study_threshold"] = choose_study_threshold(scores[:, 0], bleeds, point)
    return out


def choose_study_threshold(scores: np.ndarray, bleeds: np.ndarray, point: dict) -> float:
    """The highest that reaches the point's study sensitivity, rounded down, or the lowest that keeps its study specificity,
    rounded up; to 4 decimals, and never 0 or 1."""
    steps = 1e4

    def least(share: float, n: int) -> int:
        return max(math.ceil(share * n - 1e-9), 1)

    if "study_sensitivity" in point:
        found = np.sort(scores[bleeds])
        step = math.floor(found[-least(point["study_sensitivity"], len(found))] * steps)
    else:
        quiet = np.sort(scores[~bleeds])
        highest = quiet[least(point["study_specificity"], len(quiet)) - 1]
        step = math.floor(highest * steps) + 1
        if step / steps <= highest:  # the product was rounded
            step += 1
    return min(max(step, 1), steps - 1) / steps


def raise_in_order(points: list[dict]) -> list[str]:
    """Raises thresholds of operating points that lie below those of the point before, and says which: points come by
    rising thresholds, and who asks for fewer alerts must not get more. On a small clean set a threshold far below that of a
    sensitivity keeps the wanted specificity. Go package infer/adapt does the same."""
    said = []

    def raised(point: dict, before: dict, of: str, value: float, least: float) -> float:
        if value < least:
            said.append(
                f"{point['name']}: the threshold of {of} would be {value:.4g}, below that of {before['name']}; raised to it, {least:.4g}"
            )
        return max(value, least)

    for before, point in zip(points, points[1:]):
        if "study_threshold" in point:
            point["study_threshold"] = raised(point, before, "studies", point["study_threshold"], before["study_threshold"])
        for c, value in point["thresholds"].items():
            point["thresholds"][c] = raised(point, before, c, value, before["thresholds"][c])
    return said


@dataclass
class Decision:
    verdict: str  # positive, negative, "too few slices" or gap
    finding: str | None  # the class that leads, also of a negative study
    score: float  # of the study: the finding's under a rule of kind adjacent

    @property
    def positive(self) -> bool:
        return self.verdict == "positive"

    @property
    def analysed(self) -> bool:
        return self.verdict in ("positive", "negative")


def log_odds(p: float) -> float:
    p = min(max(p, 1e-9), 1 - 1e-9)
    return math.log(p / (1 - p))


SAME_PLACE = 0.1  # mm: slices nearer to each other lie at one place
DOUBT = 1e-6  # of a slice's probability: it says at most a million to one


def places(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct positions that slices lie at, in order, and the place of each slice. On a grid, as in infer/study."""
    cells, at = np.unique(np.floor(positions / SAME_PLACE + 0.37).astype(np.int64), return_inverse=True)
    return cells * SAME_PLACE, at


def study_scores(positions: np.ndarray, probabilities: np.ndarray, rule: dict) -> np.ndarray:
    """What the rule makes of the slices of one study [slices, classes], for each class; in place of that of `normal`, the
    first, that of any hemorrhage, 1 - p(normal). Twin of Go package infer/study.

    Of kind adjacent it is the highest threshold at which the class would still meet the rule, -1 where no group is large
    enough: the largest, over all groups of `of` neighbours without a gap above maximum_gap_mm, of their `slices`-th largest
    probability.

    Of kind evidence it is the highest probability of the class. That of any hemorrhage is the score of the study, S/(1+S)
    where S is the mean over `head_mm` of the odds at all places, each to the power of `power` and standing for what lies
    around it, `slice_mm` at most; the mean is taken to the power of 1/`power`.
    """
    p = np.column_stack([1 - probabilities[:, 0], probabilities[:, 1:]]).astype(np.float64)
    if rule["kind"] == "evidence":
        z, at = places(positions)
        there = np.full((len(z), p.shape[1]), -1.0)
        np.maximum.at(there, at, p)
        best = there.max(axis=0)
        best[0] = study_evidence(z, there[:, 0], rule)
        return best
    if rule["kind"] != "adjacent":
        raise ValueError(f"study rule {rule['kind']!r} is not known")
    order = np.argsort(positions, kind="stable")
    z, p = positions[order], p[order]
    best = np.full(p.shape[1], -1.0)
    for start in range(len(z)):
        end = start + 1
        while end < len(z) and end - start < rule["of"] and z[end] - z[end - 1] <= rule["maximum_gap_mm"]:
            end += 1
        if end - start >= rule["slices"]:
            best = np.maximum(best, np.sort(p[start:end], axis=0)[-rule["slices"]])
    return best


def study_evidence(z: np.ndarray, anything: np.ndarray, rule: dict) -> float:
    """The score of a study from the probability of any hemorrhage at each of its places z."""
    extent = np.full(len(z), rule["slice_mm"])
    if len(z) > 1:
        apart = np.diff(z)
        extent = np.concatenate([apart[:1], (z[2:] - z[:-2]) / 2, apart[-1:]])
    weight = np.minimum(extent, rule["slice_mm"]) / rule["head_mm"]
    p = np.clip(anything, DOUBT, 1 - DOUBT)
    s = float(np.sum(weight * (p / (1 - p)) ** rule["power"])) ** (1 / rule["power"])
    return s / (1 + s)


def operating_point(manifest: dict, name: str | None = None) -> dict:
    """The point of a manifest by its name, or its default. Raises KeyError."""
    points = {o["name"]: o for o in manifest["operating_points"]}
    return points[name or manifest["operating_point"]]


def decide(positions: np.ndarray, probabilities: np.ndarray, manifest: dict, point: dict) -> Decision:
    """The manifest's study rule over the slices of one study at an operating point, as Go package infer/study decides.

    The finding is the class whose study score lies farthest above its threshold, or nearest to it, in log-odds. A positive
    study is positive however incomplete it is.
    """
    rule, classes, thresholds = manifest["study_rule"], manifest["classes"], point["thresholds"]
    scores = study_scores(positions, probabilities, rule)
    z, most = np.sort(positions), rule["maximum_gap_mm"]
    finding, score, positive = None, math.nan, False
    if (scores[1:] >= 0).any():
        lead = max(range(1, len(classes)), key=lambda c: log_odds(scores[c]) - log_odds(thresholds[classes[c]]))
        finding, score = classes[lead], float(scores[lead])
        positive = score >= thresholds[finding]
    if rule["kind"] == "evidence":
        z, most = places(positions)[0], most + SAME_PLACE
        score = float(scores[0])
        positive = score >= point["study_threshold"]
    if positive:
        return Decision("positive", finding, score)
    if len(z) < rule["minimum_slices"]:
        return Decision("too few slices", finding, score)
    if np.diff(z).max() > most:
        return Decision("gap", finding, score)
    return Decision("negative", finding, score)


def assess(data: Set, indices: np.ndarray, p: np.ndarray, manifest: dict, point: dict) -> dict:
    """Figures of the slices `indices` of data at an operating point, with 95 % intervals over studies. A study that is not
    analysed raises no alert, and counts as missed where it bleeds."""
    classes, thresholds = data.classes, point["thresholds"]
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
            "sensitivity": share(flagged[truth], study[truth]),
            "specificity": share(~flagged[~truth], study[~truth]),
        }
    hit = q.argmax(1)
    right = labels[np.arange(len(q)), hit]
    out["accuracy"] = share(right, study)
    doubtful = data.doubtful[indices]
    out["doubtful"] = [int(doubtful.sum()), int((p[doubtful].argmax(1) > 0).sum())]

    table: dict[str, dict[str, int]] = {}
    bleeding = [0, 0]
    calm = [0, 0]
    by_kind: dict[str, list[int]] = {}
    unanalysed = 0
    for s in np.unique(data.study[indices]):
        m = data.study[indices] == s
        d = decide(data.position[indices][m], p[m], manifest, point)
        unanalysed += not d.analysed
        kind, bleeds = data.kinds[s], bool(data.study_bleeds[s])
        row = table.setdefault(kind, {})
        found = d.finding if d.positive else "negative" if d.analysed else "not analysed"
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
