"""Runs only with `make chaos`: the suite takes minutes, needs root for some scenarios, and kills what it starts."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from chaos.deployment import Deployment, EmbeddedDeployment, ScaledDeployment
from chaos.oracle import left_behind, temporary_files
from chaos.record import Record
from chaos.scene import Scene, scenario
from chaos.small_audits import KINDS
from chaos.undisturbed import undisturbed_reports

OUT = os.environ.get("CHAOS_OUT")
"""Folder of the tables; set by `make chaos`. Without it no scenario is collected."""

collect_ignore_glob = [] if OUT else ["test_*.py"]

_Running = TypeVar("_Running", bound=Deployment)
Play = Callable[..., AbstractContextManager[Scene]]


@pytest.fixture(scope="session")
def record() -> Record:
    assert OUT
    return Record(Path(OUT))


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Short and readable, because PostgreSQL runs as a user of its own and sockets have short paths."""
    made = Path(tempfile.mkdtemp(prefix="chaos-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def weights(folder: Path) -> Path:
    made = folder / "weights"
    made.mkdir()
    return made


@pytest.fixture(scope="session")
def undisturbed(folder: Path, weights: Path) -> Mapping[str, Mapping[str, Any]]:
    """The reports of all kinds of audits when nothing goes wrong."""
    return undisturbed_reports(folder / "undisturbed", weights=weights, kinds=tuple(KINDS))


@pytest.fixture
def play(record: Record, undisturbed: Mapping[str, Mapping[str, Any]]) -> Play:
    """Begins a scenario on a deployment: a context manager, see `scenario`."""

    def begin(name: str, deployment: Deployment) -> AbstractContextManager[Scene]:
        return scenario(name, deployment, record, undisturbed)

    return begin


@pytest.fixture(scope="module")
def embedded(folder: Path, weights: Path, request: pytest.FixtureRequest) -> Iterator[EmbeddedDeployment]:
    """One for all scenarios of a file: each ends what it has begun."""
    deployment = EmbeddedDeployment(folder / f"e-{request.module.__name__.rpartition('.')[2]}", weights=weights)
    yield from running(deployment)


@pytest.fixture(scope="module")
def scaled(folder: Path, weights: Path, request: pytest.FixtureRequest) -> Iterator[ScaledDeployment]:
    """One for all scenarios of a file: each ends what it has begun."""
    deployment = ScaledDeployment(folder / f"s-{request.module.__name__.rpartition('.')[2]}", weights=weights)
    yield from running(deployment)


@pytest.fixture(params=["embedded", "scaled"])
def deployment(request: pytest.FixtureRequest) -> Deployment:
    """One scenario, two deployments."""
    found: Deployment = request.getfixturevalue(request.param)
    return found


def running(deployment: _Running) -> Iterator[_Running]:
    """Start a deployment, and at the end look at what it leaves behind."""
    try:
        deployment.start()
        yield deployment
        deployment.start_again()
        deployment.wait_until_ready(workers=False)
        found = left_behind(deployment)
    finally:
        left = deployment.stop()
    found += left + [f"temporary file {name}" for name in temporary_files(deployment)]
    deployment.remove()
    assert not found, "\n".join(found)
