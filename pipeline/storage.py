"""Files on any Beam filesystem: local paths, and gs://, s3://, hdfs:// with Beam's extras.

Reading is always of raw bytes: decompression belongs to the readers. Writing is in one go from a
finished local file, since object stores have no rename and a writer closed by an exception would
publish half an object.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from schemas.errors import InputError

if TYPE_CHECKING:
    from apache_beam.io.filesystems import FileSystems

_SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*://")
_COPY_BYTES = 8 << 20
PARTIAL = ".partial-"  # how the names of small files begin that are still being written


@dataclass(frozen=True, order=True)
class FileInfo:
    """A file found: its full path, its size in bytes, and a token that changes with its content."""

    path: str
    size: int
    etag: str


def _beam() -> type[FileSystems]:
    # Imported when it is needed: it takes seconds, and local files do without.
    from apache_beam.io.filesystems import FileSystems

    found: type[FileSystems] = FileSystems
    return found


def is_remote(path: str) -> bool:
    """Whether the path names another filesystem than the local one."""
    return _SCHEME.match(path) is not None


def join(base: str, *parts: str) -> str:
    """Join path parts on the filesystem of `base`."""
    return _beam().join(base, *parts) if is_remote(base) else os.path.join(base, *parts)


def stat(path: str) -> FileInfo:
    """Size and change token of one file; InputError if there is none."""
    if is_remote(path):
        try:
            meta = _beam().match([path])[0].metadata_list
        except Exception as error:  # Beam wraps every client's errors differently
            raise InputError(f"cannot look up {path}: {error}") from error
        if not meta:
            raise InputError(f"no such file: {path}")
        return FileInfo(path, meta[0].size_in_bytes, str(meta[0].last_updated_in_seconds))
    try:
        found = os.stat(path)
    except OSError as error:
        raise InputError(f"cannot open {path}: {error.strerror}") from error
    return FileInfo(path, found.st_size, str(found.st_mtime_ns))


def exists(path: str) -> bool:
    """Whether there is a file or folder of this path."""
    return bool(_beam().exists(path)) if is_remote(path) else os.path.exists(path)


def glob(pattern: str) -> list[FileInfo]:
    """Files that match a glob, sorted by path; `**` crosses folders."""
    if is_remote(pattern):
        found = _beam().match([pattern])[0].metadata_list
        infos = [FileInfo(m.path, m.size_in_bytes, str(m.last_updated_in_seconds)) for m in found]
    else:
        import glob as globbing

        paths = globbing.glob(pattern, recursive=True)
        infos = [stat(p) for p in paths if os.path.isfile(p)]
    return sorted(infos)


def open_read(path: str) -> BinaryIO:
    """Open a file's raw bytes for reading; seekable."""
    if is_remote(path):
        opened = _beam().open(path, compression_type="uncompressed")
        return cast(BinaryIO, opened)
    return open(path, "rb")


def read_range(path: str, start: int, length: int) -> bytes:
    """`length` bytes from offset `start`, fewer at the end of the file."""
    with open_read(path) as file:
        file.seek(start)
        return file.read(length)


def read_bytes(path: str) -> bytes:
    """The whole file."""
    with open_read(path) as file:
        return file.read()


def write_bytes(path: str, data: bytes) -> None:
    """Write a small file in one go: readers see all of it or nothing."""
    if is_remote(path):
        with _beam().create(path, compression_type="uncompressed") as file:
            file.write(data)
        return
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=PARTIAL, dir=folder)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


def create_bytes(path: str, data: bytes) -> bool:
    """Write a small file unless there is one; whether it was written.

    Exact on a local filesystem. Object stores here cannot refuse, so there the last writer wins.
    """
    if is_remote(path):
        if exists(path):
            return False
        write_bytes(path, data)
        return True
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f"{PARTIAL}{os.getpid()}-{name}")
    write_bytes(temporary, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True


def publish(local: Path, path: str) -> None:
    """Move a finished local file to its place."""
    if is_remote(path):
        with (
            open(local, "rb") as source,
            _beam().create(path, compression_type="uncompressed") as target,
        ):
            shutil.copyfileobj(source, target, _COPY_BYTES)
        local.unlink()
        return
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    _flush(local)  # the record that will name the file must not outlive its content
    try:
        os.replace(local, path)
    except OSError:  # another filesystem: copy beside the target, then rename
        temporary = Path(f"{path}.{os.getpid()}.partial")
        shutil.copyfile(local, temporary)
        _flush(temporary)
        os.replace(temporary, path)
        local.unlink()


def _flush(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


@contextmanager
def local_copy(path: str) -> Iterator[Path]:
    """The file as a local path: itself when it is local, a temporary copy otherwise."""
    if not is_remote(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="gristmill-") as folder:
        copy = Path(folder) / os.path.basename(path)
        with open_read(path) as source, open(copy, "wb") as target:
            shutil.copyfileobj(source, target, _COPY_BYTES)
        yield copy


def remove(path: str) -> None:
    """Delete a file if it is there."""
    if is_remote(path):
        if _beam().exists(path):
            _beam().delete([path])
        return
    Path(path).unlink(missing_ok=True)
