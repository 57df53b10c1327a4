"""The kinds of error that reach a user; the API maps each to one HTTP status in one place.

A message says what happened, why, and what to do. Below the engine errors stay what they are
(OSError, sqlite3.Error ...) and are translated once, with ``raise ... from error``.
"""


class SeomError(Exception):
    """Base of every error whose text is meant for the user."""


class InvalidParameter(SeomError):
    """The request itself is wrong: bad JSON, bad type, impossible combination."""


class Unauthorized(SeomError):
    """Credentials are missing or wrong."""


class Forbidden(SeomError):
    """The request is understood and refused."""


class NotFound(SeomError):
    """The named object does not exist."""


class Conflict(SeomError):
    """The request contradicts the present state: name taken, container running, image in use."""


class NotModified(SeomError):
    """The object is already in the wanted state (start of a running container)."""


class Unavailable(SeomError):
    """A needed service or resource cannot be reached or is exhausted; trying again may help."""


class NotSupported(SeomError):
    """Seom, or this host, does not have the capability asked for."""


class SystemFailure(SeomError):
    """The host failed: disk full, damaged file, refused system call."""


class Cancelled(SeomError):
    """The client went away or the daemon is stopping."""
