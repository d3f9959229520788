"""How does a person keep passkeys in order, and what when the device is lost? Pages that never end in a dead end.

The list tells providers and kinds, nudges towards a second passkey and lets the browser forget what is removed (Signal API, WebAuthn
Level 3 section 5.1.10). The page for a lost device is open to everybody; with a live session it blocks one passkey or the whole own
account with one tap: taking away needs no signature, and lifting it takes somebody else's.
"""

from typing import Any

from flask import Blueprint, Response, jsonify, redirect, render_template
from werkzeug.wrappers import Response as BaseResponse

from jitaccess.broker import hold
from jitaccess.broker.context import Broker
from jitaccess.broker.hold import HoldKind
from jitaccess.domain.values import SYSTEM
from jitaccess.errors import JitError, Kind
from jitaccess.identity import passkeys, people
from jitaccess.identity.sessions import Current
from jitaccess.store.tables import Passkey
from jitaccess.web import answers, schemas
from jitaccess.web.doors import browser_id, clear_session, current, current_or_none, settle
from jitaccess.web.limits import count_ceremony
from jitaccess.web.operations import documented


def blueprint(broker: Broker) -> Blueprint:
    """Return the pages of passkey care over a broker."""
    pages = Blueprint("passkey_care", __name__)

    @pages.get("/passkeys")
    def list_() -> str:
        me = current()
        with broker.read() as view:
            found = passkeys.list_for(view, me.account.id)
        return render_template("passkeys.html", passkeys=found, kept=_kept(broker, me, found), kind_of=kind_of)

    @pages.get("/lost")
    def lost() -> str:
        """What to do when a device is gone; open to everybody, with more for those who are signed in."""
        me = current_or_none()
        found: list[Passkey] = []
        helpers: list[str] = []
        last = False
        if me is not None:
            with broker.read() as view:
                found = [key for key in passkeys.list_for(view, me.account.id) if key.status == "active"]
                helpers = _helpers(view, me)
                last = hold.locks_out(view, HoldKind.PERSON, me.person.id)
        return render_template("lost.html", passkeys=found, helpers=helpers, kind_of=kind_of, last=last)

    @pages.post("/lost/passkey/<passkey_id>")
    def block(passkey_id: str) -> BaseResponse:
        """Block one passkey of one's own; its sessions end, everything else goes on."""
        me = current()
        with broker.begin(me.actor) as tx:
            row = tx.unchecked_get(Passkey, passkey_id[:64])
            if row is None or row.account_id != me.account.id:
                raise JitError(Kind.NOT_FOUND, "There is no such passkey of yours.")
            placed, _ = hold.place(
                tx, broker, kind=HoldKind.PASSKEY, subject_id=row.id, cause="lost, says its owner", by=me.person.id
            )
        settle(placed)
        return redirect("/lost", 303)

    @pages.post("/lost/account")
    def block_account() -> BaseResponse:
        """Hold the own account: sessions, requests and grants end at once; only somebody else lifts it."""
        me = current()
        with broker.begin(me.actor) as tx:
            placed, _ = hold.place(
                tx,
                broker,
                kind=HoldKind.PERSON,
                subject_id=me.person.id,
                cause="lost device, says its owner",
                by=me.person.id,
            )
        settle(placed)
        response = redirect("/lost?held=1", 303)
        clear_session(response)
        return response

    @pages.post("/api/sign-in/forgotten")
    @documented(
        "sign-in",
        "Say whether a browser should forget a passkey.",
        takes=schemas.CredentialId,
        answers=answers.Forgotten,
        public=True,
    )
    def forgotten() -> Response:
        """Say whether a browser should forget a passkey: one that never was ours or was removed. Sign-in's own answer tells nothing."""
        given = schemas.body(schemas.CredentialId)
        with broker.begin(SYSTEM) as tx:
            count_ceremony(tx, broker, browser_id())
            known = passkeys.forgotten(tx, given.credential_id)
        return jsonify({"forget": known})

    return pages


def _kept(broker: Broker, me: Current, found: list[Passkey]) -> dict[str, Any]:
    """Return what the browser's Signal API takes: the passkeys of this account that still count."""
    return {
        "rpId": broker.site.rp_id,
        "userId": me.account.user_handle,
        "allAcceptedCredentialIds": [key.credential_id for key in found],
        "name": me.account.label,
        "displayName": me.person.name,
    }


def _helpers(view: Any, me: Current) -> list[str]:
    """Return the names of the administrators who can help, oneself left out."""
    register = people.register(view)
    able = (register.members(people.ADMINS) | register.members(people.FOUNDERS)) & register.able
    return sorted(register.persons[person].name for person in able if person != me.person.id)[:8]


def kind_of(key: Passkey) -> str:
    """Return what a passkey's picture shows: a cloud, a security key or a device."""
    transports = key.transports if isinstance(key.transports, list) else []
    if key.backup_eligible:
        return "cloud"
    return "key" if {"usb", "nfc", "smart-card", "ble"} & {str(name) for name in transports} else "device"
