"""How do rows leave as CSV or JSON without becoming a program in a spreadsheet?

A cell that a spreadsheet could take for a formula begins with an apostrophe: `=`, `+`, `-`, `@`, tab and carriage return are what
they look at (OWASP, CSV injection). JSON carries the values as they are. RFC 4180, RFC 8259.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from jitaccess.broker.inspection import Line
from jitaccess.clock import to_epoch_s
from jitaccess.proof.canonical import JsonValue
from jitaccess.web.display import time_text

DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n", "|")
COLUMNS = (
    "request", "filed", "person", "person_id", "target", "entitlement", "inputs", "duration_s", "reason", "state",
    "decided", "verdicts", "grant", "grant_state", "opened", "ends", "ended", "cause", "credentials_gone", "policy",
)  # fmt: skip


def neutral(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula, whatever blanks stand before it."""
    return f"'{cell}" if cell.lstrip(" ").startswith(DANGEROUS) or cell.startswith(DANGEROUS) else cell


def as_csv(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows as CSV with a header; every cell is neutral and quoted."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow([neutral(head) for head in heads])
    for row in rows:
        writer.writerow([neutral(cell) for cell in row])
    return out.getvalue()


def cells(line: Line, names: Mapping[str, str]) -> tuple[str, ...]:
    """Return one request as the cells of `COLUMNS`."""

    def at(moment: datetime | None) -> str:
        return time_text(to_epoch_s(moment)) if moment is not None else ""

    return (
        line.request_id,
        at(line.filed_at),
        names.get(line.person_id, ""),
        line.person_id,
        line.target,
        line.entitlement,
        json.dumps(dict(line.inputs), ensure_ascii=False, sort_keys=True),
        str(line.duration_s),
        line.reason,
        line.state,
        at(line.decided_at),
        "; ".join(f"{step}: {names.get(person, person)} {verdict}" for step, person, verdict in line.approvals),
        line.grant_id or "",
        line.grant_state or "",
        at(line.opened_at),
        at(line.ends_at),
        at(line.ended_at),
        line.cause or "",
        at(line.revoked_at),
        line.policy_digest,
    )


def document(line: Line, names: Mapping[str, str]) -> dict[str, JsonValue]:
    """Return one request as JSON; times in UTC seconds."""

    def at(moment: datetime | None) -> int | None:
        return to_epoch_s(moment) if moment is not None else None

    return {
        "request": line.request_id,
        "filed_at": at(line.filed_at),
        "person": names.get(line.person_id),
        "person_id": line.person_id,
        "target": line.target,
        "entitlement": line.entitlement,
        "inputs": dict(line.inputs),
        "duration_s": line.duration_s,
        "reason": line.reason,
        "state": line.state,
        "decided_at": at(line.decided_at),
        "verdicts": [
            {"step": step, "person_id": person, "person": names.get(person), "verdict": verdict}
            for step, person, verdict in line.approvals
        ],
        "grant": line.grant_id,
        "grant_state": line.grant_state,
        "opened_at": at(line.opened_at),
        "ends_at": at(line.ends_at),
        "ended_at": at(line.ended_at),
        "cause": line.cause,
        "credentials_gone_at": at(line.revoked_at),
        "policy_digest": line.policy_digest,
    }
