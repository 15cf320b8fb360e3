"""Training in two stages: synthetic studies first, then patients mixed with painted and synthetic ones.

Class-balanced draws, soft targets, AdamW with a cosine schedule, an average of the weights. Every draw and every
perturbation follows from (seed, stage, epoch, draw), so that a run that was stopped goes on as if it had not been.
Nothing is selected on those held out: a run has a fixed length, and its held-out patients are only watched.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from . import metrics
from .augment import Augmenter
from .data import Set, targets
from .model import Network, build
from .preprocess import Preprocessor
from .recipe import digest
from .teacher import Teacher


@dataclass
class Part:
    """One source of a mixture: which of its slices may be drawn, and how often it is drawn from."""

    name: str
    data: Set
    indices: np.ndarray
    share: float
    whole: bool = False  # its studies are whole stacks: neighbouring slices may be merged


def draw_weights(data: Set, indices: np.ndarray, settings: dict) -> np.ndarray:
    """Probability of drawing each slice: doubtful ones never, normal ones the stated share. `balance` says how the
    subtypes share the rest: 0 evenly, 1 as often as they occur."""
    labels = data.labels[indices]
    usable = ~data.doubtful[indices]
    normal = labels[:, 0] & usable
    beside = normal & data.study_bleeds[data.study[indices]]
    far = normal & ~beside
    w = np.zeros(len(indices))
    near_share = settings["normal_from_bleeding_studies"] if far.any() else 1.0
    if not beside.any():
        near_share = 0.0
    for mask, share in ((beside, near_share), (far, 1 - near_share)):
        if mask.any():
            w[mask] += settings["normal_share"] * share / mask.sum()
    counts = {c: (labels[:, c] & usable).sum() for c in range(1, labels.shape[1])}
    shares = {c: n ** settings["balance"] for c, n in counts.items() if n}
    for c, share in shares.items():
        m = labels[:, c] & usable
        w[m] += (1 - settings["normal_share"]) * share / sum(shares.values()) / m.sum()
    return w / w.sum()


class Draws(Sampler):
    """(epoch, draw, part, slice) of one epoch."""

    def __init__(self, parts: list[Part], settings: dict, seed: list[int]):
        self.parts, self.settings, self.seed, self.epoch = parts, settings, seed, 0
        self.weights = [draw_weights(p.data, p.indices, settings) for p in parts]
        shares = np.array([p.share for p in parts])
        self.shares = shares / shares.sum()

    def __len__(self) -> int:
        return self.settings["slices_per_epoch"]

    def __iter__(self):
        rng = np.random.default_rng([*self.seed, self.epoch])
        sources = rng.choice(len(self.parts), len(self), p=self.shares)
        slices = [rng.choice(p.indices, len(self), p=w) for p, w in zip(self.parts, self.weights)]
        return iter([(self.epoch, n, int(k), int(slices[k][n])) for n, k in enumerate(sources)])


class Training(Dataset):
    def __init__(self, parts: list[Part], recipe: dict, settings: dict, seed: list[int]):
        self.parts, self.seed = parts, seed
        self.augment, self.merge = Augmenter(recipe["augmentation"]), recipe["augmentation"]["merge"]
        self.targets = [targets(p.data.labels, settings["label_smoothing"]) for p in parts]
        # The network sees any size; early epochs at a smaller one cost a fraction and teach the anatomy as well.
        self.sizes = [(step["until"], Preprocessor(recipe["manifest"], step["size"])) for step in settings["sizes"]]
        self.sizes.append((math.inf, Preprocessor(recipe["manifest"])))

    def __getitem__(self, key: tuple[int, int, int, int]):
        epoch, n, part, i = key
        rng = np.random.default_rng([*self.seed, epoch, n])
        pre = next(p for until, p in self.sizes if epoch < until)
        source = self.parts[part]
        patch, square = source.data.patch(i)
        if source.whole and rng.random() < self.merge:
            patch = source.data.merged(i, rng)
        return self.augment(patch, square, pre, rng), self.targets[part][i]


class Plain(Dataset):
    """Slices as the daemon would see them."""

    def __init__(self, data: Set, indices: np.ndarray, recipe: dict):
        self.data, self.indices, self.pre = data, indices, Preprocessor(recipe["manifest"])

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, n: int) -> torch.Tensor:
        return self.pre.windows(self.data.square(int(self.indices[n])))


def one_thread(_: int) -> None:
    torch.set_num_threads(1)


def probabilities(net: Network, data: Set, indices: np.ndarray, recipe: dict, workers: int, exact: bool) -> np.ndarray:
    """[len(indices), classes] of the slices as the daemon would see them; in bfloat16 unless exact, five times faster."""
    net.eval()
    loader = DataLoader(Plain(data, indices, recipe), 32, num_workers=workers, worker_init_fn=one_thread)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=not exact):
        out = [net(x.to(memory_format=torch.channels_last)).float().softmax(1) for x in loader]
    return torch.cat(out).numpy()


def rate(step: int, steps: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def average(into: torch.nn.Module, new: torch.nn.Module, decay: float) -> None:
    with torch.no_grad():
        for a, b in zip(into.state_dict().values(), new.state_dict().values()):
            if a.dtype.is_floating_point:
                a.lerp_(b, 1 - decay)
            else:
                a.copy_(b)


def loss_of(net: Network, teacher: Teacher | None, x: torch.Tensor, t: torch.Tensor, settings: dict) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        logits, evidence, middle = net.forward_training(x)
        taught = teacher(x, logits, middle) if teacher else 0.0
    local = F.binary_cross_entropy_with_logits(evidence.float(), (t[:, 1:] > 0.25).float())
    return F.cross_entropy(logits.float(), t) + settings["local_weight"] * local + taught


def fit(
    recipe: dict,
    stage: str,
    parts: list[Part],
    watched: Part | None,
    run: Path,
    workers: int,
    threads: int,
    net: Network,
    teacher: Teacher | None = None,
) -> None:
    """Trains net on the mixture and leaves final.pt (the averaged weights) and history.json in run."""
    final = run / "final.pt"
    f = recipe["stages"][stage]
    seed = [recipe["seed"], sum(stage.encode())]
    seen = {k: v for k, v in recipe["manifest"].items() if k != "study_rule"}  # what a network sees of it
    key = digest(
        [seen, *(recipe[k] for k in ("seed", "model", "augmentation"))]
        + [f, stage, [(p.name, p.share, p.data.names, len(p.indices)) for p in parts]]
    )
    if final.exists() and torch.load(final, weights_only=False)["key"] == key:
        print(f"{final} is there already")
        return
    run.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    for p in parts + ([watched] if watched else []):
        counts = dict(zip(p.data.classes, p.data.labels[p.indices].sum(0).tolist()))
        print(f"{p.name} ({p.share:.2f}): {len(set(p.data.study[p.indices]))} studies, {len(p.indices)} slices, {counts}")

    net = net.to(memory_format=torch.channels_last)
    mean = copy.deepcopy(net)
    learning = [*net.parameters(), *(teacher.hint.parameters() if teacher else ())]
    decayed = [p for p in learning if p.ndim > 1]
    others = [p for p in learning if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": f["weight_decay"]}, {"params": others, "weight_decay": 0.0}],
        lr=f["learning_rate"],
    )
    checkpoint, history, first = run / "checkpoint.pt", [], 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=False)
        if state["key"] != key:
            raise SystemExit(f"{checkpoint} belongs to another recipe or data set: remove it, or name another --work")
        net.load_state_dict(state["net"])
        mean.load_state_dict(state["mean"])
        if teacher:
            teacher.hint.load_state_dict(state["hint"])
        optimiser.load_state_dict(state["optimiser"])
        history, first = state["history"], state["epoch"]
        print(f"resumed after epoch {first}")

    draws = Draws(parts, f, seed)
    loader = DataLoader(
        Training(parts, recipe, f, seed), f["batch"], sampler=draws, num_workers=workers, worker_init_fn=one_thread,
        drop_last=True,
    )  # fmt: skip
    steps = f["epochs"] * len(loader)
    for epoch in range(first, f["epochs"]):
        draws.epoch = epoch
        torch.manual_seed(recipe["seed"] + epoch)  # dropout, the same when resumed
        net.train()
        began, losses = time.monotonic(), []
        bar = tqdm(loader, desc=f"{run.name} {epoch + 1}/{f['epochs']}", unit="batch", mininterval=10)
        for n, (x, t) in enumerate(bar):
            step = epoch * len(loader) + n
            for group in optimiser.param_groups:
                group["lr"] = f["learning_rate"] * rate(step, steps, f["warmup"])
            loss = loss_of(net, teacher, x.to(memory_format=torch.channels_last), t, f)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimiser.step()
            # A short average at first, so that the start is soon forgotten.
            average(mean, net, min(f["ema_decay"], (1 + step) / (10 + step)))
            losses.append(loss.item())
            bar.set_postfix(loss=f"{np.mean(losses[-50:]):.3f}", refresh=False)
        entry = {"epoch": epoch + 1, "loss": float(np.mean(losses)), "seconds": round(time.monotonic() - began, 1)}
        history.append(entry)
        last = epoch + 1 == f["epochs"]
        if watched and (last or (epoch + 1) % f["watch_every"] == 0):
            scores = probabilities(mean, watched.data, watched.indices, recipe, workers, exact=last and watched.whole)
            kept = ~watched.data.doubtful[watched.indices]
            entry["auc"] = metrics.slice_aucs(scores[kept], watched.data.labels[watched.indices][kept], watched.data.classes)
            if last:
                np.savez(run / "held-out.npz", probabilities=scores, indices=watched.indices)
        told = ", ".join(f"{k} {v:.4f}" for k, v in entry.get("auc", {}).items())
        print(f"{run.name} epoch {epoch + 1}: loss {entry['loss']:.3f}, {entry['seconds']:.0f} s, {told}", flush=True)
        (run / "history.json").write_text(json.dumps(history, indent=1))
        state = {"key": key, "epoch": epoch + 1, "mean": mean.state_dict(), "history": history}
        if last:
            save(final, state)
            checkpoint.unlink(missing_ok=True)
        else:
            hint = teacher.hint.state_dict() if teacher else None
            save(checkpoint, {**state, "net": net.state_dict(), "hint": hint, "optimiser": optimiser.state_dict()})


def start(recipe: dict, weights: Path | None) -> Network:
    """A network as it begins: as drawn from the seed, or with the weights that another run ended with."""
    torch.manual_seed(recipe["seed"])
    net = build(recipe)
    if weights:
        net.load_state_dict(torch.load(weights, weights_only=False)["mean"])
    return net


def save(path: Path, state: dict) -> None:
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)
