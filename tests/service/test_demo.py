"""What the demo is made of; the demo itself is `make demo`."""

from pathlib import Path

import pytest
from PIL import Image

from auditcore.contracts.plan import PresetPlan
from auditcore.contracts.policy import Condition, validate_policy
from auditcore.contracts.presets import resolve_plan
from auditcore_service.cli import demo
from auditcore_service.cli.outcome import CommandError


def test_its_photos_ship_in_wheels() -> None:
    names = []
    for package, path in demo.PHOTOS:
        with Image.open(demo.photo_path(package, path)) as photo:
            assert min(photo.size) >= 224
            names.append(Path(path).name)
    assert names == [
        "coffee.png",
        "chelsea.png",
        "rocket.jpg",
        "china.jpg",
        "astronaut.png",
        "motorcycle_left.png",
        "camera.png",
        "flower.jpg",
    ]


def test_its_photos_are_enough_for_its_conditions() -> None:
    policy = [Condition.model_validate(condition) for condition in demo.POLICY]
    assert len(set(demo.PHOTOS)) >= max(condition.min_images for condition in policy)


def test_a_missing_photo_names_the_extra() -> None:
    with pytest.raises(CommandError, match=r"auditcore\[demo\]"):
        demo.photo_path("skimage", "data/missing.png")


def test_its_policy_fits_its_plan() -> None:
    policy = tuple(Condition.model_validate(condition) for condition in demo.POLICY)
    validate_policy(policy, resolve_plan(PresetPlan(preset="quick", seed=7)))


def test_a_service_that_does_not_start_reports_why(tmp_path: Path) -> None:
    (tmp_path / "auditcore.db").mkdir()  # in the way
    with pytest.raises(CommandError, match="did not start; the end of its log"), demo._service(tmp_path):
        pytest.fail("it started")


def test_its_service_has_stopped_afterwards(tmp_path: Path) -> None:
    with demo._service(tmp_path) as url:
        assert url.startswith("http://127.0.0.1:")
        tied = [path.parent.name for path in Path("/proc").glob("[0-9]*/environ") if _holds(path, str(tmp_path))]
        assert tied
    left = [path.parent.name for path in Path("/proc").glob("[0-9]*/environ") if _holds(path, str(tmp_path))]
    assert left == []


def _holds(path: Path, text: str) -> bool:
    """Whether a process was started with `text` in its arguments or environment."""
    try:
        return text.encode() in path.read_bytes() + path.with_name("cmdline").read_bytes()
    except OSError:
        return False
