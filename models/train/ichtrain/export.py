"""From the best weights to a model folder: model.onnx, checked, and manifest.yaml with its operating points."""

from __future__ import annotations

import hashlib
import io
import json
import platform
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import yaml

from . import folds, metrics
from .data import Set
from .model import Network, WithCAM, build
from .preprocess import Preprocessor
from .recipe import write_atomically
from .stages import PATIENTS, PHANTOM

OPSET = 17
INTENDED_USE = (
    "Demonstration and commissioning with synthetic studies only. Trained on synthetic data; must never be used on "
    "patients. Suspected, not for diagnosis. Not a medical device."
)
PATIENT_USE = (
    "Second reader of triage lists in research and trial operation, on non-contrast axial head CT of adults. Suspected, "
    "not for diagnosis. Not a medical device."
)
ATTRIBUTION = (
    "weights trained on `Computed Tomography Images for Intracranial Hemorrhage Detection and Segmentation` (Hssayeni et "
    "al., Data 2020;5(1):14, CC BY 4.0, PhysioNet), on bleeds painted into its slices and on synthetic studies written by "
    "`ichwatch phantom`; started from torchvision's ImageNet weights where the recipe says so (BSD-3-Clause)"
)
CROSS_VALIDATION = (
    "five-fold cross-validation by patient on ct-ich (82 patients of one hospital, 36 with a hemorrhage), thresholds of "
    "each fold from the other four, intervals over patients; other hospitals will differ"
)


def to_onnx(net: Network, channels: int, size: tuple[int, int]) -> bytes:
    """ONNX bytes, opset 17, float32, dynamic batch, all weights inside."""
    buffer = io.BytesIO()
    torch.onnx.export(
        WithCAM(net).eval(),
        (torch.zeros(1, channels, *size),),
        buffer,
        opset_version=OPSET,
        dynamo=False,  # the tracing exporter folds batch norm into the convolutions and names nothing by machine paths
        input_names=["image"],
        output_names=["logits", "cam"],
        dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}, "cam": {0: "N"}},
    )
    model = onnx.load_model_from_string(buffer.getvalue())
    for node in model.graph.node:  # traces of the exporting process are not part of a model
        node.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def session(model: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def check(net: Network, model: bytes, inputs: torch.Tensor) -> dict[str, float]:
    """Largest differences: ONNX Runtime against PyTorch, and the map's mean plus bias against the logits.
    Raises AssertionError above 1e-3 and on anything that the daemon would refuse."""
    parsed = onnx.load_model_from_string(model)
    external = [t.name for t in parsed.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    assert not external, f"external data: {external}"
    run = session(model)
    assert [i.name for i in run.get_inputs()] == ["image"] and [o.name for o in run.get_outputs()] == ["logits", "cam"]
    net.eval()
    worst = {"logits": 0.0, "cam": 0.0, "mean of cam": 0.0, "batch": 0.0}
    with torch.inference_mode():
        logits, cam = (t.numpy() for t in WithCAM(net)(inputs))
    got_logits, got_cam = run.run(None, {"image": inputs.numpy()})
    single = np.concatenate([run.run(["logits"], {"image": x[None].numpy()})[0] for x in inputs])
    bias = net.fc.bias.detach().numpy()
    worst["logits"] = float(np.abs(got_logits - logits).max())
    worst["cam"] = float(np.abs(got_cam - cam).max())
    worst["mean of cam"] = float(np.abs(got_cam.mean((2, 3)) + bias - got_logits).max())
    worst["batch"] = float(np.abs(single - got_logits).max())
    assert max(worst.values()) < 1e-3, f"the export differs from the trained network: {worst}"
    return worst


def predict(model: bytes, data: Set, indices: np.ndarray, manifest: dict, threads: int = 1) -> np.ndarray:
    """Probabilities [len(indices), classes] of the exported model through ONNX Runtime."""
    from tqdm import tqdm

    pre, run, out = Preprocessor(manifest), session(model, threads), []
    for i in tqdm(indices, desc="predict", unit="slice", mininterval=5):
        logits = run.run(["logits"], {"image": pre.windows(data.square(int(i)))[None].numpy()})[0][0].astype(np.float64)
        e = np.exp(logits - logits.max())
        out.append(e / e.sum())
    return np.array(out)


def cached_predictions(path: Path, model: bytes, data: Set, indices: np.ndarray, manifest: dict) -> np.ndarray:
    key = hashlib.sha256(model + json.dumps([data.names, indices.tolist(), data.position.tolist()]).encode()).hexdigest()
    if path.exists():
        known = np.load(path)
        if str(known["key"]) == key:
            return known["probabilities"]
    p = predict(model, data, indices, manifest)
    np.savez(path, key=key, probabilities=p)
    return p


def choose_points(recipe: dict, data: Set, indices: np.ndarray, p: np.ndarray) -> list[dict]:
    """The recipe's operating points with thresholds from the slices `indices`, the validation split's."""
    kept = ~data.doubtful[indices]
    studies = np.unique(data.study[indices])
    members = [data.study[indices] == s for s in studies]
    rule = recipe["manifest"]["study_rule"]
    scores = np.array([metrics.study_scores(data.position[indices][k], p[k], rule) for k in members])
    calm = p[kept & data.labels[indices, 0]]
    points = [
        {"name": o["name"], **metrics.choose_point(calm, scores, data.study_bleeds[studies], data.classes, o, rule)}
        for o in recipe["operating_points"]
    ]
    print(*metrics.raise_in_order(points), sep="\n")
    return points


def thresholds_words(o: dict, rule: dict, on: str) -> str:
    word = "sensitivity" if "study_sensitivity" in o else "specificity"
    slices = f" and a slice specificity of {o['slice_specificity']}" if rule["kind"] == "evidence" else ""
    return f"{o['name']}: a study {word} of {o[f'study_{word}']}{slices} {on}"


def rule_words(rule: dict) -> str:
    if rule["kind"] == "evidence":
        how = (
            f"the evidence of any hemorrhage reaches the study threshold: the mean of the odds of all slices, to the power of "
            f"{rule['power']}, over {rule['head_mm']} mm of head, a slice counting for {rule['slice_mm']} mm at most"
        )
    else:
        how = f"at least {rule['slices']} of {rule['of']} neighbouring slices reach the threshold of the same class"
    return (
        f"positive where {how}, however few slices there are; otherwise negative from {rule['minimum_slices']} slices on without "
        f"gaps above {rule['maximum_gap_mm']} mm, and not analysed with less"
    )


def manifest_text(manifest: dict) -> str:
    text = yaml.safe_dump(manifest, sort_keys=False, default_flow_style=None, width=118, allow_unicode=True)
    return "# Written by `python -m ichtrain export`; change the recipe, not this file.\n" + text


def synthetic_points(recipe: dict, work: Path, model: bytes) -> tuple[list[dict], str]:
    """Operating points of a model that has seen no patients, and what its data was."""
    data, m = Set(work / PHANTOM, recipe), recipe["manifest"]
    split = folds.hashed(data, recipe["data"]["split"], recipe["seed"])
    scores = cached_predictions(work / "run" / "validation.npz", model, data, split["validation"], m)
    points = choose_points(recipe, data, split["validation"], scores)
    counts = {name: len(set(data.study[part].tolist())) for name, part in split.items()}
    test = cached_predictions(work / "run" / "test.npz", model, data, split["test"], m)
    for o in points:
        figures = metrics.assess(data, split["test"], test, m, o)
        stated = metrics.expected(figures, f"{counts['test']} synthetic studies of the test split; says nothing of hospitals")
        if stated:
            o["expected"] = stated
    return points, ", ".join(f"{n} {name}" for name, n in counts.items())


def patient_points(work: Path) -> tuple[list[dict], str]:
    """Operating points from cross-validation, and what the data was."""
    path = work / "run" / "cross-validation.json"
    if not path.exists():
        raise SystemExit(f"{path} is not there: run `crossval` first")
    points = []
    for o in json.loads(path.read_text())["operating_points"]:
        stated = {k: o["expected"][k] for k in ("slice", "study")}
        points.append({**o, "expected": {"protocol": CROSS_VALIDATION, **stated}})
    return points, "82 patients of ct-ich (36 with a hemorrhage), 2501 slices; painted and synthetic ones besides"


def write_folder(recipe: dict, folder: Path, name: str, model: bytes, points: list[dict], provenance: dict, use: str) -> None:
    m = recipe["manifest"]
    manifest = {
        "schema": 1,
        "name": name,
        "architecture": m["architecture"],
        "model": {"file": "model.onnx", "sha256": hashlib.sha256(model).hexdigest()},
        **{k: m[k] for k in ("input", "windows", "crop", "resample", "normalisation", "outputs", "classes", "activation")},
        "operating_point": recipe["operating_point"],
        "operating_points": points,
        "study_rule": m["study_rule"],
        "provenance": {
            "recipe": f"models/train/recipes/{recipe['file']}",
            **provenance,
            "software": f"torch {torch.__version__.split('+')[0]}, onnx {onnx.__version__}, opset {OPSET}, "
            f"python {platform.python_version()}",
        },
        "intended_use": use,
    }
    folder.mkdir(parents=True, exist_ok=True)
    if kept(folder) != model:
        write_atomically(folder / "model.onnx", model)
    write_atomically(folder / "manifest.yaml", manifest_text(manifest))
    print(f"{folder.name}: model.onnx {len(model) / 1e6:.2f} MB")
    for o in points:
        study = o["expected"]["study"] if "expected" in o else "not stated"
        print(f"{o['name']}: thresholds {json.dumps(o['thresholds'])} {o.get('study_threshold', '')}; expected of studies: {study}")


def kept(folder: Path) -> bytes | None:
    """The weights that lie in a model folder."""
    path = folder / "model.onnx"
    return path.read_bytes() if path.exists() else None


def trained(recipe: dict, run: Path) -> Network:
    state = torch.load(run / "final.pt", weights_only=False)
    net = build(recipe)
    net.load_state_dict(state["mean"])
    return net


def exported(recipe: dict, work: Path) -> bytes:
    """ONNX bytes of the trained network, checked on a sample of what it learnt from."""
    patients = "transfer" in recipe["stages"]
    net = trained(recipe, work / "run" / ("all" if patients else "pretrain"))
    m = recipe["manifest"]
    pre = Preprocessor(m)
    model = to_onnx(net, len(m["windows"]), pre.size)
    data = Set(work / (PATIENTS if patients else PHANTOM), recipe)
    sample = torch.stack([pre.windows(data.square(i)) for i in range(0, len(data), max(1, len(data) // 60))])
    print("largest differences:", check(net, model, sample))
    return model


def export(recipe: dict, work: Path, folder: Path, keep: bool = False) -> None:
    """Writes the model folder; with keep around the weights that lie there."""
    patients, m = "transfer" in recipe["stages"], recipe["manifest"]
    model = (kept(folder) if keep else None) or exported(recipe, work)
    points, studies = patient_points(work) if patients else synthetic_points(recipe, work, model)
    provenance = {
        "data": ATTRIBUTION if patients else "synthetic studies written by `ichwatch phantom`; no patient data",
        "studies": studies,
        "thresholds": "; ".join(
            thresholds_words(o, m["study_rule"], "in cross-validation by patient" if patients else "on the validation studies")
            for o in recipe["operating_points"]
        ),
        "training": recipe.get("history", "one run of the recipe").strip(),
    }
    write_folder(recipe, folder, recipe["name"], model, points, provenance, PATIENT_USE if patients else INTENDED_USE)
