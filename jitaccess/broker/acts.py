"""What can be signed about the broker itself? The closed list of acts, each with the shape of what is signed beside its subject.

Shapes only: how many must sign and who may not is in `broker.judging`, what an act does in `broker.changes`.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jitaccess.errors import JitError, Kind
from jitaccess.policy.expected import misfit
from jitaccess.proof.canonical import JsonValue


class Payload(BaseModel):
    """What is signed beside the subject; closed, so that nothing unread is signed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PersonAdd(Payload):
    """A new person with a first account and, optionally, groups."""

    name: str = Field(max_length=120)
    email: str = Field(max_length=254)
    institution: str = Field(max_length=63)
    unit: str = Field(max_length=120)
    manager_id: str | None = None
    language: str = Field(default="", pattern="^(|en|sq|sr)$")
    """What the register says; a person's own choice goes first."""
    groups: list[str] = Field(default_factory=list, max_length=50)


class PersonChange(Payload):
    """New values for a person."""

    values: dict[str, str | None]


class AccountAdd(Payload):
    """One more account."""

    label: str = Field(max_length=120)


class GroupAdd(Payload):
    """A new group."""

    name: str = Field(max_length=120)
    institution: str | None = None


class Member(Payload):
    """A member of the subject group."""

    member_id: str = Field(max_length=64)
    kind: str = Field(default="person", pattern="^(person|group)$")


class LinkCreate(Payload):
    """A link for the subject account."""

    purpose: str = Field(default="enrol", pattern="^(enrol|recover)$")


class Nothing(Payload):
    """No more than the subject."""


class HoldPlace(Payload):
    """A hold that nobody would be left to release: what it is on, and why."""

    kind: str = Field(pattern="^(person|passkey|institution)$")
    cause: str = Field(default="", max_length=200)


class LeaseClose(Payload):
    """Why a lease that cannot be revoked is closed, and how the account on the target was dealt with."""

    reason: str = Field(min_length=10, max_length=500)


class ClientAdd(Payload):
    """A client for the subject target; without `jwks` a secret is made."""

    name: str = Field(max_length=120)
    redirect_uris: list[str] = Field(max_length=10)
    jwks: dict[str, Any] | None = None
    initiate_login_uri: str | None = None
    backchannel_logout_uri: str | None = None
    post_logout_redirect_uris: list[str] = Field(default_factory=list, max_length=10)


class ClientAddProxied(Payload):
    """An application behind a reverse proxy, for the subject target."""

    name: str = Field(max_length=120)
    origin: str = Field(max_length=300)


class RecordRestore(Payload):
    """The columns of the subject record (`<table>/<key>`) that were changed, as they were; of a deleted one all columns.

    Times are microseconds since the epoch, bytes base64url.
    """

    values: dict[str, str | int | bool | None] = Field(max_length=40)


class PolicyActivate(Payload):
    """The digest of the set that becomes active."""

    digest: str


ACTS: Mapping[str, type[Payload]] = {
    "person.add": PersonAdd,
    "person.change": PersonChange,
    "person.disable": Nothing,
    "person.enable": Nothing,
    "account.add": AccountAdd,
    "group.add": GroupAdd,
    "member.add": Member,
    "member.end": Member,
    "enrolment.create": LinkCreate,
    "hold.place": HoldPlace,
    "hold.release": Nothing,
    "policy.activate": PolicyActivate,
    "lease.close": LeaseClose,
    "client.add": ClientAdd,
    "client.add_proxied": ClientAddProxied,
    "record.restore": RecordRestore,
    "recovery.link": Nothing,
    "recovery.veto": Nothing,
    "recovery.print_keys": Nothing,
}


def parsed(kind: str, payload: JsonValue) -> Payload:
    """Return the payload of an act of the list; raises INVALID with the field that does not fit."""
    try:
        return ACTS[kind].model_validate(payload)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise JitError(Kind.INVALID, misfit(name, first), field=name) from error
