"""The command line: what it loads, what it refuses, how it exits."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from auditcore.client.answers import AuditStatus, JobStatus
from auditcore.contracts.report import AuditReport
from auditcore.integrations import pipeline_gate
from auditcore_service.cli.commands import app
from auditcore_service.cli.found_images import find_images
from auditcore_service.cli.outcome import EXIT_ERROR, EXIT_STATUS, CommandError, mistakes
from auditcore_service.cli.progress import follow, progress_bar
from auditcore_service.gateway.routes.audit_examples import STATUS_EXAMPLE
from command_line import run
from commands_in_process import client_of

TINY_MODEL = {
    "kind": "torchvision",
    "name": "resnet18",
    "weights": {"uri": "random:1"},
    "classes": 4,
    "preprocessing": {"resize": 32, "crop": 32},
}
TINY_PLAN = {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}]}
REQUEST = {"model": TINY_MODEL, "images": {"kind": "uris", "uris": [{"uri": "a.png"}]}, "plan": TINY_PLAN}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photos and a request that names one of them."""
    for number, name in enumerate(("a.png", "b.png")):
        values = np.random.default_rng(number).integers(0, 256, (32, 40, 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / name)
    write(tmp_path, REQUEST)
    return tmp_path


def write(folder: Path, request: dict[str, Any]) -> str:
    path = folder / "request.json"
    path.write_text(json.dumps(request))
    return str(path)


def loaded_by(*arguments: str) -> set[str]:
    script = (
        f"import sys; sys.argv = ['auditcore', *{arguments!r}]\n"
        "from auditcore_service.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_help_loads_nothing_but_the_command_line() -> None:
    heavy = {"torch", "numpy", "pydantic", "httpx", "fastapi", "celery", "sqlalchemy"}
    assert not loaded_by("--help") & heavy
    assert not loaded_by("audit", "--help") & heavy - {"pydantic"}  # typer itself loads it where it is installed


def test_submit_needs_no_torch(folder: Path) -> None:
    loaded = loaded_by("submit", str(folder / "request.json"), "--url", "http://127.0.0.1:9", "--images", str(folder))
    assert "httpx" in loaded
    assert not loaded & {"torch", "numpy", "fastapi", "celery"}


@pytest.mark.parametrize(
    "command",
    [
        *(
            "serve",
            "gateway",
            "worker",
            "audit",
            "train",
            "submit",
            "gate",
            "policy lint",
            "policy show",
            "estimate",
            "inspect",
        ),
        *("maps", "mar", "demo", "openapi"),
    ],
)
def test_every_help_teaches_with_an_example(command: str) -> None:
    shown = run(*command.split(), "--help")
    assert shown.exit_code == 0
    assert "For example:" in shown.output
    assert f"auditcore {command}" in shown.output


def test_an_estimate_needs_no_service_and_no_torch(folder: Path) -> None:
    request = {key: value for key, value in REQUEST.items() if key != "images"}
    path = write(folder, request)
    done = run("estimate", path, "--images", str(folder), "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.output)
    assert (answer["estimate"]["images"], answer["estimate"]["basis"]) == (2, "assumed")
    assert answer["estimate"]["seconds"] == pytest.approx(answer["estimate"]["passes"] / 120.0, abs=0.01)
    assert "about" in run("estimate", path, "--images", str(folder)).output
    assert not loaded_by("estimate", path, "--images", str(folder)) & {"torch", "numpy", "fastapi", "celery"}


def test_an_estimate_refuses_a_policy_that_submit_would_refuse(folder: Path) -> None:
    request = REQUEST | {"policy": [{"check": "deletion", "explainer": "gradient", "metric": "lerf", "at_least": 0}]}
    done = run("estimate", write(folder, request), "--images", str(folder))
    assert done.exit_code == 2
    assert "policy.0.metric" in done.output


def test_an_estimate_above_the_budget_exits_with_1_and_suggests_reductions(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_BUDGET_PASSES", "1")
    request = {key: value for key, value in REQUEST.items() if key != "images"}
    done = run("estimate", write(folder, request), "--images", str(folder))
    assert done.exit_code == 1
    assert "above the budget of 1" in " ".join(done.output.split())


def test_an_estimate_of_a_stored_batch_needs_a_service(folder: Path) -> None:
    request = {**REQUEST, "images": {"kind": "batch", "digest": f"sha256:{'0' * 64}"}}
    done = run("estimate", write(folder, request))
    assert done.exit_code == 2
    assert "--url" in done.output


def test_version() -> None:
    assert run("--version").output == f"{installed_version('auditcore')}\n"


def test_an_audit_without_a_service(folder: Path) -> None:
    report_path = folder / "report.json"
    done = run("audit", write(folder, REQUEST), "--out", str(report_path), "--device", "cpu")
    assert done.exit_code == 0, done.output
    report = AuditReport.model_validate_json(report_path.read_bytes())
    assert report.verdict == "not_evaluated"
    assert [item.name for item in report.images.items] == ["a.png"]
    assert "inter_model_deletion" in done.output
    assert "UNTRAINED" in done.output
    assert "verdict: not_evaluated" in done.output


def test_an_audit_without_a_service_uses_the_micro_batch_of_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_MICRO_BATCH", "3")
    done = run("audit", write(folder, REQUEST), "--out", str(folder / "report.json"), "--device", "cpu")
    assert done.exit_code == 0, done.output
    report = AuditReport.model_validate_json((folder / "report.json").read_bytes())
    assert report.manifest.micro_batches == (3,)


@pytest.mark.parametrize(
    ("condition", "verdict", "status"),
    [
        ({"at_least": -1, "min_images": 2}, "pass", 0),
        ({"at_least": 1, "statistic": "mean", "severity": "warn", "min_images": 2}, "warn", 0),
        ({"at_least": 1, "statistic": "mean", "min_images": 2}, "fail", 1),
        pytest.param({"at_least": 1, "statistic": "mean"}, "fail", 1, marks=pytest.mark.long),
        ({"at_least": -1}, "inconclusive", 3),
        pytest.param({"at_least": -1, "severity": "warn"}, "warn", 0, marks=pytest.mark.long),
    ],
)
def test_the_verdict_is_the_exit_status(folder: Path, condition: dict[str, Any], verdict: str, status: int) -> None:
    # on the control itself, because untrained weights give no map that is better than a random one
    every = {"check": "deletion", "explainer": "random", "metric": "lerf_auc"}
    policy = [{**every, "at_least": -1, "min_images": 2}, {**every, **condition}]
    plan = {**TINY_PLAN, "explainers": [*TINY_PLAN["explainers"], {"kind": "random"}]}
    request = {"model": TINY_MODEL, "plan": plan, "policy": policy}
    done = run("audit", write(folder, request), "--images", str(folder), "--device", "cpu")
    assert f"verdict: {verdict}" in done.output
    assert done.exit_code == status
    assert "2 of 2 images" in done.output
    assert ("only 2 images of the 8" in done.output.replace("\n", " ")) is (
        "min_images" not in condition and status != 1
    )


def test_the_summary_of_several_models_fits_a_narrow_terminal(folder: Path) -> None:
    explainers = [{"kind": "gradient", "name": "a_name_of_twenty_nine_letters"}, {"kind": "input_x_gradient"}]
    augmentations = [
        {"kind": kind, "interval": [-0.1, 0.1]} for kind in ("brightness", "saturation", "translate", "hue")
    ]
    request = {
        "models": [
            {"name": "first", "model": TINY_MODEL},
            {"name": "second", "model": TINY_MODEL | {"weights": {"uri": "random:2"}}},
        ],
        "plan": {
            "explainers": explainers,
            "checks": [
                {"kind": "sweep", "augmentations": augmentations, "levels": 2, "top_k": 10},
                {"kind": "deletion", "grid": 2, "repeats": 1},
            ],
        },
        "policy": [
            {"check": "deletion", "explainer": "input_x_gradient", "metric": "srg", "at_least": -1, "min_images": 2}
        ],
    }
    arguments = ["audit", write(folder, request), "--images", str(folder), "--device", "cpu"]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "80", "NO_COLOR": "1"})
    # a random order meets the condition too
    assert done.exit_code == 3, done.output
    lines = [line.rstrip() for line in done.output.splitlines()]
    assert max(map(len, lines)) <= 80
    # a name and a number a line: nothing was cut off, nothing wrapped
    tables = [number for number, line in enumerate(lines) if line.startswith("explainer ")]
    assert [lines[number - 1] for number in tables] == [
        "sweep: s_pearson (1 of 2)",
        "sweep: s_pearson (2 of 2)",
        "sweep: s_top_k (1 of 2)",
        "sweep: s_top_k (2 of 2)",
        "deletion",
    ]
    own = ["a_name_of_twenty_nine_letters", "input_x_gradient"]
    for number in tables:
        names = [line.split()[0] for line in lines[number + 1 :] if line][:7]
        assert [name for name in names if name != "random"][:6] == ["first", *own, "second", *own]
    assert lines[tables[0]].split() == ["explainer", "brightness", "↑", "saturation", "↑", "translate", "↑"]
    assert lines[tables[1]].split() == ["explainer", "hue", "↑", "mean", "↑"]
    assert "All means rest on fewer than 30 images" in done.output
    assert "first: " in done.output
    assert "metrics order the explainers in the same way for every model\n" in done.output
    # two weights of one architecture
    assert "metrics order the explainers in the same way for every model of " in done.output
    condition = next(
        number for number, line in enumerate(lines) if line.startswith("second deletion input_x_gradient ")
    )
    assert lines[condition + 1] == "srg"


def test_every_verdict_has_an_exit_status() -> None:
    verdicts = AuditReport.model_fields["verdict"].annotation.__args__  # type: ignore[union-attr]
    assert set(EXIT_STATUS) == set(verdicts)
    assert (EXIT_STATUS, EXIT_ERROR) == (pipeline_gate.EXIT_STATUS, pipeline_gate.EXIT_ERROR)
    assert {name for name, status in EXIT_STATUS.items() if status == 0} == {"pass", "warn", "not_evaluated"}


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"plan": TINY_PLAN | {"seeed": 1}}, "plan.seeed", "not permitted"),
        ({"plan": TINY_PLAN | {"checks": [{"kind": "sweeep"}]}}, "plan.checks.0", "sweeep"),
        ({"model": {"kind": "torchvision", "name": "resnet18"}}, "model.weights", "required"),
        ({"model": TINY_MODEL | {"weights": {"uri": "missing.pth"}}}, "model.weights", "missing.pth"),
        ({"model": TINY_MODEL | {"weights": {"uri": "/etc/hostname"}}}, "model.weights.uri", "AUDIT_FILE_ROOTS"),
        ({"images": {"kind": "uris", "uris": [{"uri": "../x.png"}]}}, "images.uris.0.uri", "AUDIT_FILE_ROOTS"),
        ({"images": {"kind": "uris", "uris": [{"uri": "request.json"}]}}, "images", "not a complete PNG"),
        ({"images": {"kind": "batch", "digest": "sha256:" + "0" * 64}}, "images", "service"),
        (
            {"policy": [{"check": "deletion", "explainer": "gradient", "metric": "lerf", "at_least": 0}]},
            "policy.0.metric",
            "lerf_auc",
        ),
    ],
)
def test_a_mistake_names_its_field_and_the_fix(folder: Path, change: dict[str, Any], field: str, words: str) -> None:
    done = run("audit", write(folder, REQUEST | change), "--device", "cpu")
    assert done.exit_code == 2
    assert f"{field}" in done.output
    assert words in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("audit", "nowhere.json"), "cannot be read"),
        (("audit", "{folder}/broken.json"), "is not JSON"),
        (("audit", "{folder}/list.json"), "JSON object"),
        (("audit", "{folder}/request.json", "--images", "{folder}/nothing"), "no image file or folder"),
        (("audit", "{folder}/request.json", "--images", "{folder}/empty"), "holds no image file"),
        (("submit", "{folder}/request.json", "--out", "x.json"), "--out needs --wait"),
        (("submit", "{folder}/request.json", "--labels", "[1]"), "--labels needs --images"),
        (("submit", "{folder}/request.json", "--url", "http://127.0.0.1:9"), "auditcore serve"),
        (("submit", "{folder}/request.json", "--url", "127.0.0.1:9"), "write http://host:port"),
    ],
)
def test_wrong_arguments_exit_with_2(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    (folder / "broken.json").write_text("{")
    (folder / "list.json").write_text("[]")
    (folder / "empty").mkdir()
    done = run(*(argument.format(folder=folder) for argument in arguments))
    assert done.exit_code == 2
    assert words in done.output.replace("\n", " ")


def test_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_PORT", "99999")
    done = run("gateway")
    assert done.exit_code == 2
    assert "AUDIT_PORT" in done.output


def test_a_folder_means_its_images_in_order(folder: Path) -> None:
    assert [path.name for path in find_images([folder, folder / "a.png"]).files] == ["a.png", "b.png", "a.png"]


def test_paths_of_mistakes_leave_out_the_names_of_union_members() -> None:
    document = {"plan": {"checks": [{"kind": "sweep", "levels": 0}]}}
    errors = [
        {"loc": ("plan", "explicit", "checks", 0, "sweep", "levels"), "type": "greater_than_equal", "msg": "too small"},
        {"loc": ("plan", "explicit", "explainers"), "type": "missing", "msg": "required"},
        {"loc": ("plan", "explicit"), "type": "value_error", "msg": "Value error, twice"},
        {"loc": (), "type": "value_error", "msg": "Value error, no"},
    ]
    assert mistakes(errors, document) == [
        ("plan.checks.0.levels", "too small"),
        ("plan.explainers", "required"),
        ("plan", "twice"),
        ("request", "no"),
    ]


def test_following_shows_state_and_progress_and_returns_what_the_waiting_returns() -> None:
    shown = Console(file=io.StringIO(), force_terminal=True)

    def wait(told: Callable[[JobStatus], None]) -> str:
        for state in ("queued", "running", "succeeded"):
            told(AuditStatus.model_validate(STATUS_EXAMPLE | {"state": state, "fraction": 0.5}))
        return "done"

    assert follow(wait, shown) == "done"
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert "succeeded" in text
    assert "50%" in text


def test_a_log_gets_a_line_for_every_tenth_and_state() -> None:
    log = Console(file=io.StringIO())
    with progress_bar(log, clock=lambda: 0.0) as show:
        for step in range(101):
            show(step / 100, "queued" if step < 5 else "running")
    lines = log.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines == ["  queued 0%", "  running 5%", *(f"  running {tenth}0%" for tenth in range(1, 11))]


@pytest.mark.parametrize(
    ("state", "error", "message", "errors", "code"),
    [
        ("cancelled", None, "audit a1 was cancelled", [], "cancelled"),
        ("failed", {"code": "c", "message": "m", "field": "f"}, "audit a1 failed", [("f", "m")], "c"),
        ("failed", {"code": "c", "message": "m"}, "audit a1 failed: m", [], "c"),
    ],
)
def test_following_ends_with_the_reason(
    state: str, error: dict[str, Any] | None, message: str, errors: list[tuple[str, str]], code: str
) -> None:
    status = STATUS_EXAMPLE | {"id": "a1", "state": state, "error": error}
    answers = httpx.MockTransport(lambda _: httpx.Response(200, json=status))
    with pytest.raises(CommandError) as caught, client_of(answers) as client:
        follow(lambda told: client.wait("a1", on_progress=told), Console(file=io.StringIO()))
    assert (caught.value.message, list(caught.value.errors), caught.value.code) == (message, errors, code)
