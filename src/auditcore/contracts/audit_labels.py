"""The name and the tags by which people find an audit. They change nothing that is computed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"

AuditName = Annotated[str, StringConstraints(pattern=_PRINTABLE, max_length=200)]
"""One line of at most 200 characters."""

TagKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,62}$")]
"""Has no colon, because `key:value` names a tag in a list of audits."""

TagValue = Annotated[str, StringConstraints(pattern=_PRINTABLE, max_length=200)]

Tags = Annotated[dict[TagKey, TagValue], Field(max_length=32)]
"""Key -> value."""
