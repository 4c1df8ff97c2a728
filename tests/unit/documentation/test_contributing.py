"""What a contributor is told is what runs."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]


def test_hooks_run_what_make_lint_runs() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert {repository["repo"] for repository in config["repos"]} == {"local"}
    entries = [shlex.split(hook["entry"]) for repository in config["repos"] for hook in repository["hooks"]]
    assert all(hook["language"] == "system" for repository in config["repos"] for hook in repository["hooks"])
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert lint is not None
    wanted = [shlex.split(line) for line in lint[1].replace("$(BIN)", ".venv/bin").splitlines()]

    def named(command: list[str]) -> tuple[str, ...]:
        # these do what their first word says; the others have one task
        return tuple(command[: 2 if command[0].endswith(("ruff", "python")) else 1])

    assert {named(command) for command in wanted} <= {named(entry) for entry in entries}
    for program, *_ in entries:
        assert (Path(sys.executable).parent / Path(program).name).exists(), program


def test_every_setting_of_the_security_page_is_real() -> None:
    from auditcore_service.settings import Settings  # noqa: PLC0415 - one test needs it

    named = set(re.findall(r"AUDIT_([A-Z_]+)", (ROOT / "SECURITY.md").read_text(encoding="utf-8")))
    assert named
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_the_contributors_page_names_a_guide_for_every_extension() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    guides = {path.stem for path in (ROOT / "docs" / "how-to").glob("add-*.md")}
    assert guides == {"add-an-explainer", "add-a-check", "add-a-model-source", "add-a-route", "add-a-training-method"}
    for guide in guides:
        assert f"docs/how-to/{guide}.md" in page
