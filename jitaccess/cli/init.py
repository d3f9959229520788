"""`jitaccess init`: genesis on this machine (design.md section 6a).

Makes the wrapping key, opens a one-time page on the loopback address under a random path, lets each founder make the passkeys, and then
writes leaf 0 and prints the paper recovery keys once. `--pilot` takes one founder with one passkey and marks the instance for ever.
"""

import json
from pathlib import Path

import click

from jitaccess.cli.files import text_of, yaml_texts
from jitaccess.clock import Clock, SystemClock
from jitaccess.connectors import config_models
from jitaccess.errors import JitError, Kind
from jitaccess.identity.genesis import FOUNDERS_WANTED, PAPER_THRESHOLD, PASSKEYS_WANTED, FounderDraft, genesis
from jitaccess.policy.decision_tests import REGISTER_FILE, read_register
from jitaccess.policy.evaluate import PolicySet
from jitaccess.policy.load import load as load_policies
from jitaccess.policy.problems import PolicyErrors
from jitaccess.settings import Settings, load
from jitaccess.tokens.keys import create_wrapping_key, read_wrapping_key
from jitaccess.web.genesis import Founder, GenesisPage, served


@click.command()
@click.option(
    "--pilot", is_flag=True, help="One founder with one passkey; marked on every page and in every checkpoint."
)
@click.option(
    "--founders",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='JSON list of {"name", "email", "institution", "unit"}; asked for when absent.',
)
@click.option(
    "--policies", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A folder to activate first."
)
def init(pilot: bool, file: Path | None, policies: Path | None) -> None:
    """Create the instance: founders make their passkeys on a one-time page of this machine."""
    settings = load()
    count = 1 if pilot else FOUNDERS_WANTED
    founders = _founders(file, count)
    policy = _policy(policies)
    page = GenesisPage(settings, founders, passkeys=1 if pilot else PASSKEYS_WANTED, pilot=pilot)
    with served(page, settings.server.port):
        click.echo("Open this page on this machine; each founder makes the passkeys there:")
        click.echo(f"  {settings.server.public_url}/genesis/{page.secret}")
        page.complete.wait()
    click.echo(finish(settings, SystemClock(), page.drafts(), pilot=pilot, policy=policy))


def finish(
    settings: Settings, clock: Clock, drafts: list[FounderDraft], *, pilot: bool, policy: PolicySet | None
) -> str:
    """Write the instance and return what is printed once."""
    path = settings.keys.wrapping_key_file
    wrapping_key = read_wrapping_key(path) if path.exists() else create_wrapping_key(path)
    made = genesis(settings, clock, wrapping_key, drafts, pilot=pilot, policy=policy)
    lines = [
        f"Instance {made.instance_id} was created{' as a pilot' if pilot else ''}.",
        f"Wrapping key: {path} (back it up, apart from the database)",
        f"Paper recovery keys, any {PAPER_THRESHOLD} of these {len(made.paper_keys)}; print them, give each to another person,",
        "and clear this screen. They are shown once:",
        *(f"  {number}. {text}" for number, text in enumerate(made.paper_keys, start=1)),
        "Next: jitaccess serve",
    ]
    return "\n".join(lines)


def _founders(file: Path | None, count: int) -> list[Founder]:
    if file is None:
        return [
            Founder(
                name=click.prompt(f"Founder {number}: name"),
                email=click.prompt("  mail address"),
                institution=click.prompt("  institution (short id)"),
                unit=click.prompt("  unit"),
            )
            for number in range(1, count + 1)
        ]
    try:
        found = [
            Founder(str(entry["name"]), str(entry["email"]), str(entry["institution"]), str(entry["unit"]))
            for entry in json.loads(text_of(file))
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise JitError(Kind.INVALID, f"{file} must be a JSON list of name, email, institution and unit.") from error
    if len(found) != count:
        raise JitError(Kind.INVALID, f"This profile starts with {count} founder(s); {file} names {len(found)}.")
    return found


def _policy(folder: Path | None) -> PolicySet | None:
    if folder is None:
        return None
    texts = yaml_texts(folder)
    people = folder / "tests" / REGISTER_FILE
    try:
        register = read_register(text_of(people)) if people.exists() else None
        return load_policies(texts, register=register, connectors=config_models())
    except PolicyErrors as error:
        raise JitError(Kind.INVALID, str(error)) from error
