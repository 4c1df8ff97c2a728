"""What resolving a reference finds out."""

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
        reference: The same with version and digest filled in as far as they can be known.
        capabilities: What the model lets an audit see; None where only loading it can tell.
        facts: What else was found out, for a person, by name, such as `classes`.
    """

    reference: ModelReference
    capabilities: ModelCapabilities | None = None
    facts: dict[str, str | int] = field(default_factory=dict)
