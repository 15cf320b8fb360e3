"""thresholds.json and orders.json: what the training recipe makes of some predictions, for the test of its twin in Go.

Needs numpy, scipy:

    python make_golden.py
"""

import json
import pathlib
import sys

import numpy as np

here = pathlib.Path(__file__).parent
sys.path.insert(0, str(here.parents[2] / "models" / "train"))
from ichtrain import metrics  # noqa: E402

CLASSES = ["normal", "epidural", "subdural", "intraventricular", "intraparenchymal", "subarachnoid"]


ADJACENT, EVIDENCE = {"kind": "adjacent"}, {"kind": "evidence"}


def case(seed: int, slices: int, calm: int, bleeding: int, point: dict, rule: dict = ADJACENT) -> dict:
    rng = np.random.default_rng(seed)
    p = np.round(rng.beta(1, 6, (slices, 6)), 4)  # short to write, and some are equal
    bleeds = np.arange(calm + bleeding) >= calm
    shown = (rng.random((len(bleeds), 6)) < 0.4) * bleeds[:, None]
    scores = np.round(np.clip(rng.beta(1, 4, (len(bleeds), 6)) + 0.3 * shown, 0, 1), 4)
    if rule is EVIDENCE:  # the score of the study, many of them near 1
        scores[:, 0] = np.round(1 - rng.beta(1, 12, len(bleeds)) * np.where(bleeds, 0.4, 1), 5)
    return {
        **point,
        "calm": p.tolist(),
        "bleeds": bleeds.tolist(),
        "scores": scores.tolist(),
        **metrics.choose_point(p, scores, bleeds, CLASSES, point, rule),
    }


cases = [
    case(1, 60, 24, 20, {"study_sensitivity": 0.97}),
    case(2, 45, 40, 30, {"study_sensitivity": 0.8}),
    case(3, 80, 21, 33, {"study_specificity": 0.95}),
    case(4, 30, 12, 5, {"study_specificity": 0.5}),
    case(5, 7, 5, 3, {"study_specificity": 1.0}),
    case(6, 60, 24, 20, {"study_sensitivity": 0.97, "slice_specificity": 0.85}, EVIDENCE),
    case(7, 45, 40, 30, {"study_sensitivity": 0.8, "slice_specificity": 0.9}, EVIDENCE),
    case(8, 80, 21, 33, {"study_specificity": 0.95, "slice_specificity": 0.95}, EVIDENCE),
    case(9, 30, 12, 5, {"study_specificity": 0.5, "slice_specificity": 0.5}, EVIDENCE),
    case(10, 7, 5, 3, {"study_specificity": 1.0, "slice_specificity": 1.0}, EVIDENCE),
]


GOALS = [
    {"name": "sensitive", "study_sensitivity": 0.97, "slice_specificity": 0.85},
    {"name": "balanced", "study_sensitivity": 0.92, "slice_specificity": 0.90},
    {"name": "specific", "study_specificity": 0.95, "slice_specificity": 0.95},
]


def order(seed: int, apart: float, rule: dict) -> dict:
    """Three points of a small set whose bleeding studies lie `apart` from the others: thresholds are raised where it is
    clean."""
    rng = np.random.default_rng(seed)
    p = np.round(rng.beta(1, 6, (60, 6)), 4)
    bleeds = np.arange(26) >= 14
    scores = np.round(np.clip(rng.beta(1, 8, (26, 6)) / 2 + apart * bleeds[:, None], 0, 1), 4)
    points = [{"name": g["name"], **metrics.choose_point(p, scores, bleeds, CLASSES, g, rule)} for g in GOALS]
    lifted = metrics.raise_in_order(points)
    return {"calm": p.tolist(), "bleeds": bleeds.tolist(), "scores": scores.tolist(), "points": points, "lifted": lifted}


def write(name: str, cases: list[dict]) -> None:
    lines = ",\n".join(json.dumps(c) for c in cases)
    (here / name).write_text(f"[\n{lines}\n]\n")


write("thresholds.json", cases)
write("orders.json", [order(s, apart, rule) for s, apart in ((1, 0.4), (2, 0.0), (3, 0.2)) for rule in (ADJACENT, EVIDENCE)])
