"""`jitaccess recovery`: start a recovery with paper keys, list what is under way, take the link; on the broker's own host."""

import click

from jitaccess.app import open_broker
from jitaccess.domain.values import LOCAL
from jitaccess.errors import JitError, Kind
from jitaccess.identity import recovery as recoveries
from jitaccess.identity.replacing import by_paper
from jitaccess.settings import load


@click.group()
def recovery() -> None:
    """Recover a founder's account with k of n paper keys: public, 72 hours, vetoable."""


@recovery.command()
@click.argument("account_id")
def start(account_id: str) -> None:
    """Start a recovery of a founder's ACCOUNT_ID; the paper keys are asked for, one a line, an empty line ends."""
    keys: list[str] = []
    while text := click.prompt("Paper key (empty to end)", default="", show_default=False, hide_input=True):
        keys.append(text)
    broker = open_broker(load())
    with broker.begin(LOCAL) as tx:
        row = recoveries.start(tx, account_id=account_id, paper_keys=keys)
    broker.db.close()
    click.echo(f"recovery {row.id}: finish it after {row.ripe_at:%Y-%m-%d %H:%M} UTC unless a founder vetoes it")


@recovery.command("list")
def list_() -> None:
    """List recoveries with paper keys that are under way."""
    broker = open_broker(load())
    with broker.read() as view:
        for row in by_paper(view):
            click.echo(f"{row.id} account {row.account_id} from {row.ripe_at:%Y-%m-%d %H:%M} UTC")
    broker.db.close()


@recovery.command()
@click.argument("recovery_id")
def finish(recovery_id: str) -> None:
    """Print a link of a recovery whose time has come. It lives ten minutes; missed, it is made anew by the same command."""
    broker = open_broker(load())
    with broker.begin(LOCAL) as tx:
        if all(row.id != recovery_id for row in by_paper(tx)):
            raise JitError(Kind.NOT_FOUND, "There is no recovery with paper keys of this id under way.")
        address = recoveries.link(tx, broker.site, recovery_id)
    broker.db.close()
    click.echo(address)
