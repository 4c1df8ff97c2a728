"""Measures that retrain, stage by stage: interrupted and killed at any moment, and with files of something else."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import auditcore
import deciding_patch as world
from auditcore.contracts.experiments.request import ExperimentRequest
from auditcore.contracts.experiments.stage import REPORT, Stage
from auditcore.contracts.experiments.stages import stages_of
from auditcore.contracts.explainers import GradCam, InputXGradient, KernelShap
from auditcore.contracts.retraining.f_fidelity import FFidelityPlan, FFidelityRequest
from auditcore.contracts.retraining.idsds import IdsdsPlan, IdsdsRequest
from auditcore.contracts.retraining.roar import RoarPlan, RoarRequest
from auditcore.errors import AuditCancelled, InvalidRequest, WorkInterrupted
from auditcore.images.encoded import EncodedImage
from auditcore.kept_files import KeptFiles, KeptFolder, KeptInMemory
from auditcore.retraining.f_fidelity_run import FFidelityRun
from auditcore.retraining.idsds_run import IdsdsRun
from auditcore.retraining.roar_run import RoarRun

# minutes of interrupted measurements; `make acceptance` runs them
pytestmark = [pytest.mark.slow, pytest.mark.long]

TRAINING, MEASURED = world.images(32, 1), world.images(66, 3)
"""More images are measured than one part has. ROAR has no parts."""

SHAP = KernelShap(segments="cells", count=4, samples=16)
"""Reads the logits of an image of one color, once for all images."""

GRAD_CAM = GradCam()
"""Cannot run on a model without feature maps."""

REQUESTS: Final[dict[str, ExperimentRequest]] = {
    "roar": RoarRequest(
        model=world.model(),
        images=world.STORED,
        plan=RoarPlan(
            explainers=(InputXGradient(), GRAD_CAM),
            training=world.training(epochs=1),
            shares=(0.0, 0.0625, 1.0),
            repeats=2,
        ),
    ),
    "f_fidelity": FFidelityRequest(
        model=world.model(),
        images=world.STORED,
        plan=FFidelityPlan(
            explainers=(SHAP, GRAD_CAM),
            training=world.training(epochs=1),
            sizes=(0.25,),
            samples=2,
            rank_by="both",
        ),
    ),
    "idsds": IdsdsRequest(
        model=world.model(),
        images=world.STORED,
        plan=IdsdsPlan(explainers=(SHAP, GRAD_CAM), training=world.training(epochs=1), grid=2),
    ),
}
RUNS: Final[dict[str, Any]] = {"roar": RoarRun, "f_fidelity": FFidelityRun, "idsds": IdsdsRun}
FRONT_DOORS: Final[dict[str, Any]] = {
    "roar": auditcore.roar,
    "f_fidelity": auditcore.f_fidelity,
    "idsds": auditcore.idsds,
}


def measured(kind: str) -> tuple[EncodedImage, ...]:
    return MEASURED[:8] if kind == "roar" else MEASURED


KINDS = pytest.mark.parametrize("kind", list(REQUESTS))


def opened(kind: str, kept: KeptFiles, **how: Any) -> Any:
    """A measurement as another process prepares it anew; its clock stands still."""
    named = {"experiment_id": "e", "access": world.ACCESS, "device": "cpu", "clock": lambda: 0.0} | how
    images, validation = named.pop("images", TRAINING), measured(kind)
    return RUNS[kind](REQUESTS[kind], images, validation, kept=kept, **named)


def do(kind: str, stage: Stage, kept: KeptFiles, **how: Any) -> None:
    told = {"progress": lambda _share: None, "enough": lambda: False}
    told |= {name: how.pop(name) for name in ("progress", "enough") if name in how}
    opened(kind, kept, **how).run(stage, **told)


def numbers(report: bytes | None) -> Any:
    """A report without the memory of its process."""
    assert report is not None
    found = json.loads(report)
    if found.get("training") is not None:
        del found["training"]["cost"]["peak_memory_bytes"]
    return found


@functools.cache
def whole(kind: str) -> bytes:
    """The report of all stages in one process."""
    kept = KeptInMemory()
    run = opened(kind, kept)
    for stage in stages_of(REQUESTS[kind]):
        run.run(stage, progress=lambda _share: None, enough=lambda: False)
    report = kept.read(REPORT)
    assert report is not None
    return report


def do_all(kind: str, kept: KeptFiles) -> None:
    for stage in stages_of(REQUESTS[kind]):
        do(kind, stage, kept)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@KINDS
def test_stages_with_only_the_kept_files_in_common_give_the_same_report(kind: str, tmp_path: Path) -> None:
    do_all(kind, KeptFolder(tmp_path))
    assert numbers((tmp_path / REPORT).read_bytes()) == numbers(whole(kind))
    # the front door does the same
    report = FRONT_DOORS[kind](
        REQUESTS[kind],
        images=TRAINING,
        validation=measured(kind),
        access=world.ACCESS,
        clock=lambda: 0.0,
        **{"roar_id" if kind == "roar" else "measurement_id": "e"},
    )
    assert numbers(report.model_dump_json().encode()) == numbers(whole(kind))


@KINDS
def test_stages_of_a_wave_may_come_in_any_order(kind: str) -> None:
    kept = KeptInMemory()
    for stage in sorted(stages_of(REQUESTS[kind]), key=lambda stage: (-stage.wave, stage.name), reverse=True):
        do(kind, stage, kept)
    assert numbers(kept.read(REPORT)) == numbers(whole(kind))


@KINDS
def test_interrupted_at_ever_later_questions_it_goes_on_to_the_same_report(kind: str, tmp_path: Path) -> None:
    """The first call is interrupted at the first question, the second one at the second, and so on."""
    kept, interrupted = KeptFolder(tmp_path), 0
    for stage in stages_of(REQUESTS[kind]):
        for patience in range(1, 1000):
            questions = iter(range(1, 1000))
            try:
                do(kind, stage, kept, enough=lambda: next(questions) == patience)  # noqa: B023 - called at once
            except WorkInterrupted:
                interrupted += 1
            else:
                break
    assert interrupted > len(stages_of(REQUESTS[kind])) / 2
    assert {name.split("/")[0] for name in names(tmp_path)}.isdisjoint({"checkpoints", "parts"})
    assert numbers(kept.read(REPORT)) == numbers(whole(kind))


def test_a_training_goes_on_from_its_checkpoint_after_every_step() -> None:
    kept, calls = KeptInMemory(), 1
    price, stage, *_ = stages_of(REQUESTS["roar"])
    do("roar", price, kept)
    while calls < 10:
        try:
            do("roar", stage, kept, enough=lambda: True)
        except WorkInterrupted:
            calls += 1
        else:
            break
    # two steps on whole images, then two on empty ones; the end of a training needs no question
    assert calls == 3


@pytest.mark.parametrize(
    ("kind", "stage"), [("f_fidelity", "fine_tune"), ("f_fidelity", "measure/kernel_shap"), ("idsds", "patches")]
)
def test_what_is_kept_of_a_stage_is_not_done_again(kind: str, stage: str) -> None:
    kept = KeptInMemory()
    first: list[float] = []
    second: list[float] = []
    for one in stages_of(REQUESTS[kind]):
        if one.name != stage:
            do(kind, one, kept)
            continue
        # the fine-tuning keeps its price first, then a checkpoint; measuring keeps a part
        tunes = stage == "fine_tune"
        killed = KilledAt(kept, 2 if tunes else 1, before=False)
        with pytest.raises(Killed):
            do(kind, one, killed, progress=first.append, enough=lambda: tunes)  # noqa: B023 - called at once
        do(kind, one, kept, progress=second.append)
        break
    assert 0 < max(first) < min(second)


def test_a_process_that_goes_on_does_not_make_the_maps_again() -> None:
    kept = KeptInMemory()
    stages = stages_of(REQUESTS["roar"])
    for stage in stages:
        if stage.wave < 2:
            do("roar", stage, kept)
    run, told = opened("roar", kept), list[float]()
    (stage,) = [stage for stage in stages if stage.name == "retrain/0/random"]
    with pytest.raises(WorkInterrupted):
        run.run(stage, progress=told.append, enough=lambda: max(told) > 0)
    # only maps tell that nothing is done yet
    assert told[0] == 0
    told.clear()
    run.run(stage, progress=told.append, enough=lambda: False)
    assert min(told) > 0


class Killed(Exception):
    """The process ends here."""


class KilledAt:
    """Kept files of a process that ends right before or right after it keeps a file; a `KeptFiles`."""

    def __init__(self, kept: KeptInMemory, at: int, *, before: bool) -> None:
        self._kept, self._left, self._before = kept, at, before

    def read(self, name: str) -> bytes | None:
        return self._kept.read(name)

    def keep(self, name: str, data: bytes) -> None:
        self._left -= 1
        if not (self._left == 0 and self._before):
            self._kept.keep(name, data)
        if self._left == 0:
            raise Killed

    def forget(self, name: str) -> None:
        self._kept.forget(name)

    def uri(self, name: str) -> str:
        return self._kept.uri(name)


@KINDS
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_whenever_it_keeps_a_file_it_goes_on_to_the_same_report(kind: str, moment: str) -> None:
    """The first process ends at the first file that it keeps in a stage, the second one at its second, and so on."""
    kept, killed = KeptInMemory(), 0
    for stage in stages_of(REQUESTS[kind]):
        for at in range(1, 100):
            try:
                do(kind, stage, KilledAt(kept, at, before=moment == "before"))
            except Killed:
                killed += 1
            else:
                break
    assert killed > 3
    assert numbers(kept.read(REPORT)) == numbers(whole(kind))


@KINDS
def test_cancelled_in_mid_stage_the_front_door_goes_on_in_its_folder(kind: str, tmp_path: Path) -> None:
    fixed = {"images": TRAINING, "validation": measured(kind), "access": world.ACCESS, "out": tmp_path}
    fixed |= {"clock": lambda: 0.0}

    def until(end: float) -> Callable[[float], None]:
        def cancel(share: float) -> None:
            if share > end:
                raise AuditCancelled

        return cancel

    named = "roar_id" if kind == "roar" else "measurement_id"
    for end in (0.3, 0.6, 0.9):
        with pytest.raises(AuditCancelled):
            FRONT_DOORS[kind](REQUESTS[kind], progress=until(end), **fixed, **{named: "e"})
    shares: list[float] = []
    # the name of a measurement stays, and a budget, a name or tags change no number
    renamed = REQUESTS[kind].model_copy(update={"name": "again", "budget_seconds": 1e9})
    report = FRONT_DOORS[kind](renamed, progress=shares.append, **fixed, **{named: "another"})
    assert shares == sorted(shares)
    assert shares[-1] == 1
    expected = numbers(whole(kind))
    expected["request"] |= {"name": "again", "budget_seconds": 1e9}
    assert numbers(report.model_dump_json().encode()) == expected


@KINDS
def test_files_of_another_measurement_are_refused(kind: str, tmp_path: Path) -> None:
    first, *others = stages_of(REQUESTS[kind])
    kept = KeptFolder(tmp_path)
    do(kind, first, kept)
    for stage in (first, others[0], others[-1]):
        with pytest.raises(InvalidRequest, match="another measurement") as caught:
            do(kind, stage, kept, images=TRAINING[:-2])
        assert caught.value.field == "out"


@KINDS
def test_a_folder_of_something_else_is_refused(kind: str, tmp_path: Path) -> None:
    fixed = {"images": TRAINING, "validation": measured(kind), "access": world.ACCESS, "out": tmp_path}
    (tmp_path / "request.json").write_bytes(b'{"plan": {"kind": "study"}}')
    with pytest.raises(InvalidRequest, match="holds another measurement") as caught:
        FRONT_DOORS[kind](REQUESTS[kind], **fixed)
    assert caught.value.field == "out"
    (tmp_path / "request.json").write_bytes(b"{")
    with pytest.raises(InvalidRequest, match=r"request.json is damaged"):
        FRONT_DOORS[kind](REQUESTS[kind], **fixed)
    assert names(tmp_path) == {"request.json"}
    with pytest.raises(InvalidRequest, match="cannot be read") as no_folder:
        FRONT_DOORS[kind](REQUESTS[kind], **fixed | {"out": tmp_path / "request.json"})
    assert no_folder.value.field == "out"


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("roar", "scores/cells/1/random/signed-roar-0.0625.json"),
        ("roar", "weights/whole/1/0.0.safetensors"),
        ("f_fidelity", "values/kernel_shap.safetensors"),
        ("idsds", "patches.safetensors"),
    ],
)
def test_a_full_device_is_named_and_the_measurement_goes_on_afterwards(kind: str, file: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f"{path.name}.part").symlink_to("/dev/full")
    kept = KeptFolder(tmp_path)
    with pytest.raises(InvalidRequest, match=r"cannot be written \(No space left on device\); make room") as caught:
        do_all(kind, kept)
    assert caught.value.field == "out"
    do_all(kind, kept)
    assert numbers(kept.read(REPORT)) == numbers(whole(kind))


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("roar", "price.json"),
        ("roar", "scores/whole/0/0.0.json"),
        ("f_fidelity", "predictions.safetensors"),
        ("idsds", "values/random.safetensors"),
    ],
)
def test_a_damaged_file_is_named(kind: str, file: str) -> None:
    kept = KeptInMemory()
    do_all(kind, kept)
    kept.keep(file, b"12345678")
    with pytest.raises(InvalidRequest, match=f"the kept file {file} is damaged") as caught:
        do(kind, stages_of(REQUESTS[kind])[-1], kept)
    assert caught.value.field == "out"


@KINDS
def test_what_is_done_is_not_done_again(kind: str) -> None:
    """A stage that is done trains and passes nothing, whatever is asked in the middle of its work."""
    kept = KeptInMemory()
    stages = stages_of(REQUESTS[kind])
    do_all(kind, kept)

    def stop() -> bool:
        raise AssertionError

    for stage in stages:
        do(kind, stage, kept, enough=stop)
    assert numbers(kept.read(REPORT)) == numbers(whole(kind))


@KINDS
def test_an_explainer_that_cannot_run_ends_its_stages_at_once(kind: str, tmp_path: Path) -> None:
    stages = stages_of(REQUESTS[kind])
    kept = KeptFolder(tmp_path)
    for stage in stages:
        if stage.name.endswith("/grad_cam"):
            before, shares = names(tmp_path), list[float]()
            do(kind, stage, kept, progress=shares.append)
            assert names(tmp_path) == before
            assert shares == [1.0]
        elif stage.wave <= 1:
            do(kind, stage, kept)
    assert set(json.loads(whole(kind))["not_applicable"]) == {"grad_cam"}


def test_the_copies_without_each_patch_are_made_once_for_all_explainers() -> None:
    found = stages_of(REQUESTS["idsds"])
    (patches,) = [stage for stage in found if stage.name == "patches"]
    waves = {stage.name.split("/")[0]: stage.wave for stage in found}
    assert waves == {"fine_tune": 0, "patches": 1, "measure": 2, "report": 3}
    assert patches.weight == 0.4
    assert "patches" not in {stage.name for stage in stages_of(REQUESTS["f_fidelity"])}


@KINDS
def test_stages_have_names_of_their_own_and_the_report_comes_last(kind: str) -> None:
    found = stages_of(REQUESTS[kind])
    assert len({stage.name for stage in found}) == len(found)
    assert [stage.wave for stage in found] == sorted(stage.wave for stage in found)
    assert [stage.name for stage in found if stage.wave == found[-1].wave] == ["report"]


def _weights(plan: RoarPlan) -> Iterator[tuple[str, float]]:
    request = RoarRequest(model=world.model(), images=world.STORED, plan=plan)
    return ((stage.name, stage.weight) for stage in stages_of(request))


def test_the_weights_of_roars_stages_count_its_trainings() -> None:
    fields: dict[str, Any] = {"explainers": (InputXGradient(),), "training": world.training(), "repeats": 2}
    for how in (
        {"shares": (0.0, 0.1, 0.2), "rank_by": "both"},
        {"shares": (0.5,), "measures": ("roar", "kar")},
        {"shares": (0.5, 1.0), "explained_model": "given"},
    ):
        plan = RoarPlan.model_validate(fields | how)
        trainings = sum(weight for name, weight in _weights(plan) if name not in {"price", "report"})
        assert trainings == len(plan.cells(plan.explained))
    # a stage without a training takes next to no time, and still some
    plan = RoarPlan.model_validate(fields | {"shares": (0.5,), "explained_model": "given"})
    assert dict(_weights(plan))["untouched-0"] == 0.1
