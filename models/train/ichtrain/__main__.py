"""python -m ichtrain STEP: from prepared studies to a model folder with its card; selftest checks the code itself."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from . import recipe as recipes

HERE = Path(__file__).resolve().parent.parent


def main() -> int:
    p = argparse.ArgumentParser(prog="python -m ichtrain", description=__doc__)
    steps = p.add_subparsers(dest="step", required=True)

    def step(name: str, text: str) -> argparse.ArgumentParser:
        s = steps.add_parser(name, help=text, description=text)
        if name != "selftest":
            s.add_argument("--recipe", type=Path, default=HERE / "recipes/resnet18-phantom.yaml")
            s.add_argument("--work", type=Path, help="folder of intermediate files (default work/RECIPE)")
            s.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that read and perturb slices")
        return s

    s = step("prepare", "Find the heads of a set and keep them in HU. Goes on where it stopped.")
    s.add_argument("source", type=Path, nargs="+", help="folders with labels.csv")
    s.add_argument("--kind", choices=("phantom", "ct-ich"), default="phantom")
    s.add_argument("--into", help="name of the prepared set under --work (default: the kind); `check` is only assessed")
    s = step("paint", "Paint bleeds into the prepared patients' slices that show none.")
    s = step("pretrain", "Train on synthetic studies. Goes on where it stopped.")
    s.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="of the network itself")
    s.add_argument("--imagenet", type=Path, help="folder of torchvision's ResNet-18 weights, see imagenet.py")
    s = step("transfer", "Train on patients, painted and synthetic studies. Goes on where it stopped.")
    s.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    s.add_argument("--fold", required=True, help="the fold of patients to hold out: 0 to 4; or all: hold out nobody")
    step("crossval", "Figures and operating points from the held-out patients of all folds.")
    s = step("ensemble", "What two recipes reach in cross-validation when their models answer as one.")
    s.add_argument("--with", dest="other", type=Path, required=True, help="the other recipe; its work is the folder beside")
    step("stress", "The held-out patients again, changed as other hospitals' images differ.")
    step("pointing", "Whether the class activation maps fall on bleeds painted into held-out patients.")
    s = step("export", "Best weights to model.onnx and manifest.yaml, thresholds from the validation studies.")
    s.add_argument("--out", type=Path, help="model folder (default models/RECIPE)")
    s.add_argument("--keep", action="store_true", help="keep the weights that lie there; write the manifest alone")
    s = step("quantise", "The int8 variant, judged on the held-out patients; written only where it loses little.")
    s.add_argument("--out", type=Path, help="model folder (default models/RECIPE-int8)")
    s.add_argument("--keep", action="store_true", help="keep the weights that lie there; write manifest and card alone")
    s.add_argument("--most", type=float, default=0.01, help="AUC that it may lose at most (default %(default)s)")
    s = step("card", "Assess the exported model on the test studies, and on ct-ich where prepared; write MODEL_CARD.md.")
    s.add_argument("--out", type=Path)
    step("selftest", "Check preprocessing, rule and export. Takes seconds.")
    a = p.parse_args()

    if a.step == "selftest":
        from .selftest import main as selftest

        return selftest()
    recipe = recipes.load(a.recipe)
    work: Path = a.work or HERE / "work" / recipe["name"]
    if a.step == "prepare":
        from .data import prepare

        prepare(recipe, a.kind, a.source, work / (a.into or a.kind), a.workers)
    elif a.step == "paint":
        from .paint import paint

        paint(recipe, work / "ct-ich", work / "painted", a.workers)
    elif a.step == "pretrain":
        from .stages import pretrain

        pretrain(recipe, work, a.workers, a.threads, a.imagenet)
    elif a.step == "transfer":
        from .stages import transfer

        transfer(recipe, work, a.workers, a.threads, None if a.fold == "all" else int(a.fold))
    elif a.step == "crossval":
        from .crossval import cross_validate

        cross_validate(recipe, work)
    elif a.step == "ensemble":
        from .ensemble import ensemble

        other = recipes.load(a.other)
        ensemble([recipe, other], [work, work.parent / other["name"]])
    elif a.step == "export":
        from .export import export

        export(recipe, work, a.out or HERE.parent / recipe["name"], a.keep)
    elif a.step == "stress":
        from .stress import stress

        stress(recipe, work)
    elif a.step == "pointing":
        from .pointing import pointing

        pointing(recipe, work)
    elif a.step == "quantise":
        from .quantise import quantise

        quantise(recipe, work, a.out or HERE.parent / (recipe["name"] + "-int8"), a.most, a.workers, a.keep)
    elif a.step == "card":
        if "transfer" in recipe["stages"]:
            from .patientcard import card
        else:
            from .card import card
        card(recipe, work, a.out or HERE.parent / recipe["name"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
