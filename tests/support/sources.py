"""What does our own source say? Parsed files of the package and of the repository, for the house rules."""

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "jitaccess"


@dataclass(frozen=True, slots=True)
class Source:
    """One file of the package."""

    path: Path
    tree: ast.Module

    @property
    def name(self) -> str:
        """Return the path from the root of the repository, with slashes."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def module(self) -> str:
        """Return the dotted name."""
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def at(self, node: ast.AST) -> str:
        """Return file:line of a node."""
        return f"{self.name}:{getattr(node, 'lineno', 1)}"

    def calls(self) -> Iterator[ast.Call]:
        """Give every call."""
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.Call))

    def texts(self) -> Iterator[ast.Constant]:
        """Give every string constant, docstrings included."""
        return (n for n in ast.walk(self.tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))


@cache
def package() -> tuple[Source, ...]:
    """Return all parsed files of the package."""
    return tuple(Source(path, ast.parse(path.read_text(), str(path))) for path in sorted(PACKAGE.rglob("*.py")))


def parse(text: str, name: str = "jitaccess/example.py") -> Source:
    """Return a made-up file of the package, to show that a rule catches what it forbids."""
    return Source(ROOT / name, ast.parse(text))


def dotted(node: ast.AST) -> str:
    """Return a.b.c of a name or attribute, with `?` for what is neither."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            return f"{dotted(value)}.{attr}"
        case ast.Call(func=func):
            return f"{dotted(func)}()"
        case _:
            return "?"


def imports(tree: ast.AST) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """Give every import with the dotted names that it may load."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node, node.module
            for alias in node.names:
                yield node, f"{node.module}.{alias.name}"


@cache
def tracked() -> tuple[str, ...]:
    """Return the files that git knows or would take; a tree without git gives what lies there."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        return tuple(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file())
    return tuple(name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())


def reference() -> str:
    """Return the whole reference, all its pages."""
    return "\n".join(path.read_text() for path in sorted((ROOT / "docs" / "reference").rglob("*.md")))


def unmentioned(words: Iterable[str], text: str) -> list[str]:
    """Return the words that a text does not hold whole: `a.b` is not found in `a.b.c` or `a.bc`."""
    return [word for word in words if not re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-]|\.\w)", text)]
