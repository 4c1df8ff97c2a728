"""The first minutes with the command: what is missing, misspelt, taken or in the way is said in a line."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.main import get_command

import made_up_audits
from auditcore.report.serialize import report_bytes
from auditcore_service.cli import destinations, extras
from auditcore_service.cli.commands import app
from auditcore_service.cli.extras import EXTRAS, missing_extra
from auditcore_service.cli.progress import progress_bar
from auditcore_service.gateway.routes.audit_examples import STATUS_EXAMPLE
from auditcore_service.settings import unknown_variables
from command_line import run

COMMAND = [
    sys.executable,
    "-c",
    # a shell that runs the tests in the background has its children ignore Ctrl-C
    (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from auditcore_service.cli import main; main()"
    ),
]
REQUEST = {
    "model": {
        "kind": "torchvision",
        "name": "resnet18",
        "weights": {"uri": "random:1"},
        "classes": 4,
        "preprocessing": {"resize": 32, "crop": 32},
    },
    "images": {"kind": "uris", "uris": [{"uri": "a.png"}]},
    "plan": {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}]},
}


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    path = tmp_path / "request.json"
    path.write_text(json.dumps(REQUEST))
    return path


def without(blocked: set[str], *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as if these modules were not installed."""
    script = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {blocked!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "import importlib.util\n"
        "real = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, package=None: None if name in {blocked!r} else real(name, package)\n"
        f"sys.argv = ['auditcore', *{arguments!r}]\n"
        "from auditcore_service.cli import main\n"
        "main()\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env={**os.environ, **variables}
    )


NOT_IN_CLIENT = {"torch", "sqlalchemy", "celery", "fastapi", "pydantic_settings"}


def only_error(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    return " ".join(done.stderr.split())


def test_without_any_extra_the_command_says_which_one_it_needs() -> None:
    done = without({"typer", "rich", "httpx"})
    assert "pip install 'auditcore[client]'" in only_error(done)


@pytest.mark.parametrize("command", ["serve", "worker", "audit", "inspect", "demo"])
def test_a_command_that_computes_names_its_extra_its_size_and_the_build_for_cpus(command: str) -> None:
    arguments = [command, *(["x.json"] if command in {"audit", "inspect"} else [])]
    message = only_error(without({"torch"}, *arguments))
    name = EXTRAS[command].name
    assert f"pip install 'auditcore[{name}]'" in message
    assert f"uv pip install 'auditcore[{name}]' --torch-backend cpu" in message
    assert "GB, because torch brings the libraries of CUDA" in message


def test_asking_a_service_needs_only_the_extra_client(request_file: Path) -> None:
    for command in ("submit", "inspect", "maps"):
        done = without(NOT_IN_CLIENT, command, str(request_file), "--url", "http://127.0.0.1:9")
        assert "no service answers at http://127.0.0.1:9" in " ".join(done.stderr.split()), command
        assert done.returncode == 2


def test_judging_a_report_needs_only_the_extra_gate(tmp_path: Path) -> None:
    report = made_up_audits.report(made_up_audits.shard(None, {0: [1]}, made_up_audits.row("gradient", [0.5])))
    path = tmp_path / "report.json"
    path.write_bytes(report_bytes(report))
    done = without(NOT_IN_CLIENT, "gate", str(path), "--policy", "regression", "--baseline", str(path))
    assert "verdict: inconclusive" in done.stdout, done.stderr
    assert done.returncode == 3
    assert "pip install 'auditcore[gate]'" in only_error(without({"numpy"}, "gate", str(path)))


def test_every_command_has_an_extra_whose_modules_are_installed_here() -> None:
    assert set(get_command(app).commands) == set(EXTRAS)  # type: ignore[attr-defined]
    assert [extra.name for extra in EXTRAS.values() if missing_extra(extra)] == []


def test_extras_are_those_of_the_project() -> None:
    import tomllib  # noqa: PLC0415 - only here

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert {extra.name for extra in EXTRAS.values()} <= set(project["optional-dependencies"])
    assert extras.CLIENT.cpu_megabytes is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("127.0.0.1:8000", "write http://host:port"),
        ("localhost", "write http://host:port"),
        ("ftp://localhost", "write http://host:port"),
        ("http://", "write http://host:port"),
        ("http://localhost:port", "is not a URL"),
        ("http://[::1", "is not a URL"),
        ("http://localhost:8000/?a=b", "query"),
    ],
)
def test_a_wrong_url_is_told_before_anything_is_sent(request_file: Path, url: str, words: str) -> None:
    for command in ("submit", "estimate", "inspect", "maps"):
        done = run(command, request_file, "--url", url)
        assert done.exit_code == 2, (command, done.output)
        assert words in " ".join(done.output.split())
        assert done.exception is None or isinstance(done.exception, SystemExit)


class Other(BaseHTTPRequestHandler):
    """Another program than the service."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>welcome</html>")

    def log_message(self, *_: object) -> None:
        pass


def test_another_program_at_the_url_is_not_taken_for_a_service(request_file: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        done = run("submit", request_file, "--url", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()
    assert done.exit_code == 2
    assert "not as an auditcore service does" in " ".join(done.output.split())


@pytest.mark.long
def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for command in (["serve", "--port", port, "--data", str(tmp_path / "data")], ["gateway"]):
            done = subprocess.run(
                [*COMMAND, *command],
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
                env={
                    **os.environ,
                    "AUDIT_PORT": port,
                    "AUDIT_DATA_DIR": str(tmp_path / "data"),
                    "AUDIT_REDIS_URL": "redis://127.0.0.1:9",
                },
            )
            message = only_error(done)
            assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in message


def test_a_data_folder_in_use_is_named(tmp_path: Path) -> None:
    import fcntl  # noqa: PLC0415 - only here

    with (tmp_path / "service.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run("serve", "--port", "0", "--data", tmp_path)
    assert done.exit_code == 2
    assert f"another auditcore service uses {tmp_path}" in done.output.replace("\n", "")


def test_a_data_folder_that_cannot_be_made_is_named(request_file: Path) -> None:
    done = run("serve", "--port", "0", "--data", request_file / "data")
    assert done.exit_code == 2
    assert "cannot be made (Not a directory)" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AUDIT_PORT", "99999", "AUDIT_PORT: Input should be less than"),
        ("AUDIT_FILE_ROOTS", "/data", "write lists as JSON"),
        ("AUDIT_REDIS_URL", "localhost", "AUDIT_REDIS_URL: write redis://"),
        ("AUDIT_DATABASE_URL", "swordfish", "AUDIT_DATABASE_URL: write postgresql://"),
        ("AUDIT_DATABASE_URL", "postgresql://u:swordfish@127.0.0.1:9/x", "the database does not answer"),
        ("AUDIT_REDIS_URL", None, "no queue is set: set AUDIT_REDIS_URL"),
    ],
)
def test_a_wrong_setting_is_named_and_no_password_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str | None, words: str
) -> None:
    monkeypatch.setenv("AUDIT_REDIS_URL", "redis://127.0.0.1:9")
    monkeypatch.setenv("AUDIT_DATA_DIR", str(tmp_path))
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    for command in ("gateway", "worker"):
        done = run(command)
        assert done.exit_code == 2, done.output
        assert words in " ".join(done.output.split())
        assert "swordfish" not in done.output


def test_a_misspelt_variable_is_named_with_the_nearest_right_one(
    monkeypatch: pytest.MonkeyPatch, request_file: Path
) -> None:
    monkeypatch.setenv("AUDIT_FILE_ROOT", '["/data"]')
    monkeypatch.setenv("COLUMNS", "40")  # a sentence stays one line, whatever the width: it is searched and copied
    done = run("estimate", request_file)
    assert done.exit_code == 0, done.output
    assert "AUDIT_FILE_ROOT is not a setting and is ignored; did you mean AUDIT_FILE_ROOTS?" in done.output
    assert unknown_variables(["AUDIT_PROT", "audit_port", "AUDIT_URL", "PORT", "AUDIT_QQQ"]) == {
        "AUDIT_PROT": "AUDIT_PORT",
        "AUDIT_QQQ": None,
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--out", "{folder}/nowhere/report.json"), "--out {folder}/nowhere/report.json: there is no folder"),
        (("--html", "{folder}"), "--html {folder}: this is a folder"),
        (("--out", "{folder}/x", "--html", "{folder}/../{name}/x"), "name the same file"),
    ],
)
def test_destinations_are_checked_before_the_audit(request_file: Path, options: tuple[str, ...], words: str) -> None:
    place = {"folder": request_file.parent, "name": request_file.parent.name}
    started = time.monotonic()
    for command in (("audit",), ("submit", "--wait", "--url", "http://127.0.0.1:9")):
        done = run(*command, request_file, *(option.format(**place) for option in options))
        assert done.exit_code == 2
        assert words.format(**place) in done.output.replace("\n", "")
    assert time.monotonic() - started < 5


def test_a_report_that_cannot_be_written_is_kept_elsewhere(
    request_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    # /dev/full takes no byte: the disk is full
    done = run("audit", request_file, "--device", "cpu", "--out", "/dev/full")
    assert done.exit_code == 2
    (kept,) = elsewhere.iterdir()
    assert json.loads(kept.read_text())["verdict"] == "not_evaluated"
    message = " ".join(done.output.split())
    assert f"/dev/full could not be written (No space left on device); the report is in {kept}" in message
    assert "verdict: not_evaluated" in message


def test_where_the_working_folder_is_gone_too_the_folder_of_temporary_files_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(destinations.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(Path, "cwd", lambda: Path("/dev/null"))
    ((wanted, place, reason),) = destinations.write_results({Path("/dev/full"): b"1"}, name="kept")
    assert (wanted, place, reason) == (Path("/dev/full"), tmp_path / "kept", "No space left on device")
    assert place.read_bytes() == b"1"


@pytest.mark.parametrize("command", ["audit", pytest.param("inspect", marks=pytest.mark.long)])
def test_the_first_second_says_what_is_going_on(request_file: Path, command: str) -> None:
    """The first line comes before anything heavy is imported."""
    script = (
        "import sys, time; began = time.monotonic()\n"
        f"sys.argv = ['auditcore', {command!r}, {str(request_file)!r}]\n"
        "class Watched:\n"
        "    def write(self, text):\n"
        "        if text.strip():\n"
        "            heavy = sorted({'torch', 'numpy'} & set(sys.modules))\n"
        "            sys.__stderr__.write(f'{text.strip()} | {heavy}\\n')\n"
        "        return len(text)\n"
        "    def flush(self): sys.__stderr__.flush()\n"
        "    def isatty(self): return False\n"
        "sys.stderr = Watched()\n"
        "from auditcore_service.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0] == f"reading {request_file.name} | []"
    assert any(line.startswith("loading torch") for line in lines)
    assert any(line.startswith("loading the model") for line in lines)


def test_the_time_left_follows_from_the_speed_of_the_stage() -> None:
    log = Console(file=io.StringIO(), width=100)
    ticks = itertools.count(0.0, 10.0)
    with progress_bar(log, clock=lambda: next(ticks)) as show:
        show(None, "loading torch")
        for share in (0.0, 0.1, 0.5, 1.0):
            show(share, "auditing")
    assert log.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "  loading torch",
        "  auditing 0%",
        "  auditing 10%, about 90 s left".replace("90 s", "2 min"),
        "  auditing 50%, about 20 s left",
        "  auditing 100%",
    ]


def test_a_terminal_sees_stage_and_time_left() -> None:
    shown = io.StringIO()
    ticks = itertools.count(0.0, 10.0)
    terminal = Console(file=shown, force_terminal=True, width=120)
    with progress_bar(terminal, clock=lambda: next(ticks)) as show:
        show(0.0, "auditing")
        show(0.5, "auditing")
    assert "auditing" in shown.getvalue()
    assert "about 10 s left" in shown.getvalue()


def interrupted(*arguments: str, after: str) -> subprocess.CompletedProcess[str]:
    """The command, with Ctrl-C as soon as standard error has these words."""
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        read = []
        for line in process.stderr:
            read.append(line)
            if after in line:
                process.send_signal(signal.SIGINT)
                break
        out, rest = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, out, "".join(read) + rest)


def test_ctrl_c_says_that_nothing_of_an_audit_is_kept(request_file: Path) -> None:
    done = interrupted("audit", str(request_file), "--device", "cpu", after="loading torch")
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1].startswith("interrupted; nothing is kept")
    assert "Traceback" not in done.stderr


def test_ctrl_c_that_a_library_ignores_ends_the_work_at_its_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    class Callback:
        """Python prints and ignores what a destructor raises."""

        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    ignored: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: ignored.append(found.exc_type))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with progress_bar(Console(file=io.StringIO())) as show:
            show(None, "loading torch")
            callback = Callback()
            del callback
            assert ignored == [KeyboardInterrupt]
            with pytest.raises(KeyboardInterrupt):
                show(None, "loading the model")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_on_a_service_says_where_its_data_is(tmp_path: Path) -> None:
    done = interrupted("serve", "--port", "0", "--data", str(tmp_path / "data"), after="service_started")
    assert done.returncode == 0
    assert f"stopped; audits and images are kept in {tmp_path / 'data'}" in done.stderr


class Accepting(BaseHTTPRequestHandler):
    """A service whose audit never ends."""

    def answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(202, STATUS_EXAMPLE | {"id": "a-1", "state": "queued"})

    def do_GET(self) -> None:
        self.answer(200, STATUS_EXAMPLE | {"id": "a-1", "state": "running", "fraction": 0.5})

    def log_message(self, *_: object) -> None:
        pass


def test_submit_prints_id_and_address_at_once_and_ctrl_c_says_how_to_go_on(request_file: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), Accepting) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        done = interrupted("submit", str(request_file), "--url", url, "--wait", after="running 50%")
        at_once = subprocess.run(
            [*COMMAND, "submit", str(request_file), "--url", url], capture_output=True, text=True, check=True
        )
        server.shutdown()
        thread.join()
    assert done.returncode == 130
    first, second, *_, last = done.stderr.splitlines()
    assert first == f"audit a-1 accepted: {url}/v1/audits/a-1"
    assert second == f"its page: {url}/ui/audits/a-1"
    assert done.stdout == "a-1\n"
    assert re.match(r"interrupted; the audit goes on: .*/report; stop it with: curl -X POST .*/cancel$", last)
    assert at_once.stdout == "a-1\n"
    assert at_once.stderr == f"{first}\n{second}\n"
