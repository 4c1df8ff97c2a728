"""Processes that measure together: each does its task, and what goes wrong in one is told."""

from __future__ import annotations

from multiprocessing import Pipe, active_children
from multiprocessing.connection import Connection
from threading import Barrier, Thread

import pytest
import torch

from benchmarks.cases import cases
from gpu import workers
from gpu.context import Context
from gpu.throughput import CHECKS
from gpu.workers import Passes, Subject, Task, processes, together

EDDA = next(case for case in cases() if case.check == "edda")
SUBJECT = Subject("demo", "tf32", "cpu", tiny=True)


def answering(*answers: Passes | str) -> list[Connection]:
    """Connections behind each of which somebody gives one answer, once everybody was asked."""
    asked = Barrier(len(answers), timeout=5)

    def answer(end: Connection, said: Passes | str) -> None:
        # closed also if it was the only one that was asked, so that nobody waits for its answer
        with end:
            end.recv()
            asked.wait()
            end.send(said)

    ends = []
    for said in answers:
        near, far = Pipe()
        Thread(target=answer, args=(far, said), daemon=True).start()
        ends.append(near)
    return ends


def test_all_are_asked_at_once_and_passes_add_up() -> None:
    seconds, made = together(answering(Passes(7, 3), Passes(5, 2)), Task(EDDA, 1, 1))
    assert made == Passes(12, 5)
    assert seconds > 0


def test_what_goes_wrong_in_one_is_told() -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError: planted"):
        together(answering(Passes(1, 1), "ZeroDivisionError: planted"), Task(EDDA, 1, 1))


@pytest.mark.long
@pytest.mark.slow
def test_a_process_does_its_tasks_tells_its_faults_and_ends_with_the_block() -> None:
    with processes(SUBJECT, 2) as connections:
        _, alone = together(connections[:1], Task(EDDA, 2, 1))
        assert alone.forward > alone.backward > 0
        assert together(connections, Task(EDDA, 2, 1))[1] == alone + alone
        with pytest.raises(RuntimeError, match="Traceback"):
            together(connections[:1], Task(EDDA, 2, threads=0))
        for child in active_children():
            child.kill()
        with pytest.raises(RuntimeError, match="a process died"):
            together(connections[1:], Task(EDDA, 1, 1))
    assert not [one for one in active_children() if one.is_alive()]


@pytest.mark.long
def test_the_part_has_a_row_for_each_check_and_number_of_processes() -> None:
    said: list[str] = []
    found = workers.run(Context(torch.device("cpu"), seconds=600.0, tiny=True, say=said.append))
    (rows,) = [entry["rows"] for entry in found.values() if isinstance(entry, dict)]
    assert [(row["processes"], row["check"]) for row in rows] == [
        (count, check) for count in workers.TINY_COUNTS for check in CHECKS
    ]
    assert all(row["images"] == row["processes"] * workers.TINY_IMAGES for row in rows)
    assert all(row["engine_efficiency"] > 0 for row in rows)
