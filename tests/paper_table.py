"""What a paper prescribes, as data, and whether a preset follows it or says where it does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from auditcore.contracts.plan import AuditPlan, PresetName
from auditcore.contracts.presets import PRESETS, setting_value


@dataclass(frozen=True)
class Prescribed:
    """One setting as a paper or its published code has it.

    Attributes:
        path: Where it is in our plan.
        value: What is prescribed, as `setting_value` shows it.
        where: Page, section, figure or file it is taken from.
        disclosed: Words with which the preset says that it differs; None where it does not differ.
    """

    path: str
    value: Any
    where: str
    disclosed: str | None = None


def deviations(name: PresetName, table: tuple[Prescribed, ...]) -> list[str]:
    """Settings of a preset that differ from the table without a word, or that are said to differ and do not."""
    return deviations_of(PRESETS[name].build(0), {one.path: one.note for one in PRESETS[name].settings}, table)


def deviations_of(plan: AuditPlan, notes: dict[str, str], table: tuple[Prescribed, ...]) -> list[str]:
    """The same of a plan and what is noted about its settings, by path."""
    found = []
    for row in table:
        ours = setting_value(plan, row.path)
        if ours == row.value:
            if row.disclosed is not None:
                found.append(f"{row.path} is {ours!r} as in {row.where}, but the table says that it differs")
        elif row.disclosed is None or row.disclosed not in notes.get(row.path, ""):
            found.append(f"{row.path} is {ours!r}, but {row.value!r} in {row.where}, and no note says so")
    return found


def unlisted(name: PresetName, table: tuple[Prescribed, ...]) -> list[str]:
    """Settings of a preset that are not the default of their contract, and that neither table nor notes know."""
    preset = PRESETS[name]
    known = {row.path for row in table} | {setting.path for setting in preset.settings}
    plan = preset.build(0)
    changed = [key for key in ("target", "top_n", "only_correct", "speed") if key in _changed(plan)]
    for group in ("explainers", "checks"):
        for entry in getattr(plan, group):
            changed += [f"{group}.{entry.label}.{key}" for key in _changed(entry) if key not in {"name", "kind"}]
    return [path for path in changed if not _is_known(path, known)]


def _changed(contract: Any) -> list[str]:
    return [
        key
        for key, field in type(contract).model_fields.items()
        if getattr(contract, key) != field.get_default(call_default_factory=True)
    ]


def _is_known(path: str, known: set[str]) -> bool:
    """Whether a row is about this path or a part of it."""
    return any(one == path or one.startswith(f"{path}.") for one in known)
