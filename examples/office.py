"""A small office for the examples of targets: a whole broker in a scratch folder, and people whose passkeys are software.

The examples show what happens on a real target before, during and after access; the pages that people see are shown by `./jit demo`.
"""

import logging
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from werkzeug.serving import BaseWSGIServer, make_server

from jitaccess.app import create_app, open_broker
from jitaccess.broker import approve, handover, request, revoke, strictness
from jitaccess.broker.approve import Approved
from jitaccess.broker.issue import Opened
from jitaccess.broker.request import Ask, Filed
from jitaccess.broker.sweep import Ticker
from jitaccess.clock import SystemClock
from jitaccess.demo.seed import read_policies, seed
from jitaccess.domain.lifecycle import LeaseState
from jitaccess.domain.values import SYSTEM, Refused
from jitaccess.identity import passkeys, sessions
from jitaccess.identity.sessions import Current
from jitaccess.settings import Keys, Log, Mail, Server, Sessions, Settings, Store, Targets
from jitaccess.store.tables import Grant, Lease, Person
from jitaccess.tokens.keys import create_wrapping_key

GONE_LIMIT_S = 60.0


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def held(what: str, holds: bool) -> None:
    """Tell whether something that must hold does; end when it does not."""
    say(f"  {'yes' if holds else 'NO '}  {what}")
    if not holds:
        raise SystemExit(1)


class Office:
    """A broker, its heartbeat, and its people: arta asks, blerim leads the treasury and approves, drita owns, agim administers."""

    def __init__(self, policies: Path, secrets: Path, *, port: int = 8000) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="jitaccess-example-")
        folder = Path(self._folder.name)
        settings = Settings(
            server=Server(public_url=f"http://localhost:{port}"),
            store=Store(url=f"sqlite:///{folder}/broker.db"),
            keys=Keys(wrapping_key_file=folder / "wrapping.key"),
            log=Log(origin="example.localhost/jitaccess"),
            mail=Mail(transport="folder", folder=folder / "mail"),
            targets=Targets(secrets_dir=secrets),
            sessions=Sessions(new_account_s=0),  # its people were put on the register a moment ago
        )
        self.clock = SystemClock()
        key = create_wrapping_key(settings.keys.wrapping_key_file)
        enrolled = frozenset({"arta", "blerim", "drita"})
        self._seeded = seed(settings, self.clock, key, read_policies(policies), enrolled=enrolled)
        self.broker = open_broker(settings)
        self._ticker = Ticker(self.broker)
        self._ticker.start()
        self._sessions: dict[str, Current] = {}
        self._port = port
        self._door: BaseWSGIServer | None = None

    def serve(self) -> None:
        """Answer over HTTP as well, for hosts that come and fetch; on this machine alone."""
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        self._door = make_server("localhost", self._port, create_app(self.broker), threaded=True)
        threading.Thread(target=self._door.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop it and remove its folder."""
        if self._door is not None:
            self._door.shutdown()
            self._door.server_close()
        self._ticker.stop()
        self.broker.targets.close()
        self.broker.db.close()
        self._folder.cleanup()

    def current(self, who: str) -> Current:
        """Return a person's session; signs in with the passkey at first."""
        if who not in self._sessions:
            site = self.broker.site
            with self.broker.begin(SYSTEM) as tx:
                begun = passkeys.begin_sign_in(tx, site)
            with self.broker.begin(SYSTEM) as tx:
                answer = self._answer(who, begun.options)
                found = _sure(passkeys.complete_sign_in(tx, site, challenge_id=begun.challenge_id, response=answer))
                bounds = strictness.bounds(tx, self.broker, found.passkey.person_id)
                _, secret = sessions.open_session(tx, found.passkey, bounds)
            with self.broker.read() as view:
                self._sessions[who] = _sure(sessions.resolve(view, secret, strictness.bounds_of(self.broker)))
        return self._sessions[who]

    def _answer(self, who: str, options: dict[str, Any]) -> dict[str, Any]:
        return self._seeded.passkeys[who].get(options)

    def ask(self, who: str, target: str, entitlement: str, seconds: int, reason: str) -> Filed:
        """File a request, signed."""
        me = self.current(who)
        with self.broker.begin(me.actor) as tx:
            begun = _sure(request.begin_filing(tx, self.broker, me, Ask(target, entitlement, {}, seconds, reason)))
        answer = self._answer(who, begun.options)
        with self.broker.begin(me.actor, lock=[(Person, me.person.id)]) as tx:
            found = request.complete_filing(tx, self.broker, me, challenge_id=begun.challenge_id, response=answer)
        return _sure(found)

    def approve(self, who: str, request_id: str) -> Approved:
        """Approve a request, signed."""
        me = self.current(who)
        with self.broker.begin(me.actor) as tx:
            begun = _sure(approve.begin_approval(tx, self.broker, me, request_id=request_id))
        answer = self._answer(who, begun.options)
        with self.broker.begin(me.actor, lock=approve.lock_of(self.broker, [request_id])) as tx:
            found = approve.complete_approval(
                tx, self.broker, me, request_id=request_id, challenge_id=begun.challenge_id, response=answer
            )
        return _sure(found)

    def open(self, who: str, grant_id: str, given: Mapping[str, str] | None = None) -> Opened:
        """Open a grant with a fresh signature; what comes back is seen this once."""
        me = self.current(who)
        begun = handover.begin(self.broker, me, grant_id)
        found = handover.complete(
            self.broker,
            me,
            grant_id,
            challenge_id=begun.challenge_id,
            response=self._answer(who, begun.options),
            given=given,
        )
        return _sure(found)

    def hand_back(self, who: str, grant_id: str) -> None:
        """Give the access back early."""
        me = self.current(who)
        with self.broker.begin(me.actor, lock=[(Grant, grant_id)]) as tx:
            revoke.hand_back(tx, me, grant_id)

    def proof(self, lease_id: str) -> dict[str, Any]:
        """Wait until a lease is gone from its target; return what the target said."""
        for _ in range(int(GONE_LIMIT_S * 10)):
            with self.broker.read() as view:
                lease = view.require(Lease, lease_id)
            if lease.state == LeaseState.REVOKED:
                proof: Any = lease.proof
                return dict(proof)
            time.sleep(0.1)
        raise SystemExit("the access was not ended in time")


def _sure(found: Any) -> Any:
    if found is None or isinstance(found, Refused):
        raise SystemExit(f"refused: {found.message if found is not None else 'no session'}")
    return found
