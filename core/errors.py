"""Errors that people read: what happened, and what to do about it."""


class AppError(Exception):
    """A failure with a sentence for the user and a hint on what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class Invalid(AppError):
    """The input is not allowed; the message names the file or field."""


class NotFound(AppError):
    """A dataset, image, run or submission that does not exist (any more)."""


class Forbidden(AppError):
    """The role of who asks does not allow it; the hint names those that do."""


class Conflict(AppError):
    """Somebody else changed it first, or it exists already."""


class Unavailable(AppError):
    """The database cannot be used at the moment: the same, sent again, may succeed."""


class Unwritable(Unavailable):
    """The disk is full, or may not be written: what is sent again succeeds once somebody has changed that."""


class WorkerFailed(AppError):
    """The model worker process died or could not answer."""


class Stopped(Exception):
    """Somebody asked for this work to stop, or no longer waits for it."""
