"""Does the source keep the rules that a reviewer would have to remember? Each rule catches an example."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator

import pytest

from tests.support.sources import Source, dotted, imports, package, parse

Rule = Callable[[Source], Iterator[str]]

TIME = {
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
    "func.now",
    "func.current_timestamp",
} | {f"time.{name}" for name in ("time", "time_ns", "monotonic", "monotonic_ns", "gmtime", "localtime")}
TARGET_ACTS = {"probe", "apply", "cut", "clean", "observe", "quarantine", "rotate_own"}
AVOID = {"manager", "service", "handler", "processor", "data", "info", "item", "common"} | {
    word for stem in ("util", "helper") for word in (stem, f"{stem}s")
}


def commits_outside_the_store(source: Source) -> Iterator[str]:
    """commit() is called in store/db.py alone: nothing else makes a change durable."""
    if source.name != "jitaccess/store/db.py":
        for call in source.calls():
            if isinstance(call.func, ast.Attribute) and call.func.attr == "commit":
                yield source.at(call)


def state_written_past_advance(source: Source) -> Iterator[str]:
    """A state column changes through broker.context.advance and advance_many alone."""
    if source.name == "jitaccess/broker/context.py":
        return
    for node in ast.walk(source.tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="update" | "values" | "update_many"), keywords=keywords, args=args):
                given = {keyword.arg for keyword in keywords}
                keys = {k.value for a in args for d in ast.walk(a) if isinstance(d, ast.Dict) for k in d.keys
                        if isinstance(k, ast.Constant)}  # fmt: skip
                receiver = dotted(node.func)
                if "state" in given | keys and not receiver.startswith("hash"):
                    yield source.at(node)
            case ast.Assign(targets=targets) if any(
                isinstance(t, ast.Attribute) and t.attr == "state" for t in targets
            ):
                yield source.at(node)
            case ast.Constant(value=str(text)) if re.search(r"\bUPDATE\b.*\bSET\b.*\bstate\s*=", text, re.I | re.S):
                yield source.at(node)


def target_called_inside_a_transaction(source: Source) -> Iterator[str]:
    """No target is called while a transaction is open: a hanging target would hold the writer's lock."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.With):
            continue
        if not any(dotted(i.context_expr).endswith(".begin()") for i in node.items):
            continue
        for call in (inner for line in node.body for inner in ast.walk(line) if isinstance(inner, ast.Call)):
            name = dotted(call.func)
            if name.rpartition(".")[2] in TARGET_ACTS and "connector" in name:
                yield source.at(call)


def time_read_past_the_clock(source: Source) -> Iterator[str]:
    """clock.py is the only reader of time (R62); the SDK, which runs on targets, has one of its own."""
    if source.name not in ("jitaccess/clock.py", "jitaccess/sdk/wall.py"):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Attribute) and ".".join(dotted(node).split(".")[-2:]) in TIME:
                yield source.at(node)
        for node, name in imports(source.tree):
            if name in {f"time.{word}" for word in ("time", "time_ns", "monotonic", "monotonic_ns")}:
                yield source.at(node)


def environment_read_past_settings(source: Source) -> Iterator[str]:
    """settings.py is the only reader of the environment."""
    if source.name != "jitaccess/settings.py":
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Attribute) and dotted(node) in {"os.environ", "os.getenv", "os.environb"}:
                yield source.at(node)
        for node, name in imports(source.tree):
            if name in {"os.environ", "os.getenv"}:
                yield source.at(node)


def chance_used(source: Source) -> Iterator[str]:
    """`random` is used nowhere, and random bytes are drawn in store/ids.py alone."""
    for node, name in imports(source.tree):
        if name == "random" or name.startswith("random."):
            yield source.at(node)
        if name == "secrets" and source.name != "jitaccess/store/ids.py":
            yield source.at(node)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and dotted(node) == "os.urandom" and source.name != "jitaccess/store/ids.py":
            yield source.at(node)


def imported_inside_a_function(source: Source) -> Iterator[str]:
    """Imports stand at the top: what a module needs is seen at once, and no cycle can hide."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    yield source.at(inner)


def undocumented(source: Source) -> Iterator[str]:
    """Every module, public class, function and method says what it is for."""
    if not ast.get_docstring(source.tree):
        yield source.at(source.tree)
    scopes: list[ast.Module | ast.ClassDef] = [source.tree]
    while scopes:
        for node in scopes.pop().body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                scopes.append(node)
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                private = node.name.startswith("_")
                overload = any("overload" in dotted(d) or "setter" in dotted(d) for d in node.decorator_list)
                if not private and not overload and not ast.get_docstring(node):
                    yield f"{source.at(node)} {node.name}"


def vague_name(source: Source) -> Iterator[str]:
    """Files and classes carry the words of the field, not words that fit anything."""
    if AVOID & set(source.path.stem.lower().split("_")):
        yield source.name
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef):
            words = {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", node.name)}
            if words & AVOID:
                yield f"{source.at(node)} {node.name}"


def caught_everything(source: Source) -> Iterator[str]:
    """A blanket except raises again, or says in the same line why it stands there (a declared boundary)."""
    lines = source.path.read_text().splitlines() if source.path.exists() else []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler):
            kinds = {dotted(n) for n in ast.walk(node.type)} if node.type else {"BaseException"}
            line = lines[node.lineno - 1] if lines else ""
            again = isinstance(node.body[-1], ast.Raise)
            if {"Exception", "BaseException"} & kinds and not again and "#" not in line:
                yield source.at(node)


def unexplained_ignore(text: str) -> bool:
    """Say whether a line switches a check off without saying why."""
    return bool(re.search(r"# type: ignore(?!\[[\w, -]+\] +# ?\w)", text) or re.search(r"TO" + r"DO|FIX" + r"ME", text))


EXAMPLES: dict[Rule, str] = {
    commits_outside_the_store: "session.commit()",
    state_written_past_advance: "tx.update(row, event, state='ENDED')",
    target_called_inside_a_transaction: "with broker.begin(a) as tx:\n    connector.apply(effect)",
    time_read_past_the_clock: "import datetime\nnow = datetime.datetime.now()",
    environment_read_past_settings: "import os\nhome = os.environ['HOME']",
    chance_used: "import random",
    imported_inside_a_function: "def f():\n    import json",
    undocumented: "'''Said.'''\ndef f(): pass",
    vague_name: "class GrantManager: pass",
    caught_everything: "try: f()\nexcept Exception: pass",
}
MORE_EXAMPLES: list[tuple[Rule, str]] = [
    (state_written_past_advance, "row.state = 'ENDED'"),
    (state_written_past_advance, "db.execute('UPDATE lease SET attempts = 1, state = 2')"),
    (state_written_past_advance, "tx.update_many([(row, event, {'state': 'ENDED'})])"),
    (state_written_past_advance, "update(table).values(state='ENDED')"),
    (time_read_past_the_clock, "from datetime import datetime\nnow = datetime.now(tz)"),
    (time_read_past_the_clock, "from time import monotonic"),
    (environment_read_past_settings, "from os import environ"),
    (chance_used, "import os\nkey = os.urandom(32)"),
    (undocumented, "x = 1"),
    (undocumented, "'''Said.'''\nclass A:\n    '''Said.'''\n    def f(self): pass"),
    (vague_name, "class HTTPHandler: pass"),
    (caught_everything, "try: f()\nexcept (ValueError, Exception): pass"),
]


def found(rule: Rule, sources: Iterable[Source]) -> list[str]:
    return [place for source in sources for place in rule(source)]


@pytest.mark.parametrize("rule", EXAMPLES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    assert not found(rule, package()), rule.__doc__


@pytest.mark.parametrize(("rule", "text"), [*EXAMPLES.items(), *MORE_EXAMPLES])
def test_the_rule_catches_what_it_forbids(rule: Rule, text: str) -> None:
    assert found(rule, [parse(text)])


def test_switched_off_checks_say_why() -> None:
    lines = ((s, n, line) for s in package() for n, line in enumerate(s.path.read_text().splitlines(), 1))
    assert not [f"{source.name}:{n}" for source, n, line in lines if unexplained_ignore(line)]


@pytest.mark.parametrize(
    ("line", "caught"),
    [
        ("x = y  # type: ignore", True),
        ("x = y  # type: ignore[arg-type]", True),
        ("x = y  # type: ignore[arg-type] # the library has no types", False),
        ("# TO" + "DO: later", True),
    ],
)
def test_an_unexplained_ignore_is_seen(line: str, caught: bool) -> None:
    assert unexplained_ignore(line) is caught


def test_no_module_takes_part_in_a_circle_of_imports() -> None:
    modules = {source.module for source in package()}
    edges = {source.module: {name for _, name in imports(source.tree) if name in modules} for source in package()}
    assert not circle(edges)


def test_a_circle_is_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {"a", "b", "c"}


def circle(edges: dict[str, set[str]]) -> set[str]:
    """Return the modules left when those that import nothing, or that nothing imports, are taken away
    again and again: the ones on circles, and between circles."""
    left = {name: targets - {name} for name, targets in edges.items()}
    while True:
        imported = set().union(*left.values()) if left else set()
        free = {name for name, targets in left.items() if not targets & left.keys() or name not in imported}
        if not free:
            return set(left)
        left = {name: targets - free for name, targets in left.items() if name not in free}


def api_views(source: Source) -> Iterator[tuple[ast.FunctionDef, str, str]]:
    """Give the views of a file that are addresses of the JSON API, with method and path."""
    prefixed = any(
        keyword.arg == "url_prefix" and isinstance(keyword.value, ast.Constant) and keyword.value.value == "/api"
        for call in source.calls()
        for keyword in call.keywords
    )
    for view in (node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef)):
        for mark in view.decorator_list:
            if isinstance(mark, ast.Call) and dotted(mark.func).rpartition(".")[2] in ("get", "post"):
                path = mark.args[0].value if mark.args and isinstance(mark.args[0], ast.Constant) else ""
                if prefixed or str(path).startswith("/api/"):
                    yield view, dotted(mark.func).rpartition(".")[2], str(path)


def unmarked(source: Source) -> list[str]:
    """Return the views of the JSON API that do not say what they take and answer, or post without a declared body."""
    found = []
    for view, method, path in api_views(source):
        marks = [
            call for call in view.decorator_list if isinstance(call, ast.Call) and dotted(call.func) == "documented"
        ]
        takes = any(keyword.arg == "takes" for call in marks for keyword in call.keywords)
        if not path.endswith("/openapi.json") and (not marks or takes != (method == "post")):
            found.append(f"{source.at(view)}: {method.upper()} {path} needs @documented (jitaccess/web/operations.py)")
    return found


def test_every_address_of_the_api_says_what_it_takes_and_answers() -> None:
    assert [line for source in package() for line in unmarked(source)] == []


def test_an_address_of_the_api_without_a_mark_is_found() -> None:
    text = """
api = Blueprint("x", __name__, url_prefix="/api")
@api.get("/a")
@documented("x", "A.", answers=A)
def good(): ...
@api.post("/b")
@documented("x", "B.", answers=A)
def no_body(): ...
@api.get("/c")
def no_mark(): ...
"""
    assert [line.partition(" needs")[0].partition(": ")[2] for line in unmarked(parse(text))] == ["POST /b", "GET /c"]
