from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditcore.contracts.augmentations import Brightness
from auditcore.contracts.checks import AgreementCheck, ComplexityCheck, DeletionCheck, SweepCheck
from auditcore.contracts.explainers import Gradient, IntegratedGradients
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.stopping import Conclusive, looks
from auditcore.costs.estimate import BACKWARD_COST
from auditcore_service.use_cases.sharding import ASSEMBLE_SHARE, shards_of

ONE_WAVE = AuditPlan(explainers=(Gradient(),), checks=(DeletionCheck(grid=2, repeats=1),))
TWO_WAVES = AuditPlan(explainers=(Gradient(),), checks=(SweepCheck(augmentations=(Brightness(),)),))


def names(models: int) -> list[str]:
    return [f"model-{number}" for number in range(models)]


@given(images=st.integers(1, 40), shard_images=st.integers(1, 10), models=st.integers(1, 5))
@pytest.mark.parametrize("plan", [ONE_WAVE, TWO_WAVES])
def test_every_model_sees_every_image_once_a_wave(plan: AuditPlan, images: int, shard_images: int, models: int) -> None:
    shards = shards_of(plan, images=images, shard_images=shard_images, models=names(models))
    *work, last = shards
    seen = Counter((s.wave, s.model, image) for s in work for image in range(s.start, s.stop))
    waves = {s.wave for s in work}
    assert seen == dict.fromkeys(((w, m, i) for w in waves for m in range(models) for i in range(images)), 1)
    assert all(0 < s.stop - s.start <= shard_images for s in work)
    assert len({(s.wave, s.index) for s in shards}) == len(shards)
    assert (last.kind, last.start, last.stop) == ("assemble", 0, images)
    assert last.weight == pytest.approx(ASSEMBLE_SHARE * sum(s.weight for s in work))


def test_shards_of_a_model_follow_each_other() -> None:
    shards = shards_of(TWO_WAVES, images=4, shard_images=2, models=names(2))
    assert [(s.wave, s.index, s.model, s.start) for s in shards] == [
        (0, 0, 0, 0),
        (0, 1, 0, 2),
        (0, 2, 1, 0),
        (0, 3, 1, 2),
        (1, 0, 0, 0),
        (1, 1, 0, 2),
        (1, 2, 1, 0),
        (1, 3, 1, 2),
        (2, 0, 0, 0),
    ]


def test_a_second_model_doubles_the_work() -> None:
    one, two = (sum(s.weight for s in shards_of(ONE_WAVE, images=5, shard_images=2, models=names(n))) for n in (1, 2))
    assert two == pytest.approx(2 * one)


def test_a_model_with_which_others_are_compared_has_less_work_and_the_others_have_more() -> None:
    plain = AuditPlan(explainers=(IntegratedGradients(steps=9),), checks=(ComplexityCheck(),))
    compared = plain.model_copy(update={"checks": (*plain.checks, AgreementCheck(reference="model-0"))})
    expected, found = (
        [s.weight for s in shards_of(plan, images=2, shard_images=2, models=names(3)) if s.kind == "compute"]
        for plan in (plain, compared)
    )
    # its maps and predictions of each image and of three harmless copies: 9 passes there and back, and one forward
    more = 2 * round((1 + 3) * (9 * (1 + BACKWARD_COST) + 1))
    assert found == pytest.approx([expected[0], expected[1] + more, expected[2] + more], abs=2)


@given(images=st.integers(1, 200), shard_images=st.integers(1, 10), models=st.integers(1, 3), first=st.integers(1, 20))
def test_no_shard_spans_a_look(images: int, shard_images: int, models: int, first: int) -> None:
    rule = Conclusive(first_look=first)
    shards = shards_of(TWO_WAVES, images=images, shard_images=shard_images, models=names(models), stop=rule)
    compute = [s for s in shards if s.kind == "compute"]
    seen = Counter((s.model, image) for s in compute for image in range(s.start, s.stop))
    assert seen == dict.fromkeys(((m, i) for m in range(models) for i in range(images)), 1)
    assert [s.index for s in compute] == list(range(len(compute)))
    ends = list(looks(images, first))
    for shard in compute:
        assert 0 < shard.stop - shard.start <= shard_images
        assert not any(shard.start < end < shard.stop for end in ends)
    # all models have seen the images of a look before any shard after it runs
    positions = [next(number for number, end in enumerate(ends) if s.stop <= end) for s in compute]
    assert positions == sorted(positions)
    measure = [s for s in shards if s.kind == "measure"]
    assert measure == [
        s
        for s in shards_of(TWO_WAVES, images=images, shard_images=shard_images, models=names(models))
        if s.kind == "measure"
    ]
