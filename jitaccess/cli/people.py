"""`jitaccess people`: list the register, and write enrolment links, from the broker's own shell.

Everything else about people is signed on the page /people. A link from the shell is an act of its own in the log; founders hear of it.
"""

import click

from jitaccess.app import open_broker
from jitaccess.domain.values import LOCAL
from jitaccess.identity.enrolment import create_link, tell
from jitaccess.identity.people import FOUNDERS, register, staff
from jitaccess.settings import load


@click.group()
def people() -> None:
    """List people and write enrolment links."""


@people.command("list")
def list_() -> None:
    """List persons with their accounts and groups."""
    broker = open_broker(load())
    with broker.read() as view:
        found = staff(view)
    broker.db.close()
    for person in sorted(found.register.persons.values(), key=lambda person: person.name):
        accounts = [key for key, (owner, _) in found.accounts.items() if owner == person.id]
        state = "on hold" if person.on_hold else "active" if person.active else "switched off"
        groups = ", ".join(sorted(person.groups)) or "-"
        click.echo(f"{person.id} {person.name} [{person.institution}/{person.unit}] {state} groups: {groups}")
        for account in accounts:
            click.echo(f"  account {account}")


@people.command()
@click.argument("account_id")
def link(account_id: str) -> None:
    """Print a one-use enrolment link for ACCOUNT_ID; it lives ten minutes. Every founder is told."""
    broker = open_broker(load())
    with broker.begin(LOCAL) as tx:
        address = create_link(tx, broker.site, account_id=account_id, by="local")
        for founder in sorted(register(tx).members(FOUNDERS)):
            tell(tx, "local_link", founder, account_id)
    broker.db.close()
    click.echo(address)
