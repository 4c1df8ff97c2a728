"""The preset of an audit, and where its settings come from."""

from __future__ import annotations

from collections.abc import Iterator

from auditcore.contracts.plan import PresetPlan
from auditcore.contracts.presets import PRESETS, Preset, Setting, plan_for_models, setting_value
from auditcore.contracts.report import AuditReport


def preset_of(report: AuditReport) -> Preset | None:
    """The preset that was asked for, unless another version of it was: what it says of settings would be wrong."""
    if report.upgraded_from is not None:
        return None
    models = [model.name for model in report.models if model.name is not None]
    return next(
        (
            preset
            for name, preset in PRESETS.items()
            if name == report.manifest.preset
            and plan_for_models(PresetPlan(preset=name, seed=report.plan.seed), models) == report.plan
        ),
        None,
    )


def preset_settings(preset: Preset, report: AuditReport) -> Iterator[tuple[Setting, str]]:
    """Settings of the preset with their values in words, without those of checks that this audit leaves out."""
    known = {f"checks.{check.label}" for check in report.plan.checks}
    for setting in preset.settings:
        of_check = ".".join(setting.path.split(".")[:2])
        if of_check.startswith("checks.") and of_check not in known:
            continue
        value = setting_value(report.plan, setting.path)
        yield setting, ", ".join(str(part) for part in value) if isinstance(value, list) else str(value)
