"""What may be written in a policy file? The pydantic models of the stages that are built.

Everything else is refused as unknown, never ignored (R27). What a model cannot see (other files, the register) is `load`'s.
The JSON Schema for editors (`policies/schema.json`) is generated from these models.
"""

import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel.numbers import list_currencies
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import models_json_schema

from jitaccess.proof.canonical import MAX_INTEGER
from jitaccess.told import told

Id = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]
LANGUAGES = ("en", "sq", "sr")
MAX_TEXT = 200


def _label(value: object) -> str | dict[str, Any]:
    """Return a text, or texts by language in the order of LANGUAGES; raises ValueError."""
    texts: dict[str, Any] = value if isinstance(value, dict) else {"en": value}
    for language, text in texts.items():
        if language not in LANGUAGES:
            raise ValueError(told("found the language %(language)s, expected en, sq or sr", language=repr(language)))
        if not isinstance(text, str) or not 1 <= len(text) <= MAX_TEXT:
            raise ValueError(
                "expected a text of 1 to 200 characters, or one in each language: {en: ..., sq: ..., sr: ...}"
            )
    if "en" not in texts:
        raise ValueError("a name in several languages needs one in en, for readers of any other")
    if isinstance(value, str):
        return value
    return {language: texts[language] for language in LANGUAGES if language in texts}


_TEXT_SCHEMA = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
Label = Annotated[
    str | dict[str, Any],
    PlainValidator(_label),
    WithJsonSchema(
        {
            "anyOf": [
                _TEXT_SCHEMA,
                {
                    "type": "object",
                    "required": ["en"],
                    "additionalProperties": False,
                    "properties": dict.fromkeys(LANGUAGES, _TEXT_SCHEMA),
                },
            ]
        }
    ),
]
"""A name that people read: one text, or one for each language. It is shown and never signed."""
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DURATION = re.compile(r"(?:([0-9]{1,4})d)?(?:([0-9]{1,4})h)?(?:([0-9]{1,5})m)?(?:([0-9]{1,6})s)?\Z")
_UNITS_S = (86_400, 3_600, 60, 1)
_REPEAT = re.compile(r"[*+?]|\{[0-9]*,[0-9]*\}")
MAX_REPEATS = 3
MAX_ALTERNATIVES = 8
MAX_DURATION_S = 90 * 86_400
MAX_LOOK_S = 5 * 60
"""R57: accounts on targets are looked at at least this often."""
MAX_TOKEN_TTL_S = 15 * 60
"""R34: a short cap on every token, whatever a policy says."""
DEFAULT_TOKEN_TTL_S = 5 * 60
"""What a rule without `token` means."""


def parse_duration(value: object) -> int:
    """Return seconds of `30m`, `1h30m`, `2d`; raises ValueError."""
    found = _DURATION.match(value) if isinstance(value, str) else None
    if found is None or not any(found.groups()):
        raise ValueError(told("found %(value)s, expected a duration with units such as 30m or 2h", value=repr(value)))
    seconds = sum(int(part) * unit for part, unit in zip(found.groups(), _UNITS_S, strict=True) if part)
    if not 0 < seconds <= MAX_DURATION_S:
        raise ValueError("a duration is more than zero and at most 90d")
    return seconds


def format_duration(seconds: int) -> str:
    """Return the shortest text that `parse_duration` reads back."""
    parts: list[str] = []
    for unit, name in zip(_UNITS_S, "dhms", strict=True):
        count, seconds = divmod(seconds, unit)
        if count:
            parts.append(f"{count}{name}")
    return "".join(parts) or "0s"


def _clock_time(value: object) -> int:
    found = re.fullmatch(r"([01][0-9]|2[0-4]):([0-5][0-9])", value) if isinstance(value, str) else None
    minutes = int(found[1]) * 60 + int(found[2]) if found else -1
    if not 0 <= minutes <= 24 * 60:
        raise ValueError(told('found %(value)s, expected a time such as "08:00" in quotes', value=repr(value)))
    return minutes


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            told("found %(value)s, expected an IANA zone such as Europe/Belgrade", value=repr(value))
        ) from error
    return value


def _iso_date(value: str) -> str:
    # fromisoformat also reads 20260217 and 2026-W08-2; windows compare the long form.
    try:
        same = date.fromisoformat(value).isoformat() == value
    except ValueError:
        same = False
    if not same:
        raise ValueError(told('found %(value)s, expected a date such as "2026-02-17"', value=repr(value)))
    return value


def _pattern(value: str) -> str:
    if re.search(r"(?<!\\)\[\[", value):
        raise ValueError(r"write a bracket inside a set as \[; later versions read [[ as a nested set")
    try:
        re.compile(value)
    except (re.error, OverflowError) as error:
        raise ValueError(told("not a regular expression: %(error)s", error=error)) from error
    # Python's matcher backtracks; inputs are matched on the request path. Without these it stays polynomial and small (CWE-1333).
    if re.search(r"\)[*+?{]|\(\?[^:]|\\[1-9]", value):
        raise ValueError("repeated groups, look-around and back-references are not allowed")
    if len(_REPEAT.findall(value)) > MAX_REPEATS or value.count("|") > MAX_ALTERNATIVES:
        raise ValueError(
            told(
                "at most %(max_repeats)s repeats of open length and %(max_alternatives)s alternatives are allowed",
                max_repeats=MAX_REPEATS,
                max_alternatives=MAX_ALTERNATIVES,
            )
        )
    return value


def _currency(value: str) -> str:
    if value not in list_currencies():
        raise ValueError(told("found %(value)s, expected an ISO 4217 currency such as EUR", value=repr(value)))
    return value


def _verifiable(value: object) -> object:
    if value == "attested":
        raise ValueError("this version cannot verify attestation, so nobody would ever qualify; use device_bound")
    return value


Credential = Annotated[Literal["any", "synced", "device_bound"], BeforeValidator(_verifiable)]
"""At least this class of passkey. `device_bound`: the authenticator says that the key cannot be copied to another device."""
Duration = Annotated[int, BeforeValidator(parse_duration, json_schema_input_type=str)]
TimeOfDay = Annotated[int, BeforeValidator(_clock_time, json_schema_input_type=str)]
Zone = Annotated[str, AfterValidator(_zone)]
IsoDate = Annotated[str, AfterValidator(_iso_date)]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_pattern)]
Currency = Annotated[str, AfterValidator(_currency), WithJsonSchema({"type": "string", "pattern": "^[A-Z]{3}$"})]
Condition = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Institution(_Model):
    """A body that people belong to and targets are owned by."""

    name: Label


class Window(_Model):
    """Hours in which a rule holds; `from` is inside, `to` is not."""

    days: list[Day] = Field(min_length=1)
    from_: TimeOfDay = Field(alias="from")
    to: TimeOfDay
    zone: Zone
    except_: Id | None = Field(default=None, alias="except")

    @model_validator(mode="after")
    def _forward(self) -> "Window":
        if self.from_ >= self.to:
            raise ValueError("`from` must be before `to`; write a window over midnight as two")
        return self


class Entitlement(_Model):
    """A role on a target."""

    label: Label | None = None
    max_duration: Duration
    risk: Literal["low", "high"] = "low"


class TokenConnector(_Model):
    """A target that takes short-lived signed tokens."""

    kind: Literal["token"]
    audience: Annotated[str, StringConstraints(pattern=r"^https?://[^\s#?]+$", max_length=200)]
    initiate_login: Annotated[str, StringConstraints(pattern=r"^https?://[^\s#]+$", max_length=300)] | None = None
    """Where "Open" leads: OpenID Connect Core section 4 (login initiated by a third party)."""


CONNECTORS: Mapping[str, type[BaseModel]] = {"token": TokenConnector}
"""The kinds that this room knows by itself; the loader is handed the models of all others."""
_OTHER_KIND = {
    "type": "object",
    "required": ["kind"],
    "properties": {"kind": {"type": "string", "not": {"enum": list(CONNECTORS)}}},
}
ConnectorPart = Annotated[
    dict[str, Any], WithJsonSchema({"anyOf": [TokenConnector.model_json_schema(by_alias=True), _OTHER_KIND]})
]
"""Which kind of target, and where. Each kind brings its own model: the loader checks with it, this room stays pure."""


class ExceptedAccount(_Model):
    """An account on a target that is there without a lease, for a reason; signed with the policy."""

    account: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    rights: list[Text] | None = None
    """In the target's own words; left out: those it had when it was first seen."""
    why: Text


class Reconcile(_Model):
    """How the accounts on a target are watched."""

    every: Duration = MAX_LOOK_S
    unknown_account: Literal["alarm", "hold", "remove"] = "alarm"
    exceptions: list[ExceptedAccount] = Field(default_factory=list, max_length=1000)

    @model_validator(mode="after")
    def _sound(self) -> "Reconcile":
        if self.every > MAX_LOOK_S:
            raise ValueError("a target is looked at every 5m at least")
        names = [found.account for found in self.exceptions]
        if len(names) != len(set(names)):
            raise ValueError("an account stands twice among the exceptions")
        return self


class Target(_Model):
    """A system access is given to."""

    name: Label
    owner: Id
    entitlements: dict[Id, Entitlement] = Field(min_length=1)
    connector: ConnectorPart
    reconcile: Reconcile | None = None


class For(_Model):
    """Who may ask: members of any of the groups, signed in with at least this class of passkey."""

    groups: list[Id] = Field(min_length=1)
    credential: Credential = "any"


class To(_Model):
    """For what."""

    target: Id
    entitlements: list[Id] = Field(min_length=1)


class AskText(_Model):
    """A text that the requester gives; signed with the request."""

    name: Id
    type: Literal["string"]
    label: Label | None = None
    matches: Pattern | None = None
    max_length: int = Field(default=200, ge=1, le=200)


class AskInteger(_Model):
    """A whole number that the requester gives."""

    name: Id
    type: Literal["integer"]
    label: Label | None = None
    min: int = Field(ge=-MAX_INTEGER, le=MAX_INTEGER)
    max: int = Field(ge=-MAX_INTEGER, le=MAX_INTEGER)
    currency: Currency | None = None
    """Money: the number counts the smallest unit of this currency (ISO 4217), such as cents of EUR."""

    @model_validator(mode="after")
    def _forward(self) -> "AskInteger":
        if self.min > self.max:
            raise ValueError("`min` is above `max`")
        return self


class AskBoolean(_Model):
    """A yes or no that the requester gives."""

    name: Id
    type: Literal["boolean"]
    label: Label | None = None


Ask = Annotated[AskText | AskInteger | AskBoolean, Field(discriminator="type")]


class ExtensionTerms(_Model):
    """How often access may be continued by a new request, and how long it may last in all, from its first start."""

    count: int = Field(ge=1, le=20)
    total: Duration


class DurationTerms(_Model):
    """How long, and from when.

    `activate_within`: the clock starts when the person first opens the target, at the latest then. `start_within`: how far ahead
    a request may name its start; left out, access begins with the approval. `end: soft`: after the end what is open runs on for
    `grace`, while nothing new is opened. `warn`: so long before the end the person is told.
    """

    min: Duration | None = None
    default: Duration
    max: Duration
    activate_within: Duration | None = None
    start_within: Duration | None = None
    extensions: ExtensionTerms | None = None
    end: Literal["hard", "soft"] = "hard"
    grace: Duration | None = None
    warn: Duration | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "DurationTerms":
        if not (self.min or 1) <= self.default <= self.max:
            raise ValueError("`default` must lie between `min` and `max`")
        if (self.end == "soft") != (self.grace is not None):
            raise ValueError("`end: soft` and `grace` go together: a soft end has a grace, a hard one has none")
        if self.extensions is not None and self.extensions.total <= self.default:
            raise ValueError("the `total` of `extensions` leaves no room to extend even the default")
        return self


class Limits(_Model):
    """How often."""

    active_per_person: int | None = Field(default=None, ge=1, le=1000)
    per_day: int | None = Field(default=None, ge=1, le=1000)


class ConflictWith(_Model):
    """What must not be in one hand with this (separation of duties): held now, or less than `within` ago. Holds both ways."""

    target: Id | None = None
    """The rule's own target when left out."""
    entitlement: Id
    within: Duration


class NotifyTerms(_Model):
    """Who hears of it: the members of these groups, of what is named in `on`."""

    witnesses: list[Id] = Field(min_length=1, max_length=20)
    on: list[Literal["filed", "granted", "ended", "held"]] = Field(
        default=["filed", "granted", "ended"], min_length=1, max_length=4
    )


class DelayTerms(_Model):
    """How long a grant waits after its approval, and who may stop it meanwhile: `owner` (the target's institution) or groups."""

    time_lock: Duration
    veto: list[Id] = Field(default_factory=list, max_length=20)


class AskSome(_Model):
    """Of those who may sign only so many are asked, drawn by lot when it is their turn."""

    people: int = Field(ge=1, le=100)
    others: Literal["may_sign", "may_not_sign"] = "may_sign"
    """Whether those who were not drawn may sign too, from their list of requests."""


class Escalation(_Model):
    """After so long without an answer other people are asked too, and may sign; the steps ask for as many as before."""

    after: Duration
    to: list[Id] = Field(min_length=1)
    step: Id | None = None
    """For one step; without it for every step of the rule."""


class ReadBack(_Model):
    """A figure that the approver must read and give back before signing: an input by its name, or `entitlement`."""

    figure: Id
    above: int | None = Field(default=None, ge=0, le=MAX_INTEGER)
    """Only for whole numbers greater than this."""


class ApproveStep(_Model):
    """One thing that must be signed: by `count` people in any of the groups, of the institution, or both."""

    name: Id
    label: Label | None = None
    """What people read; `name` is what is signed."""
    groups: list[Id] = Field(default_factory=list)
    institution: Id | None = None
    """An institution, or `owner`: the target's."""
    count: int = Field(ge=1, le=20)
    after: Id | None = None
    credential: Credential = "any"
    """At least this class of passkey signs it."""
    ask: AskSome | None = None

    @model_validator(mode="after")
    def _somebody(self) -> "ApproveStep":
        if not self.groups and self.institution is None:
            raise ValueError("a step names `groups`, an `institution`, or both")
        if self.ask is not None and self.ask.people < self.count:
            raise ValueError("`ask` must name at least as many people as have to sign")
        return self


class Approve(_Model):
    """Who must sign before access is given."""

    steps: list[ApproveStep] = Field(min_length=1, max_length=10)
    distinct: list[Literal["person", "institution"]] = ["person"]
    never: list[Literal["requester", "subordinates_of_requester", "managers_of_requester"]] = ["requester"]
    pending: Duration = 3600
    """How long the request waits; then it expires."""
    escalate: list[Escalation] = Field(default_factory=list, max_length=10)
    read_back: list[ReadBack] = Field(default_factory=list, max_length=10)
    deputies: Duration | None = None
    """A deputy who was named for at most this long may sign in somebody's place; left out: everybody signs for himself."""


class TokenTerms(_Model):
    """How long one token lives at most."""

    ttl: Duration

    @model_validator(mode="after")
    def _short(self) -> "TokenTerms":
        if self.ttl > MAX_TOKEN_TTL_S:
            raise ValueError("a token lives at most 15m")
        return self


class Rule(_Model):
    """One way to be permitted."""

    id: Id
    for_: For = Field(alias="for")
    to: To
    during: list[Id] = Field(default_factory=list)
    ask: list[Ask] = Field(default_factory=list, max_length=20)
    when: Condition | None = None
    duration: DurationTerms
    limits: Limits = Limits()
    conflicts: list[ConflictWith] = Field(default_factory=list, max_length=20)
    approve: Literal["none"] | Approve
    """Said out loud, never by omission."""
    delay: DelayTerms | None = None
    notify: NotifyTerms | None = None
    token: TokenTerms | None = None


class Denial(_Model):
    """A reason that beats every permission."""

    id: Id
    when: Condition


class PolicyFile(_Model):
    """One file of a policy folder; any section may stand in any file."""

    version: Literal[1]
    institutions: dict[Id, Institution] = Field(default_factory=dict)
    holidays: dict[Id, list[IsoDate]] = Field(default_factory=dict)
    windows: dict[Id, Window] = Field(default_factory=dict)
    targets: dict[Id, Target] = Field(default_factory=dict)
    rules: list[Rule] = Field(default_factory=list)
    denials: list[Denial] = Field(default_factory=list)


def json_schema(connectors: Mapping[str, type[BaseModel]] | None = None) -> dict[str, object]:
    """Return the JSON Schema of a policy file, for editors; with `connectors` the parts of these kinds too."""
    found = PolicyFile.model_json_schema(by_alias=True)
    if connectors:
        _, parts = models_json_schema([(model, "validation") for model in connectors.values()], by_alias=True)
        found["$defs"] |= parts["$defs"]
        one_of = [{"$ref": f"#/$defs/{model.__name__}"} for model in connectors.values()]
        found["$defs"]["Target"]["properties"]["connector"] = {"oneOf": one_of}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}
