"""`jitaccess clients`: register target systems as OAuth clients, from the broker's own shell; an act of its own in the log."""

import json
from pathlib import Path

import click

from jitaccess.app import open_broker
from jitaccess.broker.clients import add_proxied, registered
from jitaccess.broker.logout import deliveries
from jitaccess.domain.values import LOCAL
from jitaccess.errors import JitError, Kind
from jitaccess.oidc.clients import add_client, disable_client
from jitaccess.proof.canonical import JsonValue
from jitaccess.settings import load


@click.group()
def clients() -> None:
    """Register, list and switch off target systems."""


@clients.command()
@click.argument("target")
@click.option("--name", required=True, help="What people are shown.")
@click.option(
    "--redirect-uri", "redirect_uris", multiple=True, required=True, help="Exact; may be given more than once."
)
@click.option("--jwks", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Public keys (JWK Set).")
@click.option("--initiate-login-uri", help="Where the broker's Open button leads.")
@click.option("--backchannel-logout-uri", help="Where the broker tells that a sign-in is over.")
@click.option(
    "--post-logout-redirect-uri",
    "post_logout_redirect_uris",
    multiple=True,
    help="Where people may be sent after signing out; exact; may be given more than once.",
)
def add(
    target: str,
    name: str,
    redirect_uris: tuple[str, ...],
    jwks: Path | None,
    initiate_login_uri: str | None,
    backchannel_logout_uri: str | None,
    post_logout_redirect_uris: tuple[str, ...],
) -> None:
    """Register TARGET (its id in the policy). Without --jwks a secret is printed, once."""
    keys = _read_jwks(jwks) if jwks is not None else None
    broker = open_broker(load())
    try:
        with broker.begin(LOCAL) as tx:
            if target not in broker.policies.active(tx).targets:
                raise JitError(Kind.INVALID, f"The active policy has no target {target!r}.")
            client, secret = add_client(
                tx,
                target=target,
                name=name,
                redirect_uris=redirect_uris,
                jwks=keys,
                initiate_login_uri=initiate_login_uri,
                backchannel_logout_uri=backchannel_logout_uri,
                post_logout_redirect_uris=post_logout_redirect_uris,
            )
    finally:
        broker.db.close()
    click.echo(f"client_id {client.id}")
    if secret is not None:
        click.echo(f"client_secret {secret}")


@clients.command("add-proxied")
@click.argument("target")
@click.option("--name", required=True, help="What people are shown.")
@click.option("--origin", required=True, help="The application's own address: scheme, host and port, nothing else.")
def add_behind_proxy(target: str, name: str, origin: str) -> None:
    """Register an application behind nginx or Caddy for TARGET (its id in the policy). There is no secret."""
    broker = open_broker(load())
    try:
        with broker.begin(LOCAL) as tx:
            if target not in broker.policies.active(tx).targets:
                raise JitError(Kind.INVALID, f"The active policy has no target {target!r}.")
            client = add_proxied(tx, target=target, name=name, origin=origin)
    finally:
        broker.db.close()
    click.echo(f"client_id {client.id}")


def _read_jwks(path: Path) -> dict[str, JsonValue]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise JitError(Kind.INVALID, f"Cannot read a JWK Set from {path}.") from error
    if not isinstance(found, dict):
        raise JitError(Kind.INVALID, f"{path} is not a JWK Set.")
    return found


@clients.command("list")
def list_() -> None:
    """List the registered target systems."""
    broker = open_broker(load())
    with broker.read() as view:
        found = registered(view)
    broker.db.close()
    for client in sorted(found.values(), key=lambda client: client.target):
        click.echo(f"{client.id} {client.target} {client.method.value} {client.name}")
        for uri in client.redirect_uris:
            click.echo(f"  {uri}")


@clients.command("logouts")
@click.option("--limit", default=50, type=click.IntRange(1, 1000), help="How many, the newest first.")
def logouts_(limit: int) -> None:
    """List logout notices and what became of each."""
    broker = open_broker(load())
    with broker.read() as view:
        rows = deliveries(view, limit=limit)
    broker.db.close()
    for row in rows:
        state = "waiting" if row.done_at is None else "delivered" if row.delivered else "given up"
        line = f"{row.created_at:%Y-%m-%d %H:%M:%S} UTC {row.client_id} {row.cause} {state} attempts={row.attempts}"
        click.echo(f"{line} {row.last_error or ''}".rstrip())


@clients.command()
@click.argument("client_id")
def disable(client_id: str) -> None:
    """Switch CLIENT_ID off at once: its tokens are over, and it is told so."""
    broker = open_broker(load())
    try:
        with broker.begin(LOCAL) as tx:
            disable_client(tx, client_id)
    finally:
        broker.db.close()
    click.echo("switched off")
