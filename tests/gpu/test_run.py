"""The script runs parts in order, goes on after one that breaks, and always ends with a file that can be read."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from gpu import parts, run, wheels
from gpu.context import Context
from gpu.record import Record, plain

SCRIPT = Path(run.__file__)
CPU = torch.device("cpu")


def part(monkeypatch: pytest.MonkeyPatch, name: str, body: Any) -> None:
    module = types.ModuleType(f"gpu.{name}")
    module.run = body  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"gpu.{name}", module)


def breaks(_context: Context) -> dict[str, object]:
    message = "planted"
    raise ZeroDivisionError(message)


def test_a_part_that_breaks_does_not_stop_the_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[Context] = []
    part(monkeypatch, "parity", breaks)
    part(
        monkeypatch, "syncs", lambda context: told.append(context) or {"failures": ["one line"], "found": float("inf")}
    )
    said: list[str] = []
    path = tmp_path / "out.json"
    wrong = parts.run_parts(
        ["parity", "syncs"], CPU, Record(path), until=time.monotonic() + 100, tiny=True, say=said.append
    )
    assert wrong == ["parity: ZeroDivisionError: planted", "syncs: one line"]
    found = json.loads(path.read_text())
    assert "ZeroDivisionError: planted" in found["parity"]["error"]
    assert found["syncs"]["found"] == "inf"
    assert found["syncs"]["wall_s"] >= 0
    # the last part may take all that is left
    assert told[0].seconds == pytest.approx(100, abs=1)
    assert told[0].tiny
    assert any("planted" in line for line in said)


def test_time_is_divided_by_weight_and_no_part_starts_without_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[float] = []
    monkeypatch.setitem(parts.WEIGHTS, "parity", 6)
    monkeypatch.setitem(parts.WEIGHTS, "syncs", 4)
    part(monkeypatch, "parity", lambda context: told.append(context.seconds) or {})
    part(monkeypatch, "syncs", lambda context: told.append(context.seconds) or {})
    names = ["parity", "syncs"]
    record = Record(tmp_path / "out.json")
    assert parts.run_parts(names, CPU, record, until=time.monotonic() + 50, tiny=True, say=lambda _line: None) == []
    assert told == [pytest.approx(30, abs=1), pytest.approx(50, abs=1)]
    wrong = parts.run_parts(names, CPU, record, until=time.monotonic() + 1, tiny=True, say=lambda _line: None)
    assert wrong == ["parity: not begun, no time was left", "syncs: not begun, no time was left"]
    assert len(told) == 2


def test_subjects_are_those_with_a_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found: list[Context] = []
    part(monkeypatch, "parity", lambda context: found.append(context) or {})
    for only in ([], ["sweep", "edda"]):
        until = time.monotonic() + 50
        parts.run_parts(
            ["parity"], CPU, Record(tmp_path / "o"), until=until, tiny=True, say=lambda _line: None, only=only
        )
    everything, some = found
    subjects = ("check sweep", "check edda", "check road")
    assert [everything.wants(subject) for subject in subjects] == [True, True, True]
    assert [some.wants(subject) for subject in subjects] == [True, True, False]


def test_what_a_part_has_found_is_kept_until_it_returns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    seen: list[object] = []

    def measure(context: Context) -> dict[str, object]:
        context.keep({"rows": [1]})
        seen.append(json.loads(file.read_text())["parity"])
        return {"rows": [1, 2]}

    part(monkeypatch, "parity", measure)
    until = time.monotonic() + 50
    parts.run_parts(["parity"], CPU, Record(file), until=until, tiny=True, say=lambda _line: None)
    assert seen == [{"unfinished": True, "rows": [1]}]
    assert json.loads(file.read_text())["parity"]["rows"] == [1, 2]


def test_a_part_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(parts.WEIGHTS, "nowhere", 1)
    wrong = parts.run_parts(
        ["nowhere"], CPU, Record(tmp_path / "o"), until=time.monotonic() + 9, tiny=True, say=lambda _line: None
    )
    assert wrong == ["nowhere: RuntimeError: tests/gpu/nowhere.py does not exist, so the part nowhere cannot run"]


def test_a_record_can_contain_what_json_cannot() -> None:
    assert plain({1: (2.5, float("nan"), torch.device("cpu"), {"a"}), "b": None, "c": True}) == {
        "1": [2.5, "nan", "cpu", ["a"]],
        "b": None,
        "c": True,
    }


def test_wheels_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert wheels.missing() == ()
    assert wheels.install(tmp_path) is None
    monkeypatch.setattr(wheels, "NEEDS", ("no_such_module",))
    with pytest.raises(RuntimeError, match=r"cannot import no_such_module: .* holds no wheels"):
        wheels.install(tmp_path)


def test_wheels_are_versions_of_the_constraints() -> None:
    root = Path(__file__).parents[2]
    constraints = {line.partition(" ;")[0] for line in (root / "constraints.txt").read_text().splitlines()}
    listed = [line for line in SCRIPT.with_name("wheels.txt").read_text().splitlines() if not line.startswith("#")]
    assert listed
    assert set(listed) <= constraints


def test_the_script_explains_itself_and_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    told = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True, check=True)
    assert all(name in told.stdout for name in parts.WEIGHTS)
    out = ["--out", str(tmp_path / "out.json")]
    left = subprocess.run([sys.executable, SCRIPT, *out, "nothing"], capture_output=True, text=True, check=False)
    assert left.returncode == 2
    assert "no part is called nothing" in left.stdout


def test_a_run_ends_at_its_time_limit() -> None:
    script = (
        "import sys, time\n"
        f"sys.path.insert(0, {str(SCRIPT.parents[1])!r})\n"
        "from gpu.run import _end_in_time\n"
        "_end_in_time(time.monotonic() + 0.2, lambda: print('last words'), print)\n"
        "time.sleep(50)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=40)
    assert ended.returncode == run.OUT_OF_TIME, ended.stderr
    said, last = ended.stdout.splitlines()
    assert said.startswith("out of time")
    assert last == "last words"


def test_the_file_says_that_time_ran_out(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    script = (
        "import sys, time\n"
        f"sys.path.insert(0, {str(SCRIPT.parents[1])!r})\n"
        "from gpu import parts, run\n"
        "parts.run_parts = lambda *_, **__: time.sleep(100)\n"
        "run.main()\n"
    )
    arguments = ["--device", "cpu", "--tiny", "--minutes", "0.01", "--out", str(out), "memory"]
    ended = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == run.OUT_OF_TIME, ended.stdout + ended.stderr
    assert json.loads(out.read_text())["ended"] == "out of time"
