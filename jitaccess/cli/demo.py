"""`jitaccess demo`: the story on this machine, in a throw-away folder; nothing of it is production."""

import sys
from pathlib import Path

import click

from jitaccess.demo.browser import film
from jitaccess.demo.gallery import LANGUAGES, SCHEMES
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
    "--language",
    "languages",
    multiple=True,
    type=click.Choice((*LANGUAGES, "all")),
    help="With --browser: visit every page in this language too; may be given more than once.",
)
@click.option(
    "--scheme",
    "schemes",
    multiple=True,
    type=click.Choice((*SCHEMES, "all")),
    help="With --browser: visit every page in this colour scheme too; may be given more than once.",
)
@click.option(
    "--port", default=8000, show_default=True, help="The broker's port; another one is taken when it is busy."
)
@click.option("--treasury-port", default=8001, show_default=True, help="The sample treasury's port, likewise.")
def demo(
    check: bool,
    browser: Path | None,
    languages: tuple[str, ...],
    schemes: tuple[str, ...],
    port: int,
    treasury_port: int,
) -> None:
    """Start a broker and a sample treasury with seeded people; Ctrl-C ends it and removes everything."""
    if check:
        sys.exit(check_story(port=port, treasury_port=treasury_port))
    if browser is not None:
        looks = chosen(languages, LANGUAGES, schemes), chosen(schemes, SCHEMES, languages)
        sys.exit(film(browser, port=port, treasury_port=treasury_port, languages=looks[0], schemes=looks[1]))
    play(port=port, treasury_port=treasury_port)


def chosen(given: tuple[str, ...], every: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    """Return what was chosen of `every`; the first of them where only the other option was given; nothing where none was."""
    if "all" in given:
        return every
    return given or (every[:1] if other else ())
