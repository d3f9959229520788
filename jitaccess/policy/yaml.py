"""What does this YAML text say, strictly? YAML 1.2 to plain values, each with its position (R27).

Refused: anchors, aliases, tags, merge keys, directives, duplicate keys, several documents, and scalars that other readers take for
something else (`no`, `0777`, `4:00`, `1e3`, `1_000`, dates, empty values): quote them. Values are built straight from the parser's
events; size is bounded before and depth while parsing, so that no text can exhaust the stack.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO
from typing import NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StreamMark, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from jitaccess.policy.problems import PolicyErrors, PolicyProblem
from jitaccess.told import told

MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 12
"""The deepest path that the language has is 7."""
MAX_WIDTH = 10_000
"""No text of the language is broken over lines."""
Path = tuple[str | int, ...]
_INT = re.compile(r"-?(0|[1-9][0-9]{0,15})\Z")
_BOOL = {"true": True, "false": False}
_ODD = re.compile(
    r"(?i:y|yes|n|no|on|off|true|false|null|~|nan|[-+.]?\.?inf|\.nan)\Z"
    r"|[-+]?\.?[0-9][0-9_.,:+-]*(?:[eE][-+]?[0-9]+)?\Z"
    r"|[-+]?0[xob][0-9a-fA-F_]+\Z"
)
"""Plain scalars that some YAML reader would not take for text."""

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*\Z|[1-9][0-9]*[dhms]\Z")
"""Texts that no reader takes for anything else: names and durations."""


@dataclass(slots=True)
class Source:
    """One parsed file: its plain value and the position of every path, line and column from 1."""

    file: str
    value: object = None
    at: dict[Path, tuple[int, int]] = field(default_factory=dict)
    styles: dict[Path, str] = field(default_factory=dict)
    """How a quoted or block text was written: `'`, `"`, `|` or `>`."""
    lines: tuple[str, ...] = ()

    def problem(self, path: Path, message: str) -> PolicyProblem:
        """Return a problem at a path, or at the nearest part of it that exists."""
        where = path
        while where not in self.at and where:
            where = where[:-1]
        line, column = self.at.get(where, (1, 1))
        return PolicyProblem(self.file, line, column, dotted(path), message)

    def problem_inside(self, path: Path, line: int, column: int, message: str) -> PolicyProblem:
        """Return a problem at a line and column (from 1) of the text at a path; exact but for escapes and folded text."""
        found = self.problem(path, message)
        match self.styles.get(path):
            case "|":
                body = found.line  # 0-based index of the line after the one with the `|`
                indent = next((len(text) - len(text.lstrip()) for text in self.lines[body:] if text.strip()), 0)
                at = (found.line + line, indent + column)
            case ">":
                at = (found.line + 1, 1)
            case quoted:
                at = (found.line, found.column + column - 1 + (quoted is not None)) if line == 1 else (found.line, 1)
        return PolicyProblem(self.file, *at, found.path, message)


def dotted(path: Path) -> str:
    """Return a path as people read it: `rules[0].for.groups`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "-"


def parse(file: str, text: str) -> Source:
    """Parse one file; raises PolicyErrors."""
    source = Source(file)
    if len(text) > MAX_FILE_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_FILE_BYTES:
        raise PolicyErrors([source.problem((), "the file is larger than 4 MiB")])
    source.lines = tuple(text.splitlines())
    builder = _Builder(source, YAML(typ="safe", pure=True).parse(text))
    try:
        builder.document()
    except MarkedYAMLError as error:
        message = " ".join(part for part in (error.context, error.problem) if part)
        raise PolicyErrors([_marked(file, error.problem_mark or error.context_mark, message)]) from error
    except (YAMLError, ValueError) as error:
        raise PolicyErrors([source.problem((), "this is not YAML text: a character is not allowed")]) from error
    if builder.problems:
        raise PolicyErrors(builder.problems)
    return source


def _marked(file: str, mark: StreamMark | None, message: str) -> PolicyProblem:
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    return PolicyProblem(file, line, column, "-", message)


def written(value: object) -> str:
    """Return YAML that `parse` reads back as exactly this value of mappings, lists, texts, whole numbers, true and false.

    Raises PolicyErrors for what YAML cannot say.
    """
    out = StringIO()
    yaml = YAML()
    yaml.width = MAX_WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump(_quoted(value), out)
    text = out.getvalue()
    if parse("written", text).value != value:
        raise PolicyErrors([Source("written").problem((), "this is not YAML text: a character is not allowed")])
    return text


def _quoted(value: object) -> object:
    """Return a value in which every text that somebody could read in another way stands in quotes. Nothing is the same object twice: no
    anchors."""
    match value:
        case dict():
            return {_quoted(key): _quoted(part) for key, part in value.items()}
        case list():
            return [_quoted(part) for part in value]
        case str():
            return value if _PLAIN.match(value) and not _ODD.match(value) else DoubleQuotedScalarString(value)
    return value


class _Builder:
    """Builds plain values from parser events, noting positions."""

    def __init__(self, source: Source, events: Iterator[Event]) -> None:
        self.problems: list[PolicyProblem] = []
        self._source = source
        self._events = events

    def document(self) -> None:
        """Read the one document of the stream; raises PolicyErrors for what makes the rest unreadable."""
        seen = False
        for event in self._events:
            match event:
                case StreamStartEvent():
                    continue
                case StreamEndEvent():
                    break
                case DocumentStartEvent():
                    if seen:
                        self._stop(event, "a file holds one document")
                    if event.version or event.tags:
                        self._stop(event, "directives are not allowed")
                    seen = True
                    self._source.value = self._node(next(self._events), ())
                case _:
                    continue
        if not seen:
            self.problems.append(self._source.problem((), "the file is empty"))

    def _stop(self, event: Event, message: str) -> NoReturn:
        raise PolicyErrors([*self.problems, _marked(self._source.file, event.start_mark, message)])

    def _node(self, event: Event, path: Path) -> object:
        self._source.at[path] = (event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor):
            self._stop(event, "anchors and aliases are not allowed")
        if getattr(event, "ctag", None) is not None:
            self._stop(event, "tags are not allowed")
        if len(path) > MAX_DEPTH:
            self._stop(event, "nested too deeply")
        match event:
            case ScalarEvent():
                return self._scalar(event, path)
            case SequenceStartEvent():
                found: list[object] = []
                while not isinstance(part := next(self._events), SequenceEndEvent):
                    found.append(self._node(part, (*path, len(found))))
                return found
            case MappingStartEvent():
                return self._mapping(path)
            case _:
                raise PolicyErrors([_marked(self._source.file, event.start_mark, "this is not YAML text")])

    def _mapping(self, path: Path) -> dict[str, object]:
        found: dict[str, object] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            if not isinstance(event, ScalarEvent) or event.anchor or getattr(event, "ctag", None) is not None:
                self._stop(event, "a key must be plain text, without anchor or tag")
            key: str = event.value
            here = (*path, key)
            mark = event.start_mark
            if event.style is None and key == "<<":
                self._stop(event, "merge keys are not allowed")
            if key in found:
                message = told('the key "%(key)s" stands twice', key=key)
                self.problems.append(
                    PolicyProblem(self._source.file, mark.line + 1, mark.column + 1, dotted(here), message)
                )
                self._node(next(self._events), (*here, "(again)"))
                continue
            found[key] = self._node(next(self._events), here)
        return found

    def _scalar(self, event: ScalarEvent, path: Path) -> object:
        text: str = event.value
        if event.style is not None:  # quoted or block text is text, whatever it looks like
            self._source.styles[path] = str(event.style)
            return text
        if _INT.match(text):
            return int(text)
        if text in _BOOL:
            return _BOOL[text]
        if text == "" or _ODD.match(text):
            shown = (
                told('found %(text)s, which readers take differently; quote it: "%(text)s"', text=text)
                if text
                else told("found nothing")
            )
            self.problems.append(self._source.problem(path, told("%(shown)s, expected a value", shown=shown)))
        return text
