"""`jitaccess ready`: does the serving process of this machine answer, and may it grant? For supervisors and health checks."""

import http.client
from urllib.parse import urlsplit

import click

from jitaccess.errors import JitError, Kind
from jitaccess.settings import Settings, load

TIMEOUT_S = 4.0
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 # what a server binds to, never what one connects to


@click.command()
def ready() -> None:
    """Ask the serving process on this machine whether it is ready; exit code 10 when it is not."""
    click.echo(ask(load()))


def ask(settings: Settings) -> str:
    """Return "ready"; raises UNAVAILABLE with what is known."""
    host = EVERYWHERE.get(settings.server.host, settings.server.host)
    connection = http.client.HTTPConnection(host, settings.server.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz", headers={"Host": urlsplit(settings.server.public_url).netloc})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        message = f"Nothing answers on {host} port {settings.server.port}: {error or type(error).__name__}."
        raise JitError(Kind.UNAVAILABLE, message) from error
    finally:
        connection.close()
    if status != http.HTTPStatus.OK:
        raise JitError(Kind.UNAVAILABLE, f"The broker runs but is not ready (status {status}).")
    return "ready"
