"""Why is a token refused? One error with a stable code; the door that shows it adds nothing."""

from typing import ClassVar


class TokenRefused(Exception):
    """A token that must not be accepted.

    `code` is stable and machine-readable (`expired`, `wrong_audience`, `inactive`, ...); the message is one plain sentence
    and never holds the token.
    """

    challenge: ClassVar[str] = "invalid_token"
    """The error of a WWW-Authenticate header (RFC 6750 section 3.1); empty where the header names none."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
