"""May this target get a code for this person's access? The authorization endpoint's rules, without its pages.

A request is read strictly before Authlib sees it: nothing is ever redirected to an address that is not registered, errors included (R37).
Opening takes a fresh passkey assertion bound to the grant and to this very request, so a stolen cookie opens nothing (R15), and
`prompt=login` and `max_age` hold by themselves (R38). What `acr_values` or the right's own rule asks for is met by the
passkey that signs, whichever the session was opened with: who has one that is strong enough opens with it, and only who has none is sent
back with an error (RFC 9470 section 5).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast
from urllib.parse import urlencode

from authlib.oauth2 import OAuth2Error
from sqlalchemy import select
from werkzeug.datastructures import MultiDict

from jitaccess.broker.context import Broker
from jitaccess.broker.issue import covered_approvals, open_in
from jitaccess.broker.revoke import LIVE_GRANTS
from jitaccess.broker.schedule import begun, open_until
from jitaccess.broker.verify import audience_of
from jitaccess.domain.lifecycle import GrantState
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity import passkeys
from jitaccess.identity.passkeys import Ceremony, Response
from jitaccess.identity.people import credential_class
from jitaccess.identity.sessions import Current
from jitaccess.oidc.clients import OAuthClient
from jitaccess.oidc.provider import (
    ACR_HARDWARE,
    ACR_SYNCED,
    GrantUser,
    Provider,
    StoredRequest,
    acr_of,
    sign_in_of,
)
from jitaccess.policy.evaluate import CredentialClass, Terms
from jitaccess.proof.canonical import JsonValue
from jitaccess.store.db import View
from jitaccess.store.tables import AccessRequest, Account, Challenge, Grant, Passkey

MAX_PARAMETERS = 50
MAX_REQUEST_CHARS = 8 * 1024
"""Of all names and values together: as much as the page can carry to the ceremony and back."""
DETAILS = "authorization_details"
MAX_PARAMETER_CHARS = 1024
_KEPT = (
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "acr_values",
    "authorization_details",
)
_USED = frozenset({*_KEPT, "prompt", "max_age", "resource", "response_mode"})
"""What is read strictly. Whatever else an application sends is its own affair: RFC 6749 section 3.1 has it ignored."""
_PROMPTS = frozenset({"none", "login", "consent", "select_account"})
_DETAIL_KEYS = frozenset({"type", "target", "entitlement"})
_UNSUPPORTED = {"request": "request_not_supported", "request_uri": "request_uri_not_supported"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A valid authorization request of a registered client."""

    client: OAuthClient
    parameters: Mapping[str, str]
    login_hint: str | None
    entitlement: str | None
    """The one that the client wants, where it names one in `authorization_details`."""


@dataclass(frozen=True, slots=True)
class Strength:
    """With which of the person's passkeys a request can be answered."""

    fitting: Sequence[Passkey]
    """Of the account that is signed in: the session's own where it is strong enough, else every other one that is."""
    step_up: bool
    """The session's own is not strong enough."""
    elsewhere: Sequence[str] = ()
    """Where the account has none: names of other accounts of the person that have one."""


@dataclass(frozen=True, slots=True)
class Back:
    """Where the browser goes: an address that is registered for the client."""

    location: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One live grant that could be opened at this target."""

    grant: Grant
    request: AccessRequest


def read_request(
    view: View, broker: Broker, arguments: MultiDict[str, str], *, current: Current | None = None
) -> Asked | Back:
    """Check an authorization request; `current` is the session from which it comes, where there is one: `prompt=none` asks for it.

    1 bounded; what is used is printable and stands once, what is not used may be as it likes · 2 the client and its address, exactly; until
    here an error stays on our page · 3 the rest; errors go back to the client with `state` and `iss`. Raises INVALID for 1 and 2.
    """
    sent = list(arguments.items(multi=True))
    large = len(sent) > MAX_PARAMETERS or sum(len(name) + len(value) for name, value in sent) > MAX_REQUEST_CHARS
    values = {name: found[0] for name, found in arguments.lists() if found[0]}
    twice = [name for name, found in arguments.lists() if name in _USED and len(found) != 1]
    odd = [name for name in _USED & values.keys() if not _plain(name, values[name])]
    if large or twice or odd:  # 1
        raise JitError(Kind.INVALID, "The system that sent you here asked in a wrong way. Tell its operators.")
    client = Provider(broker, view).query_client(values.get("client_id", ""))
    if client is None:  # 2
        raise JitError(Kind.INVALID, "The system that sent you here is not registered. Tell its operators.")
    address = values.get("redirect_uri", "")
    if not client.check_redirect_uri(address):
        raise JitError(Kind.INVALID, "The system that sent you here gave an address that is not registered for it.")
    for name, error in _UNSUPPORTED.items():  # 3
        if name in values:
            return _back(broker, address, values, error, f"{name} is not supported.")
    found = _not_possible(view, broker, client, values)
    if found is not None:
        return _back(broker, address, values, *found)
    parameters = {name: values[name] for name in _KEPT if name in values}
    try:
        entitlement = named_entitlement(values[DETAILS], client.facts.target) if DETAILS in values else None
    except (ValueError, RecursionError):
        return _back(broker, address, values, "invalid_authorization_details", "Only one entry of type jit_access.")
    try:
        Provider(broker, view).get_consent_grant(StoredRequest(broker.site.origin, parameters))
    except OAuth2Error as error:
        return _back(broker, address, values, str(error.error), str(error.description or ""))
    if "none" in values.get("prompt", "").split():
        if current is None:
            return _back(broker, address, values, "login_required", "Nobody is signed in.")
        return _back(broker, address, values, "interaction_required", "Opening access always takes a passkey.")
    hints = arguments.getlist("login_hint")
    return Asked(client, parameters, hints[0] if len(hints) == 1 else None, entitlement)


def _not_possible(view: View, broker: Broker, client: OAuthClient, values: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the error and its description for what is asked for and not to be had, or None."""
    if values.get("response_mode", "query") != "query":
        return "invalid_request", "Only response_mode=query is supported."
    if "max_age" in values and not (values["max_age"].isascii() and values["max_age"].isdigit()):
        return "invalid_request", "max_age must be whole seconds."
    prompts = values.get("prompt", "").split()
    if not _PROMPTS.issuperset(
        prompts
    ):  # Initiating User Registration 1.0 section 4.1: what is not in prompt_values_supported
        return "invalid_request", "prompt asks for something that is not supported."
    if "none" in prompts and len(prompts) > 1:
        return "invalid_request", "prompt=none cannot stand with another."
    if "resource" in values and values["resource"] != audience_of(view, broker, client.facts.target):
        return "invalid_target", "This client's tokens are for another resource."  # RFC 8707 section 2
    return None


def unmet(acr_values: str | None, acr: str) -> bool:
    """Say whether an authentication is weaker than asked for; values that are not ours are a wish and no more.

    RFC 9470 section 5: then the answer is the error unmet_authentication_requirements.
    """
    wanted = {ACR_HARDWARE, ACR_SYNCED} & set((acr_values or "").split())
    meets = {ACR_HARDWARE, ACR_SYNCED} if acr == ACR_HARDWARE else {acr}
    return bool(wanted) and not wanted & meets


def strength(view: View, asked: Asked, current: Current, choice: Choice | None = None) -> Strength:
    """Say with which passkeys a person can answer what a request asks of the sign-in and, where an access is chosen, what its rule does."""
    wanted = asked.parameters.get("acr_values")
    least = CredentialClass.ANY if choice is None else Terms.from_document(choice.request.terms).credential

    def fits(key: Passkey) -> bool:
        return not unmet(wanted, acr_of(key)) and credential_class(key) >= least

    if fits(current.passkey):
        return Strength([current.passkey], step_up=False)
    strong = [key for key in passkeys.usable_of(view, current.person.id) if fits(key)]
    here = [key for key in strong if key.account_id == current.account.id]
    elsewhere = {} if here else {key.account_id: view.require(Account, key.account_id).label for key in strong}
    return Strength(here, step_up=True, elsewhere=[*elsewhere.values()])


def refusal(broker: Broker, asked: Asked) -> Back:
    """Return where somebody goes back to who has no passkey that is strong enough (RFC 9470 section 5)."""
    return _back(
        broker,
        asked.parameters["redirect_uri"],
        asked.parameters,
        "unmet_authentication_requirements",
        "This person has no passkey as strong as asked for: one that stays in its device.",
    )


def _plain(name: str, value: str) -> bool:
    """Say whether a value that is used can stand anywhere; what is JSON, or may be, keeps its quotes."""
    quotes = name in (DETAILS, "state", "nonce") or not set(value) & set('"\\')
    return len(value) <= MAX_PARAMETER_CHARS and value.isascii() and value.isprintable() and quotes


def named_entitlement(details: str, target: str) -> str | None:
    """Return the entitlement that `authorization_details` names (RFC 9396); raises ValueError for anything else than ours."""
    found = json.loads(details)
    match found:
        case [{"type": "jit_access", **rest}] if rest.keys() <= _DETAIL_KEYS and rest.get("target", target) == target:
            entitlement = rest.get("entitlement")
            if entitlement is None or (isinstance(entitlement, str) and 0 < len(entitlement) <= 64):
                return entitlement
    raise ValueError("not an authorization detail of this kind")


def _back(broker: Broker, address: str, values: Mapping[str, str], error: str, description: str) -> Back:
    """Send an error to a registered address (RFC 6749 section 4.1.2.1, RFC 9207)."""
    answer = {"error": error, "error_description": description, "iss": broker.site.origin}
    if "state" in values:
        answer["state"] = values["state"]
    return Back(f"{address}{'&' if '?' in address else '?'}{urlencode(answer)}")


def choices(view: View, asked: Asked, current: Current) -> list[Choice]:
    """Return the person's live grants for the client's target: the one of `login_hint` first, then the newest."""
    grants = view.all(
        select(Grant)
        .where(
            Grant.person_id == current.person.id,
            Grant.target == asked.client.facts.target,
            Grant.state.in_(LIVE_GRANTS),
        )
        .order_by(Grant.created_at.desc())
    )
    wanted = [grant for grant in grants if asked.entitlement in (None, grant.entitlement)]
    live = [grant for grant in wanted if _open_now(view, grant)]
    live.sort(key=lambda grant: grant.id != asked.login_hint)
    return [Choice(grant, view.require(AccessRequest, grant.request_id)) for grant in live]


def _open_now(view: View, grant: Grant) -> bool:
    if grant.state == GrantState.SCHEDULED.value:
        return begun(grant, view.now) and view.now < open_until(grant)
    until = grant.closes_at or grant.ends_at
    return until is not None and view.now < until


def begin_opening(broker: Broker, current: Current, asked: Asked, grant_id: str) -> Ceremony | Refused:
    """Ask the person's passkey to open one grant for one request; the request is kept with the challenge, not with the browser."""
    nothing = Refused(Kind.NOT_FOUND, "no_such_grant", "There is no such access of yours.")
    with broker.begin(current.actor) as tx:
        live = {choice.grant.id: choice for choice in choices(tx, asked, current)}
        if grant_id not in live:
            return nothing
        fitting = strength(tx, asked, current, live[grant_id]).fitting
        if not fitting:
            return Refused(
                Kind.FORBIDDEN, "no_such_passkey", "None of your passkeys is as strong as this system asks for."
            )
        extra: JsonValue = {"parameters": dict(asked.parameters)}
        return passkeys.begin_assertion(
            tx, broker.site, current, purpose=passkeys.OPEN, subject_id=grant_id, extra=extra, among=fitting
        )


def complete_opening(broker: Broker, current: Current, *, challenge_id: str, response: Response) -> Back | Refused:
    """Check the signature, open the lease and make the code, in one transaction; return where the browser goes.

    1 the approvals are in the signed log · 2 the signature, for this purpose, in this session · 3 the client is still registered with
    this address · 4 the passkey that signed is as strong as asked for, and the grant's evidence holds anew · 5 lease and code.
    """
    grant_id = _subject(broker, challenge_id)
    covered = covered_approvals(broker, grant_id)  # 1
    with broker.begin(current.actor, lock=[(Grant, grant_id)]) as tx:
        verified = passkeys.complete_assertion(
            tx, broker.site, current, purpose=passkeys.OPEN, challenge_id=challenge_id, response=response
        )  # 2
        if isinstance(verified, Refused):
            return verified
        kept = cast("dict[str, dict[str, str]]", verified.extra)["parameters"]
        asked = read_request(tx, broker, MultiDict(kept))  # 3
        if isinstance(asked, Back) or verified.subject_id != grant_id:
            return Refused(Kind.CONFLICT, "request_changed", "The system's registration changed. Start again there.")
        sign_in = sign_in_of(verified)
        if unmet(asked.parameters.get("acr_values"), sign_in.acr):  # 4
            return refusal(broker, asked)
        signer = replace(current, passkey=verified.passkey)
        opened = open_in(tx, broker, signer, grant_id, covered=covered)
        if isinstance(opened, Refused):
            return opened
        if asked.entitlement not in (None, opened.evidence.grant.entitlement):
            return Refused(Kind.CONFLICT, "another_entitlement", "This access is not the one that was asked for.")
        if opened.lease.target != asked.client.facts.target or broker.targets.kind(opened.lease.connector).outside:
            return Refused(Kind.CONFLICT, "another_target", "This access is for another system.")
        user = GrantUser(opened.evidence.grant, opened.lease, current.session.id, sign_in, signer.passkey.id)
        provider = Provider(broker, tx, asked.client)
        request = StoredRequest(broker.site.origin, asked.parameters)
        answer = provider.create_authorization_response(
            request, grant_user=user, grant=provider.get_consent_grant(request, user)
        )  # 5
        return Back(str(answer.location))


def _subject(broker: Broker, challenge_id: str) -> str:
    """Return which grant a challenge is about; nothing is decided by it."""
    with broker.read() as view:
        row = view.get(Challenge, challenge_id) if len(challenge_id) <= 64 else None
    return (row.subject_id if row is not None else None) or ""
