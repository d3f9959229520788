"""What does a notice say? One letter a kind, in the reader's language: who, what, how long, until when, how risky, and where to look.

A letter is the same facts for mail (text and simple HTML), chat and SMS. Its one link points at a page and carries no power; it is built
from the site's origin, never from a request (R46). User text is shown with its control characters visible (R18). A letter whose subject
has become moot is None: it is not sent any more.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from markupsafe import Markup
from sqlalchemy import func, select

from jitaccess.broker import pace
from jitaccess.broker.comments import comments_of
from jitaccess.broker.context import Broker
from jitaccess.broker.refusals import refusers
from jitaccess.domain.lifecycle import GrantState, RequestState
from jitaccess.domain.notices import Notice
from jitaccess.domain.wording import word
from jitaccess.errors import JitError
from jitaccess.language import Language, catalogue, duration_text, minute_text, money_text
from jitaccess.policy.evaluate import AskTerm
from jitaccess.store.db import View
from jitaccess.store.tables import (
    AccessRequest,
    Account,
    Approval,
    Deputation,
    Grant,
    Outbox,
    Passkey,
    Person,
    Recovery,
    TargetAccount,
)
from jitaccess.told import called_in, retold, told


@dataclass(frozen=True, slots=True)
class Voice:
    """A language and a zone."""

    language: Language
    zone: str

    def said(self, msgid: str, /, **values: object) -> str:
        """Return a sentence in this language."""
        return retold(told(msgid, **values), catalogue(self.language))

    def said_n(self, one: str, many: str, num: int, /) -> str:
        """Return a sentence for a number in this language."""
        return catalogue(self.language).ngettext(one, many, num) % {"num": num}

    def word(self, code: str) -> str:
        """Return the word for a code in this language."""
        return retold(word(code), catalogue(self.language))

    def called(self, name: str) -> str:
        """Return what policy calls something, in this language."""
        return called_in(name, self.language.short)

    def time(self, at: datetime) -> str:
        """Return a time in this language and zone."""
        return minute_text(at, self.language, self.zone)


@dataclass(frozen=True, slots=True)
class Letter:
    """A notice as words; `facts` are label and value, `link` is the page to look at."""

    subject: str
    facts: tuple[tuple[str, str], ...]
    link: str
    button: str
    note: str = ""
    brief: tuple[tuple[str, str], ...] = ()
    """Those facts that a small screen shows too: until when, how risky; never a reason or an input."""
    parts: tuple["Letter", ...] = ()
    """What a digest gathers, each with its own facts and link."""

    def as_text(self, voice: Voice) -> str:
        """Return the letter as plain text; each link stands alone on its line."""
        lines = [self.subject, "", *self._told()]
        for part in self.parts:
            lines += ["-" * 40, part.subject, "", *part._told(), part.link, ""]
        return "\n".join([*lines, f"{self.button}:", self.link, "", _footer(voice), ""])

    def _told(self) -> list[str]:
        """Return facts and note as lines; what a value continues with is set in, so that it cannot pass for a fact of its own."""
        facts = [f"{label}: {value}".replace("\n", "\n    ") for label, value in self.facts]
        return facts + ([""] if facts else []) + ([self.note, ""] if self.note else [])

    def as_html(self, voice: Voice) -> str:
        """Return the letter as HTML without pictures, scripts or anything fetched."""
        parts = Markup("").join(
            Markup('<h2 style="font-size:1em"><a href="{}">{}</a></h2>').format(part.link, part.subject) + part._table()
            for part in self.parts
        )
        return str(
            Markup(
                '<!doctype html><html lang="{lang}"><head><meta charset="utf-8"><title>{subject}</title></head>'
                '<body style="font-family:sans-serif;max-width:40em"><h1 style="font-size:1.2em">{subject}</h1>'
                "{told}{parts}"
                '<p><a href="{link}" style="display:inline-block;padding:10px 16px;background:#0b5cad;color:#fff;'
                'text-decoration:none;border-radius:4px">{button}</a></p>'
                '<p style="color:#555;font-size:.9em">{footer}</p></body></html>'
            ).format(
                lang=voice.language.tag, subject=self.subject, told=self._table(), parts=parts, link=self.link,
                button=self.button, footer=_footer(voice),
            )
        )  # fmt: skip

    def _table(self) -> Markup:
        rows = Markup("").join(
            Markup(
                '<tr><th align="left" valign="top" style="padding:2px 12px 2px 0">{}</th>'
                '<td style="white-space:pre-line">{}</td></tr>'
            ).format(*fact)
            for fact in self.facts
        )
        note = Markup("<p>{}</p>").format(self.note) if self.note else Markup("")
        return Markup("<table>{}</table>").format(rows) + note

    def as_line(self) -> str:
        """Return the letter for a small screen: what it is about, until when, how risky, and where to look; no reason, no inputs."""
        return "\n".join([self.subject, *(f"{label}: {value}" for label, value in self.brief), self.link])


def _footer(voice: Voice) -> str:
    return voice.said(
        "This link only opens a page and decides nothing. jitaccess never asks for a password or a code by mail."
    )


def visible(text: str) -> str:
    """Return text with everything that does not print shown as its code point, so that it cannot disguise itself (R18)."""
    return "".join(letter if letter.isprintable() else f"[U+{ord(letter):04X}]" for letter in text)


def visible_lines(text: str) -> str:
    """Return text with its line breaks, and everything else that does not print made visible."""
    return "\n".join(visible(line) for line in text.replace("\r\n", "\n").split("\n"))


@dataclass(frozen=True, slots=True)
class Desk:
    """What a letter is written with; `reader` is None where a shared channel reads it."""

    view: View
    broker: Broker
    voice: Voice
    row: Outbox
    reader: Person | None

    def name_of(self, person_id: str) -> str:
        """Return a person's name."""
        person = self.view.unchecked_get(Person, person_id)
        return visible(person.name) if person is not None else self.voice.said("Somebody")

    def what(self, target: str, entitlement: str) -> str:
        """Return the names of a right on a system."""
        facts = self._facts_of(target)
        if facts is None or entitlement not in facts.entitlements:
            return f"{target}: {entitlement}"
        return f"{self.voice.called(facts.name)}: {self.voice.called(facts.entitlements[entitlement].label)}"

    def inputs(self, request: AccessRequest) -> list[tuple[str, str]]:
        """Return what the requester gave, by the names that people read; money as money."""
        facts = self._facts_of(request.target)
        right = facts.entitlements.get(request.entitlement) if facts is not None else None
        asks = right.asks if right is not None else {}
        return [
            (visible(self.voice.called(asks[name].label) if name in asks else name), self._value(asks.get(name), value))
            for name, value in sorted(cast("dict[str, object]", request.inputs).items())
        ]

    def _value(self, term: AskTerm | None, value: object) -> str:
        if isinstance(value, bool):
            return self.voice.said("yes") if value else self.voice.said("no")
        if term is not None and term.currency is not None and isinstance(value, int):
            return f"{money_text(value, term.currency, self.voice.language)} ({value})"
        return visible(str(value))

    def risk(self, target: str, entitlement: str) -> tuple[tuple[str, str], ...]:
        """Return the line that says how high the stakes are, where policy says it."""
        facts = self._facts_of(target)
        if facts is None or entitlement not in facts.entitlements:
            return ()
        return ((self.voice.said("Risk"), self.voice.word(facts.entitlements[entitlement].risk)),)

    def _facts_of(self, target: str) -> Any:
        try:
            policies = self.broker.policies.active_or_none(self.view)
        except JitError:  # a broken policy row delays no notice
            return None
        return policies.targets.get(target) if policies is not None else None

    def comments(self, request_id: str) -> list[tuple[str, str]]:
        """Return what approvers wrote, each with its author."""
        found = comments_of(self.view, request_id)
        return [
            (self.voice.said("%(name)s wrote", name=self.name_of(key)), visible_lines(text))
            for (key, _), text in found.items()
        ]

    def page(self, path: str) -> str:
        """Return the address of a page."""
        return f"{self.broker.site.origin}{path}"

    def request(self) -> AccessRequest | None:
        """Return the request that this is about."""
        return self.view.unchecked_get(AccessRequest, self.row.subject_id)

    def grant(self) -> Grant | None:
        """Return the grant that this is about."""
        return self.view.unchecked_get(Grant, self.row.subject_id)


def write(desk: Desk) -> Letter | None:
    """Return the letter for an outbox row, or None when what it is about is gone or decided."""
    if desk.reader is not None and desk.reader.status != "active" and desk.row.kind != Notice.HELD:
        return None
    made = _LETTERS.get(desk.row.kind)
    return _plain(desk) if made is None else made(desk)


def _plain(desk: Desk) -> Letter:
    said = desk.voice.said
    return Letter(said("A notice from jitaccess"), (), desk.page("/"), said("Open jitaccess"))


def _approval_wanted(desk: Desk) -> Letter | None:
    request, voice = desk.request(), desk.voice
    if request is None or request.state != RequestState.PENDING or desk.view.now >= request.approve_by:
        return None
    name, what = desk.name_of(request.person_id), desk.what(request.target, request.entitlement)
    duration = duration_text(request.duration_s)
    brief = (
        (voice.said("Answer until"), voice.time(request.approve_by)),
        *desk.risk(request.target, request.entitlement),
    )
    facts = [
        (voice.said("Who"), name),
        (voice.said("What"), what),
        *desk.inputs(request),
        (voice.said("How long"), duration),
        *brief,
    ]
    if desk.reader is not None:
        facts.append((voice.said("Why"), visible_lines(request.reason or "")))
    subject = voice.said("%(name)s asks for %(what)s (%(duration)s)", name=name, what=what, duration=duration)
    button = voice.said("Look at it and sign, or refuse")
    again = _lost_before(desk, request)
    return Letter(subject, tuple(facts), desk.page(f"/approvals/{request.id}"), button, again, brief)


def _approval_lost(desk: Desk) -> Letter | None:
    """Tell who asked that a signature does not count any more; moot once the request is decided or signed anew."""
    request, voice = desk.request(), desk.voice
    if request is None or request.state != RequestState.PENDING or desk.view.now >= request.approve_by:
        return None
    what = desk.what(request.target, request.entitlement)
    facts = [
        (voice.said("What"), what),
        *desk.inputs(request),
        (voice.said("How long"), duration_text(request.duration_s)),
    ]
    brief = ((voice.said("Answer until"), voice.time(request.approve_by)),)
    if desk.reader is None:
        facts.insert(0, (voice.said("Who"), desk.name_of(request.person_id)))
    note = voice.said(
        "Somebody who had signed it may not sign any more, or not with that passkey. "
        "Whoever can sign now was asked again; you need not do anything."
    )
    subject = voice.said("A signature on your request does not count any more: %(what)s", what=what)
    page = desk.page(f"/requests/{request.id}")
    return Letter(subject, (*facts, *brief), page, voice.said("Look at the request"), note, brief)


def _lost_before(desk: Desk, request: AccessRequest) -> str:
    """Return why a request is asked about again, where a signature on it was lost."""
    lost = desk.view.scalar(
        select(func.count()).where(Approval.request_id == request.id, Approval.lost_at.is_not(None))
    )
    return (
        desk.voice.said("A signature that it had does not count any more, so it is asked about anew.") if lost else ""
    )


def _request_decided(desk: Desk) -> Letter | None:
    request, voice = desk.request(), desk.voice
    if request is None:
        return None
    what, state = desk.what(request.target, request.entitlement), voice.word(request.state)
    facts = [(voice.said("What"), what), (voice.said("How long"), duration_text(request.duration_s))]
    note = ""
    if desk.reader is None:
        facts.insert(0, (voice.said("Who"), desk.name_of(request.person_id)))
    else:
        facts[1:1] = desk.inputs(request)
        if request.state == RequestState.DENIED:
            refused = [desk.name_of(person) for person in refusers(desk.view, request.id)]
            facts += [(voice.said("Refused by"), ", ".join(refused))] if refused else []
            note = voice.said("On your start page you can ask again; your answers are filled in there.")
        facts += desk.comments(request.id)
    subject = voice.said("Request %(state)s: %(what)s", state=state, what=what)
    button = voice.said("Look at the request")
    return Letter(subject, tuple(facts), desk.page(f"/requests/{request.id}"), button, note)


def _about_grant(desk: Desk, subject: Callable[[Desk, Grant, str], str], page: str = "/") -> Letter | None:
    grant, voice = desk.grant(), desk.voice
    if grant is None:
        return None
    what = desk.what(grant.target, grant.entitlement)
    facts = [] if desk.reader is not None and desk.reader.id == grant.person_id else [
        (voice.said("Who"), desk.name_of(grant.person_id))
    ]  # fmt: skip
    facts += [(voice.said("What"), what), (voice.said("How long"), duration_text(grant.duration_s))]
    ended = grant.ended_at or grant.ends_at
    brief = desk.risk(grant.target, grant.entitlement)
    if grant.starts_at is None and grant.ended_at is None and grant.activate_by is not None:
        brief = ((voice.said("Open it until"), voice.time(grant.activate_by)), *brief)
    elif ended is not None:
        brief = ((voice.said("Until"), voice.time(ended)), *brief)
    facts += brief
    note = ""
    if desk.row.kind == Notice.GRANT_READY and desk.reader is not None:
        facts += desk.comments(grant.request_id)
        note = _shortened(desk, grant)
    return Letter(subject(desk, grant, what), tuple(facts), desk.page(page), voice.said("Look at it"), note, brief)


def _shortened(desk: Desk, grant: Grant) -> str:
    request = desk.view.unchecked_get(AccessRequest, grant.request_id)
    if request is None or grant.duration_s >= request.duration_s:
        return ""
    given, asked = duration_text(grant.duration_s), duration_text(request.duration_s)
    return desk.voice.said("An approver shortened it to %(given)s; you asked for %(asked)s.", given=given, asked=asked)


def _ready(desk: Desk, grant: Grant, what: str) -> str:
    return desk.voice.said("Access is ready: %(what)s", what=what)


def _scheduled(desk: Desk, grant: Grant, what: str) -> str:
    if grant.not_before is None:
        return _ready(desk, grant, what)
    at = desk.voice.time(grant.not_before)
    return desk.voice.said("Access begins at %(time)s: %(what)s", time=at, what=what)


def _ended(desk: Desk, grant: Grant, what: str) -> str:
    cause = desk.voice.word(grant.cause or "ended")
    return desk.voice.said("Access has ended (%(cause)s): %(what)s", cause=cause, what=what)


def _ending(desk: Desk, grant: Grant, what: str) -> str:
    said, time = desk.voice.said, desk.voice.time
    if grant.ends_at is None:
        return said("Access ends soon: %(what)s", what=what)
    if grant.closes_at is None:
        return said("Access ends at %(time)s: %(what)s", time=time(grant.ends_at), what=what)
    return said(
        "Access ends at %(time)s, what is open then at %(end)s: %(what)s",
        time=time(grant.closes_at), end=time(grant.ends_at), what=what,
    )  # fmt: skip


def _witness(desk: Desk) -> Letter | None:
    """What somebody learns who neither asked nor signs."""
    found: AccessRequest | Grant | None = desk.request() or desk.grant()
    if found is None:
        return None
    voice, said = desk.voice, desk.voice.said
    name, what = desk.name_of(found.person_id), desk.what(found.target, found.entitlement)
    duration = duration_text(found.duration_s)
    kind = "requests" if isinstance(found, AccessRequest) else "grants"
    facts = [(said("Who"), name), (said("What"), what), (said("How long"), duration)]
    if isinstance(found, AccessRequest):
        subject = said("%(name)s has asked for %(what)s (%(duration)s)", name=name, what=what, duration=duration)
        if desk.reader is not None:
            facts.append((said("Why"), visible_lines(found.reason or "")))
    elif desk.row.kind == Notice.WITNESS_ENDED:
        cause = voice.word(found.cause or "ended")
        subject = said("The access of %(name)s has ended (%(cause)s): %(what)s", name=name, cause=cause, what=what)
    else:
        subject = said("%(name)s was granted %(what)s (%(duration)s)", name=name, what=what, duration=duration)
    brief = desk.risk(found.target, found.entitlement)
    if isinstance(found, Grant) and found.ends_at is not None:
        brief = ((said("Until"), voice.time(found.ended_at or found.ends_at)), *brief)
    note = said("You are told as a witness; nothing is asked of you.")
    page = desk.page(f"/witness/{kind}/{found.id}")
    return Letter(subject, (*facts, *brief), page, said("Look at it"), note, brief)


def _veto(desk: Desk) -> Letter | None:
    grant, voice = desk.grant(), desk.voice
    if grant is None or grant.not_before is None or grant.state != GrantState.SCHEDULED:
        return None
    name, what = desk.name_of(grant.person_id), desk.what(grant.target, grant.entitlement)
    until = voice.time(grant.not_before)
    brief = (
        (voice.said("How long"), duration_text(grant.duration_s)),
        *desk.risk(grant.target, grant.entitlement),
    )
    facts = ((voice.said("Who"), name), (voice.said("What"), what), (voice.said("Begins"), until), *brief)
    subject = voice.said("You can stop this until %(time)s: %(name)s, %(what)s", time=until, name=name, what=what)
    button = voice.said("Look at it, or stop it with one tap")
    return Letter(subject, facts, desk.page(f"/witness/grants/{grant.id}"), button, brief=brief)


def _deputy(desk: Desk) -> Letter | None:
    found, voice = desk.view.unchecked_get(Deputation, desk.row.subject_id), desk.voice
    if found is None:
        return None
    names = {"delegator": desk.name_of(found.delegator_id), "deputy": desk.name_of(found.deputy_id)}
    if desk.row.kind == Notice.DEPUTY_ENDED:
        subject = voice.said("%(deputy)s stands in for %(delegator)s no longer", **names)
    else:
        subject = voice.said("%(delegator)s named %(deputy)s as deputy", **names)
    facts = ((voice.said("From"), voice.time(found.starts_at)), (voice.said("Until"), voice.time(found.ends_at)))
    return Letter(subject, facts, desk.page("/deputies"), voice.said("Look at the deputies"))


def _hurried(desk: Desk) -> Letter | None:
    """A quiet note: nothing was blocked."""
    found, said = pace.pace_of(desk.view, desk.broker, desk.row.subject_id), desk.voice.said
    if found is None:
        return None
    note = said(
        "%(name)s gave %(hurried)s of the last %(decisions)s approvals within %(seconds)s seconds. Nothing was blocked. "
        "Perhaps too many requests come, or too small ones.",
        name=desk.name_of(desk.row.subject_id), hurried=found.hurried, decisions=found.decisions,
        seconds=desk.broker.settings.limits.hurried_below_s,
    )  # fmt: skip
    subject = said("Approvals are given very fast")
    return Letter(subject, (), desk.page("/approvals/pace"), said("Look at it"), note)


def _stuck(desk: Desk) -> Letter:
    said = desk.voice.said
    note = said("The account may still be there. It is tried again and again; look at the target, or close it by hand.")
    return Letter(said("Access could not be taken away"), (), desk.page("/watch"), said("Look at the targets"), note)


def _account(desk: Desk) -> Letter | None:
    """Tell of an account that nothing explains, with the statement where the owner has to run it."""
    found, said = desk.view.get(TargetAccount, desk.row.subject_id), desk.voice.said
    if found is None:
        return None
    extra = ", ".join(visible(right) for right in cast("list[str]", found.extra))
    facts = [
        (said("Account"), visible(found.name)),
        (said("System"), found.target),
        (said("What is wrong"), desk.voice.word(found.finding or found.acted or "closed")),
    ]
    if extra:
        facts.append((said("Rights"), extra))
    note = ""
    if found.statement:
        note = said("The broker cannot disable it. Run on the system: %(text)s", text=visible(found.statement))
    return Letter(
        said("An account that nothing explains"), tuple(facts), desk.page("/watch"), said("Look at the targets"), note
    )


def _unseen(desk: Desk) -> Letter:
    said = desk.voice.said
    note = said("What is on it cannot be compared with what was granted. Look at it, and at the broker's access to it.")
    subject = said("The system %(target)s cannot be looked at", target=desk.row.subject_id)
    return Letter(subject, (), desk.page("/watch"), said("Look at the targets"), note)


def _passkey(desk: Desk) -> Letter:
    passkey, said = desk.view.unchecked_get(Passkey, desk.row.subject_id), desk.voice.said
    if desk.row.kind == Notice.PASSKEY_ADDED:
        subject = said("A passkey was added to your account")
    else:
        subject = said("A passkey was removed from your account")
    facts = () if passkey is None else ((said("Passkey"), visible(passkey.name)),)
    note = said("If this was not you, tell an administrator at once.")
    return Letter(subject, facts, desk.page("/passkeys"), said("Look at your passkeys"), note)


def _held(desk: Desk) -> Letter:
    said = desk.voice.said
    subject = said("Access of %(name)s is on hold", name=desk.name_of(desk.row.person_id))
    if desk.reader is not None:
        subject = said("Your access is on hold")
    note = said("Everything that was open has ended. An administrator can say why and lift the hold.")
    return Letter(subject, (), desk.page("/"), said("Open jitaccess"), note)


def _replacement(desk: Desk) -> Letter | None:
    """Tell the owner, who can stop it, and the administrators, who can too."""
    row, said = desk.view.get(Recovery, desk.row.subject_id), desk.voice.said
    account = desk.view.get(Account, row.account_id) if row is not None else None
    if row is None or account is None:
        return None
    facts = ((said("Account"), visible(account.label)), (said("Takes effect"), desk.voice.time(row.ripe_at)))
    if account.person_id == desk.row.person_id:
        note = said("Administrators signed this. If you did not ask for it, sign in and stop it with one tap.")
        subject = said("The passkeys of your account are to be replaced")
        return Letter(subject, facts, desk.page("/lost"), said("Look at it, or stop it"), note)
    note = said("Administrators signed this. Any administrator can stop it until the new passkey is there.")
    subject = said("The passkeys of %(name)s are to be replaced", name=desk.name_of(account.person_id))
    page = desk.page(f"/people/{account.person_id}")
    return Letter(subject, facts, page, said("Look at it, or stop it"), note)


def _recovery(desk: Desk) -> Letter:
    said = desk.voice.said
    note = said("Paper recovery keys were used. The recovery takes effect after 72 hours unless a founder vetoes it.")
    return Letter(said("A recovery has begun"), (), desk.page("/people"), said("Look at it, or veto it"), note)


_LETTERS: Mapping[str, Callable[[Desk], Letter | None]] = {
    Notice.APPROVAL_WANTED: _approval_wanted,
    Notice.REQUEST_DECIDED: _request_decided,
    Notice.APPROVAL_LOST: _approval_lost,
    Notice.GRANT_READY: lambda desk: _about_grant(desk, _ready),
    Notice.GRANT_SCHEDULED: lambda desk: _about_grant(desk, _scheduled),
    Notice.GRANT_ENDING: lambda desk: _about_grant(desk, _ending),
    Notice.GRANT_ENDED: lambda desk: _about_grant(desk, _ended),
    Notice.WITNESS_FILED: _witness,
    Notice.WITNESS_GRANTED: _witness,
    Notice.WITNESS_ENDED: _witness,
    Notice.VETO_POSSIBLE: _veto,
    Notice.HURRIED: _hurried,
    Notice.DEPUTY_NAMED: _deputy,
    Notice.DEPUTY_ENDED: _deputy,
    Notice.REVOCATION_STUCK: _stuck,
    Notice.ACCOUNT_FOUND: _account,
    Notice.TARGET_UNSEEN: _unseen,
    Notice.PASSKEY_ADDED: _passkey,
    Notice.PASSKEY_REMOVED: _passkey,
    Notice.HELD: _held,
    Notice.REPLACEMENT_STARTED: _replacement,
    Notice.RECOVERY_STARTED: _recovery,
}


def gathered(letters: list[Letter], voice: Voice, page: str) -> Letter:
    """Return many letters as one: a digest. Each keeps all it says and its link."""
    subject = voice.said_n("%(num)s notice from jitaccess", "%(num)s notices from jitaccess", len(letters))
    return Letter(subject, (), page, voice.said("Open jitaccess"), parts=tuple(letters))
