"""Every preset is a valid plan, and every note about a setting points at one."""

from __future__ import annotations

from typing import get_args

import pytest

from auditcore.contracts.plan import AuditPlan, PresetName, PresetPlan
from auditcore.contracts.presets import PRESETS, resolve_plan, setting_value


def test_presets_are_those_a_request_may_name() -> None:
    assert set(PRESETS) == set(get_args(PresetName))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json_and_keeps_its_seed(name: PresetName) -> None:
    plan = resolve_plan(PresetPlan(preset=name, seed=11))
    assert plan.seed == 11
    assert AuditPlan.model_validate_json(plan.model_dump_json()) == plan


@pytest.mark.parametrize("name", PRESETS)
def test_every_note_points_at_a_setting(name: PresetName) -> None:
    preset = PRESETS[name]
    plan = preset.build(0)
    paths = [setting.path for setting in preset.settings]
    assert len(set(paths)) == len(paths)
    for path in paths:
        setting_value(plan, path)


def test_a_note_about_nothing_is_an_error() -> None:
    plan = PRESETS["quick"].build(0)
    for path in ("checks.sweep.nothing", "checks.road", "explainers.gradient.steps"):
        with pytest.raises(KeyError):
            setting_value(plan, path)


def test_a_paper_has_sources_and_ours_do_not_claim_one() -> None:
    for name, preset in PRESETS.items():
        assert (preset.paper is None) == (name in {"quick", "standard"})
        assert preset.settings
    sources = {setting.source for setting in PRESETS["tetkova2023"].settings}
    assert sources == {"paper", "code"}


def test_the_published_code_of_tetkova_and_hansen() -> None:
    """anchor at the maximum, all channel values correlated, the fifth part of the flipping curve."""
    plan = PRESETS["tetkova2023"].build(0)
    assert setting_value(plan, "checks.sweep.anchor") == "max"
    assert setting_value(plan, "checks.sweep.reduce") == "none"
    assert setting_value(plan, "checks.pixel_flipping.rank_by") == "signed"
    assert setting_value(plan, "checks.sweep.top_k") == 1000
    assert setting_value(plan, "checks.pixel_flipping.share") == 0.2
