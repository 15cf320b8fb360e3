"""python -m ichtrain STEP: prepare, fit, export, card; selftest checks the code itself."""

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
    s = step("fit", "Train. Goes on where it stopped.")
    s.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="of the network itself")
    s.add_argument("--start", type=Path, help="weights to begin with: best.pt or checkpoint.pt of another run")
    s = step("export", "Best weights to model.onnx and manifest.yaml, operating points from the validation studies.")
    s.add_argument("--out", type=Path, help="model folder (default models/RECIPE)")
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
    elif a.step == "fit":
        from .fit import fit

        fit(recipe, work / "phantom", work / "run", a.workers, a.threads, a.start)
    elif a.step == "export":
        from .export import export

        export(recipe, work / "phantom", work / "run", a.out or HERE.parent / recipe["name"])
    elif a.step == "card":
        from .card import card

        card(recipe, work, a.out or HERE.parent / recipe["name"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
