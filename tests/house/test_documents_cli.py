"""Is every command and option of the program in the reference?"""

from collections.abc import Iterator

import click

from jitaccess.cli import root
from tests.support.sources import reference, unmentioned


def commands(command: click.Command, path: str) -> Iterator[str]:
    """Give every command with the path that a person types."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, f"{path} {name}")
    elif not command.hidden:
        yield path


def options(command: click.Command) -> Iterator[str]:
    """Give the long option of every option of every command."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from options(inner)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            yield max(parameter.opts, key=len)


def test_every_command_and_option_is_in_the_reference() -> None:
    text = reference()
    assert not unmentioned(commands(root, "jitaccess"), text)
    assert not unmentioned(options(root), text)
