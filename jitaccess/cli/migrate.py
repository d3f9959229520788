"""`jitaccess migrate`: bring the database to this program's shape."""

import click

from jitaccess.settings import load
from jitaccess.store.migrations import current, upgrade


@click.command()
def migrate() -> None:
    """Bring the database of store.url to the newest revision."""
    settings = load()
    before = current(settings.store.url)
    upgrade(settings.store.url)
    click.echo(f"{before or 'empty'} -> {current(settings.store.url)}")
