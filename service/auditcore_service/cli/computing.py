"""What commands that compute in this process have in common: where, what code of models may print, and how it ends."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from auditcore.errors import AuditcoreError, InputError
from auditcore.whole_files import write_whole
from auditcore_service.cli.outcome import CommandError


def chosen_device(name: str) -> str:
    """Load torch, and say where to compute.

    Args:
        name: `auto`, or a name of torch, such as `cpu` or `cuda:0`.
    """
    import torch  # noqa: PLC0415 - a mistake in a file is reported before torch takes its seconds to load

    from auditcore.devices.allocator import keep_freed_memory  # noqa: PLC0415 - loads torch

    keep_freed_memory()
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def computing(failure: str) -> Iterator[None]:
    """Let code of models print to standard error only, because programs read standard output.

    Args:
        failure: What to say first if what is computed cannot be carried out.

    Raises:
        CommandError: The library has refused it; the message names the field and how to fix it.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except InputError as error:
        raise CommandError(failure, errors=[(error.field, error.message)], code=error.code) from error
    except AuditcoreError as error:
        raise CommandError(error.message, code=error.code) from error


def write_result(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        CommandError: It cannot be written.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        message = f"{path} cannot be written ({error.strerror}); free some space or choose another place"
        raise CommandError(message) from error
