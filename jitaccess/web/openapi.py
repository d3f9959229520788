"""What does the JSON API look like to a program? The OpenAPI 3.1 document, made from the routes and their pydantic models.

Only addresses marked with `documented` appear, so the document cannot promise what is not there. It names every status an address can
answer; a property test calls each of them and compares. OpenAPI 3.1.1; JSON Schema 2020-12; problem details RFC 9457.
"""

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, cast

from flask import Blueprint, Flask, Response, current_app, jsonify
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from werkzeug.routing import Rule

from jitaccess import __version__
from jitaccess.broker.context import Broker
from jitaccess.errors import DOORS, Kind
from jitaccess.web.answers import Problem
from jitaccess.web.operations import Operation, operation_of

REF = "#/components/schemas/{model}"
EVERYWHERE = (Kind.INVALID, Kind.NOT_FOUND, Kind.RATE_LIMITED, Kind.UNAVAILABLE, Kind.SEAL_BROKEN)
SIGNED_IN = (Kind.UNAUTHENTICATED, Kind.FORBIDDEN)
POSTED = (Kind.FORBIDDEN, Kind.CONFLICT, Kind.GONE, Kind.TOO_LARGE)
RETRY_AFTER = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
LINK = {
    "description": 'The address of the next page, `rel="next"` (RFC 8288); absent on the last one.',
    "schema": {"type": "string"},
}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A key of your choice for this act. The same act with the same key is done once and answered alike for 24 hours.",
    "schema": {"type": "string", "pattern": r"^[\x21-\x7e]{8,128}$"},
}
ABOUT = """\
The same acts as the pages, over the same code and with the same factors: a person signs in with a passkey, the session is a cookie, and
each act that gives something is a passkey signature of its own. There are no API tokens. Every change is a POST of
`application/json` from this origin (`Origin`, and `Sec-Fetch-Site` where a browser sends it). See docs/reference/api.md.
"""


def blueprint(broker: Broker) -> Blueprint:
    """Return the address of the document; anybody may read it, it tells nothing of this instance but its address."""
    found = Blueprint("openapi", __name__)

    @found.get("/api/openapi.json")
    def openapi_() -> Response:
        return jsonify(document(current_app, version=__version__, origin=broker.site.origin))

    return found


def document(app: Flask, *, version: str, origin: str) -> dict[str, Any]:
    """Return the OpenAPI document of an application."""
    found = [(rule, view) for rule, view in _marked(app)]
    schemas, components = _schemas([view for _, view in found])
    paths: dict[str, dict[str, Any]] = {}
    for rule, operation in found:
        path = re.sub(r"<(?:[^:<>]+:)?(\w+)>", r"{\1}", rule.rule)
        method = "post" if operation.takes is not None else "get"
        paths.setdefault(path, {})[method] = _operation(rule, operation, schemas)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "jitaccess",
            "version": version,
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": origin}],
        "tags": [{"name": name} for name in sorted({operation.tag for _, operation in found})],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": components,
            "securitySchemes": {
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "__Host-jit",
                    "description": "The session that `/api/sign-in/complete` opened; opaque, revocable, never in a URL.",
                }
            },
        },
    }


def _marked(app: Flask) -> Iterator[tuple[Rule, Operation]]:
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: (rule.rule, rule.endpoint)):
        operation = operation_of(app.view_functions[rule.endpoint])
        if operation is not None:
            yield rule, operation


def _schemas(operations: list[Operation]) -> tuple[dict[tuple[str, str], dict[str, Any]], dict[str, Any]]:
    """Return the schema of every type that is taken or answered, by (name, mode), and what they refer to."""
    wanted: dict[tuple[str, str], TypeAdapter[Any]] = {(repr(Problem), "serialization"): TypeAdapter(Problem)}
    for operation in operations:
        wanted[repr(operation.answers), "serialization"] = TypeAdapter(operation.answers)
        if operation.takes is not None:
            wanted[repr(operation.takes), "validation"] = TypeAdapter(operation.takes)
    inputs = [(name, cast(Any, mode), adapter) for (name, mode), adapter in wanted.items()]
    found, definitions = TypeAdapter.json_schemas(inputs, ref_template=REF, schema_generator=GenerateJsonSchema)
    return cast(Any, found), dict(sorted(definitions.get("$defs", {}).items()))


def _operation(rule: Rule, operation: Operation, schemas: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": rule.endpoint.removeprefix("api.").replace(".", "_").strip("_"),
        "summary": operation.summary,
        "tags": [operation.tag],
        "security": [] if operation.public else [{"session": []}],
        "parameters": [*_path_parameters(rule), *_query_parameters(operation.query)],
        "responses": _responses(operation, schemas),
    }
    if operation.repeatable:
        found["parameters"].append(IDEMPOTENCY_KEY)
    if operation.takes is not None:
        content = {"application/json": {"schema": schemas[repr(operation.takes), "validation"]}}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _path_parameters(rule: Rule) -> list[dict[str, Any]]:
    schema = {"type": "string", "minLength": 1, "maxLength": 64}
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in sorted(rule.arguments)]


def _query_parameters(model: type[BaseModel] | None) -> list[dict[str, Any]]:
    if model is None:
        return []
    # A model of a query is flat: its own schema, not a reference, says what its members are.
    shape = TypeAdapter(model).json_schema(ref_template=REF)
    required = set(shape.get("required", ()))
    return [
        {"name": name, "in": "query", "required": name in required, "schema": schema}
        for name, schema in shape.get("properties", {}).items()
    ]


def _responses(operation: Operation, schemas: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": HTTPStatus.OK.phrase,
        "content": {"application/json": {"schema": schemas[repr(operation.answers), "serialization"]}},
    }
    if operation.paged:
        answer["headers"] = {"Link": LINK}
    found = {"200": answer}
    problem = {"application/problem+json": {"schema": schemas[repr(Problem), "serialization"]}}
    by_status: dict[int, list[Kind]] = {}
    for kind in sorted(_kinds(operation), key=lambda kind: DOORS[kind].status):
        by_status.setdefault(DOORS[kind].status, []).append(kind)
    for status, kinds in by_status.items():
        entry: dict[str, Any] = {
            "description": f"{HTTPStatus(status).phrase}: {', '.join(kind.value for kind in kinds)}.",
            "content": problem,
        }
        if status in (429, 503):
            entry["headers"] = {"Retry-After": RETRY_AFTER}
        found[str(status)] = entry
    return found


def _kinds(operation: Operation) -> set[Kind]:
    """Return every kind of refusal that this address may answer."""
    found = {*EVERYWHERE, *operation.kinds}
    if not operation.public:
        found |= {*SIGNED_IN}
    if operation.takes is not None:
        found |= {*POSTED}
    if operation.repeatable:
        found.add(Kind.KEY_REUSED)
    return found
