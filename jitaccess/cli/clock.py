"""`jitaccess clock`: the way back when the machine's clock was wrong and is right again."""

import click

from jitaccess.app import open_broker
from jitaccess.broker.wrong_clock import set_back
from jitaccess.errors import JitError, Kind
from jitaccess.settings import load


@click.group()
def clock() -> None:
    """See how far the broker's time is ahead of the machine's clock, and set it back."""


@clock.command()
def show() -> None:
    """Print the machine's time and by how much the broker's is ahead of it."""
    broker = open_broker(load())
    click.echo(
        f"clock {broker.clock.now():%Y-%m-%d %H:%M:%S} UTC, broker ahead by {broker.db.ahead().total_seconds():.0f} s"
    )
    broker.db.close()


@clock.command("set-back")
@click.option("--reason", required=True, help="Why the clock was wrong; kept with the entry in the log.")
@click.confirmation_option(
    prompt="All access, sessions and waiting requests end. Is every broker stopped, and the clock right?"
)
def set_back_(reason: str) -> None:
    """End all that is live, and let time go on from the machine's clock.

    Stop every serving process and worker first: one that runs would go on with its own time, and the next start would find it again.
    """
    if not 3 <= len(reason.strip()) <= 500:
        raise JitError(Kind.INVALID, "Give a reason of 3 to 500 characters.")
    broker = open_broker(load())
    seconds = set_back(broker, reason.strip(), by="local")
    broker.db.close()
    click.echo(
        f"set back by {seconds} s; start the broker again. The hold on the instance is released with a signature."
    )
