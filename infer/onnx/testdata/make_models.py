"""The small models that the tests of infer/onnx and infer/manifest run, each a folder with its manifest.

Needs onnx, numpy:

    python make_models.py
"""

import hashlib
import pathlib
import shutil

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 32
CLASSES = ["normal", "epidural", "subdural", "intraventricular", "intraparenchymal", "subarachnoid"]

# logits[k] = sum over channels c of (k-2)*(c+1)/4 * mean of channel c, + k/8; the Go test computes the same.
WEIGHT = np.array([[(k - 2) * (c + 1) / 4 for c in range(3)] for k in range(6)], np.float32)
BIAS = np.array([k / 8 for k in range(6)], np.float32)


def array(name, value, dtype=np.float32):
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def info(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


IMAGE = info("image", ["slices", 3, SIDE, SIDE])
LOGITS = info("logits", ["slices", 6])


def model(nodes, initializers, inputs=(IMAGE,), outputs=(LOGITS,)):
    graph = helper.make_graph(nodes, "g", list(inputs), list(outputs), initializers)
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="make_models.py")
    m.ir_version = 8
    onnx.checker.check_model(m)
    return m


def tiny():
    """Global average pooling and a linear layer, with activation maps."""
    return model(
        [
            helper.make_node("Conv", ["image", "kernel"], ["cam"]),
            helper.make_node("GlobalAveragePool", ["cam"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("Add", ["flat", "bias"], ["logits"]),
        ],
        [array("kernel", WEIGHT[:, :, None, None]), array("bias", BIAS)],
        outputs=[LOGITS, info("cam", ["slices", 6, SIDE, SIDE])],
    )


def mean_of(name):
    return [helper.make_node("ReduceMean", ["image"], [name], axes=[1, 2, 3], keepdims=0)]


def slow():
    """Multiplies matrices for many seconds when its input is not zero, and next to nothing when it is.

    A chain of nodes, as the runtime looks at its terminate flag between nodes; in the body of a Loop it does not.
    """
    chain = [helper.make_node("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(128)]
    return model(
        [
            helper.make_node("Abs", ["image"], ["positive"]),
            helper.make_node("ReduceMax", ["positive"], ["highest"], keepdims=0),
            helper.make_node("Mul", ["highest", "many"], ["trips"]),
            helper.make_node("Ceil", ["trips"], ["whole"]),
            helper.make_node("Add", ["whole", "one"], ["size"]),
            helper.make_node("Cast", ["size"], ["n"], to=TensorProto.INT64),
            helper.make_node("Unsqueeze", ["n", "axis"], ["n1"]),
            helper.make_node("Concat", ["n1", "n1"], ["square"], axis=0),
            helper.make_node("ConstantOfShape", ["square"], ["m0"]),
            *chain,
            helper.make_node("ReduceMax", [f"m{len(chain)}"], ["result"], keepdims=0),
            helper.make_node("Mul", ["result", "ramp"], ["logits"]),
        ],
        [array("many", 300), array("one", 1), array("axis", [0], np.int64), array("ramp", np.arange(6)[None])],
    )


def nan():
    """The square root of its input's mean: no number when that is negative."""
    return model(
        mean_of("mean")
        + [
            helper.make_node("Sqrt", ["mean"], ["root"]),
            helper.make_node("Unsqueeze", ["root", "axis"], ["column"]),
            helper.make_node("Mul", ["column", "weights"], ["logits"]),
        ],
        [array("axis", [1], np.int64), array("weights", np.arange(6)[None])],
    )


def hidden():
    """Does not declare how many logits it has, which are seven."""
    return model(
        mean_of("mean")
        + [
            helper.make_node("Unsqueeze", ["mean", "axis"], ["column"]),
            helper.make_node("NonZero", ["column"], ["where"]),
            helper.make_node("Shape", ["where"], ["shape"]),
            helper.make_node("Cast", ["shape"], ["two"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["two"], ["sum"], keepdims=0),
            helper.make_node("Mul", ["sum", "none"], ["nothing"]),
            helper.make_node("Add", ["nothing", "ramp"], ["logits"]),
        ],
        [array("axis", [1], np.int64), array("none", 0), array("ramp", np.arange(7)[None])],
        outputs=[info("logits", ["slices", "k"])],
    )


def external(m):
    """The same model with a weight that lies in another file."""
    t = m.graph.initializer[0]
    t.ClearField("raw_data")
    t.data_location = TensorProto.EXTERNAL
    for k, v in {"location": "weights.bin", "offset": "0", "length": "72"}.items():
        e = t.external_data.add()
        e.key, e.value = k, v
    return m


def external_in_subgraph():
    """A weight inside the branch of an If lies in another file."""
    def branch(name, weight):
        return helper.make_graph(
            [helper.make_node("Add", ["row", weight], [f"{name}_out"])], name, [], [info(f"{name}_out", [1, 6])],
            [array(weight, np.zeros((1, 6)))],
        )

    m = model(
        mean_of("mean")
        + [
            helper.make_node("Unsqueeze", ["mean", "axis"], ["column"]),
            helper.make_node("Mul", ["column", "ramp"], ["row"]),
            helper.make_node("If", ["yes"], ["logits"], then_branch=branch("a", "wa"), else_branch=branch("b", "wb")),
        ],
        [array("axis", [1], np.int64), array("ramp", np.arange(6)[None]), array("yes", True, bool)],
    )
    node = next(n for n in m.graph.node if n.op_type == "If")
    t = node.attribute[1].g.initializer[0]
    t.ClearField("raw_data")
    t.data_location = TensorProto.EXTERNAL
    e = t.external_data.add()
    e.key, e.value = "location", "weights.bin"
    return m


MANIFEST = """\
schema: 1
name: {name}
architecture: test
model:
  file: model.onnx
  sha256: {sha256}
input: {{name: image, height: 32, width: 32}}
windows: [{{centre: 40, width: 80}}, {{centre: 80, width: 200}}, {{centre: 600, width: 2800}}]
crop: {{threshold: -300, margin: 0.06, minimum_area: 0.04}}
resample: triangle
normalisation: {{mean: {mean}, std: [0.25, 0.25, 0.25]}}
outputs: {{logits: logits{cam}}}
classes: [{classes}]
activation: softmax
operating_point: half
operating_points:
- name: half
  thresholds:
    epidural: 0.5
    subdural: 0.5
    intraventricular: 0.5
    intraparenchymal: 0.5
    subarachnoid: 0.5
study_rule: {{kind: adjacent, slices: 2, of: 3, minimum_slices: 8, maximum_gap_mm: 15}}
provenance: {{made_by: make_models.py}}
intended_use: tests only, not for diagnosis
"""


def write(folder, name, m):
    folder = folder / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data = m.SerializeToString()
    (folder / "model.onnx").write_bytes(data)
    (folder / "manifest.yaml").write_text(MANIFEST.format(
        name=name, sha256=hashlib.sha256(data).hexdigest(), classes=", ".join(CLASSES),
        mean=[0, 0, 0] if name == "slow" else [0.5, 0.5, 0.5], cam=", cam: cam" if name == "tiny" else "",
    ))


def main():
    here = pathlib.Path(__file__).parent
    for make in (tiny, slow, nan, hidden):
        write(here, make.__name__, make())
    manifests = here.parent.parent / "manifest" / "testdata"
    write(manifests, "external", external(tiny()))
    write(manifests, "external_in_subgraph", external_in_subgraph())


main()
