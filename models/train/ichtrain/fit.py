"""Training: class-balanced draws, soft targets, AdamW with a cosine schedule, an average of the weights.

After each epoch the averaged weights are judged on the validation studies and everything is saved; a run that was
stopped goes on where it was. Every draw and every perturbation follows from (seed, epoch, draw), so that a resumed
run sees the same slices as one that was never stopped.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from . import metrics
from .augment import Augmenter
from .data import Set, targets
from .model import ResNet18, build
from .preprocess import Preprocessor
from .recipe import digest


class Draws(Sampler):
    """(epoch, draw, slice) triples of one epoch."""

    def __init__(self, data: Set, indices: np.ndarray, fit: dict):
        self.indices, self.fit, self.epoch = indices, fit, 0
        self.weights = draw_weights(data, indices, fit)

    def __len__(self) -> int:
        return self.fit["slices_per_epoch"]

    def __iter__(self):
        rng = np.random.default_rng((self.fit["seed"], self.epoch))
        drawn = rng.choice(self.indices, len(self), p=self.weights)
        return iter([(self.epoch, n, int(i)) for n, i in enumerate(drawn)])


def draw_weights(data: Set, indices: np.ndarray, fit: dict) -> np.ndarray:
    """Probability of drawing each slice: doubtful ones never, normal ones the stated share, subtypes evenly."""
    labels = data.labels[indices]
    usable = ~data.doubtful[indices]
    normal = labels[:, 0] & usable
    beside = normal & data.study_bleeds[data.study[indices]]
    far = normal & ~beside
    w = np.zeros(len(indices))
    near_share = fit["normal_from_bleeding_studies"] if far.any() else 1.0
    for mask, share in ((beside, near_share), (far, 1 - near_share)):
        if mask.any():
            w[mask] += fit["normal_share"] * share / mask.sum()
    present = [c for c in range(1, labels.shape[1]) if (labels[:, c] & usable).any()]
    for c in present:
        m = labels[:, c] & usable
        w[m] += (1 - fit["normal_share"]) / len(present) / m.sum()
    return w / w.sum()


class Training(Dataset):
    def __init__(self, data: Set, recipe: dict):
        self.data, self.pre = data, Preprocessor(recipe["manifest"])
        self.augment, self.seed = Augmenter(recipe["augmentation"]), recipe["fit"]["seed"]
        self.targets = targets(data.labels, recipe["fit"]["label_smoothing"])
        # The network sees any size; the first epochs at a smaller one cost half as much and teach the anatomy as well.
        self.small, self.small_epochs = Preprocessor(recipe["manifest"]), recipe["fit"]["small"]["epochs"]
        self.small.size = (recipe["fit"]["small"]["size"],) * 2

    def __getitem__(self, key: tuple[int, int, int]):
        epoch, n, i = key
        rng = np.random.default_rng((self.seed, epoch, n))
        pre = self.small if epoch < self.small_epochs else self.pre
        return pre.windows(self.augment(*self.data.patch(i), rng)), self.targets[i]


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


def probabilities(net: ResNet18, data: Set, indices: np.ndarray, recipe: dict, workers: int) -> np.ndarray:
    net.eval()
    loader = DataLoader(Plain(data, indices, recipe), 64, num_workers=workers, worker_init_fn=one_thread)
    with torch.inference_mode():
        return torch.cat([net(x).softmax(1) for x in loader]).numpy()


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


def fit(recipe: dict, prepared: Path, run: Path, workers: int, threads: int, start: Path | None) -> None:
    run.mkdir(parents=True, exist_ok=True)
    f = recipe["fit"]
    torch.set_num_threads(threads)
    torch.manual_seed(f["seed"])
    data = Set(prepared, recipe)
    split = data.split(recipe)
    key = digest([recipe["fit"], recipe["model"], recipe["data"], recipe["augmentation"], recipe["manifest"], data.names])
    for name, part in split.items():
        counts = dict(zip(data.classes, data.labels[part].sum(0).tolist()))
        print(f"{name}: {len(set(data.study[part]))} studies, {len(part)} slices, {counts}, doubtful {data.doubtful[part].sum()}")

    net = build(recipe).to(memory_format=torch.channels_last)
    if start:
        net.load_state_dict(torch.load(start, weights_only=False)["mean"], strict=False)
    mean = copy.deepcopy(net)
    decayed = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
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
        optimiser.load_state_dict(state["optimiser"])
        history, first = state["history"], state["epoch"]
        print(f"resumed after epoch {first}")

    draws = Draws(data, split["train"], f)
    loader = DataLoader(
        Training(data, recipe), f["batch"], sampler=draws, num_workers=workers, worker_init_fn=one_thread, drop_last=True
    )
    steps = f["epochs"] * len(loader)
    for epoch in range(first, f["epochs"]):
        draws.epoch = epoch
        torch.manual_seed(f["seed"] + epoch)  # dropout, the same when resumed
        net.train()
        began, losses = time.monotonic(), []
        bar = tqdm(loader, desc=f"epoch {epoch + 1}/{f['epochs']}", unit="batch", mininterval=5)
        for n, (x, t) in enumerate(bar):
            step = epoch * len(loader) + n
            for group in optimiser.param_groups:
                group["lr"] = f["learning_rate"] * rate(step, steps, f["warmup_epochs"] * len(loader))
            x = x.to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                logits, evidence = net.forward_training(x)
            local = F.binary_cross_entropy_with_logits(evidence.float(), (t[:, 1:] > 0.25).float())
            loss = F.cross_entropy(logits.float(), t) + f["local_weight"] * local
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimiser.step()
            # A short average at first, so that the start is soon forgotten.
            average(mean, net, min(f["ema_decay"], (1 + step) / (10 + step)))
            losses.append(loss.item())
            bar.set_postfix(loss=f"{np.mean(losses[-50:]):.3f}", refresh=False)
        entry = {"epoch": epoch + 1, "loss": float(np.mean(losses))}
        history.append(entry)
        if (epoch + 1) % f["validate_every"] == 0 or epoch + 1 == f["epochs"]:
            scores = probabilities(mean, data, split["validation"], recipe, workers)
            kept = ~data.doubtful[split["validation"]]
            aucs = metrics.slice_aucs(scores[kept], data.labels[split["validation"]][kept], data.classes)
            entry["auc"] = aucs
            entry["figure"] = float(np.nanmean([aucs["any"], np.nanmean([aucs[c] for c in data.classes[1:]])]))
            if entry["figure"] >= max(h["figure"] for h in history if "figure" in h):
                save(run / "best.pt", {"mean": mean.state_dict(), "epoch": epoch + 1, "auc": aucs, "key": key})
        entry["seconds"] = round(time.monotonic() - began, 1)
        told = ", ".join(f"{k} {v:.4f}" for k, v in entry.get("auc", {}).items())
        print(f"epoch {epoch + 1}: loss {entry['loss']:.3f}, {told}", flush=True)
        save(
            checkpoint,
            {"key": key, "epoch": epoch + 1, "net": net.state_dict(), "mean": mean.state_dict(),
             "optimiser": optimiser.state_dict(), "history": history},
        )  # fmt: skip
        (run / "history.json").write_text(json.dumps(history, indent=1))


def save(path: Path, state: dict) -> None:
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)
