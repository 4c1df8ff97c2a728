"""What `import auditcore` offers and what it costs."""

import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest

import auditcore
from auditcore.contracts.augmentations import Augmentation
from auditcore.contracts.checks import Check
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.images import ImagesReference
from auditcore.contracts.model_reference import ModelReference

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "torchvision", "numpy", "scipy", "captum", "zennit", "timm", "PIL", "httpx"}


def modules_after(code: str) -> set[str]:
    """Top-level modules loaded in a fresh interpreter after `code`."""
    script = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_is_light() -> None:
    loaded = modules_after("import auditcore; auditcore.AuditRequest; auditcore.resolve_plan; dir(auditcore)")
    assert "pydantic" in loaded
    assert not loaded & HEAVY


def test_importing_the_client_loads_nothing_that_computes() -> None:
    loaded = modules_after("import auditcore.client; auditcore.client.Client('http://127.0.0.1:9').close()")
    assert "httpx" in loaded
    assert not loaded & (HEAVY - {"httpx"} | {"pandas", "typer", "fastapi", "auditcore_service", "cryptography"})


def test_using_the_engine_loads_it() -> None:
    assert "torch" in modules_after("import auditcore; auditcore.audit")


def test_the_public_names() -> None:
    for name in auditcore.__all__:
        assert getattr(auditcore, name).__name__ == name
    assert dir(auditcore) == auditcore.__all__ == sorted(auditcore.__all__)


def test_what_computes_is_public() -> None:
    assert {name for name in auditcore.__all__ if inspect.isfunction(getattr(auditcore, name))} == {
        "audit",
        "f_fidelity",
        "generate_images",
        "idsds",
        "inspect_model",
        "load_classifier",
        "reevaluate",
        "remedy",
        "report_bytes",
        "report_schema",
        "resolve_plan",
        "roar",
        "shortcut_reliance",
        "study",
        "study_reliability",
        "train",
    }


@pytest.mark.parametrize("union", [Explainer, Check, Augmentation, ModelReference, ImagesReference])
def test_everything_that_a_request_can_hold_is_public(union: object) -> None:
    contracts = get_args(get_args(union)[0])
    assert len(contracts) > 2
    for contract in contracts:
        assert getattr(auditcore, contract.__name__) is contract
        assert contract.__name__ in auditcore.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(auditcore, "Audit")


def test_every_dependency_has_a_pinned_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        requirement.split(";")[0].split("[")[0].split(">")[0].split("=")[0].strip().lower()
        for group in (project["dependencies"], *project["optional-dependencies"].values())
        for requirement in group
    } - {"auditcore"}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0] for line in lines if "==" in line}
    assert wanted - pinned == set()


def test_both_packages_say_that_they_are_typed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "Typing :: Typed" in project["project"]["classifiers"]
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert [Path(package).name for package in packages] == ["auditcore", "auditcore_service"]
    for package in packages:
        assert (ROOT / package / "py.typed").is_file()


def test_the_oldest_python_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    start = "Programming Language :: Python :: 3."
    minors = [int(line.removeprefix(start)) for line in project["project"]["classifiers"] if line.startswith(start)]
    assert project["project"]["requires-python"] == f">=3.{min(minors)}"
    assert project["tool"]["mypy"]["python_version"] == f"3.{min(minors)}"
    assert project["tool"]["ruff"]["target-version"] == f"py3{min(minors)}"
    assert minors == list(range(min(minors), max(minors) + 1))


def test_constraints_name_no_place() -> None:
    text = (ROOT / "constraints.txt").read_text()
    for word in ("://", "@", "--index", "--find", "-e "):
        assert word not in text


def test_files_that_make_unit_leaves_out_exist() -> None:
    found = {path.relative_to(ROOT / "tests/unit").as_posix() for path in (ROOT / "tests/unit").rglob("test_*.py")}
    text = (ROOT / "tests/unit/conftest.py").read_text()
    named = set(re.findall(r'"([a-z0-9_/]+\.py)",', text))
    assert named
    assert named <= found


def test_continuous_integration_runs_make_test_and_nothing_else() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "exec make test"]
