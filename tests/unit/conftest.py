"""Which tests `make unit` leaves to `make test`."""

from __future__ import annotations

from pathlib import Path

import pytest

THOROUGH = frozenset(
    {
        "benchmarks/test_coverage.py",
        "benchmarks/test_incremental.py",
        "benchmarks/test_layers.py",
        "checks/test_agreement.py",
        "checks/test_automatic_intervals.py",
        "checks/test_checks_against_naive.py",
        "checks/test_common_noise.py",
        "checks/test_insertion_deletion.py",
        "checks/test_localization_check.py",
        "checks/test_map_checks.py",
        "checks/test_randomization_check.py",
        "checks/test_removal.py",
        "checks/test_road.py",
        "checks/test_ssim_sweep.py",
        "engine/test_allocator.py",
        "engine/test_any_shape.py",
        "engine/test_audit.py",
        "engine/test_black_box.py",
        "engine/test_compared_models.py",
        "engine/test_faster_modes.py",
        "engine/test_foreign_explainers.py",
        "engine/test_image_dependence.py",
        "engine/test_layers_named.py",
        "engine/test_memory.py",
        "engine/test_passes.py",
        "engine/test_pictures.py",
        "engine/test_precomputed.py",
        "engine/test_several_models.py",
        "engine/test_stopping.py",
        "engine/test_targets.py",
        "engine/test_tensors.py",
        "explainers/test_ablation.py",
        "explainers/test_attention_rollout.py",
        "explainers/test_attn_lrp.py",
        "explainers/test_captum.py",
        "explainers/test_contracts_and_methods.py",
        "explainers/test_deep_lift.py",
        "explainers/test_explainers.py",
        "explainers/test_information_bottleneck.py",
        "explainers/test_kernel_shap.py",
        "explainers/test_layer_statistics.py",
        "explainers/test_noise_tunnel.py",
        "explainers/test_relevance_rules.py",
        "explainers/test_served_explainer.py",
        "explainers/test_team_function.py",
        "explainers/test_transformers.py",
        "explainers/test_zennit.py",
        "metrics/test_cuda_kernels.py",
        "metrics/test_imputation.py",
        "metrics/test_performance.py",
        "metrics/test_ranking.py",
        "metrics/test_statistics.py",
        "models/test_arithmetic.py",
        "models/test_canonical.py",
        "models/test_checkpoints.py",
        "models/test_loaders.py",
        "models/test_mar.py",
        "models/test_onnx_conversion.py",
        "models/test_onnx_external_files.py",
        "models/test_passages.py",
        "models/test_probing.py",
        "models/test_programs.py",
        "models/test_sharded_weights.py",
        "report/test_performance.py",
        "report/test_renderers.py",
        "report/test_slices.py",
        "report/test_stopping.py",
        "report/test_verdict.py",
        "sources/registries/test_huggingface.py",
        "sources/registries/test_mlflow.py",
        "sources/servers/test_hostile_answers.py",
        "sources/servers/test_transport.py",
        "sources/test_object_stores.py",
        "synthetic/test_dataset.py",
        "synthetic/test_guide.py",
        "synthetic/test_learning.py",
        "synthetic/test_objects_on_scenes.py",
        "synthetic/test_shortcut.py",
        "test_examples.py",
        "test_packaging.py",
        "test_toy_check.py",
        "test_toy_explainer.py",
    }
)
"""Files below this folder that take more than 3 s of one core, without their slow tests; the others take 110 s
together."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    # not even imported: some of them load libraries that take seconds
    return True if "not thorough" in config.option.markexpr and _is_thorough(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _is_thorough(item.path):
            item.add_marker(pytest.mark.thorough)


def _is_thorough(path: Path) -> bool:
    folder = Path(__file__).parent
    return path.is_relative_to(folder) and path.relative_to(folder).as_posix() in THOROUGH
