"""What one compute process may reach: the folders to read and to write, and the ports of servers."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, final
from urllib.parse import unquote, urlsplit

from auditcore.contracts.contract import Contract
from auditcore_service.settings import Settings
from auditcore_service.worker.compute_environment import writable_caches
from auditcore_service.worker.compute_folders import ComputeFolder

Reach = Literal["nothing", "servers"]
"""What code of models may reach besides its worker: nothing, or the servers of models that the operator has allowed."""

SYSTEM = (
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/sbin",
    "/opt/nvidia",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/nvidia",
    "/etc/OpenCL",
    "/etc/passwd",
    "/etc/pki/tls",
    "/etc/resolv.conf",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
    "/proc/cpuinfo",
    "/proc/devices",
    "/proc/driver/nvidia",
    "/proc/filesystems",
    "/proc/meminfo",
    "/proc/modules",
    "/proc/stat",
    "/proc/sys",
    "/proc/version",
    "/run/systemd/resolve",
    "/sys",
)
"""What programs and libraries of a system read."""

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
"""Devices that any program may use."""

ACCELERATORS = ("nvidia*", "nvidia-caps", "dri", "kfd")
"""Names below /dev of accelerators and of their drivers."""

HTTP_PORTS = {"http": 80, "https": 443}
DNS_PORT = 53


@final
class SandboxProfile(Contract):
    """What one process may reach.

    Attributes:
        required: Whether to refuse to compute where the kernel cannot enforce it.
        read: Files and folders to read, and programs and libraries to load.
        listed: Folders of which only the names of files may be read, because something inside is hidden; importing a
            module from a folder begins with its names.
        write: Folders and devices to write.
        ports: Ports of servers to which it may connect; None for no network at all.
    """

    required: bool
    read: tuple[str, ...]
    listed: tuple[str, ...]
    write: tuple[str, ...]
    ports: tuple[int, ...] | None


def sandbox_profile(settings: Settings, reach: Reach, folder: ComputeFolder) -> SandboxProfile:
    """The profile of a process.

    Args:
        settings: Those of the worker: what the operator lets models read, and what is hidden from them.
        reach: What its orders have to reach.
        folder: Of the process.
    """
    named = [*settings.file_roots, *settings.model_keys, *(settings.token_roots if reach == "servers" else ())]
    wanted = [*_python(settings.packages), *named]
    hidden = tuple(map(Path, map(os.path.realpath, _hidden(settings))))
    shared = [
        path for path in (*writable_caches(os.environ).values(), Path.home() / ".nv" / "ComputeCache") if path.is_dir()
    ]
    devices = [path for pattern in ACCELERATORS for path in Path("/dev").glob(pattern)]
    roots = [Path(os.path.realpath(path)) for path in (*map(Path, SYSTEM), folder.files, folder.models, *wanted)]
    parts = [part for root in roots for part in _without(root, hidden)]
    return SandboxProfile(
        required=settings.sandbox == "required",
        read=tuple(dict.fromkeys(map(str, parts))),
        listed=tuple(dict.fromkeys(str(root) for root in roots if any(one.is_relative_to(root) for one in hidden))),
        write=tuple(map(str, (folder.own, *map(Path, DEVICES), *devices, *shared))),
        ports=_ports(settings.server_prefixes) if reach == "servers" else None,
    )


def _python(packages: Iterable[str]) -> Iterator[Path]:
    """Where Python, its libraries and the packages of `package:` are."""
    yield from map(Path, (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix))
    yield Path(sys.executable).parent
    # an empty entry means the working folder
    yield from (Path(entry or ".").absolute() for entry in sys.path)
    for package in packages:
        try:
            spec = importlib.util.find_spec(package)
        except (ImportError, ValueError):
            continue
        yield from map(Path, (spec.submodule_search_locations or ()) if spec is not None else ())


def _hidden(settings: Settings) -> Iterator[Path]:
    """What no code of a model may read, even below a folder that it may read: what the service itself keeps."""
    yield settings.data_dir
    if settings.signing_key is not None:
        yield settings.signing_key
    for url in (settings.database, settings.blobs):
        parts = urlsplit(url)
        if parts.scheme.partition("+")[0] in {"sqlite", "file"}:
            path = Path(unquote(parts.path.removeprefix("/") if parts.scheme.startswith("sqlite") else parts.path))
            yield path
            yield from (path.with_name(f"{path.name}{ending}") for ending in ("-wal", "-shm", "-journal"))


def _without(path: Path, hidden: tuple[Path, ...]) -> Iterator[Path]:
    """A folder, or its parts where something hidden is inside; nothing of what is hidden itself."""
    if any(path.is_relative_to(one) for one in hidden):
        return
    if not any(one.is_relative_to(path) for one in hidden):
        yield path
        return
    try:
        inside = sorted(path.iterdir())
    except OSError:
        return
    for one in inside:
        # a link leads to a place that has its own rule, or none
        if not one.is_symlink():
            yield from _without(one, hidden)


def _ports(prefixes: Iterable[str]) -> tuple[int, ...]:
    parts = [urlsplit(prefix) for prefix in prefixes]
    return tuple(sorted({DNS_PORT, *(one.port or HTTP_PORTS.get(one.scheme, 443) for one in parts)}))
