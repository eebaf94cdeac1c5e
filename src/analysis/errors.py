"""The one kind of error that a person is meant to read: one line that names the place and the cure."""


class RapportError(ValueError):
    """Bad input or a broken promise; the message is one line: where, what, cure."""
