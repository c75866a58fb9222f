"""Errors that Gristmill raises on purpose.

    GristmillError
    ├── RecipeError      (ValueError)  exit 2: the recipe or an option is wrong
    ├── InputError       (ValueError)  exit 3: no input, or a source that cannot be read at all
    ├── RunDirectoryError              exit 4: locked, foreign or made with another recipe
    ├── LedgerError                    exit 5: documents or bytes do not balance
    ├── IntegrityError                 exit 6: a checksum, schema or id is not what its record says
    └── TaskError                      exit 7: a task failed; the run can be resumed

Each message says what was expected, what came, where, and what to do.
"""


class GristmillError(Exception):
    """Base of all deliberate errors; `exit_code` is what the command line returns."""

    exit_code = 1


class RecipeError(GristmillError, ValueError):
    """The recipe or a command-line option is invalid; raised before any work starts."""

    exit_code = 2


class InputError(GristmillError, ValueError):
    """A source matches no file, or a file cannot be opened in its declared format."""

    exit_code = 3


class RunDirectoryError(GristmillError):
    """The run directory is in use, or belongs to another recipe or version."""

    exit_code = 4


class LedgerError(GristmillError):
    """Documents or bytes in are not equal to kept + removed + failed."""

    exit_code = 5


class IntegrityError(GristmillError):
    """A stored file differs from its record, or does not have the promised content."""

    exit_code = 6


class TaskError(GristmillError):
    """A task failed after its retries; committed tasks stay valid and a resume skips them."""

    exit_code = 7
