"""Threads follow what a process may use, not what the host has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from auditcore.devices import control_groups
from auditcore.devices.cpu_share import threads_of_worker, usable_cpus


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(control_groups, "_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(control_groups, "_HIERARCHIES", tmp_path / "fs")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    return tmp_path


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("group", "files", "cpus"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2.0),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16.0),
        # the group of the worker has no limit, and the one around it has
        ("0::/a/b\n", {"a/cpu.max": "150000 100000\n", "a/b/cpu.max": "max 100000\n"}, 1.5),
        ("3:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ("3:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16.0),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 16.0),
        ("0::/\n", {}, 16.0),
    ],
)
def test_the_smallest_limit_counts(container: Path, group: str, files: dict[str, str], cpus: float) -> None:
    write(container / "cgroup", group)
    for name, text in files.items():
        write(container / "fs" / name, text)
    assert usable_cpus() == cpus


@pytest.mark.parametrize(("quota", "workers", "threads"), [(4, 1, 4), (4, 2, 2), (1.5, 1, 2), (0.2, 1, 1), (2, 3, 1)])
def test_workers_share_them(container: Path, quota: float, workers: int, threads: int) -> None:
    write(container / "cgroup", "0::/\n")
    write(container / "fs/cpu.max", f"{int(quota * 100_000)} 100000\n")
    assert threads_of_worker(workers) == threads
