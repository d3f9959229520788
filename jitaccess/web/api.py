"""The JSON API: the same verbs as the pages, for scripts and for the pages' own passkey ceremonies.

Every change is a POST with a JSON body from our own origin; `begin` answers {challenge_id, options[, statement_b64u]}, `complete` takes
{challenge_id, response}. Thin: parse, call a verb, answer.
"""

import json
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, jsonify

from jitaccess.broker import approve, changes, hold, returning, revoke, sign_ins, strictness
from jitaccess.broker import request as requests
from jitaccess.broker.comments import comments_of
from jitaccess.broker.context import Broker
from jitaccess.broker.listing import grants_page, requests_page
from jitaccess.broker.request import Ask
from jitaccess.broker.votes import votes_of
from jitaccess.clock import from_epoch_s, to_epoch_s
from jitaccess.domain.register import PersonView
from jitaccess.domain.values import SYSTEM, Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity import enrolment, passkeys, people, sessions
from jitaccess.identity.passkeys import Ceremony
from jitaccess.policy.evaluate import AskTerm, Decision
from jitaccess.proof.canonical import JsonValue, b64u_encode
from jitaccess.store.tables import AccessRequest, Approval, Grant, Hold, Passkey
from jitaccess.web import answers, schemas
from jitaccess.web.doors import browser_id, clear_session, current, set_session, settle
from jitaccess.web.limits import count_ceremony, count_failure, refuse_guessers
from jitaccess.web.naming import here
from jitaccess.web.operations import documented
from jitaccess.web.paging import page, part_of, window
from jitaccess.web.readers import administrator, note_overseen
from jitaccess.web.speech import say


def begun(ceremony: Ceremony) -> Response:
    """Answer a begun ceremony."""
    body: dict[str, Any] = {"challenge_id": ceremony.challenge_id, "options": ceremony.options}
    if ceremony.statement is not None:
        body["statement_b64u"] = b64u_encode(ceremony.statement)
    return jsonify(body)


def decision_json(decision: Decision, *, own: bool = True) -> dict[str, Any]:
    """Return a decision for people and scripts; its sentences speak to the person or, when not `own`, about the person."""
    return {
        **decision.to_document(),
        "sentences": [say(requests.sentence(reason, own=own)) for reason in decision.reasons],
    }


def ask_json(term: AskTerm) -> dict[str, Any]:
    """Return an input that a rule asks for."""
    found: dict[str, Any] = {"name": term.name, "type": term.kind, "label": here(term.label)}
    if term.kind == "integer":
        found |= {"min": term.low, "max": term.high}
    if term.pattern is not None:
        found["matches"] = term.pattern.pattern
    return found


def _right(entry: requests.CatalogueEntry) -> tuple[str, str]:
    return entry.target, entry.entitlement


def entry_json(entry: requests.CatalogueEntry) -> dict[str, Any]:
    """Return a right that may be asked for."""
    return {
        "target": entry.target,
        "target_name": here(entry.target_name),
        "entitlement": entry.entitlement,
        "label": here(entry.label),
        "risk": entry.risk,
        "reachable": entry.reachable,
        "needs_approval": entry.needs_approval,
        "default_s": entry.default_s,
        "max_s": entry.max_s,
        "start_within_s": entry.start_within_s,
        "asks": [ask_json(term) for term in entry.asks],
    }


def request_json(row: AccessRequest) -> dict[str, Any]:
    """Return a request."""
    return {
        "id": row.id,
        "person_id": row.person_id,
        "target": row.target,
        "entitlement": row.entitlement,
        "inputs": row.inputs,
        "duration_s": row.duration_s,
        "reason": row.reason,
        "state": row.state,
        "created_at": to_epoch_s(row.created_at),
        "approve_by": to_epoch_s(row.approve_by),
        "policy_digest": row.policy_digest,
    }


def vote_json(vote: Approval, written: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """Return a verdict with the comment that its person wrote."""
    return {
        "step": vote.step,
        "verdict": vote.verdict,
        "person_id": vote.person_id,
        "deputy_of": vote.deputy_of,
        "signed": vote.signed_at is not None,
        "max_duration_s": int(json.loads(vote.statement)["max_duration_s"]) if vote.statement is not None else None,
        "comment": written.get((vote.person_id, vote.verdict), ""),
    }


def grant_json(row: Grant) -> dict[str, Any]:
    """Return a grant."""
    return {
        "id": row.id,
        "request_id": row.request_id,
        "person_id": row.person_id,
        "target": row.target,
        "entitlement": row.entitlement,
        "state": row.state,
        "cause": row.cause,
        "starts_at": to_epoch_s(row.starts_at) if row.starts_at else None,
        "ends_at": to_epoch_s(row.ends_at) if row.ends_at else None,
        "activate_by": to_epoch_s(row.activate_by) if row.activate_by else None,
        "not_before": to_epoch_s(row.not_before) if row.not_before else None,
        "closes_at": to_epoch_s(row.closes_at) if row.closes_at else None,
        "extends": row.extends,
        "approvals_digest": row.approvals_digest,
    }


def blueprint(broker: Broker) -> Blueprint:
    """Return the API over a broker."""
    api = Blueprint("api", __name__, url_prefix="/api")
    _signing_in(api, broker)
    _enrolling(api, broker)
    _stepping_up(api, broker)
    _own_passkeys(api, broker)
    _adding_a_passkey(api, broker)
    _removing_a_passkey(api, broker)
    _requests(api, broker)
    _grants(api, broker)
    _admin(api, broker)
    return api


def _signing_in(api: Blueprint, broker: Broker) -> None:
    site = broker.site

    @api.post("/sign-in/begin")
    @documented("sign-in", "Begin to sign in.", takes=schemas.Empty, answers=answers.Begun, public=True)
    def sign_in_begin() -> Response:
        schemas.body(schemas.Empty)
        browser = browser_id()
        with broker.begin(SYSTEM) as tx:
            count_ceremony(tx, broker, browser)
            ceremony = passkeys.begin_sign_in(tx, site, browser=browser)
        return begun(ceremony)

    @api.post("/sign-in/complete")
    @documented(
        "sign-in",
        "Sign in with a passkey; sets the session cookie.",
        takes=schemas.Answer,
        answers=answers.SignedIn,
        public=True,
        kinds=(Kind.UNAUTHENTICATED,),
    )
    def sign_in_complete() -> Response:
        given = schemas.body(schemas.Answer)
        secret, person_id = "", ""
        with broker.begin(SYSTEM) as tx:
            refuse_guessers(tx, broker)
            found = passkeys.complete_sign_in(
                tx, site, challenge_id=given.challenge_id, response=given.response, browser=browser_id()
            )
            if isinstance(found, Refused):
                count_failure(tx, broker)
            else:
                bounds = strictness.bounds(tx, broker, found.passkey.person_id)
                row, secret = sessions.open_session(tx, found.passkey, bounds)
                person_id = row.person_id
        settle(found)
        response = jsonify({"person_id": person_id})
        set_session(response, secret)
        return response

    @api.post("/sign-out")
    @documented(
        "sign-in",
        "End this session and the sign-ins at applications that were made in it.",
        takes=schemas.Empty,
        answers=answers.Done,
        repeatable=False,
    )
    def sign_out() -> Response:
        schemas.body(schemas.Empty)
        me = current()
        sign_ins.sign_out(broker, me, cause="signed_out")
        response = jsonify({})
        clear_session(response)
        return response

    @api.get("/me")
    @documented("passkeys", "Who this session belongs to.", answers=answers.Me)
    def me_() -> Response:
        me = current()
        with broker.read() as view:
            admin, auditor = people.is_admin(view, me.person.id), people.is_auditor(view, me.person.id)
            bounds = strictness.bounds(view, broker, me.person.id)
        return jsonify(
            {
                "person_id": me.person.id,
                "name": me.person.name,
                "institution": me.person.institution,
                "unit": me.person.unit,
                "admin": admin,
                "auditor": auditor,
                "session_ends_at": to_epoch_s(sessions.ends_at(me.session, bounds)),
                "pilot": site.pilot,
            }
        )


def _enrolling(api: Blueprint, broker: Broker) -> None:
    site = broker.site

    @api.post("/enrol/begin")
    @documented(
        "sign-in",
        "Begin to register a first passkey with an enrolment link.",
        takes=schemas.Token,
        answers=answers.Begun,
        public=True,
    )
    def enrol_begin() -> Response:
        given = schemas.body(schemas.Token)
        with broker.begin(SYSTEM) as tx:
            refuse_guessers(tx, broker)
            found = enrolment.begin(tx, site, given.token, browser=browser_id())
            if isinstance(found, Refused):
                count_failure(tx, broker)
        return begun(settle(found))

    @api.post("/enrol/complete")
    @documented(
        "sign-in", "Register a first passkey.", takes=schemas.NamedAnswer, answers=answers.NewPasskey, public=True
    )
    def enrol_complete() -> Response:
        given = schemas.body(schemas.NamedAnswer)
        with broker.begin(SYSTEM) as tx:
            refuse_guessers(tx, broker)
            found = returning.complete(
                tx,
                broker,
                given.token,
                challenge_id=given.challenge_id,
                response=given.response,
                name=given.name,
                browser=browser_id(),
            )
            if isinstance(found, Refused):
                count_failure(tx, broker)
        return jsonify({"passkey_id": settle(found).id})


def _stepping_up(api: Blueprint, broker: Broker) -> None:
    site = broker.site

    @api.post("/step-up/begin")
    @documented("sign-in", "Begin to confirm this session anew.", takes=schemas.Empty, answers=answers.Begun)
    def step_up_begin() -> Response:
        schemas.body(schemas.Empty)
        me = current()
        with broker.begin(me.actor) as tx:
            ceremony = passkeys.begin_assertion(tx, site, me, purpose=passkeys.STEP_UP)
        return begun(ceremony)

    @api.post("/step-up/complete")
    @documented(
        "sign-in",
        "Confirm this session; replaces its cookie.",
        takes=schemas.Answer,
        answers=answers.Done,
        repeatable=False,
    )
    def step_up_complete() -> Response:
        given = schemas.body(schemas.Answer)
        me = current()
        secret = ""
        with broker.begin(me.actor) as tx:
            found = passkeys.complete_assertion(
                tx, site, me, purpose=passkeys.STEP_UP, challenge_id=given.challenge_id, response=given.response
            )
            if not isinstance(found, Refused):
                secret = sessions.rotate_on_step_up(tx, me)
        settle(found)
        response = jsonify({})
        set_session(response, secret)
        return response


def _own_passkeys(api: Blueprint, broker: Broker) -> None:
    @api.get("/passkeys")
    @documented("passkeys", "List one's own passkeys.", answers=list[answers.OwnPasskey])
    def passkeys_list() -> Response:
        me = current()
        with broker.read() as view:
            found = passkeys.list_for(view, me.account.id)
        return jsonify([passkey_json(row, mine=row.id == me.passkey.id) for row in found])

    @api.post("/passkeys/<passkey_id>/rename")
    @documented("passkeys", "Rename a passkey.", takes=schemas.Rename, answers=answers.Done)
    def rename(passkey_id: str) -> Response:
        given = schemas.body(schemas.Rename)
        me = current()
        with broker.begin(me.actor) as tx:
            row = tx.get(Passkey, passkey_id)
            if row is None or row.account_id != me.account.id:
                raise JitError(Kind.NOT_FOUND, "There is no such passkey of yours.")
            passkeys.rename(tx, row, given.name)
        return jsonify({})


def _adding_a_passkey(api: Blueprint, broker: Broker) -> None:
    site = broker.site

    @api.post("/passkeys/add/begin")
    @documented(
        "passkeys",
        "Begin to add a passkey: the one at hand confirms first.",
        takes=schemas.Empty,
        answers=answers.Begun,
    )
    def add_begin() -> Response:
        """First the passkey at hand confirms (R7, R15); `confirm` then gives the options of the new one."""
        schemas.body(schemas.Empty)
        me = current()
        with broker.begin(me.actor) as tx:
            ceremony = passkeys.begin_assertion(tx, site, me, purpose=passkeys.STEP_UP, subject_id="passkey.add")
        return begun(ceremony)

    @api.post("/passkeys/add/confirm")
    @documented(
        "passkeys", "Confirm, and get the options of the new passkey.", takes=schemas.Answer, answers=answers.Begun
    )
    def add_confirm() -> Response:
        given = schemas.body(schemas.Answer)
        me = current()
        ceremony: Ceremony | None = None
        with broker.begin(me.actor) as tx:
            found = passkeys.complete_assertion(
                tx, site, me, purpose=passkeys.STEP_UP, challenge_id=given.challenge_id, response=given.response
            )
            if not isinstance(found, Refused) and found.subject_id == "passkey.add":
                ceremony = passkeys.begin_registration(tx, site, account=me.account, session_id=me.session.id)
        settle(found)
        if ceremony is None:
            raise JitError(Kind.FORBIDDEN, "This confirmation was for something else.")
        return begun(ceremony)

    @api.post("/passkeys/add/complete")
    @documented("passkeys", "Add the passkey.", takes=schemas.NamedAnswer, answers=answers.NewPasskey)
    def add_complete() -> Response:
        given = schemas.body(schemas.NamedAnswer)
        me = current()
        with broker.begin(me.actor) as tx:
            found = passkeys.complete_registration(
                tx,
                site,
                challenge_id=given.challenge_id,
                response=given.response,
                name=given.name,
                session_id=me.session.id,
            )
            if not isinstance(found, Refused):
                enrolment.tell(tx, "passkey_added", me.person.id, found.id)
        return jsonify({"passkey_id": settle(found).id})


def _removing_a_passkey(api: Blueprint, broker: Broker) -> None:
    site = broker.site

    @api.post("/passkeys/<passkey_id>/remove/begin")
    @documented("passkeys", "Begin to remove a passkey.", takes=schemas.Empty, answers=answers.Begun)
    def remove_begin(passkey_id: str) -> Response:
        schemas.body(schemas.Empty)
        me = current()
        with broker.begin(me.actor) as tx:
            ceremony = passkeys.begin_assertion(tx, site, me, purpose=passkeys.STEP_UP, subject_id=passkey_id)
        return begun(ceremony)

    @api.post("/passkeys/<passkey_id>/remove/complete")
    @documented("passkeys", "Remove a passkey.", takes=schemas.Answer, answers=answers.Done)
    def remove_complete(passkey_id: str) -> Response:
        given = schemas.body(schemas.Answer)
        me = current()
        refused: Refused | None = None
        with broker.begin(me.actor) as tx:
            found = passkeys.complete_assertion(
                tx, site, me, purpose=passkeys.STEP_UP, challenge_id=given.challenge_id, response=given.response
            )
            if not isinstance(found, Refused):
                row = tx.get(Passkey, passkey_id) if found.subject_id == passkey_id else None
                if row is None or row.account_id != me.account.id or row.status == "removed":
                    raise JitError(Kind.NOT_FOUND, "There is no such passkey of yours.")
                refused = passkeys.remove(tx, row)
                if refused is None:
                    enrolment.tell(tx, "passkey_removed", me.person.id, row.id)
        settle(found)
        if refused is not None:
            settle(refused)
        return jsonify({})


def passkey_json(row: Passkey, *, mine: bool) -> dict[str, Any]:
    """Return a passkey for its owner."""
    return {
        "id": row.id,
        "name": row.name,
        "provider": row.provider,
        "created_at": to_epoch_s(row.created_at),
        "last_used_at": to_epoch_s(row.last_used_at) if row.last_used_at else None,
        "synced": row.backup_eligible,
        "status": row.status,
        "this_session": mine,
    }


def _requests(api: Blueprint, broker: Broker) -> None:
    def ask_of(given: schemas.AskBody) -> Ask:
        start = from_epoch_s(given.start_at) if given.start_at is not None else None
        return Ask(given.target, given.entitlement, given.inputs, given.duration_s, given.reason, start)

    @api.get("/catalogue")
    @documented(
        "requests",
        "List what this person may ask for, by target and right.",
        query=schemas.PageQuery,
        answers=list[answers.Entry],
        paged=True,
    )
    def catalogue() -> Response:
        part = window(schemas.query(schemas.PageQuery), str, str)
        me = current()
        with broker.read() as view:
            found = requests.catalogue(view, broker, me)
        return page(part_of(found, part, _right), part, _right, entry_json)

    @api.get("/requests")
    @documented(
        "requests",
        "List one's own requests, newest first.",
        query=schemas.PageQuery,
        answers=list[answers.AccessRequest],
        paged=True,
    )
    def request_list() -> Response:
        part = window(schemas.query(schemas.PageQuery), str)
        me = current()
        with broker.read() as view:
            before = str(part.after[0]) if part.after else None
            found = requests_page(view, before=before, limit=part.limit + 1, person=me.person.id)
        return page(found, part, lambda row: (row.id,), request_json)

    @api.post("/requests/preview")
    @documented(
        "requests",
        "Say what would be decided and who could sign; files nothing.",
        takes=schemas.AskBody,
        answers=answers.Preview,
    )
    def preview() -> Response:
        given = schemas.body(schemas.AskBody)
        me = current()
        with broker.read() as view:
            found = requests.preview(view, broker, me, ask_of(given))
            names = {key: person.name for key, person in people.register(view).persons.items()}
        signers = {step: sorted(names[key] for key in keys) for step, keys in found.signers.items()}
        stop = found.refused
        refused = {"code": stop.code, "sentence": say(stop.message)} if stop is not None else None
        return jsonify({"decision": decision_json(found.decision), "signers": signers, "refused": refused})

    @api.post("/requests/begin")
    @documented("requests", "Begin to file a request.", takes=schemas.AskBody, answers=answers.Begun)
    def filing_begin() -> Response:
        given = schemas.body(schemas.AskBody)
        me = current()
        with broker.begin(me.actor) as tx:
            found = requests.begin_filing(tx, broker, me, ask_of(given))
        return begun(settle(found))

    @api.post("/requests/complete")
    @documented("requests", "File the signed request.", takes=schemas.Answer, answers=answers.Filed)
    def filing_complete() -> Response:
        given = schemas.body(schemas.Answer)
        me = current()
        with broker.begin(me.actor, lock=requests.lock_of(me)) as tx:
            found = requests.complete_filing(tx, broker, me, challenge_id=given.challenge_id, response=given.response)
        filed = settle(found)
        grant_id = filed.grant.id if filed.grant is not None else None
        return jsonify({"request_id": filed.request.id, "state": filed.request.state, "grant_id": grant_id})

    @api.get("/requests/<request_id>")
    @documented("requests", "Show a request and its verdicts.", answers=answers.RequestWithVotes)
    def request_show(request_id: str) -> Response:
        me = current()
        with broker.read() as view:
            found = settle(approve.readable(view, broker, request_id, me))
            votes = votes_of(view, request_id)
            written = comments_of(view, request_id)
        note_overseen(broker, found, "request")
        return jsonify({**request_json(found.request), "votes": [vote_json(vote, written) for vote in votes]})

    @api.post("/requests/<request_id>/withdraw")
    @documented("requests", "Withdraw one's own pending request.", takes=schemas.Empty, answers=answers.AccessRequest)
    def withdraw(request_id: str) -> Response:
        schemas.body(schemas.Empty)
        me = current()
        with broker.begin(me.actor, lock=[(AccessRequest, request_id)]) as tx:
            row = requests.withdraw(tx, broker, me, request_id)
        return jsonify(request_json(row))


def _grants(api: Blueprint, broker: Broker) -> None:
    @api.get("/grants")
    @documented(
        "grants",
        "List one's own grants, newest first.",
        query=schemas.GrantsQuery,
        answers=list[answers.Grant],
        paged=True,
    )
    def grant_list() -> Response:
        asked = schemas.query(schemas.GrantsQuery)
        part = window(asked, str)
        me = current()
        with broker.read() as view:
            before = str(part.after[0]) if part.after else None
            found = grants_page(view, before=before, limit=part.limit + 1, person=me.person.id, live=asked.live)
        return page(found, part, lambda row: (row.id,), grant_json)

    @api.post("/grants/<grant_id>/hand-back")
    @documented("grants", "Hand a grant back early.", takes=schemas.Empty, answers=answers.Grant)
    def hand_back(grant_id: str) -> Response:
        schemas.body(schemas.Empty)
        me = current()
        with broker.begin(me.actor, lock=[(Grant, grant_id)]) as tx:
            row = revoke.hand_back(tx, me, grant_id)
        return jsonify(grant_json(row))

    @api.post("/grants/<grant_id>/revoke")
    @documented("grants", "Revoke somebody's grant.", takes=schemas.Empty, answers=answers.Grant)
    def revoke_(grant_id: str) -> Response:
        schemas.body(schemas.Empty)
        me = current()
        with broker.begin(me.actor, lock=[(Grant, grant_id)]) as tx:
            row = settle(revoke.revoke(tx, broker, me, grant_id))
        return jsonify(grant_json(row))


def hold_json(row: Hold) -> dict[str, Any]:
    """Return a hold."""
    return {
        "id": row.id,
        "kind": row.kind,
        "subject_id": row.subject_id,
        "cause": row.cause,
        "placed_at": to_epoch_s(row.placed_at),
    }


def person_json(person: PersonView, accounts: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return somebody of the register."""
    return {
        "id": person.id,
        "name": person.name,
        "institution": person.institution,
        "unit": person.unit,
        "groups": sorted(person.groups),
        "active": person.active,
        "on_hold": person.on_hold,
        "accounts": sorted(accounts.get(person.id, [])),
    }


def _admin(api: Blueprint, broker: Broker) -> None:
    @api.get("/holds")
    @documented(
        "administration",
        "List holds in force, newest first.",
        query=schemas.PageQuery,
        answers=list[answers.Hold],
        paged=True,
    )
    def holds() -> Response:
        part = window(schemas.query(schemas.PageQuery), str)
        administrator(broker, "holds")
        with broker.read() as view:
            found = part_of(hold.in_force(view), part, lambda row: (row.id,), falling=True)
        return page(found, part, lambda row: (row.id,), hold_json)

    @api.post("/holds")
    @documented("administration", "Place a hold; ends what is live.", takes=schemas.HoldBody, answers=answers.Placed)
    def place() -> Response:
        given = schemas.body(schemas.HoldBody)
        me = administrator(broker)
        with broker.begin(me.actor) as tx:
            row, ended = hold.place(
                tx,
                broker,
                kind=hold.HoldKind(given.kind),
                subject_id=given.subject_id,
                cause=given.cause or "by an administrator",
                by=me.person.id,
            )
        placed = settle(row)
        return jsonify(
            {"hold_id": placed.id, "sessions": ended.sessions, "requests": ended.requests, "grants": ended.grants}
        )

    @api.post("/end-everything")
    @documented(
        "administration",
        "End everything of a person, target or grant without a hold.",
        takes=schemas.HoldBody,
        answers=answers.Ended,
    )
    def end_everything() -> Response:
        given = schemas.body(schemas.HoldBody)
        me = administrator(broker)
        with broker.begin(me.actor) as tx:
            ended = hold.end_everything(
                tx, broker, kind=hold.HoldKind(given.kind), subject_id=given.subject_id, by=me.person.id
            )
        return jsonify({"sessions": ended.sessions, "requests": ended.requests, "grants": ended.grants})

    @api.post("/changes/begin")
    @documented("administration", "Begin to sign a change.", takes=schemas.ChangeBody, answers=answers.Begun)
    def change_begin() -> Response:
        given = schemas.body(schemas.ChangeBody)
        me = current()
        payload: JsonValue = given.payload
        with broker.begin(me.actor) as tx:
            found = changes.begin(tx, broker, me, kind=given.kind, subject=given.subject, payload=payload)
        return begun(settle(found))

    @api.post("/changes/complete")
    @documented(
        "administration",
        "Sign a change; applies it once enough persons did.",
        takes=schemas.Answer,
        answers=answers.Changed,
        repeatable=False,
    )
    def change_complete() -> Response:
        given = schemas.body(schemas.Answer)
        me = current()
        with broker.begin(me.actor) as tx:
            found = changes.complete(tx, broker, me, challenge_id=given.challenge_id, response=given.response)
        done = settle(found)
        if done.ready and done.change.kind == "policy.activate":
            requests.redecide_pending(broker)
        return jsonify({"change_id": done.change.id, "applied": done.ready, "shown": done.shown})

    @api.get("/people")
    @documented(
        "administration",
        "List the staff register, by id.",
        query=schemas.PageQuery,
        answers=list[answers.Person],
        paged=True,
    )
    def people_() -> Response:
        part = window(schemas.query(schemas.PageQuery), str)
        administrator(broker, "people")
        with broker.read() as view:
            found = people.staff(view)
        accounts: dict[str, list[str]] = {}
        for key, (person_id, _) in found.accounts.items():
            accounts.setdefault(person_id, []).append(key)
        rows = part_of(list(found.register.persons.values()), part, lambda person: (person.id,))
        return page(rows, part, lambda person: (person.id,), lambda person: person_json(person, accounts))

    @api.get("/policy")
    @documented("policy", "Read the active policy set.", answers=answers.Policy)
    def policy() -> Response:
        current()
        with broker.read() as view:
            active = broker.policies.active(view)
        return jsonify({"digest": active.digest, "document": active.document})
