"""How do people learn of it? Notices are outbox rows of the transaction that caused them; they are rendered when sent.

Links point at pages and carry no power; they are built from the site's origin, never from a request (R46). User text is shown with
its control characters visible. A dead mail server delays mails and nothing else (T-22).
"""

import os
import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from pathlib import Path
from typing import cast

from sqlalchemy import select

from jitaccess.broker import pace
from jitaccess.broker.comments import comments_of
from jitaccess.broker.context import Broker
from jitaccess.domain.lifecycle import RequestState
from jitaccess.domain.values import SYSTEM
from jitaccess.identity.enrolment import tell
from jitaccess.policy.schema import format_duration
from jitaccess.settings import Mail
from jitaccess.store.db import View
from jitaccess.store.tables import AccessRequest, Deputation, Grant, Outbox, Passkey, Person

BATCH = 50
BACK_OFF_S = (5, 30, 120, 600, 3600)
GIVE_UP_AFTER = 12
"""Attempts; a notice that still cannot be sent stays in the outbox with its error."""
SMTP_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Letter:
    """A notice as text."""

    to: str
    subject: str
    body: str


def visible(text: str) -> str:
    """Return text with everything that does not print shown as its code point, so that it cannot disguise itself (R18)."""
    return "".join(letter if letter.isprintable() else f"[U+{ord(letter):04X}]" for letter in text)


def render(view: View, broker: Broker, row: Outbox) -> Letter | None:
    """Return the letter for an outbox row, or None when what it is about is gone."""
    person = view.unchecked_get(Person, row.person_id)
    if person is None:
        return None
    origin = broker.site.origin
    match row.kind:
        case "approval_wanted" | "request_decided":
            request = view.get(AccessRequest, row.subject_id)
            if request is None or (row.kind == "approval_wanted" and request.state != RequestState.PENDING.value):
                return None  # answered meanwhile: a notice that was kept back is not sent any more
            return _about_request(view, broker, row.kind, person, request)
        case "grant_ready" | "grant_scheduled" | "grant_ending" | "grant_ended":
            grant = view.unchecked_get(Grant, row.subject_id)
            if grant is None:
                return None
            if row.kind == "grant_ready":
                return _ready(view, broker, person, grant)
            what = _what(view, broker, grant.target, grant.entitlement)
            return Letter(person.email, f"Your access {_state(row.kind, grant)}: {what}", f"{what}\n\n{origin}/\n")
        case "witness_filed" | "witness_granted" | "witness_ended" | "veto_possible":
            return _to_witness(view, broker, row, person)
        case "deputy_named" | "deputy_ended":
            return _about_deputy(view, broker, row, person)
        case "passkey_added" | "passkey_removed":
            passkey = view.unchecked_get(Passkey, row.subject_id)
            name = visible(passkey.name) if passkey is not None else "a passkey"
            word = "added to" if row.kind == "passkey_added" else "removed from"
            body = (
                f'The passkey "{name}" was {word} your account. If this was not you, tell an administrator at once.\n'
            )
            return Letter(person.email, f"A passkey was {word} your account", f"{body}\n{origin}/passkeys\n")
        case pace.HURRIED:
            return _hurried(view, broker, person, row.subject_id)
        case "held":
            return Letter(person.email, "Your access is on hold", f"Ask an administrator.\n\n{origin}/\n")
        case "revocation_stuck":
            body = "The account may still be there. It is tried again and again; look at the target, or close it by hand.\n"
            return Letter(person.email, "Access could not be taken away", f"{body}\n{origin}/targets\n")
        case "recovery_started":
            body = (
                "Paper recovery keys were used. The recovery takes effect after 72 hours unless a founder vetoes it.\n"
            )
            return Letter(person.email, "A recovery has begun", f"{body}\n{origin}/people\n")
        case _:
            return Letter(person.email, "A notice from jitaccess", f"{origin}/\n")


def _hurried(view: View, broker: Broker, person: Person, approver_id: str) -> Letter | None:
    """A quiet note: nothing was blocked."""
    found, approver = pace.pace_of(view, broker, approver_id), view.unchecked_get(Person, approver_id)
    if found is None or approver is None:
        return None
    body = (
        f"{visible(approver.name)} gave {found.hurried} of the last {found.decisions} approvals within "
        f"{broker.settings.limits.hurried_below_s} seconds. Nothing was blocked. Perhaps too many requests come, or too small ones.\n"
    )
    return Letter(person.email, "Approvals are given very fast", f"{body}\n{broker.site.origin}/approvals/pace\n")


def _to_witness(view: View, broker: Broker, row: Outbox, person: Person) -> Letter | None:
    """What somebody learns who neither asked nor signs: who, what and until when, and where to look."""
    model: type[AccessRequest | Grant] = AccessRequest if row.kind == "witness_filed" else Grant
    found = view.unchecked_get(model, row.subject_id)
    if found is None or person.status != "active":
        return None
    who = view.unchecked_get(Person, found.person_id)
    name = visible(who.name) if who is not None else "Somebody"
    what = _what(view, broker, found.target, found.entitlement)
    page = f"{broker.site.origin}/witness/{'requests' if model is AccessRequest else 'grants'}/{found.id}"
    if isinstance(found, AccessRequest):
        return Letter(
            person.email,
            f"{name} has asked for {what} ({format_duration(found.duration_s)})",
            f"You are told as a witness; nothing is asked of you.\n\nReason: {visible(found.reason or '')}\n\n{page}\n",
        )
    if row.kind == "veto_possible" and found.not_before is not None:
        return Letter(
            person.email,
            f"You can stop this until {found.not_before:%H:%M} UTC: {name}, {what}",
            f"{name} was granted {what} and gets it on {found.not_before:%d %b %Y at %H:%M:%S} UTC.\n"
            f"Until then you can stop it with one tap:\n{page}\n",
        )
    if row.kind == "witness_ended":
        subject = f"The access of {name} has ended ({found.cause or 'ended'}): {what}"
    else:
        subject = f"{name} was granted {what} ({format_duration(found.duration_s)})"
    return Letter(person.email, subject, f"You are told as a witness; nothing is asked of you.\n\n{page}\n")


def _about_deputy(view: View, broker: Broker, row: Outbox, person: Person) -> Letter | None:
    found = view.unchecked_get(Deputation, row.subject_id)
    names = (
        [view.unchecked_get(Person, key) for key in (found.delegator_id, found.deputy_id)] if found is not None else []
    )
    if found is None or None in names:
        return None
    delegator, deputy = [visible(who.name) for who in names if who is not None]
    page = f"{broker.site.origin}/deputies\n"
    if row.kind == "deputy_ended":
        return Letter(person.email, f"{deputy} stands in for {delegator} no longer", page)
    body = f"From {found.starts_at:%d %b %Y %H:%M} to {found.ends_at:%d %b %Y %H:%M} UTC.\n\n{page}"
    return Letter(person.email, f"{delegator} named {deputy} as deputy", body)


def _state(kind: str, grant: Grant) -> str:
    if kind == "grant_ready":
        return "is ready"
    if kind == "grant_ending" and grant.ends_at is not None:
        if grant.closes_at is None:
            return f"ends at {grant.ends_at:%H:%M} UTC"
        return f"ends at {grant.closes_at:%H:%M} UTC, what is open then at {grant.ends_at:%H:%M} UTC"
    if kind == "grant_scheduled" and grant.not_before is not None:
        return f"begins on {grant.not_before:%d %b %Y at %H:%M} UTC"
    return f"has ended ({grant.cause or 'ended'})"


def _what(view: View, broker: Broker, target: str, entitlement: str) -> str:
    policies = broker.policies.active_or_none(view)
    facts = policies.targets.get(target) if policies is not None else None
    if facts is None or entitlement not in facts.entitlements:
        return f"{target}: {entitlement}"
    return f"{facts.name}: {facts.entitlements[entitlement].label}"


def _ready(view: View, broker: Broker, person: Person, grant: Grant) -> Letter:
    what = _what(view, broker, grant.target, grant.entitlement)
    request = view.get(AccessRequest, grant.request_id)
    body = f"{what}\nfor {format_duration(grant.duration_s)}\n"
    if request is not None and grant.duration_s < request.duration_s:
        body = (
            f"{what}\nAn approver shortened it to {format_duration(grant.duration_s)}; "
            f"you asked for {format_duration(request.duration_s)}.\n"
        )
    words = _comments(view, grant.request_id)
    return Letter(person.email, f"Your access is ready: {what}", f"{body}{words}\n{broker.site.origin}/\n")


def _comments(view: View, request_id: str) -> str:
    """Return what approvers wrote, one a line, each with its author."""
    found = ""
    for key, text in comments_of(view, request_id).items():
        author = view.unchecked_get(Person, key)
        found += f"\n{visible(author.name) if author is not None else 'An approver'} wrote: {visible(text)}\n"
    return found


def _about_request(view: View, broker: Broker, kind: str, person: Person, request: AccessRequest) -> Letter:
    requester = view.unchecked_get(Person, request.person_id)
    name = visible(requester.name) if requester is not None else "Somebody"
    what = _what(view, broker, request.target, request.entitlement)
    inputs = "".join(
        f"  {key}: {visible(str(value))}\n" for key, value in sorted(cast("dict[str, object]", request.inputs).items())
    )
    if kind == "approval_wanted":
        subject = f"{name} asks for {what} ({format_duration(request.duration_s)})"
        body = (
            f"{name} asks for {what}\nfor {format_duration(request.duration_s)}, "
            f"answer until {request.approve_by:%d %b %Y %H:%M} UTC.\n{inputs}\nReason: {visible(request.reason or '')}\n\n"
            f"Look at it and sign, or refuse:\n{broker.site.origin}/approvals/{request.id}\n"
        )
    else:
        subject = f"Your request is {request.state.lower()}: {what}"
        words = _comments(view, request.id)
        body = f"{what}\n{words}\n{broker.site.origin}/requests/{request.id}\n"
    return Letter(person.email, subject, body)


def to_message(letter: Letter, mail: Mail, now: datetime) -> EmailMessage:
    """Return a mail; line breaks cannot enter a header, because EmailMessage refuses them."""
    message = EmailMessage()
    message["From"] = mail.sender
    message["To"] = letter.to
    message["Subject"] = visible(letter.subject)[:200]
    message["Date"] = format_datetime(now)
    message["Message-ID"] = make_msgid(domain="jitaccess.invalid")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.body)
    return message


def _send_smtp(mail: Mail, message: EmailMessage) -> None:
    with smtplib.SMTP(mail.host, mail.port, timeout=SMTP_LIMIT_S) as server:
        if mail.starttls:
            server.starttls(context=ssl.create_default_context())
        if mail.username:
            server.login(mail.username, mail.password.get_secret_value())
        server.send_message(message)


def _send_folder(folder: Path, key: str, message: EmailMessage) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{key}.new"
    beside.write_bytes(bytes(message))
    os.replace(beside, folder / f"{key}.eml")


def send_due(broker: Broker) -> int:
    """Send what is due; return how many. Each mail is sent outside any transaction and noted afterwards."""
    mail = broker.settings.mail
    with broker.read() as view:
        rows = view.all(
            select(Outbox)
            .where(Outbox.sent_at.is_(None), Outbox.next_at <= view.now, Outbox.attempts < GIVE_UP_AFTER)
            .order_by(Outbox.next_at)
            .limit(BATCH)
        )
        letters = [(row.id, render(view, broker, row)) for row in rows]
        now = view.now
    sent = 0
    for key, letter in letters:
        error = None
        if letter is not None and mail.transport != "none":
            error = _attempt(lambda letter=letter, key=key: _send(mail, key, letter, now))  # type: ignore[misc] # bound now
        with broker.begin(SYSTEM) as tx:
            row = tx.get(Outbox, key)
            if row is None or row.sent_at is not None:
                continue
            if error is None:
                tx.update(row, sent_at=tx.now, attempts=row.attempts + 1, last_error=None)
                sent += 1
            else:
                delay = BACK_OFF_S[min(row.attempts, len(BACK_OFF_S) - 1)]
                tx.update(row, attempts=row.attempts + 1, next_at=tx.now + timedelta(seconds=delay), last_error=error)
    return sent


def _send(mail: Mail, key: str, letter: Letter, now: datetime) -> None:
    message = to_message(letter, mail, now)
    if mail.transport == "smtp":
        _send_smtp(mail, message)
    else:
        _send_folder(mail.folder, key, message)


def _attempt(send: Callable[[], None]) -> str | None:
    try:
        send()
    except (OSError, smtplib.SMTPException, ValueError) as error:
        return type(error).__name__
    return None


__all__ = ["Letter", "render", "send_due", "tell", "to_message", "visible"]
