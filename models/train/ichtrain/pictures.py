"""Pictures for the model card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .data import Set
from .export import session
from .preprocess import Preprocessor

TILE = 176


def tile(hu: np.ndarray, cam: np.ndarray | None, words: str) -> Image.Image:
    grey = np.clip((hu.astype(np.float32) + 0) * (255 / 80), 0, 255).astype(np.uint8)
    image = Image.fromarray(grey).resize((TILE, TILE), Image.Resampling.BILINEAR).convert("RGB")
    if cam is not None:
        heat = np.clip(cam / max(float(cam.max()), 1e-6), 0, 1)
        strong = Image.fromarray((heat * 150).astype(np.uint8)).resize((TILE, TILE), Image.Resampling.BICUBIC)
        image.paste(Image.new("RGB", (TILE, TILE), (230, 60, 20)), mask=strong)
    ImageDraw.Draw(image).multiline_text((4, 3), words, fill=(255, 230, 120), spacing=1)
    return image


def failures(data: Set, indices: np.ndarray, p: np.ndarray, model: bytes, manifest: dict, path: Path, count: int = 5) -> None:
    """The normal slices that looked most like a hemorrhage and the bleeding ones that looked most normal, one a study;
    each as it is and with the map of its most probable hemorrhage class."""
    pre, run = Preprocessor(manifest), session(model)
    labels, doubtful = data.labels[indices], data.doubtful[indices]
    rows = []
    for wrong in (np.where(labels[:, 0] & ~doubtful, -p[:, 0], -9.0), np.where(labels[:, 0] | doubtful, -9.0, p[:, 0])):
        order, seen, columns = np.argsort(-wrong), set(), []
        for k in order:
            i = int(indices[k])
            if data.study[i] in seen or wrong[k] <= -9:
                continue
            seen.add(data.study[i])
            hu = data.square(i)
            c = 1 + int(p[k, 1:].argmax())
            cam = run.run(["cam"], {"image": pre.windows(hu)[None].numpy()})[0][0, c]
            truth = "+".join(data.classes[j] for j in np.flatnonzero(labels[k])).replace("normal", "no bleed")
            columns.append((tile(hu, None, truth), tile(hu, cam, f"{data.classes[c]} {p[k, c]:.2f}")))
            if len(columns) == count:
                break
        rows.append(columns)
    sheet = Image.new("RGB", (TILE * count, TILE * 4))
    for r, columns in enumerate(rows):
        for x, (plain, mapped) in enumerate(columns):
            sheet.paste(plain, (x * TILE, 2 * r * TILE))
            sheet.paste(mapped, (x * TILE, (2 * r + 1) * TILE))
    sheet.quantize(96).save(path, optimize=True)
