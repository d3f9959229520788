"""The JSON API: the same verbs as the pages, for scripts and for the pages' own passkey ceremonies.

Every change is a POST with a JSON body from our own origin; `begin` answers {challenge_id, options[, statement_b64u]}, `complete` takes
{challenge_id, response}. Thin: parse, call a verb, answer.
"""

from typing import Any

from flask import Blueprint, Response, jsonify, request

from jitaccess.broker import approve, changes, deputies, hold, revoke
from jitaccess.broker import request as requests
from jitaccess.broker.comments import comments_of
from jitaccess.broker.context import Broker
from jitaccess.broker.policies import approver_groups
from jitaccess.broker.request import Ask
from jitaccess.broker.votes import votes_of
from jitaccess.clock import from_epoch_s, to_epoch_s
from jitaccess.domain.values import SYSTEM, Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity import enrolment, passkeys, people, sessions
from jitaccess.identity.passkeys import Ceremony
from jitaccess.policy.evaluate import AskTerm, Decision
from jitaccess.proof.canonical import JsonValue, b64u_encode
from jitaccess.store.tables import AccessRequest, Grant, Passkey, Person
from jitaccess.web import schemas
from jitaccess.web.doors import browser_id, clear_session, current, set_session, settle
from jitaccess.web.limits import count_sign_in


def begun(ceremony: Ceremony) -> Response:
    """Answer a begun ceremony."""
    body: dict[str, Any] = {"challenge_id": ceremony.challenge_id, "options": ceremony.options}
    if ceremony.statement is not None:
        body["statement_b64u"] = b64u_encode(ceremony.statement)
    return jsonify(body)


def decision_json(decision: Decision) -> dict[str, Any]:
    """Return a decision for people and scripts."""
    return {
        **decision.to_document(),
        "sentences": [requests.sentence(reason) for reason in decision.reasons],
    }


def ask_json(term: AskTerm) -> dict[str, Any]:
    """Return an input that a rule asks for."""
    found: dict[str, Any] = {"name": term.name, "type": term.kind, "label": term.label}
    if term.kind == "integer":
        found |= {"min": term.low, "max": term.high}
    if term.pattern is not None:
        found["matches"] = term.pattern.pattern
    return found


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
    _identity(api, broker)
    _requests(api, broker)
    _grants(api, broker)
    _admin(api, broker)
    return api


def _identity(api: Blueprint, broker: Broker) -> None:
    site = broker.site

    @api.post("/sign-in/begin")
    def sign_in_begin() -> Response:
        schemas.body(schemas.Empty)
        browser = browser_id()
        with broker.begin(SYSTEM) as tx:
            count_sign_in(tx, broker)
            ceremony = passkeys.begin_sign_in(tx, site, browser=browser)
        return begun(ceremony)

    @api.post("/sign-in/complete")
    def sign_in_complete() -> Response:
        given = schemas.body(schemas.Answer)
        secret, person_id = "", ""
        with broker.begin(SYSTEM) as tx:
            count_sign_in(tx, broker)
            found = passkeys.complete_sign_in(
                tx, site, challenge_id=given.challenge_id, response=given.response, browser=browser_id()
            )
            if not isinstance(found, Refused):
                groups = approver_groups(tx, broker.policies)
                strict = people.needs_strict_session(tx, found.passkey.person_id, groups) or bool(
                    deputies.standing_in(tx, found.passkey.person_id)
                )
                row, secret = sessions.open_session(tx, site, found.passkey, strict=strict)
                person_id = row.person_id
        settle(found)
        response = jsonify({"person_id": person_id})
        set_session(response, secret)
        return response

    @api.post("/sign-out")
    def sign_out() -> Response:
        me = current()
        with broker.begin(me.actor) as tx:
            sessions.end(tx, me.session, "signed_out")
        response = jsonify({})
        clear_session(response)
        return response

    @api.post("/enrol/begin")
    def enrol_begin() -> Response:
        given = schemas.body(schemas.Token)
        with broker.begin(SYSTEM) as tx:
            count_sign_in(tx, broker)
            found = enrolment.begin(tx, site, given.token, browser=browser_id())
        return begun(settle(found))

    @api.post("/enrol/complete")
    def enrol_complete() -> Response:
        given = schemas.body(schemas.NamedAnswer)
        with broker.begin(SYSTEM) as tx:
            found = enrolment.complete(
                tx,
                site,
                given.token,
                challenge_id=given.challenge_id,
                response=given.response,
                name=given.name,
                browser=browser_id(),
            )
        return jsonify({"passkey_id": settle(found).id})

    @api.post("/step-up/begin")
    def step_up_begin() -> Response:
        schemas.body(schemas.Empty)
        me = current()
        with broker.begin(me.actor) as tx:
            ceremony = passkeys.begin_assertion(tx, site, me, purpose=passkeys.STEP_UP)
        return begun(ceremony)

    @api.post("/step-up/complete")
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

    @api.get("/me")
    def me_() -> Response:
        me = current()
        with broker.read() as view:
            admin, auditor = people.is_admin(view, me.person.id), people.is_auditor(view, me.person.id)
        return jsonify(
            {
                "person_id": me.person.id,
                "name": me.person.name,
                "institution": me.person.institution,
                "unit": me.person.unit,
                "admin": admin,
                "auditor": auditor,
                "session_ends_at": to_epoch_s(me.session.expires_at),
                "pilot": site.pilot,
            }
        )

    @api.get("/passkeys")
    def passkeys_list() -> Response:
        me = current()
        with broker.read() as view:
            found = passkeys.list_for(view, me.account.id)
        return jsonify([passkey_json(row, mine=row.id == me.passkey.id) for row in found])

    @api.post("/passkeys/add/begin")
    def add_begin() -> Response:
        """First the passkey at hand confirms (R7, R15); `confirm` then gives the options of the new one."""
        schemas.body(schemas.Empty)
        me = current()
        with broker.begin(me.actor) as tx:
            ceremony = passkeys.begin_assertion(tx, site, me, purpose=passkeys.STEP_UP, subject_id="passkey.add")
        return begun(ceremony)

    @api.post("/passkeys/add/confirm")
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

    @api.post("/passkeys/<passkey_id>/remove/begin")
    def remove_begin(passkey_id: str) -> Response:
        schemas.body(schemas.Empty)
        me = current()
        with broker.begin(me.actor) as tx:
            ceremony = passkeys.begin_assertion(tx, site, me, purpose=passkeys.STEP_UP, subject_id=passkey_id)
        return begun(ceremony)

    @api.post("/passkeys/<passkey_id>/remove/complete")
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

    @api.post("/passkeys/<passkey_id>/rename")
    def rename(passkey_id: str) -> Response:
        given = schemas.body(schemas.Rename)
        me = current()
        with broker.begin(me.actor) as tx:
            row = tx.get(Passkey, passkey_id)
            if row is None or row.account_id != me.account.id:
                raise JitError(Kind.NOT_FOUND, "There is no such passkey of yours.")
            passkeys.rename(tx, row, given.name)
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
    def catalogue() -> Response:
        me = current()
        with broker.read() as view:
            found = requests.catalogue(view, broker, me)
        return jsonify(
            [
                {
                    "target": entry.target,
                    "target_name": entry.target_name,
                    "entitlement": entry.entitlement,
                    "label": entry.label,
                    "risk": entry.risk,
                    "reachable": entry.reachable,
                    "needs_approval": entry.needs_approval,
                    "default_s": entry.default_s,
                    "max_s": entry.max_s,
                    "start_within_s": entry.start_within_s,
                    "asks": [ask_json(term) for term in entry.asks],
                }
                for entry in found
            ]
        )

    @api.get("/requests")
    def request_list() -> Response:
        me = current()
        with broker.read() as view:
            found = requests.of_person(view, me.person.id)
        return jsonify([request_json(row) for row in found])

    @api.post("/requests/preview")
    def preview() -> Response:
        given = schemas.body(schemas.AskBody)
        me = current()
        with broker.read() as view:
            found = requests.preview(view, broker, me, ask_of(given))
            names = {key: person.name for key, person in people.register(view).persons.items()}
        signers = {step: sorted(names[key] for key in keys) for step, keys in found.signers.items()}
        return jsonify({"decision": decision_json(found.decision), "signers": signers})

    @api.post("/requests/begin")
    def filing_begin() -> Response:
        given = schemas.body(schemas.AskBody)
        me = current()
        with broker.begin(me.actor) as tx:
            found = requests.begin_filing(tx, broker, me, ask_of(given))
        return begun(settle(found))

    @api.post("/requests/complete")
    def filing_complete() -> Response:
        given = schemas.body(schemas.Answer)
        me = current()
        with broker.begin(me.actor, lock=[(Person, me.person.id)]) as tx:
            found = requests.complete_filing(tx, broker, me, challenge_id=given.challenge_id, response=given.response)
        filed = settle(found)
        grant_id = filed.grant.id if filed.grant is not None else None
        return jsonify({"request_id": filed.request.id, "state": filed.request.state, "grant_id": grant_id})

    @api.get("/requests/<request_id>")
    def request_show(request_id: str) -> Response:
        me = current()
        with broker.read() as view:
            row = view.get(AccessRequest, request_id)
            if row is None or (row.person_id != me.person.id and not people.is_auditor(view, me.person.id)):
                settle(approve.facts(view, broker, request_id, me))
                row = view.require(AccessRequest, request_id)
            votes = votes_of(view, request_id)
            written = comments_of(view, request_id)
        signed = [
            {
                "step": vote.step,
                "verdict": vote.verdict,
                "person_id": vote.person_id,
                "comment": written.get(vote.person_id, ""),
            }
            for vote in votes
        ]
        return jsonify({**request_json(row), "votes": signed})

    @api.post("/requests/<request_id>/withdraw")
    def withdraw(request_id: str) -> Response:
        schemas.body(schemas.Empty)
        me = current()
        with broker.begin(me.actor, lock=[(AccessRequest, request_id)]) as tx:
            row = requests.withdraw(tx, broker, me, request_id)
        return jsonify(request_json(row))


def _grants(api: Blueprint, broker: Broker) -> None:
    @api.get("/grants")
    def grant_list() -> Response:
        me = current()
        with broker.read() as view:
            found = revoke.grants_of(view, me.person.id)
        return jsonify([grant_json(row) for row in found])

    @api.post("/grants/<grant_id>/hand-back")
    def hand_back(grant_id: str) -> Response:
        schemas.body(schemas.Empty)
        me = current()
        with broker.begin(me.actor, lock=[(Grant, grant_id)]) as tx:
            row = revoke.hand_back(tx, me, grant_id)
        return jsonify(grant_json(row))

    @api.post("/grants/<grant_id>/revoke")
    def revoke_(grant_id: str) -> Response:
        schemas.body(schemas.Empty)
        me = current()
        with broker.begin(me.actor, lock=[(Grant, grant_id)]) as tx:
            row = settle(revoke.revoke(tx, broker, me, grant_id))
        return jsonify(grant_json(row))


def _admin(api: Blueprint, broker: Broker) -> None:
    def admin() -> sessions.Current:
        me = current()
        with broker.read() as view:
            if not people.is_admin(view, me.person.id):
                raise JitError(Kind.FORBIDDEN, "Only an administrator may do this.")
        return me

    @api.get("/holds")
    def holds() -> Response:
        admin()
        with broker.read() as view:
            found = hold.in_force(view)
        return jsonify(
            [
                {"id": row.id, "kind": row.kind, "subject_id": row.subject_id, "cause": row.cause,
                 "placed_at": to_epoch_s(row.placed_at)}
                for row in found
            ]
        )  # fmt: skip

    @api.post("/holds")
    def place() -> Response:
        given = schemas.body(schemas.HoldBody)
        me = admin()
        with broker.begin(me.actor) as tx:
            row, ended = hold.place(
                tx,
                broker,
                kind=hold.HoldKind(given.kind),
                subject_id=given.subject_id,
                cause=given.cause or "by an administrator",
                by=me.person.id,
            )
        return jsonify(
            {"hold_id": row.id, "sessions": ended.sessions, "requests": ended.requests, "grants": ended.grants}
        )

    @api.post("/end-everything")
    def end_everything() -> Response:
        given = schemas.body(schemas.HoldBody)
        me = admin()
        with broker.begin(me.actor) as tx:
            ended = hold.end_everything(
                tx, broker, kind=hold.HoldKind(given.kind), subject_id=given.subject_id, by=me.person.id
            )
        return jsonify({"sessions": ended.sessions, "requests": ended.requests, "grants": ended.grants})

    @api.post("/changes/begin")
    def change_begin() -> Response:
        given = schemas.body(schemas.ChangeBody)
        me = current()
        payload: JsonValue = given.payload
        with broker.begin(me.actor) as tx:
            found = changes.begin(tx, broker, me, kind=given.kind, subject=given.subject, payload=payload)
        return begun(settle(found))

    @api.post("/changes/complete")
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
    def people_() -> Response:
        admin()
        with broker.read() as view:
            found = people.staff(view)
        accounts: dict[str, list[str]] = {}
        for key, (person_id, _) in found.accounts.items():
            accounts.setdefault(person_id, []).append(key)
        return jsonify(
            [
                {
                    "id": person.id,
                    "name": person.name,
                    "institution": person.institution,
                    "unit": person.unit,
                    "groups": sorted(person.groups),
                    "active": person.active,
                    "on_hold": person.on_hold,
                    "accounts": sorted(accounts.get(person.id, [])),
                }
                for person in found.register.persons.values()
            ]
        )

    @api.get("/policy")
    def policy() -> Response:
        current()
        with broker.read() as view:
            active = broker.policies.active(view)
        return jsonify({"digest": active.digest, "document": active.document})

    @api.get("/policy/explain")
    def explain() -> Response:
        me = current()
        target, entitlement = request.args.get("target", "")[:64], request.args.get("entitlement", "")[:64]
        with broker.read() as view:
            found = requests.explanation(view, broker, me, Ask(target, entitlement, {}, None, ""))
        return jsonify(
            {
                "decision": decision_json(found.decision),
                "rules": [
                    {"rule": v.rule, "failure": v.failure.code.value if v.failure else None} for v in found.rules
                ],
            }
        )
