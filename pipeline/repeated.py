"""Ids that the data brings along may repeat; then results cannot be traced by id alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from filters.minhash import text_hashes

_EXAMPLES = 10


def repeated_ids(read: Callable[[], Iterator[pa.StringArray]]) -> dict[str, Any]:
    """How many documents have the id of an earlier one, and which ids (ten of them, sorted).

    Ids are told apart by 64 bits of their hash, 8 bytes a document in memory. `read` yields the ids
    shard by shard, and is called a second time for the examples.
    """
    hashes = np.concatenate([np.empty(0, np.uint64), *(_hashes(ids) for ids in read())])
    hashes.sort()
    again = hashes[1:][hashes[1:] == hashes[:-1]]
    if not len(again):
        return {"documents": 0, "examples": []}
    wanted = np.unique(again)[:_EXAMPLES]
    examples: set[str] = set()
    for ids in read():
        examples.update(ids.filter(pa.array(np.isin(_hashes(ids), wanted))).to_pylist())
    return {"documents": len(again), "examples": sorted(examples)}


def _hashes(ids: pa.StringArray) -> npt.NDArray[np.uint64]:
    first: npt.NDArray[np.uint64] = text_hashes(ids)[:, 0]
    return first
