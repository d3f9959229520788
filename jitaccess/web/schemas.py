"""What may be posted to the JSON API? Strict shapes; unknown fields are refused before any work is done (R66).

`body` and `query` read with the very model that the view's `documented` mark declares: the OpenAPI document cannot say something else.
"""

from typing import Annotated, Any, TypeVar

from flask import current_app, request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Json, ValidationError

from jitaccess.domain.lifecycle import RequestState
from jitaccess.errors import JitError, Kind
from jitaccess.policy.expected import misfit
from jitaccess.web.operations import operation_of
from jitaccess.web.paging import PageQuery as PageQuery

M = TypeVar("M", bound=BaseModel)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10 else value


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Empty(_Body):
    """Nothing."""


class Answer(_Body):
    """The answer to a ceremony."""

    challenge_id: str = Field(max_length=64)
    response: dict[str, Any]


class NamedAnswer(Answer):
    """The answer to a registration, with the passkey's name."""

    name: str = Field(default="", max_length=60)
    token: str = Field(default="", max_length=200)


class Token(_Body):
    """An enrolment token."""

    token: str = Field(max_length=200)


class CredentialId(_Body):
    """A credential id as the browser gave it."""

    credential_id: str = Field(min_length=1, max_length=1400)


class AskBody(_Body):
    """What, how long, why."""

    target: str = Field(max_length=64)
    entitlement: str = Field(max_length=64)
    inputs: dict[str, str | int | bool] = Field(default_factory=dict, max_length=20)
    duration_s: int | None = Field(default=None, ge=1, le=90 * 86_400)
    reason: str = Field(default="", max_length=4000)
    start_at: int | None = Field(default=None, ge=0, le=4_102_444_799)
    """UTC seconds; left out: at once."""


class Extension(_Body):
    """How much longer, and why; forms send the seconds as text."""

    duration_s: Annotated[int, BeforeValidator(_whole)] = Field(ge=1, le=90 * 86_400)
    reason: str = Field(default="", max_length=4000)


class DeputyBody(_Body):
    """A deputy: who, from when (in the reader's zone; empty: now), for how long."""

    deputy: str = Field(min_length=1, max_length=64)
    start: str = Field(default="", max_length=32)
    lasts_s: Annotated[int, BeforeValidator(_whole)] = Field(ge=60, le=90 * 86_400)


class Verdict(_Body):
    """An approver's verdict; denying has its own address."""

    verdict: str = Field(default="approve", pattern="^approve$")
    max_duration_s: int | None = Field(default=None, ge=1, le=90 * 86_400)
    """A shorter time than the one asked for."""
    comment: str = Field(default="", max_length=4000)
    read_back: dict[str, str] = Field(default_factory=dict, max_length=20)
    """The figures that the terms have read back, by name."""


class ApprovalSetBody(_Body):
    """The requests that are signed at once, in the order shown."""

    request_ids: list[str] = Field(min_length=2, max_length=20)


class Denial(_Body):
    """A refusal, with words for the requester."""

    comment: str = Field(default="", max_length=4000)


class HoldBody(_Body):
    """A hold."""

    kind: str = Field(pattern="^(person|passkey|target|grant|institution|instance)$")
    subject_id: str = Field(min_length=1, max_length=64)
    cause: str = Field(default="", max_length=200)


class ChangeBody(_Body):
    """A signed administrative act."""

    kind: str = Field(max_length=64)
    subject: str = Field(min_length=1, max_length=64)
    payload: dict[str, Any] = Field(default_factory=dict)


class Rename(_Body):
    """A passkey's new name."""

    name: str = Field(min_length=1, max_length=60)


class GrantsQuery(PageQuery):
    """Which of one's own grants."""

    live: bool = False
    """Only those that did not end."""


class RequestsQuery(PageQuery):
    """Which requests of everybody."""

    person: str = Field(default="", max_length=64)
    target: str = Field(default="", max_length=64)
    state: RequestState | None = None


class GrantsOfAllQuery(GrantsQuery):
    """Which grants of everybody."""

    person: str = Field(default="", max_length=64)
    target: str = Field(default="", max_length=64)


class EventsQuery(PageQuery):
    """Which events of the log."""

    type: str = Field(default="", max_length=64)
    person: str = Field(default="", max_length=64)
    request: str = Field(default="", max_length=64)
    grant: str = Field(default="", max_length=64)


class ConsistencyQuery(BaseModel):
    """Two sizes of the tree, the older first."""

    model_config = ConfigDict(extra="forbid")
    old: int = Field(ge=0, lt=2**53)
    new: int = Field(ge=0, lt=2**53)


class ExplainQuery(BaseModel):
    """Which right is to be explained, for whom, and on what assumptions."""

    model_config = ConfigDict(extra="forbid")
    target: str = Field(default="", max_length=64)
    entitlement: str = Field(default="", max_length=64)
    person: str = Field(default="", max_length=64)
    """Id of somebody else; administrators and auditors alone may ask that."""
    duration_s: int | None = Field(default=None, ge=1, le=90 * 86_400)
    start_at: int | None = Field(default=None, ge=0, le=4_102_444_799)
    """UTC seconds; left out: at once."""
    credential: str | None = Field(default=None, pattern="^(any|synced|device_bound|attested)$")
    """A kind of passkey; left out: that of the session, of somebody else the strongest one."""
    inputs: Json[Annotated[dict[str, str | int | bool], Field(max_length=20)]] = Field(default_factory=dict)
    """The fields that the right asks for, as a JSON object."""


def body(model: type[M]) -> M:
    """Return the request's JSON body as a model; raises INVALID."""
    _as_declared(model)
    if not request.is_json:
        raise JitError(Kind.INVALID, "Send JSON with Content-Type: application/json.")
    data = request.get_data() or b"{}"
    if b"\\u0000" in data:  # no text of ours holds NUL, and PostgreSQL stores none
        raise JitError(Kind.INVALID, "Text must not hold the character U+0000.")
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise _problem(error, "body") from error


def query(model: type[M]) -> M:
    """Return the query of the address as a model, each name once; raises INVALID."""
    _as_declared(model)
    given = request.args.to_dict(flat=False)
    if any(len(values) > 1 for values in given.values()):
        raise JitError(Kind.INVALID, "Give each name in the query once.")
    if any("\0" in values[0] for values in given.values()):
        raise JitError(Kind.INVALID, "Text must not hold the character U+0000.")
    try:
        return model.model_validate({name: values[0] for name, values in given.items()})
    except ValidationError as error:
        raise _problem(error, "query") from error


def _problem(error: ValidationError, place: str) -> JitError:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    return JitError(Kind.INVALID, misfit(name or place, first), field=name or None)


def _as_declared(model: type[BaseModel]) -> None:
    """Refuse to run a view that reads another shape than its mark declares: a defect of ours."""
    operation = operation_of(current_app.view_functions[request.endpoint or ""])
    if operation is not None and model not in (operation.takes, operation.query):
        raise TypeError(f"{request.endpoint} declares another shape than {model.__name__}")
