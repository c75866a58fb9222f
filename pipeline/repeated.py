"""Ids that the data brings along may repeat; then results cannot be traced by id alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from filters.minhash import text_hashes

_EXAMPLES = 10


def repeated_ids(read: Callable[[], Iterator[pa.StringArray]]) -> dict[str, Any]:
    """How many documents have the id of an earlier one, and which ids (the first ten, sorted).

    `read` yields the ids shard by shard, and is called a second time if hashes repeat. In memory
    are 8 bytes a document.
    """
    hashes = np.concatenate([np.empty(0, np.uint64), *(text_hashes(ids)[:, 0] for ids in read())])
    hashes.sort()
    suspects = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    if not len(suspects):
        return {"documents": 0, "examples": []}
    seen: Counter[str] = Counter()
    for ids in read():
        seen.update(ids.filter(pa.array(np.isin(text_hashes(ids)[:, 0], suspects))).to_pylist())
    repeats = {name: times - 1 for name, times in seen.items() if times > 1}
    return {"documents": sum(repeats.values()), "examples": sorted(repeats)[:_EXAMPLES]}
