"""The result of resolving a reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from auditcore.contracts.capabilities import ModelCapabilities
from auditcore.contracts.model_reference import ModelReference


@final
@dataclass(frozen=True)
class Resolution:
    """What a reference stands for now.

    Attributes:
        reference: The reference with its version and digest, as far as they can be known.
        capabilities: What the model lets an audit see; None if only loading it can tell.
        facts: Other findings for a person, by name, such as `classes`.
    """

    reference: ModelReference
    capabilities: ModelCapabilities | None = None
    facts: dict[str, str | int] = field(default_factory=dict)
