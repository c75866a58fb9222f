"""From batches of documents to ledger lines."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from schemas.ledger import Counts, Outcome

KEY_COLUMNS = ("source", "language", "reason")


def tally(
    counts: Counts,
    outcome: Outcome,
    documents: pa.RecordBatch,
    sizes: np.ndarray,
    reason: pa.Array | str = "",
    tokens: np.ndarray | None = None,
) -> None:
    """Count every row under its source, its language where the batch has one, and its reason.

    `sizes` and `tokens` are integers[n]. A null language counts as "".
    """
    n = documents.num_rows
    if n == 0:
        return
    names = documents.schema.names
    columns = [
        documents.column("source"),
        documents.column("language").fill_null("") if "language" in names else pa.array([""] * n),
        pa.array([reason] * n) if isinstance(reason, str) else reason,
    ]
    encoded = [column.dictionary_encode() for column in columns]
    group = np.zeros(n, dtype=np.int64)
    for column in encoded:
        group = group * max(len(column.dictionary), 1) + column.indices.to_numpy()
    ids = documents.column("id").to_pylist()
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    for rows in np.split(order, starts[1:]):
        first = int(rows[0])
        source, language, why = (column[first].as_py() for column in columns)
        counts.add(
            outcome,
            [ids[row] for row in rows],
            int(sizes[rows].sum()),
            source=source,
            language=language,
            reason=why,
            tokens=0 if tokens is None else int(tokens[rows].sum()),
        )
