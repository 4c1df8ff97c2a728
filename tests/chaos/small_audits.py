"""The audits that scenarios submit: small, of every kind of shard, and the same bytes whatever happens to them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

import digits
from chaos.faulty_models import poison_png
from running_service import upload

_QUICK = {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "deletion", "grid": 4, "repeats": 2}]}
_LONG = {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "deletion", "grid": 12, "repeats": 3}]}
_LONGER = {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "deletion", "grid": 16, "repeats": 3}]}
_SLOW = {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "deletion", "grid": 6, "repeats": 2}]}
_WAVES = {
    "explainers": [{"kind": "gradient"}],
    "checks": [{"kind": "sweep", "augmentations": [{"kind": "brightness"}], "levels": 3, "top_k": 10}],
}

KINDS: Mapping[str, tuple[str, int, Mapping[str, Any]]] = {
    # name -> factory, images, plan
    "quick": ("digits:build", 4, _QUICK),
    "tiny": ("digits:build", 1, _QUICK),
    "waves": ("digits:build", 4, _WAVES),
    "slow": ("chaos.faulty_models:build_slow", 6, _SLOW),
    "one long shard": ("chaos.faulty_models:build_slow", 2, _LONG),
    "a shard longer than the grace": ("chaos.faulty_models:build_slow", 2, _LONGER),
}
"""Audits that succeed. A shard has two images; those of the slow network take 2 to 15 s each."""


def batch_of(client: httpx.Client, images: int, *, poisoned: bool = False) -> dict[str, Any]:
    """Upload the first digits; the poison image, if it is wanted, is in their middle."""
    files = [(f"digit-{n}.png", digits.png(n)) for n in range(images)]
    if poisoned:
        files.insert(images // 2, ("poison.png", poison_png()))
    return upload(client, files)


def request(folder: Path, kind: str, batch: Mapping[str, Any]) -> dict[str, Any]:
    """The body that starts an audit of a kind.

    Args:
        folder: Holds the weights.
        kind: A name in `KINDS`.
        batch: From `batch_of`.
    """
    factory, _, plan = KINDS[kind]
    return request_of(folder, factory, plan, batch)


def request_of(folder: Path, factory: str, plan: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, Any]:
    """The body that starts an audit of the digits network as a factory builds it."""
    return {
        "model": {
            "kind": "factory",
            "target": factory,
            "weights": {"uri": (folder / "digits.safetensors").as_uri()},
            "preprocessing": digits.PREPROCESSING.model_dump(mode="json"),
        },
        "images": dict(batch),
        "plan": dict(plan),
    }


def poisoned_request(folder: Path, name: str, batch: Mapping[str, Any]) -> dict[str, Any]:
    """An audit of a network that does something to its process at the poison image.

    Args:
        folder: Holds the weights.
        name: `killing`, `hanging` or `hungry`.
        batch: From `batch_of`.
    """
    return request_of(folder, f"chaos.faulty_models:build_{name}", _QUICK, batch)


def comparable(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report without what says when, how often and at what cost it was computed."""
    kept = {name: value for name, value in report.items() if name not in {"audit_id", "cost", "manifest"}}
    manifest = dict(report["manifest"])
    for name in ("attempts", "started_at", "finished_at", "shards"):
        manifest.pop(name, None)
    return kept | {"manifest": manifest}
