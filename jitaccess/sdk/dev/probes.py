"""Does this application refuse what it must, and let in what is good? What is sent to it, and how its answers are read.

A good token goes first and last: an application that lets nobody in refuses nothing. Then every forgery that needs no private key, every
token that a true issuer signed for something else, and one that ends while it is in use. 2xx is in; 4xx and a redirect are out; 5xx is
an application that breaks, which proves nothing.
"""

import http.client
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import urlencode, urlsplit

from joserfc.jwk import ECKey

from jitaccess.sdk.dev.forgeries import NO_TOKENS, Family, Forgery, Listener, forgeries, listener
from jitaccess.sdk.dev.issuer import DevIssuer
from jitaccess.sdk.door import AUTHORIZATION, TokenFrom
from jitaccess.sdk.wall import wall_time

ACCESS, PROXIED = "at+jwt", "jit-proxied+jwt"
KINDS = frozenset({ACCESS, PROXIED})
"""Of tokens that open something: one in Authorization, the other in X-Jit-Token, and never the other way round."""
TIMEOUT_S = 10.0
LOOK_EVERY_S = 0.2
MAX_BODY = 64 * 1024
LATER_S = 10 * 60
"""How far ahead a token that is not yet good begins: more than any clock may be wrong."""


class Verdict(StrEnum):
    """What came of one probe."""

    HELD = "held"
    LET_IN = "let_in"
    BROKE = "broke"
    SHUT = "shut"
    """The good token was refused."""


class NoAnswer(Exception):
    """The application cannot be asked; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One request: the values of the token's header, and what stands in the address."""

    what: str
    values: tuple[str, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Probe:
    """Requests that must all be refused for one reason."""

    name: str
    what: str
    advice: str
    sent: Sequence[Sent]


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one probe, in words."""

    name: str
    what: str
    verdict: Verdict
    seen: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """One application and how it is asked."""

    issuer: DevIssuer
    url: str
    audience: str
    target: str = "target"
    entitlement: str = "viewer"
    other_entitlement: bool = False
    """Whether the address is for this entitlement alone, so that another must be refused."""
    inputs: Mapping[str, str | int | bool] = field(default_factory=dict)
    method: str = "GET"
    token_from: TokenFrom = AUTHORIZATION
    status: bool = True
    """Whether the application looks at the status list; behind a proxy it does not."""
    within_s: float = 10.0

    def claims(self, **change: Any) -> dict[str, Any]:
        """Return the claims of a good token with some of them changed."""
        good = self.issuer.claims(
            audience=self.audience,
            target=self.target,
            entitlement=str(change.pop("entitlement", self.entitlement)),
            now=wall_time(),
            inputs=self.inputs,
            life_s=300 if self.token_from == AUTHORIZATION else 30,
        )
        return good | change

    @property
    def typ(self) -> str:
        """Return the kind of token that belongs into the header."""
        return ACCESS if self.token_from == AUTHORIZATION else PROXIED

    def minted(self, **change: Any) -> str:
        """Return a good token with some of its claims changed."""
        return self.issuer.mint(self.claims(**change), typ=self.typ)

    def sent(self, what: str, *tokens: str) -> Sent:
        """Return the request that carries these tokens."""
        bearer = "Bearer " if self.token_from == AUTHORIZATION else ""
        return Sent(what, tuple(f"{bearer}{token}" for token in tokens))

    def ask(self, sent: Sent) -> int | None:
        """Send one request; return its status, 0 for a connection that was closed, None for what HTTP cannot carry."""
        parts = urlsplit(self.url)
        query = "&".join(filter(None, (parts.query, urlencode(sent.query))))
        connection = _connect(self.url)
        try:
            connection.putrequest(self.method, f"{parts.path or '/'}{'?' + query if query else ''}")
            for value in sent.values:
                connection.putheader(self.token_from, value)
            connection.putheader("Content-Length", "0")
            connection.endheaders()
            with connection.getresponse() as response:
                response.read(MAX_BODY)
                return response.status
        except ConnectionRefusedError as error:
            raise NoAnswer(f"Nothing answers at {self.url}. Start your application first.") from error
        except ConnectionError:
            return 0
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"{self.url} gives no answer ({type(error).__name__}).") from error
        except ValueError:
            return None
        finally:
            connection.close()


def _connect(url: str) -> http.client.HTTPConnection:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise NoAnswer(f"{url} is no address.") from error
    if parts.scheme == "https" and parts.hostname:
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(parts.hostname, port, timeout=TIMEOUT_S, context=context)
    if parts.scheme == "http" and parts.hostname:
        return http.client.HTTPConnection(parts.hostname, port, timeout=TIMEOUT_S)
    raise NoAnswer("Give the full address of a page of your application, such as http://127.0.0.1:5000/orders.")


def run(trial: Trial) -> Iterator[Finding]:
    """Try everything, and give each finding as it comes; raises NoAnswer and NoIssuer."""
    first = _good(trial, "good", "a good token")
    yield first
    if first.verdict is not Verdict.HELD:
        return
    strangers = {"keys": [ECKey.generate_key("P-256", {"kid": "stranger"}).as_dict(private=False)]}
    with listener(strangers) as listening:
        for probe in probes(trial, listening):
            yield _tried(trial, probe)
        yield _fetched(listening)
    if trial.status:
        yield _ended_in_use(trial)
        yield _ended_unused(trial)
    yield _good(trial, "good_again", "a good token, after all of this")


# ---------------------------------------------------------------- what must be let in


def _good(trial: Trial, name: str, what: str) -> Finding:
    status = trial.ask(trial.sent(what, trial.minted()))
    if _is_in(status):
        return Finding(name, what, Verdict.HELD, f"let in ({status})")
    advice = (
        f"Refusals prove nothing while nobody gets in. Is the application set up for issuer {trial.issuer.issuer} and audience "
        f"{trial.audience}, does this address exist, and is the token in {trial.token_from} where it looks?"
    )
    return Finding(name, what, Verdict.SHUT, f"refused ({_word(status)})", advice)


# ---------------------------------------------------------------- what must be refused


def probes(trial: Trial, listening: Listener) -> Iterator[Probe]:
    """Give every probe of refusal."""
    yield Probe("none", "no token", "Guard this address: nothing asks for a token here.", [Sent("nothing")])
    yield Probe(
        "garbage",
        "something that is no token",
        "Accept nothing whose signature does not hold.",
        [*(trial.sent(repr(text[:10]), text) for text in NO_TOKENS), Sent("an empty header", ("",))],
    )
    yield from _for_others(trial)
    yield from _out_of_time(trial)
    good = trial.minted()
    yield from _forged(trial, forgeries(good, trial.issuer.key, listening.url))
    yield Probe(
        "in_the_address",
        "a good token in the address",
        "Read the token from its header alone: addresses stand in logs and histories (RFC 6750 section 2.3).",
        [Sent(name, query={name: good}) for name in ("access_token", "token", "jwt")],
    )


def _for_others(trial: Trial) -> Iterator[Probe]:
    def minted(**change: Any) -> str:
        return trial.minted(**change)

    others: tuple[object, ...] = ("https://other.example", f"{trial.audience}/x", trial.audience[:-1], "", [], None)
    yield Probe(
        "wrong_audience",
        "a token for another system",
        f"Compare `aud` with {trial.audience}, exactly.",
        [trial.sent(f"aud {other!r}", minted(aud=other)) for other in others],
    )
    issuers = ("https://evil.example", f"{trial.issuer.issuer}/", trial.issuer.issuer.upper(), "", None)
    yield Probe(
        "wrong_issuer",
        "a token of another issuer",
        "Compare `iss` with your broker's address, exactly.",
        [trial.sent(f"iss {other!r}", minted(iss=other)) for other in issuers],
    )
    if trial.other_entitlement:
        yield Probe(
            "wrong_entitlement",
            "a token for something else on this system",
            f"Let only tokens for the entitlement {trial.entitlement} do this; `requires(...)` of the SDK does.",
            [trial.sent("another entitlement", minted(entitlement="dev-something-else"))],
        )


def _out_of_time(trial: Trial) -> Iterator[Probe]:
    now = int(wall_time())

    def minted(**change: Any) -> str:
        return trial.minted(**change)

    past = {"iat": now - 600, "nbf": now - 600}
    yield Probe(
        "expired",
        "a token that has expired",
        "Refuse from `exp` on, without any grace: the access is over then.",
        [trial.sent(f"{ago} s ago", minted(**past, exp=now - ago)) for ago in (1, 300)]
        + [
            trial.sent(
                "no exp at all",
                trial.issuer.mint({k: v for k, v in trial.claims().items() if k != "exp"}, typ=trial.typ),
            )
        ],
    )
    later = now + LATER_S
    yield Probe(
        "not_yet_valid",
        "a token that is not yet valid",
        "Refuse before `nbf`, with a minute of grace at most.",
        [trial.sent("nbf in ten minutes", minted(iat=later, nbf=later, exp=later + 60))],
    )


FORGED: Mapping[Family, tuple[str, str]] = {
    Family.UNSIGNED: ("a token without a signature (alg none)", "Allow the algorithm ES256 and no other."),
    Family.PUBLIC_KEY_AS_SECRET: (
        "a token signed with your public key as a secret (HS256)",
        "Allow the algorithm ES256 and no other, whatever the header says.",
    ),
    Family.STRANGERS_KEY: (
        "a token that brings or names its own key (jwk, jku, x5u, kid)",
        "Take keys from the issuer's own set alone, by `kid`.",
    ),
    Family.CRITICAL: (
        "a token that asks for something not understood (crit)",
        "Refuse a token with `crit` (RFC 7515 section 4.1.11).",
    ),
    Family.OTHER_KIND: (
        "another kind of token of the same issuer (typ)",
        "Demand the one `typ` that belongs here, at+jwt or behind a proxy jit-proxied+jwt: an ID token or a logout token gives no access "
        "(RFC 8725 section 3.11).",
    ),
    Family.CUT: ("a token that is cut", "Accept nothing whose signature does not hold."),
    Family.TWIN: (
        "a good token written in another way",
        "Accept exactly three parts in base64url without padding and with no spare bit set: else one token has many texts, and a list of "
        "those already used is passed by.",
    ),
}


def _forged(trial: Trial, found: Sequence[Forgery]) -> Iterator[Probe]:
    for family, (what, advice) in FORGED.items():
        texts = [(one.name, one.text) for one in found if one.family is family and one.text == one.text.strip()]
        if family is Family.OTHER_KIND:
            texts += [
                (f"typ {typ}", trial.issuer.mint(trial.claims(), typ=typ))
                for typ in (*sorted(KINDS - {trial.typ}), "JWT", "logout+jwt", "statuslist+jwt")
            ]
        yield Probe(family.value, what, advice, [trial.sent(name, text) for name, text in texts])


def _tried(trial: Trial, probe: Probe) -> Finding:
    answers = [(sent.what, trial.ask(sent)) for sent in probe.sent]
    seen = sorted({_word(status) for _, status in answers if status is not None})
    inside = [what for what, status in answers if _is_in(status)]
    broken = [what for what, status in answers if status is not None and status >= 500 and status != 503]
    if inside:
        return Finding(probe.name, probe.what, Verdict.LET_IN, f"let in: {_list(inside)}", probe.advice)
    if broken:
        advice = "An error is no refusal: the next change may turn it into an answer. Refuse it in words."
        return Finding(probe.name, probe.what, Verdict.BROKE, f"breaks ({', '.join(seen)}): {_list(broken)}", advice)
    if not seen:
        raise NoAnswer(f"Nothing of {probe.what!r} could be sent.")
    return Finding(probe.name, probe.what, Verdict.HELD, f"refused ({', '.join(seen)})")


def _fetched(listening: Listener) -> Finding:
    what = "addresses that tokens named"
    if listening.asked:
        advice = "Never fetch what a token names (jku, x5u, kid): anybody can send your server anywhere."
        return Finding("fetched", what, Verdict.LET_IN, f"fetched {len(listening.asked)} times", advice)
    return Finding("fetched", what, Verdict.HELD, "never fetched")


def _ended_in_use(trial: Trial) -> Finding:
    """Let a token end while it is in use."""
    claims = trial.claims()
    sent = trial.sent("in use", trial.issuer.mint(claims, typ=trial.typ))
    what = "a token that ends while it is in use"
    if not _is_in(trial.ask(sent)):
        return Finding("ended_in_use", what, Verdict.SHUT, "refused before it ended", "Good tokens must be let in.")
    advice = "Fetch the status list anew every few seconds (its `ttl` is 5), and never use one past its `exp`."
    return _end(trial, claims, Probe("ended_in_use", what, advice, [sent]))


def _ended_unused(trial: Trial) -> Finding:
    """Let a token end before its first use."""
    claims = trial.claims()
    sent = trial.sent("never used", trial.issuer.mint(claims, typ=trial.typ))
    what = "a token whose access ended before its first use"
    advice = "Look every token up in its status list, or ask for introspection: else an end is noticed only at `exp`."
    return _end(trial, claims, Probe("ended", what, advice, [sent]))


def _end(trial: Trial, claims: Mapping[str, Any], probe: Probe) -> Finding:
    """End a token and see how long it still opens."""
    trial.issuer.end(claims)
    began = wall_time()
    while _is_in(trial.ask(probe.sent[0])):
        if wall_time() - began > trial.within_s:
            seen = f"still let in after {trial.within_s:.1f} s"
            return Finding(probe.name, probe.what, Verdict.LET_IN, seen, probe.advice)
        time.sleep(LOOK_EVERY_S)
    return Finding(probe.name, probe.what, Verdict.HELD, f"refused {wall_time() - began:.1f} s after its end")


def _is_in(status: int | None) -> bool:
    return status is not None and 200 <= status < 300


def _word(status: int | None) -> str:
    return "cannot be sent" if status is None else "connection closed" if status == 0 else str(status)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
