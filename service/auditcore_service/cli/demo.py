"""The demo: a service of its own, eight real photos, a real model, one audit over HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from auditcore.contracts.report import AuditReport
from auditcore_service.cli.found_images import ImageFile
from auditcore_service.cli.outcome import CommandError
from auditcore_service.cli.progress import follow
from auditcore_service.cli.report_view import show_report
from auditcore_service.cli.service_client import connected, upload_files

START_LINE = "Listening on "
"""What `auditcore serve` prints, with its address, when it answers."""

STOP_S = 30.0
"""Longest wait for the service to shut down; it takes about two seconds."""

PHOTOS = (
    ("skimage", "data/coffee.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/rocket.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/camera.png"),
    ("sklearn", "datasets/images/flower.jpg"),
)
"""Package and path of photos that ship inside wheels: an espresso, a cat, a rocket, a palace, an astronaut, a
motorcycle, a photographer, a flower. Eight, because a condition needs so many to pass (`min_images`)."""

POLICY = (
    {
        "id": "better_than_chance",
        "check": "deletion",
        "explainer": "grad_cam",
        "metric": "inter_model_deletion",
        "at_least": 0.0,
    },
    {
        "id": "stable_under_light",
        "check": "sweep",
        "explainer": "grad_cam",
        "metric": "s_pearson",
        "variant": "brightness",
        "at_least": 0.8,
    },
    {
        "id": "gradient_stable_under_rotation",
        "check": "sweep",
        "explainer": "gradient",
        "metric": "s_pearson",
        "variant": "rotate",
        "at_least": 0.8,
        "severity": "warn",
    },
)
"""Three conditions such as a release gate would have. On these photos the whole interval of the first two meets the
threshold, [.066, .307] and [.972, 1.002]; that of the last one is below it, [.311, .359], which only warns."""


def run_demo(folder: Path, *, console: Console | None = None) -> AuditReport:
    """Audit EfficientNet-Lite0 on eight photos and write demo-report.json and demo-report.html.

    Every HTTP call is shown as the curl line that repeats it.

    Args:
        folder: Where the reports are written.
        console: Where to show what happens; standard output if None.

    Raises:
        CommandError: The extra `demo` is missing, or the service or the audit failed.
    """
    console = console or Console()
    photos = [photo_path(package, path) for package, path in PHOTOS]
    _make(folder)
    with tempfile.TemporaryDirectory(prefix="auditcore-demo-") as data:
        console.print("[bold]1. Start the service[/bold]: gateway, worker, queue and database in one process tree")
        _show(console, f"auditcore serve --port 0 --data {data}")
        with _service(Path(data)) as url:
            console.print(f"   {url}", highlight=False)
            report = _audit(url, photos, folder, console)
        console.print("   the service is down again, its folder removed")
    console.print()
    show_report(report, console)
    console.print()
    console.print(f"The full report: {folder / 'demo-report.json'}, and as a page: {folder / 'demo-report.html'}")
    return report


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"--out {folder} cannot be made ({error.strerror}); choose another folder"
        raise CommandError(message) from error


def _audit(url: str, photos: list[Path], folder: Path, console: Console) -> AuditReport:
    with connected(url, narrate=lambda line: _show(console, line)) as client:
        console.print(f"[bold]2. Upload[/bold] {', '.join(photo.name for photo in photos)}", highlight=False)
        digest = upload_files(client, [ImageFile(photo, photo.name) for photo in photos])
        console.print(f"   {digest}", highlight=False)
        console.print("[bold]3. Submit[/bold] EfficientNet-Lite0, the preset quick, and a policy of three conditions")
        request = {
            "model": {"kind": "demo"},
            "images": {"kind": "batch", "digest": digest},
            "plan": {"preset": "quick", "seed": 7},
            "policy": POLICY,
        }
        audit_id = client.submit(request).id
        console.print("[bold]4. Follow[/bold] the audit")
        follow(lambda told: client.wait(audit_id, on_progress=told), console)
        console.print("[bold]5. Fetch[/bold] the report")
        content = client.report_as(audit_id, "json")
        (folder / "demo-report.json").write_bytes(content)
        (folder / "demo-report.html").write_bytes(client.report_as(audit_id, "html"))
    return AuditReport.model_validate_json(content)


@contextmanager
def _service(data: Path) -> Iterator[str]:
    """A running service on a free port; its address. Nothing of it is left afterwards, however this ends."""
    log = data / "service.log"
    serve = "from auditcore_service.cli import main; main()"
    # the service is tied to this process, so that even kill -9 leaves nothing behind
    tether = [sys.executable, "-m", "auditcore_service.tethered", str(os.getpid()), str(int(signal.SIGTERM))]
    command = [*tether, sys.executable, "-c", serve, "serve", "--port", "0", "--data", str(data)]
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,  # noqa: S603 - own code
    ):
        try:
            yield _address(process, log)
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(process: subprocess.Popen[str], log: Path) -> str:
    lines = process.stdout or ()
    for line in lines:
        if line.startswith(START_LINE):
            return line.removeprefix(START_LINE).strip()
    tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
    message = f"the service did not start; the end of its log:\n{tail}"
    raise CommandError(message)


def photo_path(package: str, path: str) -> Path:
    """A photo inside an installed package, found without importing it.

    Raises:
        CommandError: The package is not installed.
    """
    spec = find_spec(package)
    if spec is not None and spec.origin is not None and (photo := Path(spec.origin).parent / path).is_file():
        return photo
    message = f"the package {package} has no photo {path}; install it again with: pip install 'auditcore[demo]'"
    raise CommandError(message)


def _show(console: Console, line: str) -> None:
    console.print(f"   $ {line}", style="dim", highlight=False, markup=False, soft_wrap=True)
