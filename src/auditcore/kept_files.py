"""Files that a long work keeps as it goes on, so that it can be interrupted at any time and go on from them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, final, runtime_checkable

from auditcore.errors import InvalidRequest
from auditcore.whole_files import write_whole


@runtime_checkable
class KeptFiles(Protocol):
    """Named files of one experiment. A file is there as a whole or not at all.

    Names are those of `contracts.experiments.stage.FileName`.
    """

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None if it is not there."""

    def keep(self, name: str, data: bytes) -> None:
        """Keep a file; an earlier one of the same name is replaced. Once this returns, it survives a power failure."""

    def forget(self, name: str) -> None:
        """Remove a file, such as a checkpoint that nothing needs any more; nothing happens if it is not there."""

    def uri(self, name: str) -> str:
        """How a model reference names a kept file of weights.

        Raises:
            KeyError: It is not there.
        """


@final
class KeptFolder:
    """Kept files in a folder; a `KeptFiles`.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None if it is not there.

        Raises:
            InvalidRequest: It cannot be read, for example because the folder is none.
        """
        path = self.path / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            msg = f"{path} cannot be read ({error.strerror}); name a folder whose files may be read and written"
            raise InvalidRequest(msg, field="out") from error

    def keep(self, name: str, data: bytes) -> None:
        """Keep a file.

        Raises:
            InvalidRequest: It cannot be written, for example because the disk is full.
        """
        path = self.path / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
        except OSError as error:
            msg = f"{path} cannot be written ({error.strerror}); make room, and go on with the same folder"
            raise InvalidRequest(msg, field="out") from error

    def forget(self, name: str) -> None:
        """Remove a file."""
        (self.path / name).unlink(missing_ok=True)

    def uri(self, name: str) -> str:
        """The file as a `file:` URI.

        Raises:
            KeyError: It is not there.
        """
        path = (self.path / name).resolve()
        if not path.exists():
            raise KeyError(name)
        return path.as_uri()


def read_kept(kept: KeptFiles, name: str) -> bytes:
    """The bytes of a file that an earlier stage has kept.

    Raises:
        InvalidRequest: It is not there any more.
    """
    data = kept.read(name)
    if data is None:
        msg = f"{name} was kept by an earlier stage and is gone; begin anew"
        raise InvalidRequest(msg, field="out")
    return data


@final
class KeptInMemory:
    """Kept files of a work that nobody will go on with; a `KeptFiles`."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None if it is not there."""
        return self._files.get(name)

    def keep(self, name: str, data: bytes) -> None:
        """Keep a file as long as this process lives."""
        self._files[name] = data

    def forget(self, name: str) -> None:
        """Remove a file."""
        self._files.pop(name, None)

    def uri(self, name: str) -> str:
        """Nothing names bytes in memory; read them instead.

        Raises:
            KeyError: Always.
        """
        raise KeyError(name)
