"""Policies with a name and a version, and the ways in which a request can give its policy."""

from __future__ import annotations

from typing import Annotated, Any, final

from pydantic import Discriminator, Field, StringConstraints, Tag

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.contract import Contract, Name, Sha256
from auditcore.contracts.policy import Condition, Policy

_VERSION = r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,31}"

Version = Annotated[str, StringConstraints(pattern=f"^{_VERSION}$")]
"""Version of a policy, such as `1.2.0`; at most 32 characters."""

PolicyName = Annotated[str, StringConstraints(pattern=rf"^[a-z0-9][a-z0-9_.-]{{0,63}}@{_VERSION}$")]
"""Name and version of a policy, such as `pre-deployment@1.0.0`, as requests, addresses and commands write it."""


@final
class PolicyDocument(Contract):
    """A policy as it is stored: conditions with a name and a version that never change.

    Its digest is the sha256 of its canonical JSON (RFC 8785) with every default spelled out, as the service answers it.

    Attributes:
        name: Its name; a service keeps one document for each name and version.
        conditions: The conditions for a pass; `rationale` of each says where its threshold comes from.
    """

    name: Name
    version: Version = Field(description="Its version, such as `1.2.0`. Change it with every change of the conditions.")
    description: str = Field(
        default="", max_length=10_000, description="What the policy is for, and for which plan it was written."
    )
    conditions: tuple[Condition, ...] = Field(min_length=1, max_length=1000)

    @property
    def label(self) -> str:
        """Name and version in one, such as `pre-deployment@1.0.0`."""
        return f"{self.name}@{self.version}"

    @property
    def digest(self) -> Sha256:
        """Its content address."""
        return digest_of(self)


@final
class PolicyDigest(Contract):
    """A stored policy by its digest.

    Attributes:
        digest: Digest of the policy, from the answer to POST /v1/policies.
    """

    digest: Sha256


def _form(value: Any) -> str:  # noqa: ANN401 - pydantic passes on any value
    match value:
        case str():
            return "name"
        case PolicyDigest():
            return "digest"
        case dict():
            return "digest" if "digest" in value else "document"
        case PolicyDocument():
            return "document"
        case _:
            return "conditions"


RequestedPolicy = Annotated[
    Annotated[Policy, Tag("conditions")]
    | Annotated[PolicyDocument, Tag("document")]
    | Annotated[PolicyDigest, Tag("digest")]
    | Annotated[PolicyName, Tag("name")],
    Discriminator(_form),
]
"""The policy of a request: conditions, a whole document, or a stored document by its digest or its name and version."""
