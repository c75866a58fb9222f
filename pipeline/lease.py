"""The run directory's lease: one run at a time, and a killed run does not block its own resume.

The lease is a small file that its holder renews. Another run takes it over when it has expired, or
at once when the holder was a process of this machine that is gone.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from types import TracebackType
from typing import Any, NoReturn

from pipeline import storage
from schemas.errors import RunDirectoryError

_RENEW_SECONDS = 5.0
_EXPIRE_SECONDS = 60.0
_SETTLE_LOCAL = 0.05
_SETTLE_REMOTE = 2.0


class Lease:
    """Context manager that holds `<directory>/run.lock`; RunDirectoryError if another run does."""

    def __init__(self, directory: str) -> None:
        self._path = storage.join(directory, "run.lock")
        self._directory = directory
        self._token = uuid.uuid4().hex
        self._lost = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def check(self) -> None:
        """Raise RunDirectoryError if another run has taken over meanwhile."""
        if self._lost or not self._is_ours():
            raise RunDirectoryError(
                f"{self._directory} was taken over by another run, since this one was not seen for "
                f"{_EXPIRE_SECONDS:.0f} s. Committed tasks are kept; leave it to the other run."
            )

    def __enter__(self) -> Lease:
        holder = self._read()
        if holder is not None:
            if not _abandoned(holder):
                self._refuse(holder)
            storage.remove(self._path)
        if not storage.create_bytes(self._path, self._content()):
            self._refuse(self._read() or {})
        # Who removed an abandoned lease a moment too late has removed this one: look again.
        time.sleep(_SETTLE_REMOTE if storage.is_remote(self._path) else _SETTLE_LOCAL)
        if not self._is_ours():
            self._refuse(self._read() or {})
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._is_ours():
            storage.remove(self._path)

    def _refuse(self, holder: dict[str, Any]) -> NoReturn:
        if not holder:
            raise RunDirectoryError(f"{self._directory} was taken by another run just now")
        raise RunDirectoryError(
            f"{self._directory} is in use by process {holder['pid']} on {holder['host']}, last "
            f"seen {time.time() - holder['renewed']:.0f} s ago. Wait for it or choose another "
            f"--output; if that process is gone, its lease ends "
            f"{_EXPIRE_SECONDS:.0f} s after it was last seen."
        )

    def _renew(self) -> None:
        while not self._stop.wait(_RENEW_SECONDS):
            try:
                if not self._is_ours():  # never write over another's lease
                    self._lost = True
                    return
                storage.write_bytes(self._path, self._content())
            except Exception as error:  # storage that fails now may work at the next beat
                logging.getLogger(__name__).warning("the lease was not renewed: %s", error)

    def _content(self) -> bytes:
        value = {
            "token": self._token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _process_start(os.getpid()),
            "renewed": time.time(),
        }
        return json.dumps(value).encode()

    def _is_ours(self) -> bool:
        holder = self._read()
        return holder is not None and holder.get("token") == self._token

    def _read(self) -> dict[str, Any] | None:
        """The lease as it stands; one that cannot be read counts as abandoned."""
        if not storage.exists(self._path):
            return None
        try:
            value: dict[str, Any] = json.loads(storage.read_bytes(self._path))
        except (ValueError, OSError):
            return {"token": "", "host": "", "pid": 0, "started": "", "renewed": 0.0}
        return value


def _abandoned(holder: dict[str, Any]) -> bool:
    if time.time() - holder["renewed"] > _EXPIRE_SECONDS:
        return True
    if holder["host"] != socket.gethostname():
        return False
    return bool(_process_start(holder["pid"]) != holder["started"])


def _process_start(pid: int) -> str | None:
    """Something that tells a process from a later one with the same id; None if there is none."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:  # no procfs, as on macOS: the process id alone must do
        return "alive"
    state, start = fields[0], fields[19]
    return None if state == "Z" else start
