"""What commands print, and what they return to the shell.

On a terminal people read tables and sentences. Elsewhere, or with --json, programs read one JSON
object a line on standard output: `{"event": ...}`, the last of them `"event": "result"` or
`"event": "error"`. Errors are one message on standard error in both cases.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, NoReturn, ParamSpec

import typer
from rich.console import Console
from rich.text import Text

from schemas.errors import GristmillError, TaskError

P = ParamSpec("P")

INTERRUPTED = 130  # what shells report for a command that Ctrl-C ended
_CONTROLS = {c: f"\\x{c:02x}" for c in (*range(0x20), 0x7F, *range(0x80, 0xA0))}
_CONTROLS |= {c: f"\\u{c:04x}" for c in (0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F))}
_CONTROLS |= {c: f"\\u{c:04x}" for c in range(0x2066, 0x206A)}

JsonOption = Annotated[
    bool | None,
    typer.Option(
        "--json/--no-json",
        help="JSON lines instead of text; the default when standard output is no terminal. "
        "Example: [cyan]--json | jq .event[/]",
        show_default=False,
    ),
]
QuietOption = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print errors only. Example: [cyan]--quiet[/]"),
]


class Output:
    """Where a command's results go: tables for people, JSON lines for programs, or nowhere."""

    def __init__(self, as_json: bool | None, *, quiet: bool = False) -> None:
        self.json = not sys.stdout.isatty() if as_json is None else as_json
        self.quiet = quiet
        # Widths of emoji differ between terminals; markup in a document's text is only text.
        self.console = Console(markup=False, highlight=False, emoji=False, quiet=quiet)

    def event(self, event: str, **fields: Any) -> None:
        """One JSON line, if this is for a program."""
        if self.json and not self.quiet:
            line = json.dumps({"event": event, **fields}, ensure_ascii=False)
            print(line, flush=True)

    def text(self, text: str = "", style: str | None = None) -> None:
        """A line for people; nothing when the output is JSON."""
        if not self.json:
            self.console.print(printable(text), style=style, soft_wrap=True)

    def working(self, text: str) -> AbstractContextManager[object]:
        """A spinner on the terminal while the block runs, for work without steps to count."""
        if self.json or self.quiet:
            return nullcontext()
        return Console(stderr=True, markup=False).status(Text(printable(text)))


def printable(text: str, *, newlines: bool = True) -> str:
    """The text with control and direction-changing characters escaped, so a terminal can show it.

    Line breaks stay with `newlines`, and are escaped too without.
    """
    table = {k: v for k, v in _CONTROLS.items() if not (newlines and k == 0x0A)}
    if not newlines:
        table[0x0A] = "\\n"
    # A lone surrogate cannot be written to a UTF-8 stream.
    return text.translate(table).encode("utf-8", "backslashreplace").decode()


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Turn exceptions into one clean message and an exit code.

    The code is that of the GristmillError, 130 after Ctrl-C, and 1 for what nobody foresaw, with
    the traceback in a file.
    """

    @functools.wraps(command)
    def inner(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except GristmillError as error:
            hint = ""
            if isinstance(error, TaskError) and "output" in kwargs:
                hint = (
                    f"\nWhat was done so far is kept: the same command resumes. The log is in "
                    f"{kwargs['output']}/log"
                )
            _fail(kwargs, error.exit_code, type(error).__name__, f"{error}{hint}")
        except KeyboardInterrupt:
            resumes = "output" in kwargs and "format" not in kwargs
            hint = "; the same command resumes where it was" if resumes else ""
            _fail(kwargs, INTERRUPTED, "Interrupted", f"interrupted{hint}")
        except BrokenPipeError:  # the reader, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except typer.Exit:
            raise
        except Exception as error:
            path = _keep_traceback(kwargs)
            _fail(
                kwargs,
                1,
                type(error).__name__,
                f"{type(error).__name__}: {error}\nThis is a defect in Gristmill. The traceback is "
                f"in {path}; please report it with the command that you ran.",
            )

    return inner


def quiet_libraries() -> None:
    """Keep what libraries log, warn and die of in their threads off the terminal.

    For a process that is the command, once: it changes what the whole process does.
    """
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())
    logging.captureWarnings(True)
    # Beam's threads raise when a run is stopped; what matters of it reaches the main thread.
    threading.excepthook = _log_thread_error


def _log_thread_error(died: threading.ExceptHookArgs) -> None:
    if died.exc_value is not None:
        name = died.thread.name if died.thread is not None else "a thread"
        error = (died.exc_type, died.exc_value, died.exc_traceback)
        logging.getLogger(__name__).error("%s ended with an error", name, exc_info=error)


def _fail(arguments: dict[str, Any], code: int, kind: str, message: str) -> NoReturn:
    output = Output(arguments.get("as_json"), quiet=bool(arguments.get("quiet")))
    output.event("error", kind=kind, message=message, exit_code=code)
    print(f"gristmill: {printable(message)}", file=sys.stderr)
    raise typer.Exit(code) from None


def _keep_traceback(arguments: dict[str, Any]) -> str:
    """Append the traceback to the run's log if there is one, otherwise to a temporary file."""
    for name in ("output", "directory"):
        folder = os.path.join(str(arguments.get(name)), "log")
        if os.path.isdir(folder):
            path = os.path.join(folder, "errors.log")
            break
    else:
        descriptor, path = tempfile.mkstemp(prefix="gristmill-error-", suffix=".txt")
        os.close(descriptor)
    with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(traceback.format_exc())
    return path
