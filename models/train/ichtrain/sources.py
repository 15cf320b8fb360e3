"""Where slices come from: studies in HU with their truth, whatever the files are.

A source yields Study objects; everything after it (data.py) is the same for all. Two sources:

- phantom: the folder that `ichwatch phantom DIR` wrote (CT Image Storage and labels.csv);
- ct-ich: windowed JPEGs with labels.csv (Hssayeni et al. 2020), brought back to HU.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image

SUBTYPES = ("epidural", "subdural", "intraventricular", "intraparenchymal", "subarachnoid")


@dataclass
class Slice:
    path: Path
    position: float  # along the normal, mm
    labels: dict[str, bool]  # of the five subtypes
    trace: bool = False  # some blood, but too little to be asked for or to be called normal


@dataclass
class Study:
    name: str
    kind: str  # what the study shows
    set: str = ""  # folder it came from, where several were given
    slices: list[Slice] = field(default_factory=list)


def read_dicom(path: Path) -> tuple[np.ndarray, float]:
    """HU int16 [rows, columns] and the position along the slice normal in mm. Padding is air."""
    d = pydicom.dcmread(path)
    stored = d.pixel_array.astype(np.int32)
    hu = np.rint(stored * float(d.RescaleSlope) + float(d.RescaleIntercept))
    if "PixelPaddingValue" in d:
        hu[stored == int(d.PixelPaddingValue)] = -1024
    row, column = np.array(d.ImageOrientationPatient, float).reshape(2, 3)
    position = float(np.cross(row, column) @ np.array(d.ImagePositionPatient, float))
    return np.clip(hu, -32768, 32767).astype(np.int16), position


def read_ctich(path: Path) -> np.ndarray:
    """HU int16 from the brain window (40/120 HU), and where that is clipped from the bone window (700/3200 HU)."""
    brain = np.asarray(Image.open(path).convert("L"), np.float32)
    hu = brain * (120 / 255) - 20
    bone_path = path.parent.parent / "bone" / path.name
    if bone_path.exists():
        bone = np.asarray(Image.open(bone_path).convert("L"), np.float32) * (3200 / 255) - 900
        hu = np.where(brain <= 3, np.minimum(bone, -20), np.where(brain >= 252, np.maximum(bone, 100), hu))
    else:
        hu = np.where(brain <= 3, -900, hu)
    return np.rint(hu).astype(np.int16)


def read(path: Path) -> tuple[np.ndarray, float | None]:
    return (read_ctich(path), None) if path.suffix == ".jpg" else read_dicom(path)


def _truth(row: dict[str, str]) -> dict[str, bool]:
    return {c: row[c] == "1" for c in SUBTYPES}


def phantom(folder: Path) -> Iterator[Study]:
    studies: dict[str, Study] = {}
    with open(folder / "labels.csv", newline="") as f:
        for row in csv.DictReader(f):
            path = folder / row["file"]
            name = path.parent.name
            study = studies.setdefault(name, Study(name, name.rsplit("-", 1)[0]))
            study.slices.append(Slice(path, float(row["position_mm"]), _truth(row), row["trace"] == "1"))
    yield from studies.values()


def ctich(folder: Path, spacing_mm: float = 5.0) -> Iterator[Study]:
    patients: dict[str, list[Slice]] = defaultdict(list)
    with open(folder / "labels.csv", newline="") as f:
        for row in csv.DictReader(f):
            path = folder / "brain" / row["file"]
            patients[path.stem.split("_")[0]].append(Slice(path, int(row["slice"]) * spacing_mm, _truth(row)))
    for name, slices in sorted(patients.items()):
        bleeding = any(any(s.labels.values()) for s in slices)
        yield Study(name, "hemorrhage" if bleeding else "normal", slices=sorted(slices, key=lambda s: s.position))


def open_sources(kind: str, folders: list[Path]) -> list[Study]:
    """The studies of all folders; the folder's name goes before the study's where there are several."""
    if len(folders) == 1:
        return open_source(kind, folders[0])
    out = []
    for folder in folders:
        for study in open_source(kind, folder):
            study.name, study.set = f"{folder.name}-{study.name}", folder.name
            out.append(study)
    names = [s.name for s in out]
    if len(set(names)) != len(names):
        raise ValueError("two folders of the same name: " + ", ".join(str(f) for f in folders))
    return out


def open_source(kind: str, folder: Path) -> list[Study]:
    known = {"phantom": phantom, "ct-ich": ctich}
    if kind not in known:
        raise ValueError(f"source {kind!r} is not known; {', '.join(known)} are")
    if not (folder / "labels.csv").exists():
        raise FileNotFoundError(f"{folder}/labels.csv is not there: write the set first, see README.md")
    return list(known[kind](folder))
