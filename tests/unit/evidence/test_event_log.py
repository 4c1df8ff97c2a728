"""A chain of hashes: any change of any entry is found."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from auditcore.contracts.canonical_json import digest_of
from auditcore.evidence.event_log import START, LogEntry, LogHead, chained, verify_chain

LENGTH = 5


def chain(length: int = LENGTH, *, tenant: str = "default") -> list[LogEntry]:
    entries: list[LogEntry] = []
    for number in range(1, length + 1):
        entries.append(
            chained(
                tenant=tenant,
                sequence=number,
                time=f"2026-11-27T10:00:0{number}.000Z",
                principal=None if number % 2 else "ada",
                kind="state",
                subject="a",
                data={"state": "running", "images": number},
                previous=entries[-1].hash if entries else START,
            )
        )
    return entries


def head_of(entries: list[LogEntry]) -> LogHead:
    last = entries[-1]
    return LogHead(tenant=last.tenant, sequence=last.sequence, hash=last.hash, time="2026-11-27T11:00:00.000Z")


def places(entries: list[LogEntry], head: LogHead | None = None) -> set[str]:
    return {finding.where for finding in verify_chain(entries, head)}


def test_a_chain_holds_and_so_does_an_empty_one() -> None:
    assert places(chain(), head_of(chain())) == places(chain(), head_of(chain(3))) == places([]) == set()
    assert places([], LogHead(tenant="default", sequence=0, hash=START, time="")) == set()


def test_the_hash_is_of_everything_else() -> None:
    entry = chain(1)[0]
    fields = entry.model_dump(mode="json")
    assert fields.pop("hash") == digest_of(fields)
    assert set(fields) == {"tenant", "sequence", "time", "principal", "kind", "subject", "data", "previous"}


CHANGES: dict[str, Any] = {
    "tenant": "other",
    "sequence": 77,
    "time": "2026-11-27T09:00:00.000Z",
    "principal": "eve",
    "kind": "cancel",
    "subject": "b",
    "data": {"state": "succeeded"},
    "previous": digest_of([]),
    "hash": digest_of([]),
}


@pytest.mark.parametrize("field", CHANGES)
@pytest.mark.parametrize("place", range(LENGTH))
def test_a_changed_field_is_found_where_it_is(field: str, place: int) -> None:
    entries = chain()
    entries[place] = entries[place].model_copy(update={field: CHANGES[field]})
    found = places(entries)
    assert any(where.startswith(f"entry {entries[place].sequence}") for where in found), found


@pytest.mark.parametrize("place", range(LENGTH - 1))
def test_a_rehashed_entry_is_found_at_the_next_one(place: int) -> None:
    entries = chain()
    fields = entries[place].model_dump(mode="json", exclude={"hash"}) | {"principal": "eve"}
    entries[place] = LogEntry(**fields, hash=digest_of(fields))
    assert places(entries) == {f"entry {place + 2}.previous"}


@hypothesis.given(strategies.permutations(range(LENGTH)), strategies.integers(0, LENGTH))
def test_any_other_order_or_gap_is_found(order: list[int], kept: int) -> None:
    entries = chain()
    taken = [entries[number] for number in order[:kept]]
    assert bool(places(taken)) == (taken != entries[:kept])


def test_only_a_head_shows_that_the_end_is_missing() -> None:
    entries = chain()
    assert places(entries[:3]) == set()
    assert places(entries[:3], head_of(entries)) == places([], head_of(entries)) == {"log"}


def test_only_a_head_shows_that_the_whole_end_was_written_again() -> None:
    entries = chain()
    again = chain(3)
    for number in (4, 5):
        again.append(
            chained(
                tenant="default", sequence=number, time="2026-11-27T12:00:00.000Z", principal=None, kind="state",
                subject="a", data={}, previous=again[-1].hash,
            )
        )  # fmt: skip
    assert places(again) == set()
    assert places(again, head_of(entries)) == {"entry 5.hash"}


@pytest.mark.parametrize(("changes", "where"), [({"sequence": 4}, "entry 4"), ({"tenant": "other"}, "entry 3.tenant")])
def test_entries_that_were_left_out_or_mixed_in_before_hashing_are_found(changes: dict[str, Any], where: str) -> None:
    entries = chain(2)
    fields = chain(3)[2].model_dump(exclude={"hash"})
    entries.append(chained(**fields | changes))
    assert places(entries) == {where}


def test_the_log_of_another_tenant_is_not_this_one() -> None:
    assert places(chain(tenant="other"), head_of(chain())) == {"log.tenant", "entry 5.hash"}


def test_what_has_no_canonical_form_is_found() -> None:
    entries = chain()
    entries[1] = entries[1].model_copy(update={"data": {"images": 2**60}})
    assert "entry 2" in places(entries)
