"""Which sentences are there, and does every language have all of them? `python -m tests.support.catalogues` after texts changed.

Sentences are gathered from the syntax of the program (`gettext`, `told`, the messages of refusals and policy mistakes) and from the
templates; the catalogues are then updated and compiled. The compiled files are committed: a fresh clone speaks without a build step.
"""

import ast
import io
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from jitaccess.language import CATALOGUES, Language
from tests.support.sources import ROOT

TRANSLATED = tuple(language for language in Language if language is not Language.EN)
SINGLE = frozenset({"_", "gettext", "lazy_gettext", "told", "said"})
PLURAL = frozenset({"ngettext", "told_n", "said_n"})
MESSAGES = {
    "JitError": 1, "Refused": 2, "PolicyProblem": 4, "BadCondition": 0, "problem": 1, "problem_inside": 3, "require": 2,
    "_wrong": 2, "_stop": 1, "_warning": 2, "_marked": 2, "Unusable": 0,
}  # fmt: skip
"""Calls that take a sentence, and where."""
TABLES = ("SENTENCES", "WORDS")
"""Endings of the names of mappings whose values are sentences."""
ENGLISH_ONLY = tuple(
    f"jitaccess/{part}" for part in ("cli/", "demo/", "settings.py", "app.py", "store/migrations", "audit/verify.py")
)
"""What operators read in a shell stays English."""
NO_DATE = datetime(2026, 1, 1, tzinfo=UTC)
Sentence = str | tuple[str, str]


def sentences_of(tree: ast.AST, *, policy: bool = False) -> Iterator[tuple[int, Sentence]]:
    """Give the sentences of one module with their lines; in the policy room a ValueError carries one too."""
    for node in ast.walk(tree):
        match node:
            case ast.Call():
                yield from _of_call(node, policy=policy)
            case (
                ast.Assign(targets=[target], value=ast.Dict() as table)
                | ast.AnnAssign(target=target, value=ast.Dict() as table)
            ):
                if isinstance(target, ast.Name) and target.id.endswith(TABLES):
                    for value in table.values:
                        yield from ((value.lineno, text) for text in literals(value))


def _of_call(node: ast.Call, *, policy: bool) -> Iterator[tuple[int, Sentence]]:
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    if name in PLURAL and len(node.args) > 2:
        for one in literals(node.args[0]):
            for many in literals(node.args[1]):
                yield node.lineno, (one, many)
        return
    place = 0 if name in SINGLE or (policy and name == "ValueError") else MESSAGES.get(name)
    given = [keyword.value for keyword in node.keywords if name in MESSAGES and keyword.arg == "message"]
    if place is not None and len(node.args) > place:
        given.append(node.args[place])
    for argument in given:
        yield from ((node.lineno, text) for text in literals(argument))


def literals(node: ast.AST) -> Iterator[str]:
    """Give the plain texts that an expression may be."""
    match node:
        case ast.Constant(value=str() as text) if text.strip():
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from literals(one)
            yield from literals(other)


def template() -> Catalog:
    """Return all sentences of the program, in the order of files, without dates and line numbers: no noise in diffs."""
    found = _empty(None)
    for path in sorted((ROOT / "jitaccess").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(ENGLISH_ONLY):
            continue
        tree = ast.parse(path.read_text())
        for line, sentence in sorted(sentences_of(tree, policy="/policy/" in name), key=lambda pair: pair[0]):
            found.add(sentence, locations=[(name, line)])
    options = {"trim_blocks": "true", "lstrip_blocks": "true", "silent": "false"}
    for path in sorted((ROOT / "jitaccess").rglob("templates/*.*")):
        name = path.relative_to(ROOT).as_posix()
        for line, sentence, _, _ in extract("jinja2.ext:babel_extract", io.BytesIO(path.read_bytes()), options=options):
            found.add(sentence, locations=[(name, line)])
    return found


def _empty(language: Language | None) -> Catalog:
    return Catalog(
        locale=None if language is None else language.value, project="jitaccess", fuzzy=False,
        header_comment="# The words of jitaccess; see docs/reference/glossary.md for how the terms are said.",
    )  # fmt: skip


def path_of(language: Language, suffix: str = "po") -> Path:
    """Return where a language's catalogue is."""
    return CATALOGUES / language.value / "LC_MESSAGES" / f"messages.{suffix}"


def read(language: Language) -> Catalog:
    """Return the catalogue of a language, empty before there is one."""
    if not path_of(language).exists():
        return _empty(language)
    with path_of(language).open("rb") as file:
        return read_po(file, locale=language.value)


def updated(language: Language, sentences: Catalog) -> Catalog:
    """Return the catalogue with exactly the sentences that there are; nothing is guessed from similar ones."""
    known, made = read(language), _empty(language)
    for message in sentences:
        if message.id:
            old = known.get(message.id) if isinstance(message.id, str) else known.get(message.id[0])
            kept = old is not None and old.id == message.id and not old.fuzzy
            made.add(message.id, old.string if kept and old else None, locations=message.locations)
    return made


def as_po(catalogue: Catalog) -> bytes:
    """Return a catalogue as text, the same bytes for the same sentences."""
    out = io.BytesIO()
    write_po(out, catalogue, width=120, sort_output=True, omit_header=True, include_lineno=False)
    assert catalogue.locale is not None
    head = (
        f'{catalogue.header_comment}\nmsgid ""\nmsgstr ""\n"Language: {catalogue.locale}\\n"\n'
        f'"Plural-Forms: {catalogue.plural_forms}\\n"\n"MIME-Version: 1.0\\n"\n'
        '"Content-Type: text/plain; charset=utf-8\\n"\n"Content-Transfer-Encoding: 8bit\\n"\n\n'
    )
    return head.encode() + out.getvalue()


def as_mo(po: bytes) -> bytes:
    """Return the compiled form of a catalogue's text; gettext falls back to English for what is missing."""
    out = io.BytesIO()
    known = read_po(io.BytesIO(po))
    known.creation_date = known.revision_date = NO_DATE  # the library writes the present: never the same bytes twice
    write_mo(out, known)
    return out.getvalue()


def missing(catalogue: Catalog) -> list[str]:
    """Return the sentences that have no, or not every, form in this language."""
    found: list[str] = []
    for message in catalogue:
        forms = message.string if isinstance(message.string, list | tuple) else [message.string]
        complete = all(forms) and (isinstance(message.id, str) or len(forms) == catalogue.num_plurals)
        if message.id and (not complete or message.fuzzy):
            found.append(message.id if isinstance(message.id, str) else message.id[0])
    return found


def main() -> int:
    """Bring every catalogue up to date and compile it; say what has no translation yet."""
    sentences = template()
    for language in TRANSLATED:
        catalogue = updated(language, sentences)
        path_of(language).parent.mkdir(parents=True, exist_ok=True)
        po = as_po(catalogue)
        path_of(language).write_bytes(po)
        path_of(language, "mo").write_bytes(as_mo(po))
        left = missing(catalogue)
        print(f"{language.value}: {len(sentences)} sentences, {len(left)} to translate")
        for sentence in left:
            print(f"  {sentence}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
