"""What does a tutorial tell its reader to do? Its fenced commands and its numbered browser steps, in order, as data.

A step is a sentence of a small closed grammar; a sentence that is none of it is an error, so that nothing in the document goes untested.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Command:
    """A fenced block for the shell; one that keeps running is left alone after its start."""

    text: str
    keeps_running: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One numbered sentence for somebody's browser."""

    person: str
    act: str
    under: str | None = None
    what: str = ""
    value: str = ""


_GRAMMAR: tuple[tuple[str, str], ...] = (
    ("open", r"Open `(?P<value>http\S+)`\."),
    ("open-printed", r"Open the address that the command printed\."),
    ("open-kept", r"Open the link that was shown once\."),
    ("keep", r"Keep the link that is shown once\."),
    ("sign-in", r"Sign in with the passkey\."),
    ("click", r"[Cc]lick \*\*(?P<what>[^*]+)\*\*\."),
    ("see", r"You see \*\*(?P<what>[^*]+)\*\*\."),
    ("fill", r"[Ff]ill in \*\*(?P<what>[^*]+)\*\* with `(?P<value>[^`]+)`\."),
    ("choose", r"[Cc]hoose `(?P<value>[^`]+)` at \*\*(?P<what>[^*]+)\*\*\."),
)
_UNDER = re.compile(r"Under \*\*(?P<under>[^*]+)\*\*, ")


def step(person: str, sentence: str) -> Step:
    """Return a sentence as a step; raises ValueError for one that a test could not do."""
    under = _UNDER.match(sentence)
    rest = sentence[under.end() :] if under else sentence
    for act, pattern in _GRAMMAR:
        found = re.fullmatch(pattern, rest)
        if found is not None:
            return Step(person, act, under["under"] if under else None, **found.groupdict())
    raise ValueError(f"no test can do this: {sentence}")


def read(path: Path) -> Iterator[Command | Step]:
    """Give the commands and steps of a document, in order."""
    person, fence, block = "", "", []
    for line in path.read_text().splitlines():
        if fence:
            if line == "```":
                if fence.startswith("```sh"):
                    yield Command("\n".join(block), fence == "```sh keep-running")
                fence, block = "", []
            else:
                block.append(line)
        elif line.startswith("```"):
            fence = line
        elif found := re.fullmatch(r"In (\w+)'s browser:", line):
            person = found[1]
        elif found := re.match(r"\d+\. (.*)", line):
            yield step(person, found[1])
        elif line.startswith("#"):
            person = ""
