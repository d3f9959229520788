"""Did the person authenticate strongly and lately enough for this act? The step-up challenge (RFC 9470).

A target that wants more than a valid token says what: the client then sends the person back to the broker with the same
`acr_values` and `max_age`, and every opening there takes a fresh passkey assertion. A token that says nothing of its sign-in is refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from jitaccess.sdk.refusal import TokenRefused
from jitaccess.sdk.tokens import VerifiedToken
from jitaccess.sdk.wall import wall_time

_AT_LEAST: Mapping[str, frozenset[str]] = {"phr": frozenset({"phr", "phrh"})}
"""A passkey that stays in its device (phrh) is a phishing-resistant one (phr) as well."""


@dataclass(frozen=True, slots=True)
class Level:
    """What one act wants: any of these `acr` values (none = any), and a sign-in not older than `max_age_s` (None = any)."""

    acr_values: tuple[str, ...] = ()
    max_age_s: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot stand in a header."""
        for value in self.acr_values:
            if not value or not value.isascii() or not value.isprintable() or set(value) & set(' "\\'):
                raise ValueError("an acr value is one word")
        if self.max_age_s is not None and self.max_age_s < 0:
            raise ValueError("max_age_s must not be negative")


class StepUpNeeded(TokenRefused):
    """The token is good, the sign-in behind it is not enough."""

    challenge: ClassVar[str] = "insufficient_user_authentication"

    def __init__(self, level: Level) -> None:
        super().__init__("insufficient_user_authentication", "Sign in again, with your passkey, to do this.")
        self.level = level


def require_level(token: VerifiedToken, level: Level, *, clock: Callable[[], float] = wall_time) -> None:
    """Return when the sign-in behind a verified token is strong and fresh enough; raises StepUpNeeded."""
    check_level(token.claims, level, clock=clock)


def check_level(claims: Mapping[str, Any], level: Level, *, clock: Callable[[], float] = wall_time) -> None:
    """Do the same for verified claims or an introspection answer with `active: true`."""
    if level.acr_values:
        accepted = {found for value in level.acr_values for found in _AT_LEAST.get(value, {value})}
        acr = claims.get("acr")
        if not isinstance(acr, str) or acr not in accepted:
            raise StepUpNeeded(level)
    if level.max_age_s is not None:
        at = claims.get("auth_time")
        if not isinstance(at, int) or isinstance(at, bool) or clock() - at > level.max_age_s:
            raise StepUpNeeded(level)


def www_authenticate(refused: TokenRefused, *, realm: str = "jitaccess") -> str:
    """Return the WWW-Authenticate header of a 401 for a refused token (RFC 6750 section 3, RFC 9470 section 3)."""
    parts = [f'realm="{_quotable(realm)}"']
    if refused.challenge:
        parts += [f'error="{refused.challenge}"', f'error_description="{_quotable(refused.message)}"']
    if isinstance(refused, StepUpNeeded):
        if refused.level.acr_values:
            parts.append(f'acr_values="{" ".join(refused.level.acr_values)}"')
        if refused.level.max_age_s is not None:
            parts.append(f'max_age="{refused.level.max_age_s}"')
    return f"Bearer {', '.join(parts)}"


def _quotable(text: str) -> str:
    """Return text with all that may not stand in a quoted value replaced (RFC 6750 section 3), however a check words its refusal."""
    return "".join(letter if " " <= letter <= "~" and letter not in '"\\' else "?" for letter in text)
