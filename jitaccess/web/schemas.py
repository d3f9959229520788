"""What may be posted to the JSON API? Strict shapes; unknown fields are refused before any work is done (R66)."""

from typing import Annotated, Any, TypeVar

from flask import request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from jitaccess.errors import JitError, Kind
from jitaccess.policy.expected import misfit

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


def body(model: type[M]) -> M:
    """Return the request's JSON body as a model; raises INVALID."""
    if not request.is_json:
        raise JitError(Kind.INVALID, "Send JSON with Content-Type: application/json.")
    try:
        return model.model_validate_json(request.get_data(cache=False) or b"{}")
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise JitError(Kind.INVALID, misfit(name or "body", first), field=name) from error
