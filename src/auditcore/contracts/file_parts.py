"""Further files of a model that its first file names."""

from __future__ import annotations

from typing import Annotated, final

from pydantic import Field, StringConstraints

from auditcore.contracts.contract import Contract, Sha256


@final
class FilePart(Contract):
    """A file beside another one that belongs to it.

    Attributes:
        name: Its name, in the same folder.
        sha256: Its digest.
    """

    name: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    sha256: Sha256


FileParts = Annotated[tuple[FilePart, ...], Field(max_length=1000)]
