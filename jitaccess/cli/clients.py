"""`jitaccess clients`: register target systems as OAuth clients, from the broker's own shell; an act of its own in the log."""

import json
from pathlib import Path

import click

from jitaccess.app import open_broker
from jitaccess.broker.clients import registered
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
def add(
    target: str, name: str, redirect_uris: tuple[str, ...], jwks: Path | None, initiate_login_uri: str | None
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
            )
    finally:
        broker.db.close()
    click.echo(f"client_id {client.id}")
    if secret is not None:
        click.echo(f"client_secret {secret}")


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


@clients.command()
@click.argument("client_id")
def disable(client_id: str) -> None:
    """Switch CLIENT_ID off at once."""
    broker = open_broker(load())
    try:
        with broker.begin(LOCAL) as tx:
            disable_client(tx, client_id)
    finally:
        broker.db.close()
    click.echo("switched off")
