"""What a sample on a card says about a whole audit."""

import pytest

from benchmarks.ideal import Passes
from benchmarks.memory import Peak
from benchmarks.ours import Run
from gpu.audit_samples import Sample, next_size, record, whole_of


def sample(images: int, seconds: float) -> Sample:
    return Sample(images, Run(seconds, Passes(10, 5), Peak(7, 3)))


def test_the_largest_size_that_fits_is_taken() -> None:
    assert next_size((4, 8, 16), seconds_an_image=2.0, left_s=17.0) == 8
    assert next_size((4, 8, 16), seconds_an_image=2.0, left_s=7.9) is None
    assert next_size((), seconds_an_image=2.0, left_s=100.0) is None


def test_a_part_of_the_images_is_scaled_and_marked_and_all_images_are_not() -> None:
    part = whole_of(sample(8, 4.0), 500, "cuda")
    assert (part.kind, part.seconds) == ("PROJECTION", pytest.approx(250.0))
    assert "8 images measured on cuda, scaled" in part.basis
    everything = whole_of(sample(500, 250.0), 500, "cuda")
    assert (everything.kind, everything.seconds) == ("MEASURED", 250.0)
    assert "scaled" not in everything.basis


def test_a_record_keeps_what_was_measured() -> None:
    measured = sample(8, 4.0)
    found = record(whole_of(measured, 500, "cuda"), measured)
    assert found["kind"] == "PROJECTION"
    assert found["sample_passes"] == {"forward": 10, "backward": 5}
    assert (found["sample"], found["sample_seconds"], found["peak_memory_bytes"]) == (8, 4.0, 7)
