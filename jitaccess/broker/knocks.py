"""With what would somebody without access try to get past a reverse proxy? One list, for the test of a target and for those of the doors.

Each knock is one harmless GET that a door must refuse: under a name that is another's, with a story about itself in every spelling, with a
path that two servers read differently, with something that is no cookie and no token. What answers 2xx has let somebody in.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from jitaccess.domain.forwarded import APP_COOKIE, CONFLICTING, CONVENTION, HEADERS, spellings
from jitaccess.sdk.dev.forgeries import NO_TOKENS, unsigned

AMBIGUOUS = (
    "/a/../", "/a/./", "/a/%2e%2e/", "/a%2f", "/a%5c", "//", "/a//", "/a;b/", "/%00", "/%2", "/a%252f", "/%c0%ae%c0%ae/",
    "/.jitaccess/../", "/.jitaccess/x/../../", "/.jitaccess/%2e%2e/", "/.jitaccess;/", "/.well-known/../", "/favicon.ico/../",
)  # fmt: skip
"""Paths that two servers may read in two ways, and such as begin where many a configuration lets everybody in."""
NOBODY = "nobody.invalid"


@dataclass(frozen=True, slots=True)
class Knock:
    """One request. `what` is short and said to nobody but administrators."""

    what: str
    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict)


def names(origin: str, broker_origin: str, others: Sequence[str]) -> Iterator[Knock]:
    """Give knocks under names that are not this application's: nobody's, the broker's, another application's, and two at once."""
    own, broker = (urlsplit(address).netloc for address in (origin, broker_origin))
    foreign = dict.fromkeys([NOBODY, broker, *(urlsplit(other).netloc for other in others), "localhost", "127.0.0.1"])
    foreign.pop(own, None)
    for name in foreign:
        yield Knock(f"Host: {name}", headers={"Host": name})
        told = dict.fromkeys(spellings("X-Forwarded-Host"), own) | {"Forwarded": f"host={own}"}
        yield Knock(f"Host: {name}, X-Forwarded-Host: {own}", headers={"Host": name, **told})


def stories(origin: str, others: Sequence[str]) -> Iterator[Knock]:
    """Give knocks that tell of somebody who came in, of another request, or bring what is neither a cookie nor a token."""
    claimed = {spelling: "nobody" for name in HEADERS for spelling in spellings(name)}
    yield Knock("X-Jit-*", headers=claimed)
    yield Knock("Connection: X-Jit-*", headers=claimed | {"Connection": ", ".join(["keep-alive", *HEADERS])})
    rest = {"x-forwarded-method": "OPTIONS", "x-forwarded-uri": "/.jitaccess/", "x-forwarded-proto": "https"}
    for name in sorted({*CONVENTION, *CONFLICTING}):
        value = rest.get(
            name, urlsplit(others[0] if others else origin).netloc if name.endswith("host") else "/.jitaccess/"
        )
        yield Knock(name, headers=dict.fromkeys(spellings(name.title()), value))
    yield Knock("X-Forwarded-For: 127.0.0.1", headers=dict.fromkeys(("X-Forwarded-For", "X-Real-Ip"), "127.0.0.1"))
    yield Knock("Upgrade: websocket", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    forged = (*NO_TOKENS, unsigned({"sub": "nobody", "aud": origin}))
    for number, text in enumerate(forged):
        yield Knock(f"Cookie {number}", headers={"Cookie": f"{APP_COOKIE}={text}"})
        yield Knock(f"X-Jit-Token {number}", headers={"X-Jit-Token": text})
        yield Knock(f"Authorization {number}", headers={"Authorization": f"Bearer {text}"})


def paths() -> Iterator[Knock]:
    """Give knocks at paths that two servers may read in two ways."""
    for path in AMBIGUOUS:
        yield Knock(path, path)
