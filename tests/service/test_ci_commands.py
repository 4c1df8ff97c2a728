"""The action for GitHub and the job for GitLab: their own scripts, a real service, and a server with comments."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import httpx
import pytest
import yaml

import code_forges
import pipeline_audits
from auditcore.integrations.sticky_comments import (
    GITHUB_MOST_CHARACTERS,
    CommentNotPosted,
    fitted,
    github_comments,
    gitlab_notes,
    marker_of,
)
from command_line import run

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "integrations" / "github" / "action.yml").read_text())
TEMPLATE = yaml.safe_load((ROOT / "integrations" / "gitlab" / "auditcore.gitlab-ci.yml").read_text())
FILES = {"report.json", "report.html", "report.xml", "summary.md"}


@dataclass(frozen=True)
class Workplace:
    """A checkout of a pipeline, and the service.

    Attributes:
        url: Address of the service.
        folder: Where the pipeline runs.
        stored: Folder of the service.
    """

    url: str
    folder: Path
    stored: Path

    def request(self, verdict: str) -> str:
        """A request file whose audit ends with this verdict."""
        path = self.folder / f"{verdict}.json"
        path.write_text(json.dumps(pipeline_audits.document(self.stored, verdict)))
        return path.name

    def script(self, text: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """What a runner does with a script: bash, and only these variables beside those of the machine."""
        environment = {
            "PATH": f"{self.folder / 'tools' / 'auditcore' / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "RUNNER_TEMP": str(self.folder / "tools"),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "HOME": str(self.folder),
        }
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", text],
            cwd=self.folder,
            env=environment | variables,
            capture_output=True,
            check=False,
            text=True,
        )

    def action(self, forge: code_forges.Forge, event: str | None = None, **inputs: str) -> dict[str, Any]:
        """The step of the action that audits, as the runner of GitHub runs it."""
        step = next(one for one in ACTION["runs"]["steps"] if one.get("id") == "audit")
        given = {name: str(one.get("default", "")) for name, one in ACTION["inputs"].items()}
        given |= {"url": self.url, "images": "photos", "github-token": "t0ken", **inputs}
        own = {name: _filled(value, given) for name, value in step["env"].items()}
        (self.folder / "event.json").write_text(event or json.dumps({"pull_request": {"number": 7}}))
        for name in ("output", "step_summary"):
            (self.folder / name).unlink(missing_ok=True)
        runner = {
            "GITHUB_API_URL": forge.url,
            "GITHUB_REPOSITORY": "team/model",
            "GITHUB_EVENT_PATH": str(self.folder / "event.json"),
            "GITHUB_OUTPUT": str(self.folder / "output"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "step_summary"),
        }
        done = self.script(step["run"], own | runner)
        output = self.folder / "output"
        return {
            "code": done.returncode,
            "log": done.stdout + done.stderr,
            "outputs": _outputs(output.read_text()) if output.exists() else {},
        }


def _filled(value: str, inputs: dict[str, str]) -> str:
    """A value of the action with its inputs, as GitHub fills them in."""
    return re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: inputs[found[1]], value)


def _outputs(text: str) -> dict[str, str]:
    found = re.findall(r"^([\w-]+)<<(\w+)\n(.*?)\n\2$", text, re.MULTILINE | re.DOTALL)
    return {name: value for name, _, value in found}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Path]]:
    folder = tmp_path_factory.mktemp("service")
    with pipeline_audits.digits_service(folder) as client:
        yield client, folder


@pytest.fixture
def workplace(service: tuple[httpx.Client, Path], tmp_path: Path) -> Workplace:
    client, stored = service
    pipeline_audits.write_photos(tmp_path / "photos")
    tools = tmp_path / "tools" / "auditcore" / "bin"
    tools.mkdir(parents=True)
    command = tools / "auditcore"
    command.write_text(f"#!{sys.executable}\nfrom auditcore_service.cli import main\nmain()\n")
    command.chmod(0o755)
    return Workplace(str(client.base_url), tmp_path, stored)


@pytest.fixture
def forge() -> Iterator[code_forges.Forge]:
    with code_forges.forge() as one:
        yield one


@pytest.mark.slow
def test_the_action_gates_by_the_verdict_and_keeps_one_comment(workplace: Workplace, forge: code_forges.Forge) -> None:
    for index in range(230):
        forge.add(f"comment {index}", code_forges.PERSON)
    # somebody who writes the marker gets no verdict into a comment that they can change afterwards
    forge.add(f"{marker_of('')}\n## auditcore: pass", code_forges.PERSON)
    for verdict, code in (("fail", 1), ("inconclusive", 3), ("error", 2), ("pass", 0)):
        done = workplace.action(forge, request=workplace.request(verdict), tags="model:digits\ncommit:1")
        assert done["code"] == code, done["log"]
        outputs = done["outputs"]
        assert (outputs["verdict"], outputs["exit-code"]) == (verdict, str(code))
        assert outputs["url"] == f"{workplace.url}/v1/audits/{outputs['audit-id']}"
        files = {path.name for path in (workplace.folder / outputs["report"]).iterdir()}
        # a report of the audit before would be taken for that of this one
        assert files == (FILES - {"report.json"} if verdict == "error" else FILES)
        ET.fromstring((workplace.folder / outputs["report"] / "report.xml").read_text())  # noqa: S314 - made by us
        summary = (workplace.folder / outputs["report"] / "summary.md").read_text()
        assert (workplace.folder / "step_summary").read_text() == summary
        (own,) = [one for one in forge.comments if one["user"] == code_forges.BOT]
        assert own["body"] == f"{marker_of('')}\n{summary}"
        status = httpx.get(outputs["url"]).json()
        assert status["tags"] == {"model": "digits", "commit": "1"}
        assert status["images"] == 10
    assert "comment updated" in done["log"]
    assert f"[Open the audit](<{workplace.url}/ui/audits/{outputs['audit-id']}" in own["body"]
    assert "### Images to look at" in own["body"]
    assert forge.tokens == {"Bearer t0ken"}
    assert sum(method == "POST" for method, _ in forge.calls) == 1


@pytest.mark.long
def test_the_job_of_gitlab_writes_one_note(workplace: Workplace, forge: code_forges.Forge) -> None:
    job = TEMPLATE[".auditcore"]
    # pip is left out: the package is here already
    (script,) = [line for line in job["script"] if "pip" not in line]
    forge.knows_itself = True
    forge.account = {"id": 99, "username": "project_12_bot"}
    forge.add(f"{marker_of('')}\nmine", code_forges.PERSON)
    variables = {
        "AUDIT_URL": workplace.url,
        "AUDIT_IMAGES": "photos",
        "AUDIT_FOLDER": job["variables"]["AUDIT_FOLDER"],
        "CI_API_V4_URL": forge.url,
        "CI_PROJECT_ID": "12",
        "CI_MERGE_REQUEST_IID": "7",
        "AUDIT_GITLAB_TOKEN": "s3cret",
    }
    for verdict, code in (("fail", 1), ("pass", 0)):
        done = workplace.script(script, variables | {"AUDIT_REQUEST": workplace.request(verdict)})
        assert done.returncode == code, done.stderr
        (note,) = [one for one in forge.comments if one["author"] == forge.account]
        assert f"## auditcore: {verdict}\n" in note["body"]
        assert (workplace.folder / job["artifacts"]["reports"]["junit"]).exists()
    assert forge.tokens == {"s3cret"}


@pytest.mark.long
def test_a_policy_of_the_pipeline_takes_the_place_of_the_requests(
    workplace: Workplace, forge: code_forges.Forge
) -> None:
    (workplace.folder / "policy.json").write_text(json.dumps(pipeline_audits.POLICIES["fail"]))
    done = workplace.action(forge, request=workplace.request("pass"), policy="policy.json", comment="false")
    assert done["code"] == 1, done["log"]
    assert forge.calls == []


@pytest.mark.long
def test_a_comment_that_is_refused_changes_no_verdict(workplace: Workplace, forge: code_forges.Forge) -> None:
    forge.refuses = 403
    done = workplace.action(forge, request=workplace.request("pass"))
    assert done["code"] == 0
    assert "pull-requests: write" in done["log"]
    assert "t0ken" not in done["log"]


def test_no_service_is_an_error_with_all_files_and_a_comment(workplace: Workplace, forge: code_forges.Forge) -> None:
    # a port that was free a moment ago
    with code_forges.forge() as closed:
        pass
    done = workplace.action(forge, request=workplace.request("pass"), url=f"{closed.url}/nothing", images="")
    assert done["code"] == 2, done["log"]
    assert done["outputs"]["verdict"] == "error"
    assert done["outputs"]["audit-id"] == ""
    files = {path.name for path in (workplace.folder / "auditcore-report").iterdir()}
    assert files == {"report.xml", "summary.md"}
    assert "no service answers" in forge.comments[0]["body"]


def test_a_job_that_is_about_no_pull_request_writes_no_comment(workplace: Workplace, forge: code_forges.Forge) -> None:
    done = workplace.action(forge, request="pass.json", event="{}", url="http://127.0.0.1:9")
    assert done["code"] == 2
    assert forge.calls == []


@pytest.mark.parametrize(
    "hostile",
    [
        "$(touch broken)",
        *(
            pytest.param(one, marks=pytest.mark.long)
            for one in ('"; touch broken; "', "`touch broken`", "x\nverdict=pass")
        ),
    ],
)
def test_no_input_is_run(workplace: Workplace, forge: code_forges.Forge, hostile: str) -> None:
    done = workplace.action(forge, event="{}", request="missing.json", name=hostile, policy=hostile, images=hostile)
    assert done["code"] == 2
    assert not (workplace.folder / "broken").exists()
    assert done["outputs"] == {}


def test_the_action_is_a_composite_one_whose_scripts_hold_no_expressions() -> None:
    assert {"name", "description", "inputs", "outputs", "runs"} <= set(ACTION)
    assert ACTION["runs"]["using"] == "composite"
    for one in (*ACTION["inputs"].values(), *ACTION["outputs"].values()):
        assert one["description"]
    for step in ACTION["runs"]["steps"]:
        assert ("uses" in step) != ("run" in step)
        if "run" in step:
            assert step["shell"] == "bash"
            assert "${{" not in step["run"]
        else:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])
    text = (ROOT / "integrations" / "github" / "action.yml").read_text()
    used = set(re.findall(r"inputs\.([\w-]+)", text))
    assert used == set(ACTION["inputs"])


def test_the_template_of_gitlab_is_hidden_and_keeps_what_it_writes() -> None:
    assert set(TEMPLATE) == {".auditcore"}
    job = TEMPLATE[".auditcore"]
    folder = job["variables"]["AUDIT_FOLDER"]
    assert job["artifacts"]["when"] == "always"
    assert job["artifacts"]["paths"] == [f"{folder}/"]
    assert job["artifacts"]["reports"]["junit"] == f"{folder}/report.xml"


def test_audits_with_other_names_have_comments_of_their_own(forge: code_forges.Forge) -> None:
    with github_comments(forge.url, "team/model", 7, "t") as comments:
        assert [comments.post("one", key="a"), comments.post("two", key="b"), comments.post("three", key="a")] == [
            "created",
            "created",
            "updated",
        ]
    assert [one["body"].splitlines()[1] for one in forge.comments] == ["three", "two"]


def test_a_long_text_is_cut_at_a_line(forge: code_forges.Forge) -> None:
    with github_comments(forge.url, "team/model", 7, "t") as comments:
        comments.post("a line of text\n" * 10_000)
    body = forge.comments[0]["body"]
    assert GITHUB_MOST_CHARACTERS - 50 < len(body) <= GITHUB_MOST_CHARACTERS
    assert body.endswith("a line of text\n\nThe rest is in the report.\n")
    assert len(fitted("x" * 100, 60)) == 60


def test_what_refuses_or_does_not_answer_is_named(forge: code_forges.Forge) -> None:
    forge.refuses = 404
    with gitlab_notes(forge.url, "12", 7, "t") as notes, pytest.raises(CommentNotPosted, match="AUDIT_GITLAB_TOKEN"):
        notes.post("text")
    with gitlab_notes("http://127.0.0.1:9", "12", 7, "t") as notes, pytest.raises(CommentNotPosted, match="answer"):
        notes.post("text")


def test_help_says_what_the_commands_are_for() -> None:
    found = run("ci", "--help")
    assert "GitHub Actions" in found.output
    assert "AUDIT_GITLAB_TOKEN" in run("ci", "gitlab", "--help").output
