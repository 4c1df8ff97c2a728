"""Whether two commits report the same numbers: audits by both, compared byte by byte.

    make same-reports BASE=<commit>

Every preset, one plan of every explainer and check, and an audit of two models run on digits, once with the code of
BASE in a worktree of its own and once with the code of this checkout. Times, memory and versions are left out; fields
that were renamed since BASE get their new name (`RENAMED_KEYS`, `RENAMED_VALUES`), and sentences that were rewritten
their new words (`RENAMED_TEXT`). Anything else that differs is printed with its place in the report, and the exit
status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import auditcore
import digits
from gpu import samples

ROOT = Path(__file__).parents[2]

IMAGES = 6

VOLATILE = {
    "audit_id",
    "auditcore_version",
    "environment",
    "finished_at",
    "peak_memory_bytes",
    "plan_digest",
    "request_digest",
    "seconds",
    "started_at",
    "uri",
}
"""Keys whose values differ from run to run, from machine to machine, or because a field was renamed."""

RENAMED_KEYS: dict[str, str] = {"families": "augmentations", "family": "augmentation", "offer": "capabilities"}
"""Key of a report of BASE -> its name in this checkout."""

RENAMED_VALUES: dict[tuple[str, str], str] = {}
"""(Key in this checkout, value of BASE) -> its value in this checkout."""

RENAMED_TEXT: dict[str, str] = {
    "It has 4 levels.": "The sweep has 4 levels.",
    "It has 5 levels.": "The sweep has 5 levels.",
    "The S of a map without knowledge depends on their number, for example 0.94": (
        "The S of a random map depends on the number of levels: for example, it is 0.94"
    ),
    "at 41 where the prediction collapses": "at 41 if the prediction collapses",
    "never with the S of other levels": "never with an S at a different number of levels",
    "the score answers another question than the map": "the score answers a different question",
    "keep the games towards zero only, with `baseline` `mean`": (
        "keep only the games toward zero, and set `baseline` to `mean`"
    ),
    "keep the games towards zero only, with `method.baseline` `mean`": (
        "keep only the games toward zero, and set `method.baseline` to `mean`"
    ),
    "that `min_images` asks for": "that `min_images` requires",
    "holds the threshold": "contains the threshold",
}
"""Part of a sentence in a report of BASE -> the same part in this checkout."""


def say(line: str) -> None:
    """Print a line at once, in order with those of the processes started here."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def write(folder: Path) -> None:
    """Run the audits with whichever code is on the path; a report in `folder` for each."""
    weights = digits.write_weights(folder)
    access = digits.access(folder)
    images = samples.digit_images()
    (preset_names,) = [
        get_args(field.annotation)
        for name, field in auditcore.PresetPlan.model_fields.items()
        if name in {"preset", "name"} and get_args(field.annotation)
    ]
    reference = digits.reference(weights).model_dump(mode="json")
    plans: dict[str, Any] = {name: {"preset": name, "seed": 3} for name in preset_names}
    plans["everything"] = auditcore.AuditPlan(
        seed=samples.SEED, explainers=samples.EXPLAINERS, checks=samples.CHECKS
    ).model_dump(mode="json")
    models: dict[str, dict[str, Any]] = {name: {"model": reference} for name in plans}
    plans["two-models"] = plans["quick"]
    untrained = reference | {"weights": {"uri": "random:1"}}
    models["two-models"] = {
        "models": [{"name": "trained", "model": reference}, {"name": "untrained", "model": untrained}]
    }
    named = {"kind": "batch", "digest": "sha256:" + 64 * "0"}
    condition = {"check": "deletion", "explainer": "gradient", "metric": "inter_model_deletion", "at_least": 0.0}
    policies = {"everything": [condition]}
    for name, plan in plans.items():
        request = auditcore.AuditRequest.model_validate(
            {**models[name], "images": named, "plan": plan, "policy": policies.get(name, [])}
        )
        pictures: dict[str, bytes] = {}
        report = auditcore.audit(
            request, images=images, access=access, micro_batch=8, audit_id=name, pictures=pictures, shard_images=4
        )
        (folder / f"{name}.json").write_bytes(auditcore.report_bytes(report))
        say(f"  {name}: {len(report.results)} results")


def comparable(value: Any, *, renamed: bool) -> Any:
    """Return a report without volatile values; a report of BASE gets the names and sentences of this checkout."""
    if renamed and isinstance(value, str):
        for old, new in RENAMED_TEXT.items():
            value = value.replace(old, new)
        return value
    if isinstance(value, list):
        return [comparable(one, renamed=renamed) for one in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, one in value.items():
        if key in VOLATILE:
            continue
        name = RENAMED_KEYS.get(key, key) if renamed else key
        inner = comparable(one, renamed=renamed)
        if renamed and isinstance(inner, str):
            inner = RENAMED_VALUES.get((name, inner), inner)
        found[name] = inner
    return found


def differences(before: Any, after: Any, place: str = "") -> Iterator[str]:
    """Where two reports differ, and how."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            if key not in before or key not in after:
                yield f"{place}/{key}: only {'after' if key in after else 'before'}"
            else:
                yield from differences(before[key], after[key], f"{place}/{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(one, other, f"{place}/{number}")
    elif json.dumps(before) != json.dumps(after):
        yield f"{place}: {json.dumps(before)[:200]} -> {json.dumps(after)[:200]}"


def run(checkout: Path, folder: Path) -> None:
    """Write the reports of one checkout, in a process of its own."""
    folder.mkdir()
    paths = os.pathsep.join(str(checkout / part) for part in ("src", "service", "tests"))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), "--write", str(folder)]
    subprocess.run(command, env=environment, cwd=checkout, check=True)


def compare(base: str, kept: Path | None) -> int:
    """Run both, or only this checkout where reports of BASE were kept; print what differs."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        before = kept or scratch / "before"
        if not before.exists():
            worktree = scratch / "base"
            git = ["git", "-C", str(ROOT), "worktree"]
            subprocess.run([*git, "add", "--quiet", "--detach", str(worktree), base], check=True)
            try:
                say(f"audits by {base}")
                run(worktree, before)
            finally:
                subprocess.run([*git, "remove", "--force", str(worktree)], check=True)
        say("audits by this checkout")
        run(ROOT, scratch / "after")
        names = {path.name for folder in (before, scratch / "after") for path in folder.glob("*.json")}
        different = 0
        for file in sorted(names):
            if not all((folder / file).exists() for folder in (before, scratch / "after")):
                say(f"{file}: only {'before' if (before / file).exists() else 'after'}, a preset of one commit")
                continue
            one, other = (json.loads((folder / file).read_bytes()) for folder in (before, scratch / "after"))
            found = list(differences(comparable(one, renamed=True), comparable(other, renamed=False)))
            different += bool(found)
            say(f"{file}: {'the same' if not found else f'{len(found)} differences'}")
            for line in found[:20]:
                say(f"  {line}")
    return 1 if different else 0


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Compare the reports of this checkout with those of a commit.")
    parser.add_argument("base", nargs="?", default="HEAD", help="commit to compare with")
    parser.add_argument("--keep", type=Path, help="folder for the reports of BASE: written once, read later")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write(arguments.write)
        return 0
    return compare(arguments.base, arguments.keep)


if __name__ == "__main__":
    sys.exit(main())
