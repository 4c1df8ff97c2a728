"""The pages that people write: requests are accepted, commands exist, every metric has a definition."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import TypeAdapter

import documented
import markdown_blocks
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.metrics import METRICS
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.request import AuditRequest
from auditcore_service.cli.commands import app
from command_line import run

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [block for page in markdown_blocks.pages() for block in markdown_blocks.blocks(page)]
COMMANDS = [step.command for block in BLOCKS if block.language == "console" for step in markdown_blocks.steps(block)]
MODELS: TypeAdapter[Any] = TypeAdapter(ModelReference)
EXPLAINERS: TypeAdapter[Any] = TypeAdapter(Explainer)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200


def test_the_readme_of_a_package_has_no_link_that_needs_the_repository() -> None:
    """On the page of a package index a relative link leads nowhere, and so does a relative picture."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    hook = project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    assert hook["fragments"] == [{"path": "README.md"}]
    published = README
    for change in hook["substitutions"]:
        published = re.sub(change["pattern"], change["replacement"], published)
    assert "*The top of the page: the verdict" in published
    assert re.findall(r"\]\((?!https?://)[^)]*\)", published) == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_paths_in_the_text_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = re.findall(r"`((?:src|service|tests|docs|docker|openapi|\.ci)/[\w./-]*)`", text)
    made = {"docs/_build", "docs/_build/reference/index.html", "docs/reference/"}
    assert [path for path in paths if path not in made and not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "json"], ids=lambda block: block.place
)
def test_json_is_what_it_looks_like(block: markdown_blocks.Block) -> None:
    images = {"images": {"kind": "batch", "digest": f"sha256:{0:064}"}}
    for document in _documents(block.text):
        if "plan" in document:
            AuditRequest.model_validate(images | document)
        elif "policy" in document:
            AuditRequest.model_validate({"model": {"kind": "demo"}, "plan": {"preset": "quick"}} | images | document)
        elif document["kind"] == "precomputed":
            EXPLAINERS.validate_python(document)
        else:
            MODELS.validate_python(document)


def _documents(text: str) -> list[dict[str, Any]]:
    decoder, found, at = json.JSONDecoder(), [], 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        document, at = decoder.raw_decode(text, at)
        found.append(document)
    return found


def test_the_documented_request_is_the_one_that_is_tested() -> None:
    page = ROOT / "docs" / "how-to" / "gate-a-pipeline.md"
    request = json.loads(next(block.text for block in markdown_blocks.blocks(page) if block.language == "json"))
    assert {part: request[part] for part in documented.REQUEST} == documented.REQUEST


def test_every_target_of_make_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for command in COMMANDS for target in re.findall(r"^make ([a-z-]+)", command)}
    named |= {
        target
        for page in markdown_blocks.pages()
        for target in re.findall(r"`make ([a-z-]+)`", page.read_text(encoding="utf-8"))
    }
    assert len(named) > 5
    assert named <= targets


def test_every_command_and_option_exists() -> None:
    known = {
        name: {
            option
            for one in spellings
            for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", run(*one.split(), "--help").output)
        }
        for name, spellings in _commands().items()
    }
    used = [
        (name, rest) for command in COMMANDS for name, rest in re.findall(r"auditcore ([a-z-]+)([^;|\n]*)", command)
    ]
    assert len(used) > 10
    for name, rest in used:
        assert name in known, name
        assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest)) <= known[name], (name, rest)


def _commands() -> dict[str, list[str]]:
    """Every command with its arguments to get help; a group with those of its commands."""
    group: Any = typer.main.get_command(app)
    assert "serve" in group.commands
    return {
        name: [name, *(f"{name} {inner}" for inner in getattr(command, "commands", {}))]
        for name, command in group.commands.items()
    }


def test_every_metric_has_a_definition() -> None:
    page = (ROOT / "docs" / "explanation" / "definitions.md").read_text(encoding="utf-8")
    missing = [f"{kind}.{name}" for kind, metrics in METRICS.items() for name in metrics if f"`{name}`" not in page]
    assert missing == []


def test_every_check_has_a_section_with_its_source() -> None:
    page = (ROOT / "docs" / "explanation" / "definitions.md").read_text(encoding="utf-8")
    for kind in METRICS.keys() - {"explainer"}:
        heading = re.search(rf"^## .*`{kind}`", page, re.MULTILINE)
        assert heading is not None, kind
        section = page[heading.end() :].split("\n## ", 1)[0]
        assert "Source: " in section, kind


def test_decisions_are_numbered_and_dated() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "index.md").read_text(encoding="utf-8")
    paths = sorted(folder.glob("[0-9]*.md"))
    assert [int(path.name[:4]) for path in paths] == list(range(1, len(paths) + 1))
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {int(path.name[:4])}. ")
        assert re.search(r"^Status: (accepted|replaced by .+)\. Date: \d{4}-\d\d-\d\d\.$", text, re.MULTILINE)
        for part in ("## Decision", "## Alternatives", "## Consequences"):
            assert part in text, path.name
        assert path.stem in index
