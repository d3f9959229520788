"""`jitaccess keys`: list and rotate keys."""

from datetime import timedelta

import click

from jitaccess.app import open_broker
from jitaccess.audit.reseal import reseal
from jitaccess.domain.values import LOCAL
from jitaccess.settings import load
from jitaccess.tokens.keys import Purpose, listing, rotate


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
    """Make a new key for PURPOSE; the old one overlaps, then is retired. For `seal` every row is sealed anew."""
    settings = load()
    broker = open_broker(settings)
    with broker.begin(LOCAL) as tx:
        overlap = timedelta(seconds=settings.keys.token_overlap_s)
        key = rotate(tx, broker.keyring, Purpose(purpose), origin=broker.site.log_origin, overlap=overlap)
    if purpose == Purpose.AUDIT:
        broker.checkpoints.make()  # both keys sign over the announcement, before the old one can be retired
    broker.db.close()
    if purpose == Purpose.SEAL:
        broker = open_broker(settings)
        click.echo(f"{reseal(broker.db)} rows sealed anew")
        broker.db.close()
    click.echo(f"new {purpose} key: {key}")
