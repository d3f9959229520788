"""Is YAML read strictly, and is every refusal told with file, line and column?"""

import pytest

from jitaccess.policy.problems import PolicyErrors, PolicyProblem
from jitaccess.policy.yaml import MAX_DEPTH, MAX_FILE_BYTES, dotted, parse


def refusals(text: str) -> tuple[PolicyProblem, ...]:
    with pytest.raises(PolicyErrors) as caught:
        parse("p.yaml", text)
    return caught.value.problems


def test_plain_values_keep_their_types() -> None:
    source = parse("p.yaml", "a: 1\nb: -5\nc: true\nd: [x, 'no', \"4:00\"]\ne: {f: text}\n")
    assert source.value == {"a": 1, "b": -5, "c": True, "d": ["x", "no", "4:00"], "e": {"f": "text"}}
    assert source.value["c"] is True  # type: ignore[index] # a mapping, as just compared


def test_every_path_knows_its_place() -> None:
    source = parse("p.yaml", "a:\n  - x\n  - b: 1\n")
    assert source.at["a", 0] == (2, 5)
    assert source.at["a", 1, "b"] == (3, 8)
    assert str(source.problem(("a", 1, "b", "c", 3), "odd")) == "p.yaml:3:8  a[1].b.c[3]  odd"
    assert source.problem(("zz",), "odd").line == 1


@pytest.mark.covers("R27", "TRAP-7")
@pytest.mark.parametrize(
    "scalar",
    [
        "no", "Yes", "on", "OFF", "y", "N", "True", "FALSE", "null", "~", "NULL", ".nan", ".inf", "-.Inf", "nan",
        "0777", "0o17", "0x1F", "0b1", "+1", "1_000", "1e3", "1.5", ".5", "-.5", "4:00", "08:00:00", "2026-01-01",
        "1,000", "12345678901234567890",
    ],
)  # fmt: skip
def test_a_scalar_that_readers_take_differently_is_refused_at_its_place(scalar: str) -> None:
    (problem,) = refusals(f"a:\n  b: {scalar}\n")
    assert (problem.file, problem.line, problem.column, problem.path) == ("p.yaml", 2, 6, "a.b")
    assert f'quote it: "{scalar}"' in problem.message


@pytest.mark.covers("TRAP-7")
@pytest.mark.parametrize("scalar", ["no", "0777", "4:00", "1e3", "null"])
def test_the_same_scalar_quoted_is_text(scalar: str) -> None:
    assert parse("p.yaml", f'a: "{scalar}"\nb: |-\n  {scalar}\n').value == {"a": scalar, "b": scalar}


def test_nothing_is_no_value() -> None:
    (problem,) = refusals("a:\nb: 1\n")
    assert problem.path == "a"
    assert "found nothing" in problem.message


@pytest.mark.covers("R27", "TRAP-7")
def test_a_key_that_stands_twice_is_refused_where_it_stands_again() -> None:
    (problem,) = refusals("a:\n  b: 1\n  c: 2\n  b: {d: 3}\n")
    assert (problem.line, problem.column, problem.path) == (4, 3, "a.b")
    assert problem.message == 'the key "b" stands twice'


def test_all_odd_scalars_are_told_at_once() -> None:
    assert [problem.line for problem in refusals("a: no\nb: 1\nb: 2\nc: 1e3\n")] == [1, 3, 4]


@pytest.mark.covers("R27", "TRAP-7")
@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: &x 1\n", (1, 4), "anchors and aliases are not allowed"),
        ("a: 1\nb: *x\n", (2, 4), "anchors and aliases are not allowed"),
        ("a: &x [1]\n", (1, 4), "anchors and aliases are not allowed"),
        ("a: !!str 1\n", (1, 4), "tags are not allowed"),
        ("a: !!python/object:os.system x\n", (1, 4), "tags are not allowed"),
        ("a: ! 1\n", (1, 4), "tags are not allowed"),
        ("a: !local {b: 1}\n", (1, 4), "tags are not allowed"),
        ("<<: {a: 1}\n", (1, 1), "merge keys are not allowed"),
        ("&k a: 1\n", (1, 1), "a key must be plain text, without anchor or tag"),
        ("!!str a: 1\n", (1, 1), "a key must be plain text, without anchor or tag"),
        ("? [a]\n: 1\n", (1, 3), "a key must be plain text, without anchor or tag"),
        ("a: 1\n---\nb: 2\n", (2, 1), "a file holds one document"),
        ("%YAML 1.1\n---\na: 1\n", (2, 1), "directives are not allowed"),
        ("%TAG !e! tag:x,2000:\n---\na: 1\n", (2, 1), "directives are not allowed"),
    ],
)
def test_what_hides_meaning_is_refused(text: str, place: tuple[int, int], message: str) -> None:
    problem = refusals(text)[-1]
    assert ((problem.line, problem.column), problem.message) == (place, message)


@pytest.mark.parametrize("text", ["a: [1\n", "a: 1\n b: 2\n", "\t- a\n", 'a: "x\n', "a: @x\n", "a: b: c\n"])
def test_broken_text_is_told_with_a_place(text: str) -> None:
    (problem,) = refusals(text)
    assert problem.message
    assert problem.line >= 1


@pytest.mark.parametrize("text", ["a: \x00", "a: \x07b", "\ud800"])
def test_a_character_that_yaml_forbids_is_refused(text: str) -> None:
    (problem,) = refusals(text)
    assert "character" in problem.message or "YAML" in problem.message


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_file_is_refused(text: str) -> None:
    assert refusals(text)


def test_size_is_bounded() -> None:
    assert "4 MiB" in refusals("# " + "x" * MAX_FILE_BYTES)[0].message
    assert "4 MiB" in refusals("# " + "ë" * (MAX_FILE_BYTES // 2))[0].message


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "- " * 5000 + "x"])
def test_depth_is_bounded(text: str) -> None:
    (problem,) = refusals(text)
    assert problem.message == "nested too deeply"
    assert problem.path == "-"


def test_the_deepest_text_that_is_read() -> None:
    assert parse("p.yaml", "[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH).value


def test_places_inside_texts() -> None:
    text = "a: x == 1\nb: \"y == 1\"\nc: |\n    one\n    two\nd: >\n  folded\ne: 'x\n\n  y'\n"
    source = parse("p.yaml", text)

    def place(key: str, line: int, column: int) -> tuple[int, int]:
        found = source.problem_inside((key,), line, column, "odd")
        return found.line, found.column

    assert place("a", 1, 3) == (1, 6)
    assert place("b", 1, 1) == (2, 5)
    assert place("c", 2, 3) == (5, 7)
    assert place("d", 1, 4) == (7, 1)
    assert place("e", 2, 1) == (8, 1)


def test_paths_read_as_people_write_them() -> None:
    assert dotted(("rules", 0, "for", "groups")) == "rules[0].for.groups"
    assert dotted(()) == "-"
