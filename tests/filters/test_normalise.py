"""Normalisation changes line ends and NULs, says so, and touches nothing else."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.normalise import normalise
from schemas.document import Repair

texts = st.lists(
    st.text(st.one_of(st.sampled_from("\r\n\0a\u85e4"), st.characters(exclude_categories=["Cs"]))),
    max_size=8,
)


def reference(text: str) -> tuple[str, int]:
    repairs = (Repair.NUL if "\0" in text else 0) | (Repair.NEWLINE if "\r" in text else 0)
    return text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n"), repairs


@settings(max_examples=100, deadline=None)
@given(before=texts, rows=texts, after=texts)
def test_normalise_is_the_reference_on_any_slice(
    before: list[str], rows: list[str], after: list[str]
) -> None:
    array = pa.array(before + rows + after, pa.string()).slice(len(before), len(rows))
    text, repairs = normalise(array)
    assert text.type == pa.string()
    assert repairs.dtype == np.uint8
    assert list(zip(text.to_pylist(), repairs.tolist(), strict=True)) == [
        reference(row) for row in rows
    ]
    again, nothing = normalise(text)
    assert again.equals(text) and not nothing.any()


def test_a_clean_batch_is_not_copied() -> None:
    array = pa.array(["one\ntwo", "", "three"])
    text, repairs = normalise(array)
    assert text is array
    assert repairs.tolist() == [0, 0, 0]
