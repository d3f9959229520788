"""The administrator's desk: people, groups, systems, holds, what is open now, health in words, and a policy tried on the past.

What gives is signed with a passkey and shows first exactly what is signed; what only takes away is one plain form. Every page is for
administrators alone. Lists are searched and paged on the server.
"""

import json
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, abort, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from jitaccess.broker import changes, endings, health, hold, logview, replay, restore, roster
from jitaccess.broker.context import Broker
from jitaccess.broker.policies import candidate
from jitaccess.clock import to_epoch_s
from jitaccess.domain.numbers import whole
from jitaccess.errors import JitError, Kind
from jitaccess.identity import people, recovery
from jitaccess.identity.changes import pending as pending_changes
from jitaccess.identity.people import RESERVED
from jitaccess.web import drawings, proposals, telling
from jitaccess.web.doors import own_path, settle
from jitaccess.web.readers import administrator
from jitaccess.web.speech import gettext

TIMELINE_DAYS = 30
PASSKEYS = {"none": 0, "one": 1}
"""Of whom the list of people may be: those with so many usable passkeys."""


def blueprint(broker: Broker) -> Blueprint:
    """Return the administrator's pages over a broker."""
    pages = Blueprint("admin", __name__)
    _overview(pages, broker)
    _people(pages, broker)
    _groups(pages, broker)
    _systems(pages, broker)
    _stopping(pages, broker)
    _trying(pages, broker)
    return pages


def _number() -> int:
    text = request.args.get("page", "")
    return whole(text, 5) or 0


def _names(view: Any) -> dict[str, str]:
    return {key: person.name for key, person in people.register(view).persons.items()}


# ---------------------------------------------------------------- overview


def _overview(pages: Blueprint, broker: Broker) -> None:
    @pages.get("/admin")
    def overview() -> str:
        administrator(broker, "overview")
        with broker.read() as view:
            every = request.args.get("records") == "now"
            records = restore.damaged(view) if every else restore.noted(view)
            compared_at = None if every else view.compared_at()
            found = health.findings(view, broker, records)
            names = _names(view)
            paper = recovery.keys_left(view)
            waiting = proposals.proposals(view, broker, pending_changes(view))
        return render_template(
            "admin.html",
            findings=found,
            changes=waiting,
            names=names,
            paper=paper,
            damaged=records,
            compared_at=compared_at,
        )

    @pages.get("/admin/record")
    def record() -> str:
        """Show what would be restored, and whether the log knows it, before anything is signed."""
        administrator(broker, "record")
        table, key = request.args.get("table", ""), request.args.get("key", "")
        with broker.read() as view:
            found = restore.one(view, table[:64], key[:160])
            if found is None:
                raise JitError(Kind.NOT_FOUND, "There is no such record.")
            now = dict(found.fields)
            changed: dict[str, restore.Value] = {
                name: restore.said(table, name, request.args[name])
                for name in now
                if request.args.get(name, now[name]) != now[name]
            }
            known = restore.matches(view, table, key, changed)
        body = {"kind": "record.restore", "subject": f"{table}/{key}", "payload": {"values": changed}}
        return render_template(
            "record_check.html", record=found, now=now, changed=changed, matches=known, body=json.dumps(body)
        )

    @pages.post("/changes/<change_id>/reject")
    def reject(change_id: str) -> BaseResponse:
        me = administrator(broker)
        with broker.begin(me.actor) as tx:
            changes.reject(tx, change_id, by=me.person.id)
        return redirect(_back("/admin"), 303)


def _back(default: str) -> str:
    """Return the page to go back to: one of ours that the form names."""
    given = request.form.get("back", "")
    return own_path(given) if given else default


# ---------------------------------------------------------------- people


def _people(pages: Blueprint, broker: Broker) -> None:
    @pages.get("/people")
    def people_list() -> str:
        administrator(broker, "people")
        query = request.args.get("q", "").strip()[:80]
        which = request.args.get("passkeys", "")
        with broker.read() as view:
            found = roster.search(view, query, number=_number(), passkeys=PASSKEYS.get(which))
            policies = broker.policies.active_or_none(view)
        return render_template(
            "people.html",
            found=found,
            query=query,
            passkeys=which if which in PASSKEYS else "",
            pages=_turning("/people", found.number, found.more, q=query, passkeys=which),
            institutions=policies.institutions if policies is not None else {},
        )

    @pages.get("/people/<person_id>")
    def person(person_id: str) -> str:
        administrator(broker, "person")
        with broker.read() as view:
            found = roster.dossier(view, person_id[:64])
            return _person_page(view, found)

    @pages.post("/people/<person_id>/check")
    def check(person_id: str) -> str | tuple[str, int]:
        """Show what differs, and let exactly that be signed; nothing is changed yet."""
        administrator(broker)
        with broker.read() as view:
            found = roster.dossier(view, person_id[:64])
            given: dict[str, str | None] = {
                name: request.form[name].strip() for name in roster.CHANGEABLE if name in request.form
            }
            problem = _resolve_manager(view, given)
            if problem is not None:
                return _person_page(view, found, problem=problem), 422
            changed = roster.changed_fields(found, given)
            if not changed:
                return _person_page(view, found, problem=gettext("Nothing was changed.")), 422
            names = _names(view)
        body = {"kind": "person.change", "subject": found.row.id, "payload": {"values": changed}}
        now = {name: getattr(found.row, name) for name in changed}
        return render_template(
            "person_check.html", found=found, changed=changed, now=now, names=names, body=json.dumps(body),
        )  # fmt: skip

    def _resolve_manager(view: Any, given: dict[str, str | None]) -> str | None:
        text = request.form.get("manager")
        if text is None:
            return None
        text = text.strip()[:254]
        if not text:
            given["manager_id"] = None
            return None
        given["manager_id"] = roster.person_by_mail(view, text)
        return None if given["manager_id"] is not None else gettext("Nobody on the register has this mail address.")

    def _person_page(view: Any, found: roster.Dossier, *, problem: str | None = None) -> str:
        policies = broker.policies.active_or_none(view)
        known = people.staff(view)
        own = [account.id for account in found.accounts]
        return render_template(
            "person.html",
            found=found,
            problem=problem,
            manager_mail=known.emails.get(found.row.manager_id or "", ""),
            joinable=[line for line in roster.groups(view, broker) if line.id not in found.direct],
            institutions=policies.institutions if policies is not None else {},
            targets=policies.targets if policies is not None else {},
            now=to_epoch_s(view.now),
            last=hold.locks_out(view, hold.HoldKind.PERSON, found.row.id),
            changes=[change for change in pending_changes(view) if change.subject_id in {found.row.id, *own}],
        )


def _turning(path: str, number: int, more: bool, **query: str) -> dict[str, str]:
    """Return the links to the page before and the next one, where there are any."""
    kept = {name: text for name, text in query.items() if text}
    found = {}
    if number:
        found["before"] = f"{path}?{urlencode({**kept, 'page': number - 1})}"
    if more:
        found["next"] = f"{path}?{urlencode({**kept, 'page': number + 1})}"
    return found


# ---------------------------------------------------------------- groups


def _groups(pages: Blueprint, broker: Broker) -> None:
    @pages.get("/groups")
    def group_list() -> str:
        administrator(broker, "groups")
        with broker.read() as view:
            found = roster.groups(view, broker)
            policies = broker.policies.active_or_none(view)
        institutions = policies.institutions if policies is not None else {}
        return render_template("groups.html", groups=found, institutions=institutions)

    @pages.get("/groups/<group_id>")
    def group(group_id: str) -> str:
        administrator(broker, "group")
        query = request.args.get("q", "").strip()[:80]
        with broker.read() as view:
            found = roster.members(view, broker, group_id[:64], number=_number())
            candidates = roster.search(view, query).persons if query else ()
            inner = [line for line in roster.groups(view, broker) if line.id != found.line.id]
        return render_template(
            "group.html",
            found=found,
            query=query,
            candidates=[person for person in candidates if found.line.id not in person.groups],
            inner=[line for line in inner if line.id not in found.groups and line.id not in RESERVED],
            pages=_turning(f"/groups/{found.line.id}", found.number, found.more),
        )


# ---------------------------------------------------------------- systems


def _systems(pages: Blueprint, broker: Broker) -> None:
    @pages.get("/targets")
    def target_list() -> str:
        administrator(broker, "targets")
        with broker.read() as view:
            found = roster.targets(view, broker)
        return render_template("targets.html", targets=found)

    @pages.get("/targets/<target_id>")
    def target(target_id: str) -> str:
        """One system: who could reach it with whose help, its clients, and its last days."""
        administrator(broker, "target")
        with broker.read() as view:
            policies = broker.policies.active(view)
            facts = policies.targets.get(target_id)
            if facts is None:
                abort(404)
            ways = roster.who_can_reach(view, broker, target_id)
            clients = roster.clients(view, target_id)
            line = next(found for found in roster.targets(view, broker) if found.id == target_id)
            picture = drawings.grants(view, policies, start=view.now - timedelta(days=TIMELINE_DAYS), target=target_id)
            admins = people.register(view).members(people.ADMINS) | people.register(view).members(people.FOUNDERS)
            names = _names(view)
        return render_template(
            "target.html", facts=facts, line=line, ways=ways, clients=clients, picture=picture, names=names,
            admins=len(admins), owner=line.owner,
        )  # fmt: skip


# ---------------------------------------------------------------- stopping


def _stopping(pages: Blueprint, broker: Broker) -> None:
    @pages.get("/holds")
    def holds() -> str:
        administrator(broker, "holds")
        with broker.read() as view:
            found = hold.in_force(view)
            names = _names(view)
            policies = broker.policies.active_or_none(view)
            institutions = policies.institutions if policies is not None else {}
            last = [key for key in institutions if hold.locks_out(view, hold.HoldKind.INSTITUTION, key)]
        return render_template(
            "holds.html",
            holds=found,
            names=names,
            targets=policies.targets if policies is not None else {},
            institutions={key: name for key, name in institutions.items() if key not in last},
            last={key: institutions[key] for key in last},
            instance=broker.site.instance_id,
        )

    @pages.post("/holds")
    def place() -> BaseResponse:
        me = administrator(broker)
        with broker.begin(me.actor) as tx:
            placed, _ = hold.place(
                tx,
                broker,
                kind=_kind(),
                subject_id=request.form.get("subject_id", "")[:64],
                cause=request.form.get("cause", "").strip()[:200] or "by an administrator",
                by=me.person.id,
            )
        settle(placed)
        return redirect(_back("/people"), 303)

    @pages.post("/end-everything")
    def end_everything() -> BaseResponse:
        me = administrator(broker)
        with broker.begin(me.actor) as tx:
            hold.end_everything(
                tx, broker, kind=_kind(), subject_id=request.form.get("subject_id", "")[:64], by=me.person.id
            )
        return redirect(_back("/people"), 303)

    @pages.get("/board")
    def board() -> str:
        administrator(broker, "board")
        return render_template("board.html", **_board())

    @pages.get("/board/live")
    def board_live() -> str | tuple[str, int]:
        """The part of the board that refreshes itself; nothing, and so nothing to note, while what is shown still holds."""
        me = administrator(broker)
        found = _board()
        if request.args.get("seen") == found["mark"]:
            return "", 204
        logview.note_reading(broker, me, "board")
        return render_template("_board.html", **found)

    def _board() -> dict[str, Any]:
        target, person = request.args.get("target", "")[:64], request.args.get("person", "").strip()[:80]
        with broker.read() as view:
            persons = roster.called(view, person)
            grants = roster.board(view, target=target, persons=persons)
            live = roster.live(view, target=target, persons=persons)
            ends = endings.endings(view, broker, target=target, persons=persons)
            total = endings.under_way(view, target=target, persons=persons)
            names = _names(view)
            policies = broker.policies.active_or_none(view)
            now = view.now
        # What is closing opens nothing new: it is an end under way, only that what is open runs on for a while.
        closing = [grant for grant in grants if grant.closes_at is not None and grant.closes_at <= now]
        return {
            "grants": [grant for grant in grants if grant not in closing],
            "closing": closing,
            "live": live - len(closing),
            "endings": ends,
            "under_way": total + len(closing),
            "names": names,
            "targets": policies.targets if policies is not None else {},
            "target": target,
            "person": person,
            "now": to_epoch_s(now),
            "mark": telling.mark(
                [
                    [(grant.id, grant.state, grant.ends_at, grant in closing) for grant in grants],
                    [(one.lease.id, one.lease.state, one.lease.attempts, one.running, one.next_at) for one in ends],
                    [total, live],
                ]
            ),
            "query": urlencode({"target": target, "person": person}),
        }


def _kind() -> hold.HoldKind:
    try:
        return hold.HoldKind(request.form.get("kind", ""))
    except ValueError as error:
        raise JitError(Kind.INVALID, "There is no such kind of hold.") from error


# ---------------------------------------------------------------- a policy tried on the past


def _trying(pages: Blueprint, broker: Broker) -> None:
    @pages.get("/policy/sets/<policy_id>/replay")
    def tried(policy_id: str) -> str:
        """Decide past requests again under a stored set; reading what people asked for is noted (R71)."""
        administrator(broker, "replay")
        with broker.read() as view:
            row, wanted = candidate(view, policy_id[:64])
            before = request.args.get("before", "")[:26]
            found = replay.replay(view, active=broker.policies.active(view), candidate=wanted, before=before)
            names = _names(view)
        return render_template(
            "policy_replay.html", row=row, found=found, counts=found.counts(), names=names, targets=wanted.targets,
        )  # fmt: skip
