"""The ledger must notice every document and byte that goes missing or comes twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import LedgerError
from schemas.ledger import Counts, id_checksum

ids = st.lists(st.text(min_size=1, max_size=8), max_size=20, unique=True)


@given(ids, st.data())
def test_balances_however_documents_are_sorted(names: list[str], data: st.DataObject) -> None:
    outcomes = [data.draw(st.sampled_from(["kept", "removed", "failed"])) for _ in names]
    counts = Counts()
    counts.add("in", names, 10 * len(names), source="s")
    counts.add_delta("edit", -3 * len(names))
    for outcome in ("kept", "removed", "failed"):
        some = [n for n, o in zip(names, outcomes, strict=True) if o == outcome]
        counts.add(outcome, some, 7 * len(some), source="s", reason="r")  # type: ignore[arg-type]
    counts.check("test")


@pytest.mark.parametrize(
    ("kept", "size"),
    [
        (["a", "b"], 30),  # one lost
        (["a", "b", "c", "c"], 30),  # one twice
        (["a", "b", "d"], 30),  # one swapped
        (["a", "b", "c"], 29),  # a byte lost
    ],
)
def test_refuses_what_does_not_balance(kept: list[str], size: int) -> None:
    counts = Counts()
    counts.add("in", ["a", "b", "c"], 30)
    counts.add("kept", kept, size)
    with pytest.raises(LedgerError, match=r"stage x does not balance.*3 documents, 30 bytes"):
        counts.check("stage x")


def test_checksum_notices_a_triple() -> None:
    # XOR of hashes would take "a" three times for "a" once.
    assert id_checksum(["a", "a", "a"]) != id_checksum(["a"])
    assert id_checksum(["a", "b"]) == id_checksum(["b", "a"])


def test_round_trip_and_merge() -> None:
    counts = Counts()
    counts.add("in", ["a", "b"], 5, source="web", language="en")
    counts.add("removed", ["a"], 2, source="web", language="en", reason="short", tokens=3)
    counts.add_delta("pii", -4)
    again = Counts.from_json(counts.to_json())
    assert again == counts
    again.merge(counts)
    assert again.total("in").documents == 4
    assert again.deltas == {"pii": -8}
