from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import hypothesis
import pytest
import torch

import shape_checks  # noqa: F401 - first: it checks what is imported after it
import digits
import once_a_run
import order_of_files
from auditcore.devices.allocator import give_back_freed_memory
from auditcore.models.classifier import Classifier

# CI must not fail on an example that is new; on a developer's machine, new examples are the point
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.register_profile("desk", deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "desk")


# a collection looks at every object, and those of imports and of the tests themselves stay until the end
gc.disable()


def pytest_configure(config: pytest.Config) -> None:
    once_a_run.begin(config)
    if config.getoption("numprocesses", default=None):
        # this process only hands out tests, and never collects any
        gc.enable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    # Triton complains at the end of a process about what was never collected
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order_of_files.slow_files_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> order_of_files.SlowFilesFirst | None:
    # pytest-xdist would start with the files of most tests, and end with those of few tests, which take longest
    config.option.loadscopereorder = False
    return order_of_files.SlowFilesFirst(config, log) if config.option.dist == "loadfile" else None


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # small tensors gain nothing from a second thread, and threads of busy processes wait for each other
    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def _give_back_memory() -> Iterator[None]:
    # rewritten models are in cycles, and commands that audit in this process have it keep what is freed
    yield
    gc.collect()
    give_back_freed_memory()


@pytest.fixture(scope="session")
def digit_classifier() -> Classifier:
    """The trained digits network, ready to audit."""
    return Classifier(digits.trained(), preprocessing=digits.PREPROCESSING)
