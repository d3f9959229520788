"""The demo for people: servers, links, and words that lead through the story in three minutes."""

import signal
import sys

import click

from jitaccess.demo.cast import CAST, FOUNDERS, ORDER, ORDER_CENTS
from jitaccess.demo.ending import Ended
from jitaccess.demo.stage import Stage, staged

PEOPLE = ("arta", "blerim", "drita", "jelena", "agim")
ROLES = {role.key: role for role in (*CAST, *FOUNDERS)}


def story_text(stage: Stage, links: dict[str, str]) -> str:
    """Return what is printed."""
    amount = f"EUR {ORDER_CENTS // 100:,}"
    people = "\n".join(f"  {ROLES[key].name:16} {ROLES[key].part:38} {links[key]}" for key in PEOPLE)
    return f"""
jitaccess  {stage.origin}
treasury   {stage.treasury_origin}
mails      {stage.origin}/demo/mail

Each person makes a passkey with their link (one use, ten minutes; press Enter here for fresh ones for those who have none yet).
Use one browser profile or private window for each person, or one after the other with "Sign out".

{people}

Three minutes:
 1. Open Arta's link, make a passkey, sign in. Choose "Ask", then "Release a payment":
    order {ORDER}, amount {ORDER_CENTS} cents ({amount}), why: something. Sign it.
 2. Blerim's link, passkey, sign in: the request waits. Look, tap "Approve", sign.
 3. Drita (the ministry whose money it is) does the same: two people, two institutions.
 4. Back to Arta: "Open Treasury payments", confirm with the passkey. Release {ORDER}. Try another order: refused.
 5. Arta hands back: the treasury refuses the very next click.
 6. Agim sees "People and holds": a hold ends everything of a person at once.
 7. Jelena reads the log. Verify it without us:
      JIT_CONFIG={stage.config} {sys.executable} -m jitaccess audit export OUT
      {sys.executable} -m jitaccess audit verify OUT

No passkey on this computer? ./jit demo --browser PICTURES drives it in Chromium with virtual ones.
Everything at once, checked: ./jit demo --check.   Ctrl-C ends this and removes {stage.folder}.
"""


def play(*, port: int, treasury_port: int) -> None:
    """Run until Ctrl-C, or another signal that ends programs."""
    try:
        with staged(enrolled=frozenset(), port=port, treasury_port=treasury_port) as stage:
            click.echo(story_text(stage, dict(stage.links(PEOPLE))))
            for _ in sys.stdin:
                for key, link in stage.links(PEOPLE).items():
                    click.echo(f"  {ROLES[key].name:16} {link}")
            if stage.broker.process is not None:
                stage.broker.process.wait()  # no keyboard (a pipe, a service): run until the broker is stopped
    except Ended as told:
        click.echo("\nthe demo has ended, nothing of it is left")
        if told.code != 128 + signal.SIGINT:  # Ctrl-C is how people end it, and no failure
            raise
