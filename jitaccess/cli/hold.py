"""`jitaccess hold`: stop somebody or something from the broker's own shell, also when nobody can sign in."""

import click

from jitaccess.app import open_broker
from jitaccess.broker.hold import HoldKind, in_force, locks_out, place
from jitaccess.broker.hold import end_everything as end_all
from jitaccess.domain.values import LOCAL, Refused
from jitaccess.settings import load

KIND = click.argument("kind", type=click.Choice([kind.value for kind in HoldKind]))


@click.group()
def hold() -> None:
    """Hold a person, passkey, target, grant, institution or the whole instance; list holds."""


@hold.command("place")
@KIND
@click.argument("subject_id")
@click.option("--cause", default="by the operator", help="Why; shown to administrators.")
def place_(kind: str, subject_id: str, cause: str) -> None:
    """Place a hold and end what is live under it. Releasing one is signed on the page /holds; the shell lifts none."""
    broker = open_broker(load())
    with broker.begin(LOCAL) as tx:
        last = locks_out(tx, HoldKind(kind), subject_id)
        row, ended = place(tx, broker, kind=HoldKind(kind), subject_id=subject_id, cause=cause, by="local", sure=True)
    broker.db.close()
    if last:
        click.echo(
            "Nobody is left who can administer this broker: `jitaccess recovery` with paper keys lifts this.", err=True
        )
    name = row.message if isinstance(row, Refused) else row.id
    click.echo(f"hold {name}: ended {ended.sessions} sessions, {ended.requests} requests, {ended.grants} grants")


@hold.command()
@KIND
@click.argument("subject_id")
def end(kind: str, subject_id: str) -> None:
    """End sessions, requests and grants of KIND SUBJECT_ID without holding it."""
    broker = open_broker(load())
    with broker.begin(LOCAL) as tx:
        ended = end_all(tx, broker, kind=HoldKind(kind), subject_id=subject_id, by="local")
    broker.db.close()
    click.echo(f"ended {ended.sessions} sessions, {ended.requests} requests, {ended.grants} grants")


@hold.command("list")
def list_() -> None:
    """List holds in force."""
    broker = open_broker(load())
    with broker.read() as view:
        for row in in_force(view):
            click.echo(f"{row.id} {row.kind} {row.subject_id} {row.placed_at:%Y-%m-%d %H:%M} UTC {row.cause}")
    broker.db.close()
