"""`jitaccess demo`: the story on this machine, in a throw-away folder; nothing of it is production."""

import sys
from pathlib import Path

import click

from jitaccess.demo.browser import film
from jitaccess.demo.play import play
from jitaccess.demo.story import check as check_story


@click.command()
@click.option("--check", is_flag=True, help="Drive the story over HTTP with software passkeys, told line by line.")
@click.option(
    "--browser",
    type=click.Path(file_okay=False, path_type=Path),
    help="Drive it in Chromium with virtual passkeys and put a picture of each step into this folder.",
)
@click.option(
    "--port", default=8000, show_default=True, help="The broker's port; another one is taken when it is busy."
)
@click.option("--treasury-port", default=8001, show_default=True, help="The sample treasury's port, likewise.")
def demo(check: bool, browser: Path | None, port: int, treasury_port: int) -> None:
    """Start a broker and a sample treasury with seeded people; Ctrl-C ends it and removes everything."""
    if check:
        sys.exit(check_story(port=port, treasury_port=treasury_port))
    if browser is not None:
        sys.exit(film(browser, port=port, treasury_port=treasury_port))
    play(port=port, treasury_port=treasury_port)
