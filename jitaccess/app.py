"""How are the parts put together? The only place where they are wired.

`open_broker` opens an initialised instance and refuses one that contradicts its settings, its migrations or its log;
`create_app` makes the Flask application; `serve_app` is what a serving process runs: it also starts the sweep, which ends what
is overdue before anything may be granted (R59).
"""

import logging
import os
import signal
import threading
from collections.abc import Callable

from flask import Flask
from sqlalchemy import select

from jitaccess import oidc
from jitaccess.audit.checkpoints import Checkpoints
from jitaccess.audit.start import check_at_start
from jitaccess.broker.board import SqlBoard
from jitaccess.broker.channels import channels
from jitaccess.broker.context import Broker
from jitaccess.broker.policies import Policies
from jitaccess.broker.sweep import Ticker
from jitaccess.broker.targets import open_targets
from jitaccess.broker.verified import Verified
from jitaccess.clock import Clock, SystemClock
from jitaccess.connectors import load_kinds
from jitaccess.errors import JitError, Kind
from jitaccess.identity.site import Site
from jitaccess.settings import Settings, load
from jitaccess.store.db import Database
from jitaccess.store.migrations import require_current
from jitaccess.store.tables import Instance
from jitaccess.tokens.keys import Keyring, read_wrapping_key
from jitaccess.web.wiring import register as register_pages


def open_broker(settings: Settings, clock: Clock | None = None) -> Broker:
    """Open an initialised instance and wire its parts; raises CONFIGURATION with what to do."""
    clock = clock or SystemClock()
    channels(settings)  # refuses a channel that cannot work (R73)
    require_current(settings.store.url)
    wrapping_key = read_wrapping_key(settings.keys.wrapping_key_file)
    keyring = Keyring.load(settings.store.url, wrapping_key)
    db = Database(
        settings.store.url,
        clock,
        keyring.seals,
        pool_size=settings.store.pool_size,
        probe=_fault_probe(settings.fault.kill_at),
    )
    db.raise_high_water()
    site = _site(db, settings)
    check_at_start(db, keyring, site.log_origin, published=settings.log.publish_folder)
    return Broker(
        settings=settings,
        clock=clock,
        db=db,
        keyring=keyring,
        checkpoints=Checkpoints(
            db, keyring, origin=site.log_origin, pilot=site.pilot, publish_folder=settings.log.publish_folder
        ),
        policies=Policies(),
        targets=open_targets(
            load_kinds(),
            settings.targets.secrets_dir,
            clock.now,
            at_once=settings.targets.at_once,
            boards=lambda target: SqlBoard(db, target),
        ),
        site=site,
        verified=Verified(origin=site.origin, rp_id=site.rp_id),
    )


def _site(db: Database, settings: Settings) -> Site:
    with db.read() as view:
        instance = view.first(select(Instance))
    if instance is None:
        raise JitError(Kind.CONFIGURATION, "This database holds no instance yet: run `jitaccess init` first.")
    fixed = {
        "server.public_url": (instance.public_url, settings.server.public_url),
        "the host of server.public_url": (instance.rp_id, settings.rp_id),
        "log.origin": (instance.log_origin, settings.log.origin),
    }
    for name, (at_genesis, now) in fixed.items():
        if at_genesis != now:
            raise JitError(
                Kind.CONFIGURATION,
                f"{name} is {now!r}, but this instance was created with {at_genesis!r}. Passkeys and signatures are bound "
                "to it: set it back.",
            )
    return Site(
        instance_id=instance.id,
        log_origin=instance.log_origin,
        rp_id=instance.rp_id,
        origin=instance.public_url,
        name="jitaccess",
        pilot=instance.pilot,
        sessions=settings.sessions,
    )


def _fault_probe(kill_at: str) -> Callable[[str], None] | None:
    """Return a probe that kills this process at the n-th passing of a moment, for fault tests."""
    if not kill_at:
        return None
    wanted, _, number = kill_at.partition(":")
    left = int(number)
    guard = threading.Lock()

    def probe(moment: str) -> None:
        nonlocal left
        with guard:
            if moment == wanted:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

    return probe


def create_app(broker: Broker) -> Flask:
    """Make the Flask application over a wired broker."""
    app = Flask("jitaccess.web")
    oidc.register(app, broker, register_pages(app, broker))
    return app


def serve_app() -> Flask:
    """Open the instance named by settings, start the sweep where it is embedded, and return the application."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    settings = load()
    broker = open_broker(settings)
    ticker = Ticker(broker)
    if settings.sweep.embedded:
        ticker.start()
    else:
        ticker.watch()  # `jitaccess worker` ticks; what is overdue ends here all the same before anything is given (R59)
    return create_app(broker)
