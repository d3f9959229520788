"""How does somebody sign out at an application and here at once? OpenID Connect RP-Initiated Logout 1.0.

An application sends the browser here with the ID token it got. The page asks; nothing ends before the person says so, because another
site must not sign anybody out (R16). Then this session ends, and with it every sign-in to an application that was made in it, as with our
own button (`broker.sign_ins`): those applications are told (back-channel logout). Nobody is sent to an address that is not registered for
that very client (R37, R46).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from jitaccess.broker.clients import ClientFacts, registered
from jitaccess.broker.context import Broker
from jitaccess.errors import JitError, Kind
from jitaccess.sdk import TokenRefused
from jitaccess.sdk.signed import Signed, text_of
from jitaccess.sdk.tokens import ID_TYPES
from jitaccess.store.db import View

MAX_STATE_CHARS = 1024


@dataclass(frozen=True, slots=True)
class LogoutAsked:
    """A valid request to sign out."""

    client: ClientFacts | None
    person_id: str | None
    """Of the ID token; None without one."""
    sid: str | None
    back: str | None
    """Where the browser goes afterwards, with its state; an address registered for the client."""

    @property
    def back_origin(self) -> str | None:
        """Return the origin of `back`."""
        if self.back is None:
            return None
        parts = urlsplit(self.back)
        return f"{parts.scheme}://{parts.netloc}"


def read_logout(view: View, broker: Broker, values: Mapping[str, str]) -> LogoutAsked:
    """Check a request to sign out; raises INVALID. An ID token that is over still tells which sign-in it was of (section 2)."""
    client_id, person_id, sid = values.get("client_id"), None, None
    hint = values.get("id_token_hint")
    if hint is not None:
        claims = _hinted(broker, hint)
        if client_id is not None and client_id != claims["aud"]:
            raise _wrong()
        client_id, person_id, sid = claims["aud"], claims["sub"], claims.get("sid")
    client = None if client_id is None else registered(view).get(client_id)
    if client_id is not None and client is None:
        raise _wrong()
    address = values.get("post_logout_redirect_uri")
    if address is not None and (client is None or address not in client.post_logout_redirect_uris):
        raise _wrong()
    state = values.get("state")
    if address is not None and state is not None:
        if len(state) > MAX_STATE_CHARS:
            raise _wrong()
        address = f"{address}{'&' if urlsplit(address).query else '?'}{urlencode({'state': state})}"
    return LogoutAsked(client, person_id, sid, address)


def _wrong() -> JitError:
    return JitError(Kind.INVALID, "The system that sent you here to sign out asked in a wrong way. Sign out below.")


def _hinted(broker: Broker, token: str) -> dict[str, str]:
    """Return aud, sub and sid of an ID token of ours, whatever its times."""
    try:
        claims = Signed(broker.keyring.token_keys().get).claims(token, ID_TYPES)
        if text_of(claims, "iss") != broker.site.origin:
            raise _wrong()
        found = {name: text_of(claims, name) for name in ("aud", "sub")}
        return found | ({"sid": text_of(claims, "sid")} if "sid" in claims else {})
    except TokenRefused as error:
        raise _wrong() from error
