"""The int8 variant for the CPU: QDQ, and whether it is worth shipping.

Activations are uint8, weights int8 a channel. What lies after the last Add (ResNet) or Concat (DenseNet), the pooling,
the final layer and the map, stays in float32: it costs next to nothing, and there int8 loses most (0.06 AUC when all of
it is quantised). Every fold's weights are quantised and judged on the patients they have not seen, so that what is said
of the loss is said of patients.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from tqdm import tqdm

from . import folds
from .crossval import HeldOut, aucs, operating_points
from .data import Set
from .export import ATTRIBUTION, CROSS_VALIDATION, PATIENT_USE, kept, predict, to_onnx, trained, write_folder
from .patientcard import int8_card
from .preprocess import Preprocessor
from .recipe import write_atomically
from .stages import PATIENTS

HELD_OUT = "held-out-int8.npz"
CALIBRATION = 200  # slices


class Calibration(CalibrationDataReader):
    def __init__(self, data: Set, indices: np.ndarray, manifest: dict):
        pre = Preprocessor(manifest)
        self.inputs = iter([{"image": pre.windows(data.square(int(i)))[None].numpy()} for i in indices])

    def get_next(self):
        return next(self.inputs, None)


def tail(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes from the last Add or Concat over maps to the outputs."""
    nodes = list(model.graph.node)
    pooled = next(i for i, n in enumerate(nodes) if n.op_type in ("ReduceMean", "GlobalAveragePool"))
    last = max(i for i, n in enumerate(nodes[:pooled]) if n.op_type in ("Add", "Concat"))
    return [n.name for n in nodes[last:]]


def quantised(model: bytes, data: Set, indices: np.ndarray, manifest: dict) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, small = (Path(folder) / n for n in ("plain.onnx", "prepared.onnx", "int8.onnx"))
        plain.write_bytes(model)
        quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(small),
            Calibration(data, indices, manifest),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=tail(onnx.load(prepared)),
        )
        return onnx.load(small).SerializeToString()


def quantise(recipe: dict, work: Path, folder: Path, most: float, threads: int, keep: bool = False) -> None:
    """Writes folder (a model of its own, with keep around the weights that lie there) unless int8 loses more than `most`
    AUC of any hemorrhage or of any subtype that 15 patients or more have; run/int8.json says what it lost either way."""
    m, run = recipe["manifest"], work / "run"
    data = Set(work / PATIENTS, recipe)
    fold_of = folds.deal(data, recipe["seed"])
    rng = np.random.default_rng(recipe["seed"])
    size = Preprocessor(m).size
    for k in tqdm(range(folds.FOLDS), desc="int8", unit="fold"):
        path = run / f"fold-{k}" / HELD_OUT
        if path.exists():
            continue
        sample = rng.choice(folds.outside(data, fold_of, k), CALIBRATION, replace=False)
        small = quantised(to_onnx(trained(recipe, run / f"fold-{k}"), len(m["windows"]), size), data, sample, m)
        here = folds.inside(data, fold_of, k)
        np.savez(path, probabilities=predict(small, data, here, m, threads), indices=here)
    before, after = HeldOut.load(recipe, work), HeldOut.load(recipe, work, HELD_OUT)
    rule = m["study_rule"]
    patients = {c: len(set(data.study[data.labels[:, i]])) for i, c in enumerate(data.classes)}
    lost, a, b = {}, aucs(before, rule), aucs(after, rule)
    for name in a:
        lost[name] = round(a[name][0] - b[name][0], 4)
    judged = [n for n in lost if n in ("any", "patient") or patients.get(n, 0) >= 15]
    shipped = max(lost[n] for n in judged) <= most
    print("AUC lost:", lost, "- within the limit" if shipped else f"- more than {most}: not shipped")
    said = {"lost": lost, "judged": judged, "auc": b, "shipped": shipped}
    if not shipped:
        write_atomically(run / "int8.json", json.dumps(said, indent=1))
        return
    small = (kept(folder) if keep else None) or quantised(
        to_onnx(trained(recipe, run / "all"), len(m["windows"]), size), data, rng.choice(len(data), CALIBRATION, replace=False), m
    )
    write_atomically(run / "int8.json", json.dumps({**said, "bytes": len(small)}, indent=1))
    points = []
    for point in operating_points(after, m, recipe["operating_points"]):
        stated = {k: point["expected"][k] for k in ("slice", "study")}
        points.append({**point, "expected": {"protocol": CROSS_VALIDATION, **stated}})
    provenance = {
        "data": ATTRIBUTION,
        "quantised": f"int8 QDQ of {recipe['name']}, calibrated on {CALIBRATION} slices; AUC lost in cross-validation: "
        + ", ".join(f"{n} {v}" for n, v in lost.items()),
    }
    named = {**recipe, "manifest": {**m, "architecture": m["architecture"] + ", int8"}}
    write_folder(named, folder, recipe["name"] + "-int8", small, points, provenance, PATIENT_USE)
    text = int8_card(recipe["name"], hashlib.sha256(small).hexdigest(), len(small), a, b, points)
    write_atomically(folder / "MODEL_CARD.md", text)
