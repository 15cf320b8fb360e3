"""MODEL_CARD.md of a model trained on patients: every figure comes from the files that the other steps left in run/."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import yaml

from . import ensemble, folds, metrics, pictures
from .card import filled, limit_words, number, points_rows, proportion, slice_table
from .data import Set
from .export import cached_predictions, rule_words
from .recipe import write_atomically
from .stages import PATIENTS, PHANTOM

# Figures of others, from their publications, for the same question: AUC of a slice or study.
FLOOR = {
    "any": 0.837, "epidural": 0.790, "subdural": 0.631, "intraventricular": 0.563, "intraparenchymal": 0.840,
    "subarachnoid": 0.775,
}  # fmt: skip
RSNA = {
    "any": 0.988, "epidural": 0.984, "subdural": 0.983, "intraventricular": 0.996, "intraparenchymal": 0.992,
    "subarachnoid": 0.985,
}  # fmt: skip
PAPER = {"resnet18": (0.8964, 0.855, 0.927), "densenet121": (0.825, 0.776, 0.865)}


def card(recipe: dict, work: Path, folder: Path) -> None:
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text())
    model = (folder / manifest["model"]["file"]).read_bytes()
    if hashlib.sha256(model).hexdigest() != manifest["model"]["sha256"]:
        raise SystemExit(f"{folder}: model.onnx is not the one that manifest.yaml names; run `export` again")
    run = work / "run"
    left = {n: json.loads((run / f"{n}.json").read_text()) for n in ("cross-validation", "stress", "pointing", "int8")}
    phantoms = Set(work / PHANTOM, recipe)
    test = folds.hashed(phantoms, recipe["data"]["split"], recipe["seed"])["test"]
    scores = cached_predictions(run / "test.npz", model, phantoms, test, manifest)
    point = metrics.operating_point(manifest)
    synthetic = metrics.assess(phantoms, test, scores, manifest, point)
    pictures.failures(phantoms, test, scores, model, manifest, folder / "failures.png")
    if (run / ensemble.FILE).exists():
        left["ensemble"] = json.loads((run / ensemble.FILE).read_text())
    held_out = len(np.unique(phantoms.study[test]))
    text = write(recipe, manifest, len(model), Set(work / PATIENTS, recipe), left, synthetic, held_out)
    write_atomically(folder / "MODEL_CARD.md", text)
    print(text)


def three(v: list[float]) -> str:
    return f"{v[0]:.3f} ({v[1]:.3f}-{v[2]:.3f})"


def auc_table(data: Set, figures: dict) -> str:
    lines = [
        "| | slices | patients | AUC (95 %) | frozen ImageNet features, same folds | RSNA 2019 winner, its own test set |",
        "|---|---|---|---|---|---|",
    ]
    for name, v in figures["auc"].items():
        if name == "patient":
            bleeding = int(data.study_bleeds.sum())
            lines.append(f"| any, whole patient | | {bleeding} of {len(data.names)} | {three(v)} | | |")
            continue
        m = ~data.labels[:, 0] if name == "any" else data.labels[:, data.classes.index(name)]
        lines.append(
            f"| {name} | {m.sum()} | {len(set(data.study[m]))} | {three(v)} | {FLOOR[name]:.3f} | {RSNA[name]:.3f} |"
        )
    return "\n".join(lines)


def point_table(figures: dict) -> str:
    lines = [
        "| operating point | study sensitivity | study specificity | slice sensitivity | slice specificity |",
        "|---|---|---|---|---|",
    ]
    for o in figures["operating_points"]:
        study, one = o["expected"]["study"], o["expected"]["slice"]["any"]
        cells = [three(study["sensitivity"]), three(study["specificity"]), three(one["sensitivity"]), three(one["specificity"])]
        lines.append(f"| {o['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def class_table(figures: dict, default: str) -> str:
    point = next(o for o in figures["operating_points"] if o["name"] == default)
    lines = ["| slices | sensitivity | specificity |", "|---|---|---|"]
    for name, f in point["expected"]["slice"].items():
        lines.append(f"| {name} | {three(f['sensitivity'])} | {three(f['specificity'])} |")
    return "\n".join(lines)


def paper_table(paper: dict, classes: list[str]) -> str:
    lines = ["| class | sensitivity | specificity | AUC |", "|---|---|---|---|"]
    for name in classes:
        f = paper[name]
        auc = "-" if math.isnan(f["auc"]) else f"{f['auc']:.3f}"
        lines.append(f"| {name} | {number(f['sensitivity'])} | {number(f['specificity'])} | {auc} |")
    return "\n".join(lines)


def stress_table(stress: dict) -> str:
    lines = ["| held-out slices, changed | AUC any |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {v['any']:.3f} |" for name, v in stress.items()])


def pointing_table(tally: dict) -> str:
    lines = ["| painted into held-out patients | found | map peaks on the bleed | by chance |", "|---|---|---|---|"]
    for name, t in tally.items():
        share = f"{t['hits'] / t['found']:.2f}" if t["found"] else "-"
        lines.append(f"| {t['painted']} {name} | {t['found']} | {share} | {t['chance']:.2f} |")
    return "\n".join(lines)


def curve_table(curves: list, slices_per_epoch: int) -> str:
    lines = ["| slices drawn | loss | AUC any, mean of the folds (lowest) |", "|---|---|---|"]
    for entries in zip(*curves):
        aucs = [e[2] for e in entries]
        lines.append(
            f"| {entries[0][0] * slices_per_epoch} | {np.mean([e[1] for e in entries]):.3f} | {np.mean(aucs):.3f} ({min(aucs):.3f}) |"
        )
    return "\n".join(lines)


def undecided(figures: dict) -> str:
    n = figures["operating_points"][0]["expected"]["not analysed"]
    return f"{n} patients were not analysed; they raise no alert and count so." if n else "Every patient was analysed."


def together(figures: dict | None) -> str:
    """What this model and others reach as one, where that was asked."""
    if figures is None:
        return ""
    lines = ["| | AUC (95 %) |", "|---|---|", *(f"| {name} | {three(v)} |" for name, v in figures["auc"].items())]
    return f"""## As an ensemble

{" and ".join(figures["members"])} answering as one (`triage.models`), on the same held-out patients:

{chr(10).join(lines)}

{point_table(figures)}

"""


def int8_card(name: str, digest: str, size: int, before: dict, after: dict, points: list[dict]) -> str:
    """The card of an int8 variant: what differs from the model that it was made of."""
    lines = ["| AUC (95 %) | float32 | int8 |", "|---|---|---|"]
    lines += [f"| {n} | {three(before[n])} | {three(after[n])} |" for n in before]
    return f"""# {name}-int8

**Suspected, not for diagnosis. Not a medical device.** This is {name} in 8 bits, for CPUs: all but the last stage, the
final layer and the activation maps. Its data, its protocol, its use and what must not be concluded from it stand in
`{name}/MODEL_CARD.md`.

| | |
|---|---|
| file | `model.onnx`, ONNX, int8 QDQ, {size / 1e6:.1f} MB |
| SHA-256 | `{digest}` |

Each fold's weights, quantised, on the patients that they have not seen:

{chr(10).join(lines)}

{point_table({"operating_points": points})}
"""


def write(recipe: dict, manifest: dict, size: int, data: Set, left: dict, synthetic: dict, held_out: int) -> str:
    cv, rule, name = left["cross-validation"], manifest["study_rule"], manifest["name"]
    lost = left["int8"]["lost"]
    paper = PAPER[recipe["model"]["kind"]]
    int8 = (
        f"`{name}-int8` is a model of its own, for the CPU: {left['int8']['bytes'] / 1e6:.1f} MB, {size / left['int8']['bytes']:.1f} "
        "times smaller."
        if left["int8"]["shipped"]
        else "That is more than 0.01, so no int8 variant ships."
    )
    return filled(f"""# {name}

**Suspected, not for diagnosis. Not a medical device.** It re-orders a worklist and calls a person; a person reads every
study, whatever it says. A study that it calls negative is not a study without a hemorrhage.

| | |
|---|---|
| architecture | {manifest["architecture"]}, classes {", ".join(manifest["classes"])} |
| file | `{manifest["model"]["file"]}`, ONNX opset 17, float32, {size / 1e6:.1f} MB |
| SHA-256 | `{manifest["model"]["sha256"]}` |
| input | {manifest["input"]["height"]} x {manifest["input"]["width"]}, windows (centre/width, HU) {", ".join(f"{w['centre']}/{w['width']}" for w in manifest["windows"])}, cropped to the head |
| output | logits, and class activation maps of 7 x 7 |
{points_rows(manifest)}
| study rule | {rule_words(rule)} |

## Intended use

{manifest["intended_use"]}

## Data

{len(data)} slices of {len(data.names)} patients of one hospital, {int(data.study_bleeds.sum())} of them with a hemorrhage: "Computed Tomography Images for
Intracranial Hemorrhage Detection and Segmentation", M. Hssayeni, PhysioNet; Hssayeni et al., Data 2020;5(1):14, CC BY 4.0.
Windowed JPEGs brought back to HU. Beside them bleeds painted into the same patients' slices that show none
(`ichtrain/paint.py`), and synthetic studies of `ichwatch phantom`. {"It began with torchvision's ImageNet weights of ResNet-18 (BSD-3-Clause) through layer3; the last stage was trained from nothing." if recipe["model"]["kind"] == "resnet18" else "No ImageNet weights of DenseNet-121 could be had: it began from nothing and learned from the ResNet-18 of the same fold (`ichtrain/teacher.py`) as well as from the labels."}

## Cross-validation by patient

Five folds; every patient is judged by the run that has not seen him, nor anything painted on him. Each run has a fixed
length, and its last weights count. The kind of study rule was chosen on these very scores among some thirty, and
confirmed on synthetic studies: figures of whole patients flatter it a little. In brackets 95 % intervals over patients:
whole patients drawn with replacement or, where each counts once, Wilson's.

{auc_table(data, cv)}

The most probable class is right on {number(cv["accuracy"])} of the slices, mostly because most are normal; with every class given
the same weight it is {cv["balanced"]:.3f}.

Operating points, the thresholds of each fold chosen on the other four, whose runs had learnt from the fold's patients: that
much of a good opinion of themselves is left in them. {undecided(cv)}

{point_table(cv)}

Slices at `{manifest["operating_point"]}`:

{class_table(cv, manifest["operating_point"])}

## Beside the source paper

Zhou et al. 2022 report an accuracy of {paper[0] * 100:.2f} % for this architecture on some 280 balanced slices (Wilson 95 % interval
{paper[1] * 100:.1f}-{paper[2] * 100:.1f} %), AUC above 0.9, and do not say that they split by patient. Their protocol (80/10/10), by patient, on
{cv["paper"]["patients"]} test patients and {cv["paper"]["slices"]} slices in their natural proportions: accuracy {number(cv["paper"]["accuracy"])}.

{paper_table(cv["paper"], manifest["classes"])}

## Stand-ins for other hospitals

Half of the held-out slices again, changed as other sites' images differ. They are no substitute for other sites.

{stress_table(left["stress"])}

Synthetic studies held out from all training: {held_out} studies, {synthetic["slices"]["any"]["positive"] + synthetic["slices"]["any"]["negative"]} slices, with the weights that ship, at operating
point `{manifest["operating_point"]}`; in brackets 95 % intervals over studies:

{slice_table(synthetic)}

Whole studies: sensitivity {proportion(synthetic["studies"]["sensitivity"])}; specificity {proportion(synthetic["studies"]["specificity"])}.

## Where it looks

{pointing_table(left["pointing"])}

{together(left.get("ensemble"))}## int8

AUC lost in cross-validation when quantised: {", ".join(f"{n} {v:+.3f}" for n, v in lost.items())} (any, patients, and the
subtypes of 15 patients or more decide). {int8}

## Learning curves

{curve_table(cv["curves"], recipe["stages"]["transfer"]["slices_per_epoch"])}

## What must not be concluded

- Nothing about subdural bleeds (4 patients), intraventricular ones (5) or subarachnoid ones (7) beyond the width of the
  intervals above.
- Nothing about another hospital, scanner, kernel or population. A model of this kind with an AUC of 0.98 at home came to
  0.84, 73 % sensitivity and 79 % specificity in another hospital's daily work. Run `ichwatch assess` on your own
  studies first, `ichwatch adapt` if need be.
- Not that an alert is right: at 10 % prevalence, 90 % sensitivity and 95 % specificity, one alert in three is false.
- Nothing about children, post-operative heads, tumours, infarcts or contrast agents: the data hold too few or none.

## Known failures

- {limit_words(rule)} Thin subdural and faint subarachnoid blood is missed first (slice sensitivities above).
- Calcifications, a dense falx and hardening beside thick bone are what it flags in normal heads.
- Doubling or merging of slices is not corrected for here.

The synthetic slices that it got most wrong, with the activation map of the class that it took them for (`failures.png`;
patients' images are not reproduced here):

![synthetic slices with the highest errors](failures.png)

## Making it again

In `models/train` (README.md there): `{recipe["file"]}`. Provenance: {"; ".join(f"{k} {v}" for k, v in manifest["provenance"].items() if k in ("training", "software"))}.
""")
