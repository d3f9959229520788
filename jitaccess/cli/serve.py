"""`jitaccess serve`: the web process, on granian (docs/adr/0005)."""

import click
from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server import Server

from jitaccess.settings import load


@click.command()
def serve() -> None:
    """Serve pages, API and OIDC endpoints; runs the sweep too unless sweep.embedded is false."""
    settings = load()
    Server(
        "jitaccess.app:serve_app",
        factory=True,
        interface=Interfaces.WSGI,
        address=settings.server.host,
        port=settings.server.port,
        workers=settings.server.workers,
        blocking_threads=settings.server.threads,
        log_level=LogLevels.warning,
        websockets=False,
        respawn_failed_workers=True,
    ).serve()
