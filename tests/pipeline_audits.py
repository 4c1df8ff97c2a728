"""Small audits of the digits with a verdict that is known before, for what pipelines do with verdicts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

import digits
from running_service import serving

PLAN = {
    "seed": 7,
    "explainers": [{"kind": "gradient"}],
    "checks": [{"kind": "deletion", "grid": 4, "repeats": 2}],
}


def condition(**changes: Any) -> dict[str, Any]:
    """A condition on a difference of two probabilities, which is in [-1, 1]."""
    fields = {"check": "deletion", "explainer": "gradient", "metric": "inter_model_deletion"}
    return {**fields, "statistic": "mean", **changes}


POLICIES = {
    # random maps get 0, so that a condition that wants more than that is not vacuous
    "pass": [condition(at_least=0.001, id="better_than_random")],
    "fail": [condition(at_least=0.99, id="impossible")],
    "inconclusive": [condition(at_least=0.001, id="many", min_images=1000)],
}


@contextmanager
def digits_service(folder: Path, **settings: str) -> Iterator[httpx.Client]:
    """A service that may load what `document` names from the folder."""
    digits.write_weights(folder)
    factories = json.dumps(["digits:build", "digits:build_flat"])
    roots = json.dumps([str(folder)])
    fixed = {"AUDIT_QUEUE": "database", "AUDIT_DEVICE": "cpu", "AUDIT_FACTORIES": factories, "AUDIT_FILE_ROOTS": roots}
    with serving(folder, **(fixed | settings)) as client:
        yield client


def document(folder: Path, verdict: str) -> dict[str, Any]:
    """A request without images whose audit ends with this verdict; `error` is an audit that fails.

    Args:
        folder: That of `digits_service`.
        verdict: `pass`, `fail`, `inconclusive` or `error`.
    """
    model = digits.reference(folder / "digits.safetensors").model_dump(mode="json")
    if verdict == "error":
        return {"model": model | {"target": "digits:build_flat", "weights": {"uri": "random:1"}}, "plan": PLAN}
    return {"model": model, "plan": PLAN, "policy": POLICIES[verdict]}


def write_photos(folder: Path, count: int = 10) -> Path:
    """A folder with images."""
    folder.mkdir()
    for index in range(count):
        (folder / f"digit-{index}.png").write_bytes(digits.png(index))
    return folder
