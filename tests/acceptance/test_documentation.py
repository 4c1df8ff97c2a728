"""README and tutorial do what they say: every code block runs, in order, against a real service.

A page is followed in an empty folder that has what `make demo` leaves behind: `.venv/bin/activate` and the command
`auditcore`. Of the page only the port is changed, and nothing is measured that is known. `make` is not called: other
tests run what its targets run.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import markdown_blocks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ADDRESS = "http://127.0.0.1:8000"
PROMPT = "--- the next command ---"
SETTINGS = {"AUDIT_PORT": "0", "AUDIT_MICRO_BATCH": "8"}
"""A free port; and the size that is measured of the demo model, which each process would find again in many seconds."""


class Reader:
    """Somebody who follows a page.

    Attributes:
        folder: Where commands are typed.
        url: Address of the service, once the page has started it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ADDRESS
        self._service: subprocess.Popen[str] | None = None
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=os.environ | SETTINGS | {"NO_COLOR": "1", "COLUMNS": "200"},
        )

    def follow(self, block: markdown_blocks.Block) -> None:
        """Type a block and compare what comes with what the page shows."""
        if block.language == "console":
            for step in markdown_blocks.steps(block):
                serves = step.command.endswith("auditcore serve")
                code, shown = self._serve(step.command) if serves else self._type(step.command)
                # of a long output only the end may be of interest
                assert code == 0, f"{block.place}: {step.command}\n{shown}"
                if step.output:
                    wanted = step.output.replace(ADDRESS, self.url)
                    assert markdown_blocks.shows(wanted, shown), f"{block.place}: {step.command}\n{shown}"
        elif block.language == "python":
            (self.folder / "example.py").write_text(block.text, encoding="utf-8")
            code, shown = self._type("python -W error::DeprecationWarning:__main__ example.py")
            assert code == 0, f"{block.place}:\n{shown}"
            assert shown.strip(), f"{block.place} prints nothing"
        else:
            assert block.language == "text", f"{block.place}: nothing runs {block.language!r}"

    def _type(self, command: str) -> tuple[int, str]:
        if command.startswith("make "):
            return 0, ""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{command.replace(ADDRESS, self.url)}\necho; echo '{PROMPT}' $?\n")
        self._shell.stdin.flush()
        lines: list[str] = []
        while not (line := self._shell.stdout.readline()).startswith(PROMPT):
            assert line, f"the shell is gone: {command}\n{''.join(lines)}"
            lines.append(line)
        return int(line.removeprefix(PROMPT)), "".join(lines)

    def _serve(self, command: str) -> tuple[int, str]:
        with (self.folder / "service.log").open("wb") as log:
            self._service = subprocess.Popen(
                ["bash", "-c", f". .venv/bin/activate && exec env {command}"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.folder,
                env=os.environ | SETTINGS,
            )
        assert self._service.stdout is not None
        line = self._service.stdout.readline()
        self.url = line.strip().removeprefix("Listening on ")
        return (0 if line else 1), line or (self.folder / "service.log").read_text()

    def leave(self) -> None:
        """End shell and service, and close their pipes."""
        self._shell.communicate("exit\n", timeout=10)
        if self._service is not None:
            self._service.send_signal(signal.SIGTERM)
            self._service.communicate(timeout=60)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    path = os.pathsep.join(shlex.quote(entry) for entry in sys.path if entry)
    (tools / "activate").write_text(f"export PATH={shlex.quote(str(tools))}:$PATH PYTHONPATH={path}\n")
    (tools / "python").symlink_to(sys.executable)
    command = tools / "auditcore"
    command.write_text(f"#!{sys.executable}\nfrom auditcore_service.cli import main\nmain()\n")
    command.chmod(0o755)
    one = Reader(tmp_path)
    yield one
    one.leave()


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        pytest.param("docs/how-to/use-the-python-client.md", marks=pytest.mark.long),
        "docs/tutorial.md",
        pytest.param("docs/how-to/prove-a-verdict.md", marks=pytest.mark.long),
        pytest.param("docs/how-to/train-a-model.md", marks=pytest.mark.long),
        pytest.param("docs/how-to/run-experiments-over-http.md", marks=pytest.mark.long),
        pytest.param("docs/how-to/remedy-a-failed-audit.md", marks=pytest.mark.long),
    ],
)
def test_every_code_block_of_a_page_runs(reader: Reader, page: str) -> None:
    blocks = markdown_blocks.blocks(ROOT / page)
    assert len(blocks) > 5
    for block in blocks:
        reader.follow(block)
    assert reader.url != ADDRESS
    assert (reader.folder / "report.json").stat().st_size > 10_000


@pytest.mark.long
def test_every_code_block_of_a_page_without_a_service_runs(reader: Reader) -> None:
    blocks = markdown_blocks.blocks(ROOT / "docs" / "how-to" / "compare-training-methods.md")
    assert len(blocks) > 1
    for block in blocks:
        reader.follow(block)
    assert len(list((reader.folder / "study" / "weights").iterdir())) == 9
