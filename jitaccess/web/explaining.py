"""What would I, or somebody else, need for a right, and why does a rule not permit it? One page and one API call; they decide nothing.

Everybody may ask of oneself. Of others administrators and auditors may, and each such reading is an event (R71); anybody else is
refused before anybody is looked up. The question is in the address, so that it can be passed on as a link; that gives nobody a right to
the answer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, jsonify, render_template, request

from jitaccess.broker import logview, roster
from jitaccess.broker.ask import Ask
from jitaccess.broker.context import Broker
from jitaccess.broker.explaining import Explained, explained, typed
from jitaccess.clock import from_epoch_s
from jitaccess.domain.numbers import whole
from jitaccess.domain.register import PersonView
from jitaccess.errors import JitError, Kind
from jitaccess.identity import people
from jitaccess.identity.sessions import Current
from jitaccess.policy.evaluate import AskKind, CredentialClass, EntitlementFacts, Inputs, PolicySet, Reason
from jitaccess.store.db import View
from jitaccess.web import answers, display, schemas, telling
from jitaccess.web.api import decision_json
from jitaccess.web.doors import current
from jitaccess.web.naming import here
from jitaccess.web.operations import documented
from jitaccess.web.requester import STEPS_S
from jitaccess.web.speech import gettext, say
from jitaccess.web.starts import posted_start

CLASSES: Mapping[str, CredentialClass] = {one.name.lower(): one for one in CredentialClass}
MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class _Asked:
    """The question of an address, and what is wrong with it in one sentence."""

    ask: Ask
    person: str
    credential: CredentialClass | None
    wrong: str | None
    several: tuple[PersonView, ...] = ()
    """Who all is called like that, where that was not one."""


def blueprint(broker: Broker) -> Blueprint:
    """Return the page and the API call over a broker."""
    pages = Blueprint("explaining", __name__)

    @pages.get("/policy/explain")
    def page() -> str | tuple[str, int]:
        me = current()
        with broker.read() as view:
            policies = broker.policies.active_or_none(view)
            if policies is None:
                raise JitError(Kind.NOT_FOUND, "No policy is active yet.")
            asked = _asked(view, policies, me)
            found = None if asked.wrong or not asked.ask.target else _found(view, broker, me, asked)
            groups = people.group_names(view)
        if found is not None and found.person.id != me.person.id:
            logview.note_reading(broker, me, "explain")
        html = render_template(
            "policy_explain.html",
            policies=policies,
            found=found,
            because=_words(found, asked.ask, me, groups) if found is not None else None,
            asked=asked,
            given=request.args,
            durations=_durations(asked.ask.duration_s),
            classes=[(name, telling.passkey_kind(name)) for name in CLASSES if name != "any"],
            links={one.id: _link(person=one.id) for one in asked.several},
            terms=display.terms_rows(found.explanation.decision.terms.to_document())
            if found is not None and found.explanation.decision.terms is not None
            else None,
        )
        return (html, 422) if asked.wrong else html

    @pages.get("/api/policy/explain")
    @documented(
        "policy",
        "Explain each rule for oneself; for somebody else to administrators and auditors.",
        query=schemas.ExplainQuery,
        answers=answers.Explained,
    )
    def call() -> Response:
        me = current()
        asked = schemas.query(schemas.ExplainQuery)
        start = from_epoch_s(asked.start_at) if asked.start_at is not None else None
        ask = Ask(asked.target, asked.entitlement, asked.inputs, asked.duration_s, "", start)
        credential = CLASSES[asked.credential] if asked.credential is not None else None
        with broker.read() as view:
            found = explained(view, broker, me, ask, person=asked.person, credential=credential)
            groups = people.group_names(view)
        if found.person.id != me.person.id:
            logview.note_reading(broker, me, "explain")
        return jsonify(_document(found, _words(found, ask, me, groups), own=found.person.id == me.person.id))

    return pages


def _found(view: View, broker: Broker, me: Current, asked: _Asked) -> Explained:
    return explained(view, broker, me, asked.ask, person=asked.person, credential=asked.credential)


def _asked(view: View, policies: PolicySet, me: Current) -> _Asked:
    """Read the address; raises FORBIDDEN where it names somebody else and the reader may not ask that."""
    target, _, entitlement = request.args.get("right", "")[:130].partition("/")
    facts = policies.targets.get(target)
    right = facts.entitlements.get(entitlement) if facts is not None else None
    person, several, wrong = _person(view, me, request.args.get("person", "").strip()[:254])
    if right is None and target:
        wrong = wrong or gettext("There is no such system or right.")
    inputs, unread = _inputs(right)
    seconds = request.args.get("duration_s", "")
    duration_s = whole(seconds, 8)
    if seconds and not duration_s:
        unread = unread or gettext("Give the time in whole seconds.")
    start, late = posted_start(request.args.get("start", ""))
    name = request.args.get("credential", "")
    if name and name not in CLASSES:
        unread = unread or gettext("There is no such kind of passkey.")
    ask = (
        Ask(target, entitlement, inputs, duration_s or None, "", start)
        if right is not None
        else Ask("", "", {}, None, "")
    )
    return _Asked(ask, person, CLASSES.get(name), wrong or unread or late, several)


def _person(view: View, me: Current, text: str) -> tuple[str, tuple[PersonView, ...], str | None]:
    """Return the id of who is asked about, whom else the words could mean, and what is wrong; no words mean the reader."""
    if not text or text == me.person.id:
        return me.person.id, (), None
    if not people.is_auditor(view, me.person.id):
        raise JitError(Kind.FORBIDDEN, "Only an administrator or an auditor may ask this about somebody else.")
    known = roster.person_by_mail(view, text)
    if known is not None:
        return known, (), None
    found = roster.search(view, text).persons[:MOST_NAMED]
    match found:
        case ():
            return "", (), gettext("Nobody is called like that.")
        case (one,):
            return one.id, (), None
        case _:
            return "", found, gettext("Several people are called like that. Choose one:")


def _inputs(right: EntitlementFacts | None) -> tuple[Inputs, str | None]:
    """Return the fields that were filled in, and what is wrong with the first that cannot be read."""
    found: dict[str, str | int | bool] = {}
    wrong: str | None = None
    for name, term in (right.asks if right is not None else {}).items():
        text = request.args.get(f"input.{name}", "").strip()
        if not text:
            continue
        found[name] = typed(term, text)
        if isinstance(found[name], str):
            match term.kind:
                case AskKind.INTEGER:
                    wrong = wrong or gettext("%(label)s must be a whole number.", label=here(term.label))
                case AskKind.BOOLEAN:
                    wrong = wrong or gettext("%(label)s must be yes or no.", label=here(term.label))
                case AskKind.STRING:
                    pass
    return found, wrong


def _durations(chosen_s: int | None) -> list[int]:
    return sorted({*STEPS_S, *([chosen_s] if chosen_s is not None else [])})


def _link(**changed: str) -> str:
    return "/policy/explain?" + urlencode({**request.args.to_dict(), **changed})


def _words(found: Explained, ask: Ask, me: Current, groups: Mapping[str, str]) -> Callable[[Reason], str]:
    """Return what says a reason to the reader, about the person who was asked about."""
    right, own = (ask.target, ask.entitlement), found.person.id == me.person.id
    return lambda reason: telling.because(reason, found.policies, right, own=own, groups=groups)


def _document(found: Explained, because: Callable[[Reason], str], *, own: bool) -> dict[str, Any]:
    story, blocked = found.explanation, found.blocked
    return {
        "person_id": found.person.id,
        "credential": found.credential.name.lower(),
        "decision": decision_json(story.decision, own=own),
        "blocked": {"code": blocked.code, "sentence": say(blocked.message)} if blocked is not None else None,
        "rules": [{"rule": verdict.rule, **_failure(verdict.failure, because)} for verdict in story.rules],
        "signers": {step: [one.id for one in able] for step, able in story.signers.items()},
        "enough_people": story.reachable,
    }


def _failure(reason: Reason | None, because: Callable[[Reason], str]) -> dict[str, Any]:
    if reason is None:
        return {"failure": None, "about": "", "sentence": None}
    return {"failure": reason.code.value, "about": reason.about, "sentence": because(reason)}
