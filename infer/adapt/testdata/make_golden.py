"""thresholds.json: what the training recipe makes of some predictions, for the test of its twin in Go.

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


def case(seed: int, slices: int, calm: int, bleeding: int, sensitivity: float, specificity: float) -> dict:
    rng = np.random.default_rng(seed)
    labels = rng.random((slices, 6)) < 0.2
    labels[:6] = True  # every class is there
    p = np.clip(rng.beta(1, 3, (slices, 6)) + 0.3 * labels, 0, 1)
    p = np.round(p, 3)  # short to write, and some are equal
    chosen = metrics.choose_thresholds(p, labels, CLASSES, sensitivity, 0.2, 0.5)
    bleeds = np.arange(calm + bleeding) >= calm
    scores = np.round(np.clip(rng.beta(1, 3, (len(bleeds), 6)) + 0.3 * (rng.random((len(bleeds), 6)) < 0.4 * bleeds[:, None]), 0, 1), 2)
    raised = metrics.raise_thresholds(chosen, scores, bleeds, CLASSES, specificity)
    return {
        "slice_sensitivity": sensitivity,
        "study_specificity": specificity,
        "labels": labels.astype(int).tolist(),
        "probabilities": p.tolist(),
        "chosen": chosen,
        "bleeds": bleeds.tolist(),
        "scores": scores.tolist(),
        "raised": raised,
    }


cases = [
    case(1, 60, 24, 20, 0.9, 0.95),
    case(2, 45, 40, 30, 0.9, 0.8),
    case(3, 30, 0, 5, 0.95, 0.95),
    case(4, 30, 12, 0, 0.5, 0.5),
    case(5, 80, 21, 33, 0.7, 0.9),
]
lines = ",\n".join(json.dumps(c) for c in cases)
(here / "thresholds.json").write_text(f"[\n{lines}\n]\n")
