"""Where do hosts report, and get what they obey? For targets of a kind that publishes (connectors.contract, docs/adr/0031).

No cookie, no session, no client secret: a report is signed with the host's own SSH key, and what comes back by the target's
authority, over the number that the host drew. The connector checks the one and makes the other.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar, cast

from flask import Blueprint, Response, jsonify, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jitaccess.broker.context import Broker
from jitaccess.connectors.contract import Publisher, Unreachable, Unusable
from jitaccess.errors import JitError, Kind
from jitaccess.web.doors import without_cookie

Part = TypeVar("Part", bound=BaseModel)


class _Reported(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    report: str = Field(max_length=200_000)
    signature: str = Field(max_length=2_000)


def blueprint(broker: Broker) -> Blueprint:
    """Return the doors over a broker."""
    found = Blueprint("hosts", __name__)
    doors: Mapping[str, tuple[str, Callable[[str], Response]]] = {
        "exchange": ("POST", lambda target: _exchange(_publisher(broker, target))),
        "authority": ("GET", lambda target: _authority(_publisher(broker, target))),
    }
    for name, (method, door) in doors.items():
        found.add_url_rule(f"/hosts/<target>/{name}", name, without_cookie(door), methods=[method])
    return found


def _publisher(broker: Broker, target: str) -> Publisher:
    with broker.read() as view:
        facts = broker.policies.active(view).targets.get(target)
    kind = broker.targets.kind(str(facts.connector["kind"])) if facts is not None else None
    if facts is None or kind is None or not kind.publishes:
        raise JitError(Kind.NOT_FOUND, "There is no such target with hosts that fetch.")
    return cast(Publisher, broker.targets.at(target, facts.connector))


def _exchange(publisher: Publisher) -> Response:
    given = _checked(_Reported, request.get_json(silent=True))
    try:
        text, signature = publisher.exchange(given.report, given.signature)
    except Unusable as error:
        raise JitError(Kind.FORBIDDEN, str(error)) from error
    except Unreachable as error:
        raise JitError(Kind.UNAVAILABLE, "The authority of this target cannot be used at the moment.") from error
    return jsonify({"bulletin": text, "signature": signature})


def _authority(publisher: Publisher) -> Response:
    try:
        lines = publisher.public_keys()
    except Unreachable as error:
        raise JitError(Kind.UNAVAILABLE, "The authority of this target cannot be used at the moment.") from error
    return Response("".join(f"{line}\n" for line in lines), content_type="text/plain; charset=utf-8")


def _checked(model: type[Part], given: object) -> Part:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise JitError(Kind.INVALID, "This is not what a host sends here.") from error
