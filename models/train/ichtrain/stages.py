"""Which slices each stage of a recipe draws from, and what it begins with.

    pretrain       phantoms                          -> run/pretrain
    transfer K     patients outside fold K, painted  -> run/fold-K      (the held-out patients' scores beside it)
                   on them, and phantoms
    transfer all   every patient                     -> run/all         (the weights that ship)
"""

from __future__ import annotations

from pathlib import Path

import torch

from . import fit, folds, imagenet
from .data import Set
from .model import Network, ResNet18
from .preprocess import Preprocessor
from .teacher import Teacher

PHANTOM, PATIENTS, PAINTED = "phantom", "ct-ich", "painted"


def phantoms(recipe: dict, work: Path) -> tuple[Set, dict]:
    data = Set(work / PHANTOM, recipe)
    return data, folds.hashed(data, recipe["data"]["split"], recipe["seed"])


def pretrain(recipe: dict, work: Path, workers: int, threads: int, weights: Path | None) -> None:
    data, split = phantoms(recipe, work)
    net = fit.start(recipe, None)
    if weights:
        if not isinstance(net, ResNet18) or recipe["model"]["base_width"] != 64:
            raise SystemExit("--imagenet holds a ResNet-18 of base width 64; this recipe asks for another network")
        pre = Preprocessor(recipe["manifest"])
        sample = torch.stack([pre.windows(data.square(int(i))) for i in split["train"][:: len(split["train"]) // 64]])
        print("ImageNet weights; not among them:", ", ".join(imagenet.load(net, weights, sample)))
    mixture = [fit.Part(PHANTOM, data, split["train"], 1.0)]
    watched = fit.Part("watched", data, split["validation"], 0)
    teacher = teacher_of(recipe, work, "pretrain", net)
    fit.fit(recipe, "pretrain", mixture, watched, work / "run" / "pretrain", workers, threads, net, teacher)


def teacher_of(recipe: dict, work: Path, run: str, pupil: Network) -> Teacher | None:
    """The same run of the recipe that is named as the teacher's, from the folder beside this one's."""
    if "teacher" not in recipe:
        return None
    t = recipe["teacher"]
    weights = work.parent / t["recipe"] / "run" / run / "final.pt"
    if not weights.exists():
        raise SystemExit(f"{weights} is not there: the teacher's {run} comes first (recipe {t['recipe']})")
    return Teacher(Path(__file__).parent.parent / "recipes" / f"{t['recipe']}.yaml", weights, pupil, t)


def transfer(recipe: dict, work: Path, workers: int, threads: int, fold: int | None) -> None:
    shares = recipe["stages"]["transfer"]["sources"]
    synthetic, split = phantoms(recipe, work)
    patients, painted = Set(work / PATIENTS, recipe), Set(work / PAINTED, recipe)
    fold_of = folds.deal(patients, recipe["seed"])
    mixture = [
        fit.Part(PATIENTS, patients, folds.outside(patients, fold_of, fold), shares[PATIENTS], whole=True),
        fit.Part(PAINTED, painted, folds.outside(painted, fold_of, fold), shares[PAINTED]),
        fit.Part(PHANTOM, synthetic, split["train"], shares[PHANTOM]),
    ]
    watched = None if fold is None else fit.Part("held out", patients, folds.inside(patients, fold_of, fold), 0, whole=True)
    net = fit.start(recipe, work / "run" / "pretrain" / "final.pt")
    name = "all" if fold is None else f"fold-{fold}"
    teacher = teacher_of(recipe, work, name, net)
    fit.fit(recipe, "transfer", mixture, watched, work / "run" / name, workers, threads, net, teacher)
