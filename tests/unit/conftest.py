"""Which tests `make unit` leaves to `make test`."""

from __future__ import annotations

from pathlib import Path

import pytest

THOROUGH = frozenset(
    {
        "benchmarks/test_incremental.py",
        "benchmarks/test_layers.py",
        "checks/test_checks_against_naive.py",
        "checks/test_common_noise.py",
        "checks/test_insertion_deletion.py",
        "checks/test_map_checks.py",
        "checks/test_randomization_check.py",
        "checks/test_removal.py",
        "checks/test_road.py",
        "checks/test_ssim_sweep.py",
        "engine/test_allocator.py",
        "engine/test_audit.py",
        "engine/test_black_box.py",
        "engine/test_faster_modes.py",
        "engine/test_image_dependence.py",
        "engine/test_memory.py",
        "engine/test_passes.py",
        "engine/test_pictures.py",
        "engine/test_several_models.py",
        "engine/test_stopping.py",
        "explainers/test_deep_lift.py",
        "explainers/test_explainers.py",
        "explainers/test_information_bottleneck.py",
        "explainers/test_relevance_rules.py",
        "explainers/test_transformers.py",
        "metrics/test_cuda_kernels.py",
        "metrics/test_imputation.py",
        "metrics/test_ranking.py",
        "models/test_arithmetic.py",
        "models/test_canonical.py",
        "models/test_passages.py",
        "report/test_performance.py",
        "report/test_renderers.py",
        "report/test_verdict.py",
        "sources/servers/test_hostile_answers.py",
        "sources/test_object_stores.py",
    }
)
"""Files below this folder that take more than 5 s of one core, without their slow tests; the others take 150 s
together. Measured with the processor time of each test, on a busy machine."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(folder) and item.path.relative_to(folder).as_posix() in THOROUGH:
            item.add_marker(pytest.mark.thorough)
