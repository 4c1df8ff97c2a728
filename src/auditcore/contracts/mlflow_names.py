"""How MLflow names a model: a version, an alias, a stage or the latest version of a registered one, or a logged one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, final

STAGES: Final = ("None", "Staging", "Production", "Archived")
"""Stages of a registered model, which MLflow has replaced by aliases and still reads."""

LATEST: Final = "latest"

WHAT_TO_WRITE: Final = (
    "write models:/NAME/VERSION, models:/NAME@ALIAS, models:/NAME/latest, models:/NAME/Production or another stage, "
    "models:/m-ID of a logged model, or runs:/RUN_ID/PATH of a model in a run"
)

_MODEL = re.compile(r"(?P<name>[^/@:\x00-\x1f]{1,256})(?:/(?P<version>[^/@]{1,255})|@(?P<alias>[A-Za-z0-9_.-]{1,255}))")
_LOGGED = re.compile(r"m-[A-Za-z0-9_-]{1,128}")
_RUN = re.compile(r"(?P<run>[A-Za-z0-9][\w-]{0,255})/(?P<path>[^\x00-\x1f]{1,400})")
_PATH_PART = re.compile(r"[\w .@=+-]+")


@final
@dataclass(frozen=True)
class MlflowName:
    """A model as MLflow names it.

    Attributes:
        kind: What the name stands for.
        name: Name of the registered model; id of the logged model or of the run.
        value: Version, alias, stage or path in the run; empty for others.
    """

    kind: Literal["version", "alias", "stage", "latest", "logged", "run"]
    name: str
    value: str = ""

    @property
    def registered(self) -> bool:
        """Whether it stands for a version of a registered model."""
        return self.kind not in {"logged", "run"}


def parse_mlflow_uri(uri: str) -> MlflowName:
    """What a URI of MLflow names.

    Raises:
        ValueError: It names nothing that is read here; the message says what to write.
    """
    if uri.startswith("runs:/"):
        return _run(uri)
    found = _MODEL.fullmatch(uri.removeprefix("models:/")) if uri.startswith("models:/") else None
    if found is None:
        if uri.startswith("models:/") and _LOGGED.fullmatch(uri.removeprefix("models:/")):
            return MlflowName("logged", uri.removeprefix("models:/"))
        msg = f"{uri[:200]!r} names no model of MLflow; {WHAT_TO_WRITE}"
        raise ValueError(msg)
    name, version, alias = found["name"], found["version"], found["alias"]
    if name in {".", ".."}:
        msg = f"{name!r} is not the name of a model; {WHAT_TO_WRITE}"
        raise ValueError(msg)
    if alias is not None:
        return MlflowName("alias", name, alias)
    if version.isascii() and version.isdigit():
        return MlflowName("version", name, version)
    if version.lower() == LATEST:
        return MlflowName("latest", name)
    stage = next((one for one in STAGES if one.lower() == version.lower()), None)
    if stage is None:
        msg = (
            f"{version!r} is not a version (a number), a stage ({', '.join(STAGES)}) or {LATEST!r}; for an alias, "
            f"write models:/{name}@{version}"
        )
        raise ValueError(msg)
    return MlflowName("stage", name, stage)


def _run(uri: str) -> MlflowName:
    found = _RUN.fullmatch(uri.removeprefix("runs:/"))
    parts = [] if found is None else found["path"].rstrip("/").split("/")
    if found is None or not all(_PATH_PART.fullmatch(part) and part not in {".", ".."} for part in parts):
        msg = (
            f"{uri[:200]!r} names no model of a run; write runs:/RUN_ID/PATH, with the id of the run and the path of "
            "the model in it, such as runs:/0123456789abcdef0123456789abcdef/model"
        )
        raise ValueError(msg)
    return MlflowName("run", found["run"], "/".join(parts))
