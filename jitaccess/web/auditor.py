"""The auditor's desk: find, follow from request to proof, sample, look at pictures, take along. It changes nothing but the log of readers.

Every page is for auditors and administrators alone, and every reading is an event (R71). Filters are part of the address, so a
finding can be passed on as a link; a sample's address holds its seed.
"""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from flask import Blueprint, Response, abort, render_template, request, stream_with_context

from jitaccess.broker import inspection, logview
from jitaccess.broker.context import Broker
from jitaccess.broker.inspection import Filter
from jitaccess.clock import to_epoch_s
from jitaccess.domain.numbers import whole
from jitaccess.errors import JitError, Kind
from jitaccess.identity import people
from jitaccess.web import drawings, exports, readers, telling
from jitaccess.web.speech import zone_now

DEFAULT_SAMPLE = 10
LONGEST_SEED = 64


def blueprint(broker: Broker) -> Blueprint:
    """Return the auditor's pages over a broker."""
    pages = Blueprint("auditor", __name__)

    @pages.get("/audit")
    def desk() -> str:
        readers.auditor(broker, "audit")
        wanted, shown = _filter()
        with broker.read() as view:
            found = inspection.lines(view, wanted, before=request.args.get("before", "")[:26])
            names, targets = _words(broker, view)
        older = urlencode({**shown, "before": found[-1].request_id}) if len(found) == inspection.PAGE else None
        return render_template(
            "audit.html", lines=found, names=names, targets=targets, shown=shown, query=urlencode(shown), older=older,
            states=inspection.STATES, causes=telling.CAUSES,
        )  # fmt: skip

    @pages.get("/audit/requests/<request_id>")
    def story(request_id: str) -> str:
        readers.auditor(broker, "request")
        with broker.read() as view:
            found = inspection.story(view, broker, request_id[:26])
            names, targets = _words(broker, view)
        if found is None:
            abort(404)
        return render_template("audit_story.html", story=found, line=found.line, names=names, targets=targets)

    @pages.get("/audit/requests/<request_id>/evidence")
    def evidence(request_id: str) -> Response:
        """The signed statements with their assertions and keys, for a verifier that is not ours (R23)."""
        readers.auditor(broker, "evidence")
        with broker.read() as view:
            found = logview.evidence(view, request_id[:26])
        return exports.download(json.dumps(found, indent=1), "application/json", f"evidence-{request_id[:26]}.json")

    @pages.get("/audit/sample")
    def sample() -> str:
        readers.auditor(broker, "sample")
        wanted, shown = _filter()
        size = _number(request.args.get("n", ""), DEFAULT_SAMPLE, inspection.MOST_SAMPLED)
        with broker.read() as view:
            found = inspection.sample(view, wanted, size=size, seed=request.args.get("seed", "").strip()[:LONGEST_SEED])
            names, targets = _words(broker, view)
        again = urlencode({**shown, "n": size, "seed": found.seed})
        return render_template(
            "audit_sample.html", sample=found, size=size, names=names, targets=targets, again=again, shown=shown
        )

    @pages.get("/audit/export.csv")
    def as_csv() -> Response:
        """Every request that matches, as it is read: however many there are."""
        readers.auditor(broker, "export")
        wanted, _ = _filter()
        with broker.read() as view:
            names = {key: person.name for key, person in people.register(view).persons.items()}
        rows = (exports.cells(line, names) for line in inspection.every_line(broker, wanted))
        parts = stream_with_context(exports.csv_lines(exports.heads(), rows))
        return exports.download(parts, "text/csv; charset=utf-8", "jitaccess-requests.csv")

    @pages.get("/audit/export.json")
    def as_json() -> Response:
        """The same as JSON; it ends with `"complete": true`, so that a file that was cut off is no JSON."""
        readers.auditor(broker, "export")
        wanted, _ = _filter()
        with broker.read() as view:
            names = {key: person.name for key, person in people.register(view).persons.items()}
            newest = broker.checkpoints.latest(view)
            about: dict[str, Any] = {
                "format": "jitaccess-requests/1",
                "instance": broker.site.instance_id,
                "read_at": to_epoch_s(view.now),
                "checkpoint": newest.note if newest is not None else None,
                "filter": {
                    name: to_epoch_s(value) if isinstance(value, datetime) else value
                    for name, value in asdict(wanted).items()
                },
            }
        documents = (exports.document(line, names) for line in inspection.every_line(broker, wanted))
        parts = stream_with_context(exports.json_lines(about, documents))
        return exports.download(parts, "application/json", "jitaccess-requests.json")

    @pages.get("/audit/pictures")
    def pictures() -> str:
        readers.auditor(broker, "pictures")
        days = _number(request.args.get("days", ""), 30, 366)
        target = request.args.get("target", "")[:64]
        with broker.read() as view:
            drawn = drawings.of_span(view, broker, days=days, target=target or None)
            _, targets = _words(broker, view)
        return render_template("audit_pictures.html", pictures=drawn, days=days, target=target, targets=targets)

    return pages


def _words(broker: Broker, view: Any) -> tuple[dict[str, str], Any]:
    policies = broker.policies.active_or_none(view)
    names = {key: person.name for key, person in people.register(view).persons.items()}
    return names, policies.targets if policies is not None else {}


def _filter() -> tuple[Filter, dict[str, str]]:
    """Read the filter of the address; return it with the fields that are set, as they were typed."""
    given = {
        name: request.args.get(name, "").strip()[:64]
        for name in ("target", "entitlement", "person", "state", "cause", "from", "to")
    }
    start, end = _day(given["from"]), _day(given["to"], after=1)
    wanted = Filter(
        given["target"], given["entitlement"], given["person"], given["state"], given["cause"], start, end,
    )  # fmt: skip
    return wanted, {name: text for name, text in given.items() if text}


def _day(text: str, *, after: int = 0) -> datetime | None:
    """Return the first instant of a day written `2026-11-23`, or of so many days after it, in the reader's zone; raises INVALID."""
    if not text:
        return None
    try:
        first = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=ZoneInfo(zone_now()))
        return (first + timedelta(days=after)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise JitError(Kind.INVALID, "Write a day as 2026-11-23.") from error


def _number(text: str, default: int, most: int) -> int:
    number = whole(text, 6)
    return default if number is None else min(max(number, 1), most)
