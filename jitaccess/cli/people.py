"""`jitaccess people`: list the register, from the broker's own shell.

The shell gives nobody a way in: two administrators sign links on the page /people; where there are none, paper keys
do (`jitaccess recovery`).
"""

import click

from jitaccess.app import open_broker
from jitaccess.identity.people import staff
from jitaccess.settings import load


@click.group()
def people() -> None:
    """List people. Links for them are signed on the page /people."""


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
