"""`jitaccess keys`: list and rotate keys."""

from datetime import timedelta

import click

from jitaccess.app import open_broker
from jitaccess.audit.rotation import reseal, rotate_key
from jitaccess.domain.values import LOCAL
from jitaccess.settings import load
from jitaccess.tokens.keys import Purpose, listing


@click.group()
def keys() -> None:
    """List and rotate the broker's keys."""


@keys.command("list")
def list_() -> None:
    """List all keys with purpose and status."""
    broker = open_broker(load())
    with broker.read() as view:
        for line in listing(view):
            click.echo(line)
    broker.db.close()


@keys.command("rotate")
@click.argument("purpose", type=click.Choice([purpose.value for purpose in Purpose]))
def rotate_(purpose: str) -> None:
    """Make a new key for PURPOSE; the old one overlaps where it must, then is retired. For `seal` every row is sealed anew."""
    settings = load()
    broker = open_broker(settings)
    old_seal = broker.keyring.seals.active
    key = rotate_key(
        broker.db,
        broker.keyring,
        broker.checkpoints,
        Purpose(purpose),
        origin=broker.site.log_origin,
        overlap=timedelta(seconds=settings.keys.token_overlap_s),
        actor=LOCAL,
    )
    click.echo(f"new {purpose} key: {key}")
    if purpose == Purpose.SEAL:
        click.echo(f"{reseal(broker.db, old_seal, actor=LOCAL)} rows sealed anew")
    broker.db.close()
