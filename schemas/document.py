"""Arrow schemas of documents as they flow and rest.

The unit of flow is a RecordBatch of about 1,000 documents or 4 MB of text.
"""

from enum import IntFlag

import pyarrow as pa

# What a document is, in clean and scrubbed shards.
DOCUMENT = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # source name in the recipe
        pa.field("path", pa.string(), nullable=False),  # relative to the source root, '/'-separated
        pa.field("position", pa.int64(), nullable=False),  # byte offset or record number in path
        pa.field("url", pa.string()),
        pa.field("date", pa.string()),
        pa.field("language", pa.string()),  # BCP-47, None where there is nothing to identify
        pa.field("language_score", pa.float32()),
    ]
)

# What a reader yields: `language` is only set when the data has its own, `raw_bytes` is the size of
# the document's text before decoding, extraction and repair, `repairs` is a Repair bit mask.
RAW_DOCUMENT = pa.schema(
    [
        DOCUMENT.field("id"),
        DOCUMENT.field("text"),
        DOCUMENT.field("source"),
        DOCUMENT.field("path"),
        DOCUMENT.field("position"),
        DOCUMENT.field("url"),
        DOCUMENT.field("date"),
        DOCUMENT.field("language"),
        pa.field("raw_bytes", pa.int64(), nullable=False),
        pa.field("repairs", pa.uint8(), nullable=False),
    ]
)

# Input that never became a document, or that a stage could not process. `outcome` is "failed" for
# defects (`reason` names the kind, `message` the error) and "removed" for records that are sound
# but no documents (a WARC request, a sampled-out row). `raw` holds at most RAW_EXCERPT bytes.
REJECT = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("message", pa.string()),
        pa.field("raw_bytes", pa.int64(), nullable=False),
        pa.field("raw", pa.binary()),
    ]
)

RAW_EXCERPT = 4096  # bytes of a rejected record kept for looking at
BATCH_DOCUMENTS = 1000
BATCH_BYTES = 4 << 20


class Repair(IntFlag):
    """What was mended in a document's text while it was read."""

    INVALID_UTF8 = 1  # undecodable bytes became U+FFFD
    SURROGATE = 2  # lone surrogates became U+FFFD
    NUL = 4  # NUL characters were dropped
    NEWLINE = 8  # CRLF and CR became LF
    CHARSET = 16  # decoded from another charset than declared
