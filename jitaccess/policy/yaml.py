"""What does this YAML text say, strictly? YAML 1.2 to plain values, each with its position (R27).

Refused: anchors, aliases, tags, merge keys, duplicate keys, several documents, and scalars that other readers take for something
else (`no`, `0777`, `4:00`, `1e3`, `1_000`, dates, empty values): quote them. Sizes and depth are bounded before anything is built.
"""

import re
from dataclasses import dataclass, field

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StringMark
from ruamel.yaml.events import AliasEvent, NodeEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from jitaccess.policy.problems import PolicyErrors, PolicyProblem

MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 12
Plain = "dict[str, Plain] | list[Plain] | str | int | bool"
_INT = re.compile(r"-?(0|[1-9][0-9]{0,15})\Z")
_BOOL = {"true": True, "false": False}
_ODD = re.compile(
    r"(?i:y|yes|n|no|on|off|true|false|null|~|nan|[-+.]?\.?inf)\Z|[-+]?[0-9][0-9_.,:+-]*(?:[eE][-+]?[0-9]+)?\Z|0[xob][0-9a-fA-F_]+\Z"
)
"""Plain scalars that some YAML reader would not take for text."""


@dataclass(slots=True)
class Source:
    """One parsed file: its plain value and the position of every path."""

    file: str
    value: object = None
    at: dict[tuple[str | int, ...], tuple[int, int]] = field(default_factory=dict)

    def problem(self, path: tuple[str | int, ...], message: str) -> PolicyProblem:
        """Return a problem at a path, or at the nearest part of it that exists."""
        where = path
        while where not in self.at and where:
            where = where[:-1]
        line, column = self.at.get(where, (1, 1))
        return PolicyProblem(self.file, line, column, ".".join(str(part) for part in path) or "-", message)


def parse(file: str, text: str) -> Source:
    """Parse one file; raises PolicyErrors."""
    source = Source(file)
    if len(text.encode()) > MAX_FILE_BYTES:
        raise PolicyErrors([source.problem((), "the file is larger than 4 MiB")])
    reader = YAML(typ="rt", pure=True)
    try:
        for event in reader.parse(text):
            if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor):
                raise PolicyErrors([_marked(file, event.start_mark, "anchors and aliases are not allowed")])
            tag = getattr(event, "tag", None)
            if tag is not None and getattr(event, "ctag", None) is not None and str(tag).startswith("!"):
                raise PolicyErrors([_marked(file, event.start_mark, "tags are not allowed")])
        node = YAML(typ="rt", pure=True).compose(text)
    except MarkedYAMLError as error:
        message = " ".join(part for part in (error.context, error.problem) if part)
        raise PolicyErrors([_marked(file, error.problem_mark or error.context_mark, message)]) from error
    except (ValueError, RecursionError) as error:
        raise PolicyErrors([source.problem((), "this is not YAML text")]) from error
    problems: list[PolicyProblem] = []
    source.value = None if node is None else _build(source, node, (), problems)
    if node is None:
        problems.append(source.problem((), "the file is empty"))
    if problems:
        raise PolicyErrors(problems)
    return source


def _marked(file: str, mark: StringMark | None, message: str) -> PolicyProblem:
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    return PolicyProblem(file, line, column, "-", message)


def _build(source: Source, node: Node, path: tuple[str | int, ...], problems: list[PolicyProblem]) -> object:
    source.at[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
    if len(path) > MAX_DEPTH:
        problems.append(source.problem(path, "nested too deeply"))
        return ""
    match node:
        case MappingNode():
            found: dict[str, object] = {}
            for key_node, value_node in node.value:
                key = key_node.value if isinstance(key_node, ScalarNode) else None
                source.at[(*path, str(key))] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
                if key is None or key == "<<":
                    problems.append(
                        source.problem((*path, str(key)), "a key must be plain text; merge keys are not allowed")
                    )
                elif key in found:
                    problems.append(source.problem((*path, key), f'the key "{key}" stands twice'))
                else:
                    found[key] = _build(source, value_node, (*path, key), problems)
            return found
        case SequenceNode():
            return [_build(source, part, (*path, number), problems) for number, part in enumerate(node.value)]
        case ScalarNode():
            return _scalar(source, node, path, problems)
        case _:
            problems.append(source.problem(path, "neither a mapping, a list nor a scalar"))
            return ""


def _scalar(source: Source, node: ScalarNode, path: tuple[str | int, ...], problems: list[PolicyProblem]) -> object:
    text: str = node.value
    if node.style is not None:  # quoted or block text is text, whatever it looks like
        return text
    if _INT.match(text):
        return int(text)
    if text in _BOOL:
        return _BOOL[text]
    if text == "" or _ODD.match(text):
        shown = text or "an empty value"
        problems.append(source.problem(path, f'found {shown}, which readers take differently; quote it: "{text}"'))
    return text
