"""Assess the exported model and write MODEL_CARD.md: every figure in it comes from here.

What is assessed are the bytes of model.onnx, through ONNX Runtime, at the default operating point and under the rule of
the manifest that lies beside them.
"""

from __future__ import annotations

import hashlib
import json
import math
import textwrap
from pathlib import Path

import numpy as np
import yaml

from . import folds, metrics
from .data import Set
from .export import cached_predictions, rule_words
from .recipe import write_atomically


def card(recipe: dict, work: Path, folder: Path) -> None:
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text())
    model = (folder / manifest["model"]["file"]).read_bytes()
    if hashlib.sha256(model).hexdigest() != manifest["model"]["sha256"]:
        raise SystemExit(f"{folder}: model.onnx is not the one that manifest.yaml names; run `export` again")
    run = work / "run"

    data = Set(work / "phantom", recipe)
    split = folds.hashed(data, recipe["data"]["split"], recipe["seed"])
    p = cached_predictions(run / "test.npz", model, data, split["test"], manifest)
    point = metrics.operating_point(manifest)
    figures = {"phantom": metrics.assess(data, split["test"], p, manifest, point)}
    real = None
    if (work / "ct-ich").is_dir():
        real = Set(work / "ct-ich", recipe)
        everything = np.arange(len(real))
        q = cached_predictions(run / "ct-ich.npz", model, real, everything, manifest)
        figures["ct-ich"] = metrics.assess(real, everything, q, manifest, point)
    check = None
    if (work / "check").is_dir():
        check = Set(work / "check", recipe)
        everything = np.arange(len(check))
        q = cached_predictions(run / "check.npz", model, check, everything, manifest)
        figures["check"] = metrics.assess(check, everything, q, manifest, point)
    (run / "figures.json").write_text(json.dumps(figures, indent=1))
    text = write(recipe, manifest, len(model), data, split, figures, real, check)
    write_atomically(folder / "MODEL_CARD.md", text)
    print(text)


def number(v) -> str:
    value, low, high = v[:3]
    return "-" if math.isnan(value) else f"{value:.3f} ({low:.3f}-{high:.3f})"


def points_rows(manifest: dict) -> str:
    return "\n".join(
        f"| operating point `{o['name']}`{', the default' if o['name'] == manifest['operating_point'] else ''} | "
        + ", ".join(f"{k} {v}" for k, v in o["thresholds"].items())
        + (f"; studies {o['study_threshold']}" if "study_threshold" in o else "")
        + " |"
        for o in manifest["operating_points"]
    )


def slice_table(f: dict) -> str:
    lines = [
        "| class | slices with it / without | AUC (95 %) | sensitivity (95 %) | specificity (95 %) |",
        "|---|---|---|---|---|",
    ]
    for name, r in f["slices"].items():
        lines.append(
            f"| {name} | {r['positive']} / {r['negative']} | {number(r['auc'])} | {number(r['sensitivity'])} "
            f"| {number(r['specificity'])} |"
        )
    return "\n".join(lines)


def finding_table(f: dict, classes: list[str]) -> str:
    columns = ["negative", *classes[1:]]
    if f["studies"]["not analysed"]:
        columns.append("not analysed")
    lines = ["| study shows | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for kind in sorted(f["studies"]["findings"], key=lambda k: classes.index(k) if k in classes else 99):
        row = f["studies"]["findings"][kind]
        lines.append(f"| {kind} | " + " | ".join(str(row.get(c, 0)) for c in columns) + " |")
    return "\n".join(lines)


def split_table(data: Set, split: dict[str, np.ndarray]) -> str:
    lines = [
        "| split | studies | slices | " + " | ".join(data.classes) + " | too little blood |",
        "|---" * (len(data.classes) + 4) + "|",
    ]
    for name, part in split.items():
        counts = data.labels[part][~data.doubtful[part]].sum(0)
        lines.append(
            f"| {name} | {len(np.unique(data.study[part]))} | {len(part)} | "
            + " | ".join(str(c) for c in counts)
            + f" | {data.doubtful[part].sum()} |"
        )
    return "\n".join(lines)


def limit_words(rule: dict) -> str:
    if rule["kind"] == "evidence":
        return "Of a bleed in a single slice the study rule asks for more than it does of one that several slices show."
    return "A study with a bleed in a single slice is negative under the study rule."


def proportion(v: list) -> str:
    return f"{v[0]:.3f} ({v[1]:.3f}-{v[2]:.3f}), {v[3]} of {v[4]}"


def write(recipe: dict, manifest: dict, size: int, data: Set, split: dict, figures: dict, real: Set | None, check: Set | None) -> str:
    f, rule = figures["phantom"], manifest["study_rule"]
    default, words = manifest["operating_point"], manifest["provenance"]["thresholds"]
    parts = f"""# {manifest["name"]}

**Trained on synthetic studies only. For demonstration and commissioning. It must never be used on patients, not even as
a triage aid. Suspected, not for diagnosis. Not a medical device.**

The first model of ichwatch: it makes the demo's outcomes earned and not scripted, and it lets a technician prove the
whole line, from the scanner's push to the alert, with `ichwatch phantom` before any trained model is chosen.

| | |
|---|---|
| architecture | {manifest["architecture"]}, classes {", ".join(manifest["classes"])} |
| file | `{manifest["model"]["file"]}`, ONNX opset 17, float32, {size / 1e6:.2f} MB |
| SHA-256 | `{manifest["model"]["sha256"]}` |
| input | {manifest["input"]["height"]} x {manifest["input"]["width"]}, windows (centre/width, HU) {", ".join(f"{w['centre']}/{w['width']}" for w in manifest["windows"])} |
| output | logits, and class activation maps of 7 x 7 |
{points_rows(manifest)}
| study rule | {rule_words(rule)} |

## Data

{data_words(data)} No patient's image was used. Split by study:

{split_table(data, split)}

A slice counts as carrying a class where that bleed covers at least 20 mm² of it; one with some blood, but less of
every class, is left out of training and of the slice figures (last column) and stays in its study for the study
figures. A slice that carries
two subtypes shares the softmax target evenly between them, and counts as positive for both.

## Figures on held-out synthetic studies

Test split, {len(np.unique(data.study[split["test"]]))} studies, operating point `{default}`; in brackets 95 % intervals over studies. Synthetic studies are
far easier than patients: these figures say that the software works, and nothing about hospitals.

{slice_table(f)}

`any` is scored by 1 - p(normal) for the AUC, and positive where any class reaches its threshold. How the thresholds were
chosen: {words}. The most probable class is right on
{number(f["accuracy"])} of the slices. Of {f["doubtful"][0]} slices with less than 20 mm² of blood, {f["doubtful"][1]} were called a hemorrhage.

Whole studies under the study rule: sensitivity {proportion(f["studies"]["sensitivity"])}; specificity
{proportion(f["studies"]["specificity"])}. What was found:

{finding_table(f, data.classes)}
"""
    if check is not None:
        k = figures["check"]
        parts += f"""
## A set written later, at the demo's settings

{len(check.names)} studies, {len(check)} slices, none of them in any split; `{recipe["check_command"]}`.

{slice_table(k)}

Whole studies: sensitivity {proportion(k["studies"]["sensitivity"])}; specificity {proportion(k["studies"]["specificity"])}.

{finding_table(k, data.classes)}
"""
    if real is not None:
        r = figures["ct-ich"]
        parts += f"""
## What it does on patients' images

It was never trained on any. On {len(real)} slices of {len(real.names)} patients (Hssayeni et al., Data 2020;5(1):14, CC BY 4.0; windowed
JPEGs brought back to HU), with the thresholds above:

{slice_table(r)}

Whole patients under the study rule: sensitivity {proportion(r["studies"]["sensitivity"])}; specificity
{proportion(r["studies"]["specificity"])}. Four patients have a subdural and five an intraventricular bleed: nothing
can be concluded for these. **This is why the model must not be used on patients.**
"""
    parts += f"""
## Making it again

In `models/train` (README.md there), with `ichwatch` built:

```
{commands(recipe, real is not None, check is not None)}
```

`card` wrote this page. The weights beside it: {recipe.get("history", "one run of these commands").strip()}. The recipe is `models/train/recipes/{recipe["file"]}`; preprocessing is defined there once and copied
into `manifest.yaml`. Provenance: {"; ".join(f"{k} {v}" for k, v in manifest["provenance"].items() if k not in ("recipe", "data", "training"))}.

## Known limits

- It knows the phantom's anatomy, noise and artefacts, and no other: no tumours, infarcts, metal, post-operative heads
  or children beyond what the phantom draws.
- A bleed of less than 20 mm² in a slice is not asked of it.
- Its probabilities are not calibrated for any population.
- {limit_words(rule)}
"""
    return filled(parts)


def filled(text: str) -> str:
    """Paragraphs at 118 columns; tables, lists, headings and code as they are."""
    out, code = [], False
    for block in text.strip().split("\n\n"):
        fence = block.count("```") % 2 == 1
        if code or fence or block.lstrip().startswith(("|", "#", "-", "```")):
            out.append(block.strip("\n"))
        else:
            out.append(textwrap.fill(" ".join(block.split()), 118, break_long_words=False, break_on_hyphens=False))
        code ^= fence
    return "\n\n".join(out) + "\n"


def data_words(data: Set) -> str:
    return f"{len(data.names)} synthetic non-contrast head CT studies, {len(data)} slices, written by `ichwatch phantom`."


def commands(recipe: dict, real: bool, check: bool) -> str:
    lines = [
        *recipe.get("source_commands", []),
        "python -m ichtrain prepare --kind phantom SET/*",
        *(["python -m ichtrain prepare --kind ct-ich CT-ICH    # optional, for the section on patients' images"] if real else []),
        *([recipe["check_command"], "python -m ichtrain prepare --kind phantom --into check CHECK"] if check else []),
        "python -m ichtrain pretrain",
        "python -m ichtrain export",
        "python -m ichtrain card",
    ]
    return "\n".join(lines)
