"""How do rows leave as CSV or JSON without becoming a program in a spreadsheet?

A cell that a spreadsheet could take for a formula begins with an apostrophe: `=`, `+`, `-`, `@`, tab and carriage return are what
they look at (OWASP, CSV injection). Where people write a decimal comma, spreadsheets part cells at semicolons and so does the file; and
because one that parts at the other sign sees cells within ours, what follows a sign, a quote or a line break within a cell gets an
apostrophe too. JSON carries the values as they are. RFC 4180, RFC 8259.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import cast

from flask import Response

from jitaccess.broker.inspection import Line, Said, Stopped
from jitaccess.clock import to_epoch_s
from jitaccess.domain.wording import word
from jitaccess.language import decimal_sign
from jitaccess.proof.canonical import JsonValue
from jitaccess.store.tables import TargetAccount
from jitaccess.told import told
from jitaccess.web import telling
from jitaccess.web.display import duration_text, time_text
from jitaccess.web.speech import language_now, say, zone_now

COLUMN_WORDS: Mapping[str, str] = {
    "request": told("request"),
    "filed": told("filed"),
    "person": told("person"),
    "person_id": told("person id"),
    "target": told("system"),
    "entitlement": told("right"),
    "inputs": told("inputs"),
    "duration_s": told("duration in seconds"),
    "reason": told("reason"),
    "state": told("state"),
    "decided": told("decided"),
    "verdicts": told("signatures"),
    "grant": told("access"),
    "grant_state": told("state of the access"),
    "opened": told("opened"),
    "ends": told("ends"),
    "ended": told("ended"),
    "cause": told("why it ended"),
    "credentials_gone": told("credentials gone"),
    "policy": told("policy digest"),
    "vetoes": told("vetoes"),
    "extends": told("continues the access"),
    "sets": told("signed together in"),
}
"""The heads of the CSV columns, for readers; JSON keeps the codes, for machines."""
_SIGNS = "=+-@|\uff1d\uff0b\uff0d\uff20"
"""What makes a formula; the full-width twins of the first four are read alike where people write Chinese or Japanese."""
DANGEROUS = (*_SIGNS, "\t", "\r", "\n")
_BEGINS = re.compile(rf"""([,;\t\r\n"])(?= *[{re.escape(_SIGNS)}])""")
"""Where within a cell another one begins, in some spreadsheet's eyes, with what makes it a formula."""
COLUMNS = (
    "request", "filed", "person", "person_id", "target", "entitlement", "inputs", "duration_s", "reason", "state",
    "decided", "verdicts", "grant", "grant_state", "opened", "ends", "ended", "cause", "credentials_gone", "policy", "vetoes",
    "extends", "sets",
)  # fmt: skip
MOMENTS = ("filed", "decided", "opened", "ends", "ended", "credentials_gone")
"""The columns that hold a time in words; after `COLUMNS` the same once more as ISO 8601, for whoever sorts and reckons."""
BOM = "\ufeff"
"""Begins a CSV file: spreadsheets take it for the 8-bit letters of the machine without it (RFC 3629 section 6)."""


def neutral(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula, whatever blanks stand before it and wherever it parts cells."""
    inside = _BEGINS.sub(r"\1'", cell)
    return f"'{inside}" if inside.lstrip(" ").startswith(DANGEROUS) or inside.startswith(DANGEROUS) else inside


def csv_lines(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Give rows as the lines of a CSV file with a header, after a byte order mark; every cell is neutral and quoted.

    Cells are parted as spreadsheets in the reader's language do it.
    """
    yield BOM
    parting = "," if decimal_sign(language_now()) == "." else ";"
    for row in chain([heads], rows):
        out = io.StringIO()
        writer = csv.writer(out, delimiter=parting, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
        writer.writerow([neutral(cell) for cell in row])
        yield out.getvalue()


def as_csv(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return the same as one text."""
    return "".join(csv_lines(heads, rows))


def heads() -> list[str]:
    """Return the heads of `COLUMNS` and `MOMENTS` in the reader's language."""
    words = [say(COLUMN_WORDS[column]) for column in COLUMNS]
    return words + [f"{say(COLUMN_WORDS[column])} (ISO 8601)" for column in MOMENTS]


def _iso(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment is not None else ""


def _unsigned(signed: bool) -> list[str]:
    return [] if signed else [say(told("not signed"))]


def _verdict(said: Said, names: Mapping[str, str]) -> str:
    """Return a verdict as `line: Blerim Gashi approve (shortened to 10 min)`."""
    more: list[str] = []
    if said.deputy_of is not None:
        more.append(say(told("in the place of %(name)s", name=names.get(said.deputy_of, said.deputy_of))))
    if said.max_duration_s is not None:
        more.append(say(told("shortened to %(duration)s", duration=duration_text(said.max_duration_s))))
    more += _unsigned(said.signed)
    text = f"{said.step}: {names.get(said.person_id, said.person_id)} {say(word(said.verdict))}"
    return f"{text} ({', '.join(more)})" if more else text


def _veto(stopped: Stopped, names: Mapping[str, str]) -> str:
    name = names.get(stopped.person_id, stopped.person_id)
    return " ".join([name, *(f"({text})" for text in _unsigned(stopped.signed))])


def cells(line: Line, names: Mapping[str, str]) -> tuple[str, ...]:
    """Return one request as the cells of `COLUMNS` and `MOMENTS`."""

    def at(moment: datetime | None) -> str:
        return time_text(to_epoch_s(moment), language_now(), zone_now()) if moment is not None else ""

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
        say(word(line.state)),
        at(line.decided_at),
        "; ".join(_verdict(said, names) for said in line.approvals),
        line.grant_id or "",
        say(word(line.grant_state or "")),
        at(line.opened_at),
        at(line.ends_at),
        at(line.ended_at),
        say(word(line.cause or "")),
        at(line.revoked_at),
        line.policy_digest,
        "; ".join(_veto(stopped, names) for stopped in line.vetoes),
        line.extends or "",
        "; ".join(dict.fromkeys(said.set_id for said in line.approvals if said.set_id is not None)),
        *(
            _iso(moment)
            for moment in (
                line.filed_at, line.decided_at, line.opened_at, line.ends_at, line.ended_at, line.revoked_at
            )
        ),
    )  # fmt: skip


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
            {
                "step": said.step,
                "person_id": said.person_id,
                "person": names.get(said.person_id),
                "verdict": said.verdict,
                "deputy_of": said.deputy_of,
                "signed": said.signed,
                "max_duration_s": said.max_duration_s,
                "set": said.set_id,
            }
            for said in line.approvals
        ],
        "vetoes": [
            {"person_id": stopped.person_id, "person": names.get(stopped.person_id), "signed": stopped.signed}
            for stopped in line.vetoes
        ],
        "grant": line.grant_id,
        "grant_state": line.grant_state,
        "opened_at": at(line.opened_at),
        "ends_at": at(line.ends_at),
        "ended_at": at(line.ended_at),
        "cause": line.cause,
        "credentials_gone_at": at(line.revoked_at),
        "policy_digest": line.policy_digest,
        "extends": line.extends,
    }


ACCOUNT_WORDS: Mapping[str, str] = {
    "target": told("system"),
    "account": told("account"),
    "finding": told("what is wrong"),
    "extra": told("what is more than is known"),
    "found": told("found"),
    "acted": told("what the broker did"),
    "statement": told("what the owner has to run"),
}
"""The heads of the columns of accounts that nothing explains."""


def account_heads() -> tuple[str, ...]:
    """Return the heads in the reader's language."""
    return tuple(say(head) for head in ACCOUNT_WORDS.values())


def account_cells(row: TargetAccount) -> tuple[str, ...]:
    """Return an account that nothing explains as the cells of `ACCOUNT_WORDS`, in plain words."""
    found = row.found_at
    return (
        row.target,
        row.name,
        telling.account(row.finding),
        "; ".join(str(right) for right in cast("list[str]", row.extra or [])),
        time_text(to_epoch_s(found), language_now(), zone_now()) if found is not None else "",
        telling.acted(row.acted),
        row.statement or "",
    )


def account_document(row: TargetAccount) -> dict[str, JsonValue]:
    """Return an account that nothing explains as JSON: codes, and times in UTC seconds."""
    return {
        "target": row.target,
        "account": row.name,
        "finding": row.finding,
        "extra": row.extra,
        "first_seen_at": to_epoch_s(row.first_seen_at),
        "found_at": to_epoch_s(row.found_at) if row.found_at is not None else None,
        "acted": row.acted,
        "statement": row.statement,
    }


def json_lines(about: Mapping[str, JsonValue], documents: Iterable[Mapping[str, JsonValue]]) -> Iterator[str]:
    """Give one JSON object: what is said about the export, its `requests`, and at the end that nothing is missing."""
    yield json.dumps(about, ensure_ascii=False, indent=1).removesuffix("\n}") + ',\n "requests": ['
    between = "\n"
    for found in documents:
        yield between + json.dumps(found, ensure_ascii=False)
        between = ",\n"
    yield '\n ],\n "complete": true\n}\n'


def download(text: str | Iterator[str], content_type: str, name: str) -> Response:
    """Return text, or its parts as they come, as a file to keep."""
    response = Response(text, content_type=content_type)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
