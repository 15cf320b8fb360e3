"""The recipe file (recipes/NAME.yaml) and the folder a run works in."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import yaml


def load(path: Path) -> dict:
    with open(path) as f:
        recipe = yaml.safe_load(f)
    recipe["file"] = path.name
    return recipe


def digest(part: object) -> str:
    """Short hash of a part of the recipe: what was made from it is reused only while it is unchanged."""
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:16]


def write_atomically(path: Path, data: bytes | str) -> None:
    """A step that is stopped leaves either the old file or the new one."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(data.encode() if isinstance(data, str) else data)
    os.replace(temporary, path)
