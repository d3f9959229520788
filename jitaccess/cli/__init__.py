"""The command line: one click group, one file a subject. It parses, calls a verb and prints; it decides nothing."""

import sys

import click

from jitaccess import __version__
from jitaccess.cli.audit import audit
from jitaccess.cli.clients import clients
from jitaccess.cli.clock import clock
from jitaccess.cli.demo import demo
from jitaccess.cli.hold import hold
from jitaccess.cli.init import init
from jitaccess.cli.keys import keys
from jitaccess.cli.migrate import migrate
from jitaccess.cli.people import people
from jitaccess.cli.policy import policy
from jitaccess.cli.ready import ready
from jitaccess.cli.recovery import recovery
from jitaccess.cli.serve import serve
from jitaccess.cli.targets import targets
from jitaccess.cli.worker import worker
from jitaccess.errors import JitError
from jitaccess.sdk.dev.commands import dev


@click.group("jitaccess", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="jitaccess")
def root() -> None:
    """Just-in-time privileged access with passkey-signed approvals and a log nobody can rewrite unseen."""


for command in (
    init,
    migrate,
    serve,
    worker,
    demo,
    policy,
    audit,
    keys,
    people,
    clients,
    hold,
    clock,
    recovery,
    targets,
    ready,
    dev,
):
    root.add_command(command)


def main() -> None:
    """Run the command line; a JitError becomes one sentence and its exit code, never a traceback."""
    try:
        root()
    except JitError as error:
        click.echo(f"jitaccess: {error.message}", err=True)
        sys.exit(error.door.exit_code)
