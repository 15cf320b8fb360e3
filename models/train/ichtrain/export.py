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

from . import metrics
from .data import Set
from .model import ResNet18, WithCAM, build
from .preprocess import Preprocessor
from .recipe import write_atomically

OPSET = 17
INTENDED_USE = (
    "Demonstration and commissioning with synthetic studies only. Trained on synthetic data; must never be used on "
    "patients. Suspected, not for diagnosis. Not a medical device."
)


def to_onnx(net: ResNet18, channels: int, size: tuple[int, int]) -> bytes:
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


def check(net: ResNet18, model: bytes, inputs: torch.Tensor) -> dict[str, float]:
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
    points = []
    for o in recipe["operating_points"]:
        thresholds = metrics.choose_thresholds(
            p[kept], data.labels[indices][kept], data.classes, o["slice_sensitivity"], o["floor"], o["ceiling"]
        )
        thresholds = metrics.raise_thresholds(
            thresholds, scores, data.study_bleeds[studies], data.classes, o["study_specificity"]
        )
        points.append({"name": o["name"], "thresholds": thresholds})
    return points


def thresholds_words(o: dict) -> str:
    return (
        f"{o['name']}: slice sensitivity of at least {o['slice_sensitivity']} per class on the validation studies, within "
        f"{o['floor']}..{o['ceiling']}, raised where the validation studies ask for it to reach a study specificity of "
        f"{o['study_specificity']}"
    )


def manifest_text(manifest: dict) -> str:
    text = yaml.safe_dump(manifest, sort_keys=False, default_flow_style=None, width=118, allow_unicode=True)
    return "# Written by `python -m ichtrain export`; change the recipe, not this file.\n" + text


def export(recipe: dict, prepared: Path, run: Path, folder: Path) -> None:
    state = torch.load(run / "best.pt", weights_only=False)
    net = build(recipe)
    net.load_state_dict(state["mean"])
    data = Set(prepared, recipe)
    split = data.split(recipe)
    m = recipe["manifest"]
    pre = Preprocessor(m)
    model = to_onnx(net, len(m["windows"]), pre.size)
    sample = torch.stack([pre.windows(data.square(int(i))) for i in split["validation"][::40]])
    print("largest differences:", check(net, model, sample))

    validation = split["validation"]
    p = predict(model, data, validation, m)
    np.savez(run / "validation.npz", probabilities=p, indices=validation)
    points = choose_points(recipe, data, validation, p)
    counts = {name: len(set(data.study[part].tolist())) for name, part in split.items()}
    test = cached_predictions(run / "test.npz", model, data, split["test"], m)
    for o in points:
        figures = metrics.assess(data, split["test"], test, m, o["thresholds"])
        stated = metrics.expected(figures, f"{counts['test']} synthetic studies of the test split; says nothing of hospitals")
        if stated:
            o["expected"] = stated
    manifest = {
        "schema": 1,
        "name": recipe["name"],
        "architecture": m["architecture"],
        "model": {"file": "model.onnx", "sha256": hashlib.sha256(model).hexdigest()},
        **{k: m[k] for k in ("input", "windows", "crop", "resample", "normalisation", "outputs", "classes", "activation")},
        "operating_point": recipe["operating_point"],
        "operating_points": points,
        "study_rule": m["study_rule"],
        "provenance": {
            "recipe": f"models/train/recipes/{recipe['file']}",
            "data": "synthetic studies written by `ichwatch phantom`; no patient data",
            "studies": ", ".join(f"{n} {name}" for name, n in counts.items()),
            "thresholds": "; ".join(thresholds_words(o) for o in recipe["operating_points"]),
            "training": recipe.get("history", "one run of the recipe").strip(),
            "epoch": str(state["epoch"]),
            "software": f"torch {torch.__version__.split('+')[0]}, onnx {onnx.__version__}, opset {OPSET}, "
            f"python {platform.python_version()}",
        },
        "intended_use": INTENDED_USE,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "model.onnx", model)
    write_atomically(folder / "manifest.yaml", manifest_text(manifest))
    print(f"{folder.name}: model.onnx {len(model) / 1e6:.2f} MB")
    for o in points:
        study = o["expected"]["study"] if "expected" in o else "not stated"
        print(f"{o['name']}: thresholds {json.dumps(o['thresholds'])}; expected of studies: {study}")
