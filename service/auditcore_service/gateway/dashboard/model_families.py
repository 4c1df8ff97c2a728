"""What versions of a model have in common, so that their audits make one history.

A family is the kind of reference and the name without a version: `torchvision resnet50` whatever its weights,
`mlflow models:/scans` for `models:/scans/3` and `models:/scans@prod`, `torchserve scans`. A team whose versions have no
name in common gives its audits a tag `model:NAME`.
"""

from __future__ import annotations

import re
from typing import Any, Final

_REGISTERED: Final = re.compile(r"^(models:/[^/@]+)[/@].*$")
"""A model of a registry with its version or alias."""

_NAMES: Final = ("name", "repo", "target", "uri")
"""Fields by which kinds of references name a model; of those that a reference has, the first counts."""


def families_of(request: dict[str, Any]) -> tuple[str, ...]:
    """The family of each model of a stored request, without repetitions."""
    several = [one["model"] for one in request.get("models") or ()]
    references = several or [request.get("model") or {}]
    return tuple(dict.fromkeys(family_of(one) for one in references))


def family_of(reference: dict[str, Any]) -> str:
    """The family of a model, such as `torchvision resnet50`."""
    name = next((str(reference[field]) for field in _NAMES if reference.get(field)), "")
    registered = _REGISTERED.match(name)
    return f"{reference.get('kind', 'unknown')} {name if registered is None else registered[1]}".strip()
