"""Cutting the input into slices, from the input alone: never from the number of workers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline import storage
from pipeline.read.compression import COMPRESSIONS
from schemas.errors import InputError
from schemas.recipe import Planning, Recipe, Source

KINDS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".txt": "text",
    ".md": "text",
    ".text": "text",
    ".wet": "warc",
    ".wat": "warc",
    ".warc": "warc",
    ".arc": "warc",
}
COMPRESSION_FACTOR = 4  # text bytes assumed per compressed byte where the file does not say
# Every stripe decompresses the whole file: stripes are larger than other tasks, and not too many.
STRIPE_TASKS = 2
MAX_STRIPES = 64
_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True, kw_only=True)
class InputSlice:
    """A part of one input file, readable on its own.

    `start` and `stop` are bytes of a plain line file, or row groups of a Parquet file; a `stop` of
    None is the end. Of a compressed line file, the slice is stripe `stripe` of `stripes`.
    """

    source: str
    path: str
    relative: str  # path below the source root, '/'-separated
    size: int
    etag: str
    kind: str  # jsonl, csv, tsv, parquet, arrow, text or warc
    compression: str  # gzip, zstd, bz2, xz, lz4 or ""
    start: int = 0
    stop: int | None = None
    stripe: int = 0
    stripes: int = 1
    text_bytes: int = 0  # estimated

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> InputSlice:
        return cls(**value)


def plan_inputs(recipe: Recipe) -> list[InputSlice]:
    """All input as slices, ordered by source (as in the recipe), path and place in the file.

    With `input.limit` files stay whole, so that the first documents can be read in file order.
    Raises InputError where a pattern matches nothing or a file's format is unknown.
    """
    files = [whole for source in recipe.sources for whole in _files(source)]
    if recipe.input.limit is not None:
        return files
    target = slice_bytes(files, recipe.planning)
    units = {source.name: source.text_unit for source in recipe.sources}
    return [part for whole in files for part in _split(whole, target, units[whole.source])]


def slice_bytes(slices: Iterable[InputSlice], planning: Planning) -> int:
    """Estimated text bytes that a task should have."""
    total = sum(one.text_bytes for one in slices)
    wanted = -(-total // planning.min_tasks)
    return min(planning.task_bytes, max(planning.min_task_bytes, wanted))


def group(slices: Sequence[InputSlice], recipe: Recipe) -> list[list[InputSlice]]:
    """Runs of consecutive slices, each the input of one task.

    Many small files share a task. With `input.limit`, all slices of a source are one group.
    """
    target = slice_bytes(slices, recipe.planning)
    groups: list[list[InputSlice]] = []
    size = 0
    for one in slices:
        if recipe.input.limit is not None:
            fits = bool(groups) and groups[-1][-1].source == one.source
        else:
            fits = bool(groups) and size + one.text_bytes <= target
        if fits:
            groups[-1].append(one)
            size += one.text_bytes
        else:
            groups.append([one])
            size = one.text_bytes
    return groups


def kind_of(path: str) -> tuple[str | None, str]:
    """Kind (None if unknown) and compression of a file by its name."""
    stem, extension = os.path.splitext(path.lower())
    compression = COMPRESSIONS.get(extension, "")
    if compression:
        extension = os.path.splitext(stem)[1]
    return KINDS.get(extension), compression


def _files(source: Source) -> list[InputSlice]:
    found: dict[str, storage.FileInfo] = {}
    for pattern in source.paths:
        matches = storage.glob(pattern)
        if not matches and storage.exists(pattern):  # a name that only looks like a pattern
            matches = [storage.stat(pattern)]
        if not matches:
            raise InputError(
                f"source {source.name!r}: no file matches {pattern!r}. Expected a file or a glob "
                "(`*` within a folder, `**` across folders), absolute or relative to the recipe."
            )
        found.update((info.path, info) for info in matches)
    root = _root(source)
    return [_whole(source, root, found[path]) for path in sorted(found)]


def _root(source: Source) -> str:
    if source.root is not None:
        return source.root.rstrip("/")
    folders = []
    for pattern in source.paths:
        wildcard = _WILDCARD.search(pattern)
        fixed = pattern[: wildcard.start()] if wildcard else pattern
        folders.append(fixed.rpartition("/")[0].split("/"))
    common = 0
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        common += 1
    return "/".join(folders[0][:common])


def _relative(source: Source, root: str, path: str) -> str:
    prefix = f"{root}/" if root else ""
    path = path.replace(os.sep, "/")
    if path.startswith(prefix):
        return path[len(prefix) :]
    raise InputError(
        f"source {source.name!r}: {path} is not below the root {root!r}; "
        "expected `root` to be a folder that holds all files of the source."
    )


def _whole(source: Source, root: str, info: storage.FileInfo) -> InputSlice:
    kind, compression = kind_of(info.path)
    if source.format != "auto":
        declared = "warc" if source.format == "wet" else source.format
        kind = kind if declared == "csv" and kind == "tsv" else declared
    if kind is None:
        raise InputError(
            f"source {source.name!r}: cannot tell the format of {info.path} by its name. Expected "
            f"one of {', '.join(sorted(KINDS))}, optionally followed by one of "
            f"{', '.join(sorted(COMPRESSIONS))}; or set `format` for the source."
        )
    return InputSlice(
        source=source.name,
        path=info.path,
        relative=_relative(source, root, info.path),
        size=info.size,
        etag=info.etag,
        kind=kind,
        compression=compression,
        text_bytes=_text_bytes(info, kind, compression, source),
    )


def _text_bytes(info: storage.FileInfo, kind: str, compression: str, source: Source) -> int:
    if kind == "parquet" and compression == "":
        from pipeline.read.columnar import row_group_bytes

        groups = row_group_bytes(info.path, source.fields.text)
        return sum(groups) if groups is not None else info.size
    if compression == "zstd" and info.size >= 6:
        import zstandard

        try:
            content = zstandard.frame_content_size(storage.read_range(info.path, 0, 18))
        except zstandard.ZstdError:
            content = -1
        # a first frame smaller than the file is one of many: its size says nothing
        if content >= info.size:
            return content
    return info.size * (COMPRESSION_FACTOR if compression else 1)


def _split(whole: InputSlice, target: int, text_unit: str) -> list[InputSlice]:
    parts = -(-whole.text_bytes // target)
    lines = whole.kind == "jsonl" or (whole.kind == "text" and text_unit == "line")
    if parts <= 1:
        return [whole]
    if lines and whole.compression:
        parts = min(-(-parts // STRIPE_TASKS), MAX_STRIPES)
        if parts == 1:
            return [whole]
        share = -(-whole.text_bytes // parts)
        return [_with(whole, stripe=i, stripes=parts, text_bytes=share) for i in range(parts)]
    if lines:
        cuts = [whole.size * i // parts for i in range(parts + 1)]
        return [
            _with(whole, start=a, stop=b, text_bytes=b - a)
            for a, b in zip(cuts[:-1], cuts[1:], strict=True)
        ]
    if whole.kind == "parquet" and not whole.compression:
        return _split_row_groups(whole, target)
    return [whole]


def _split_row_groups(whole: InputSlice, target: int) -> list[InputSlice]:
    from pipeline.read.columnar import row_group_bytes

    sizes = row_group_bytes(whole.path, None)
    if not sizes:
        return [whole]
    weight = sum(sizes)
    sizes = [size * whole.text_bytes // max(1, weight) for size in sizes]
    slices: list[InputSlice] = []
    start = size = 0
    for i, one in enumerate(sizes):
        if i > start and size + one > target:
            slices.append(_with(whole, start=start, stop=i, text_bytes=size))
            start, size = i, 0
        size += one
    slices.append(_with(whole, start=start, stop=len(sizes), text_bytes=size))
    return slices


def _with(whole: InputSlice, **changes: int) -> InputSlice:
    return InputSlice.from_json(whole.to_json() | changes)
