"""decisions.json: what the training recipe makes of some stacks, for the test of its twin in Go.

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
THRESHOLDS = dict(zip(CLASSES[1:], (0.4, 0.3, 0.2, 0.35, 0.25)))
ENDS = {"minimum_slices": 8, "maximum_gap_mm": 15}
ADJACENT = {"kind": "adjacent", "slices": 2, "of": 3, **ENDS}


def evidence(power: float, slice_mm: float, head_mm: float = 150) -> dict:
    return {"kind": "evidence", "power": power, "slice_mm": slice_mm, "head_mm": head_mm, **ENDS}


def case(seed: int, rule: dict, z: list[float], bleed: float, study_threshold: float = 0.0) -> dict:
    """Slices at z, in any order; every second shows something. Probabilities are float32's."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (len(z), 6))
    logits[:, 0] += 4
    logits[::2, rng.integers(1, 6)] += bleed
    e = np.exp(logits)
    p = np.round(e / e.sum(1, keepdims=True) * 4096) / 4096
    point = {"thresholds": THRESHOLDS}
    if study_threshold:
        point["study_threshold"] = study_threshold
    order = rng.permutation(len(z))
    z, p = np.array(z)[order], p[order]
    d = metrics.decide(z, p, {"classes": CLASSES, "study_rule": rule}, point)
    scores = metrics.study_scores(z, p, rule)
    return {
        "rule": rule,
        **point,
        "positions": z.tolist(),
        "probabilities": p.tolist(),
        "verdict": d.verdict,
        "finding": d.finding,
        "score": d.score,
        "scores": scores[1:].tolist(),
    }


thick = [5.0 * i for i in range(12)]
thin = [0.625 * i - 31.3 for i in range(60)]
uneven = [0.0, 5.0, 5.05, 7.5, 12.5, 13.1, 20.0, 27.5, 40.0, 45.0, 45.0, 50.0]
short = [3.0, 8.0, 13.0]
gap = [*thick[:6], *(z + 20 for z in thick[6:])]
cases = [
    case(1, ADJACENT, thick, 0),
    case(2, ADJACENT, thick, 4),
    case(3, ADJACENT, short, 0),
    case(4, ADJACENT, gap, 1),
    case(5, evidence(0.5, 5), thick, 0, 0.1),
    case(6, evidence(0.5, 5), thick, 2, 0.1),
    case(7, evidence(0.5, 5), thin, 0, 0.04),
    case(8, evidence(0.5, 5), thin, 3, 0.04),
    case(9, evidence(1, 5), uneven, 3, 0.2),
    case(10, evidence(0.5, 10), uneven, 0, 0.2),
    case(11, evidence(2, 2.5), uneven, 4, 0.3),
    case(12, evidence(0.5, 5), short, 0, 0.999),
    case(13, evidence(0.5, 5), gap, 0, 0.999),
    case(14, evidence(0.5, 5), [7.0], 5, 0.5),
]
lines = ",\n".join(json.dumps(c) for c in cases)
(here / "decisions.json").write_text(f"[\n{lines}\n]\n")
