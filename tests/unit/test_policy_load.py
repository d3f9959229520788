"""Is a folder that cannot mean what it says refused, at its place and with the nearest known name?"""

from typing import Any

import pytest

from jitaccess.policy import schema
from jitaccess.policy.load import MAX_FILES, NOT_BUILT
from jitaccess.policy.load import load as load_folder
from jitaccess.policy.problems import Level, PolicyErrors, nearest
from tests.support.policy_sets import approve, document, load_problems, person, policies, problems, register, rule, text

HEAD = {"name": "head", "groups": ["heads"], "count": 1}
OWNER = {"name": "owner", "institution": "owner", "count": 1}


def told(*rules: dict[str, Any], **parts: Any) -> str:
    return "\n".join(str(problem) for problem in problems(*rules, **parts))


def ask(**parts: Any) -> dict[str, Any]:
    return rule(ask=[{"name": "order", "type": "string"} | parts])


def window(**parts: Any) -> dict[str, Any]:
    hours = {"days": ["mon"], "from": "08:00", "to": "16:30", "zone": "Europe/Belgrade"}
    return {"windows": {"office": hours | parts}}


def test_a_sound_set_loads() -> None:
    found = policies(rule(), **window(), denials=[{"id": "held", "when": "person.on_hold"}])
    assert list(found.rules) == ["ask"]
    assert found.warnings == ()


def test_two_systems_whose_tokens_open_each_other_are_warned_of() -> None:
    def system(audience: str) -> dict[str, Any]:
        connector = {"kind": "token", "audience": audience}
        return {"name": "X", "owner": "mof", "entitlements": {"v": {"max_duration": "1h"}}, "connector": connector}

    def warned(**targets: str) -> list[tuple[str, str]]:
        texts = {
            f"{key}.yaml": text({"version": 1, "targets": {key: system(audience)}}) for key, audience in targets.items()
        }
        found = load_folder(
            texts | {"institutions.yaml": text({"version": 1, "institutions": {"mof": {"name": "Finance"}}})}
        )
        return [(problem.file, str(problem.message)) for problem in found.warnings]

    assert warned(one="https://one.example", two="https://two.example") == []
    ((file, message),) = warned(one="https://one.example", two="https://one.example")
    assert (file, message) == ("two.yaml", 'also that of "one": whoever may use one has tokens for both')


@pytest.mark.covers("R27")
@pytest.mark.parametrize(
    ("wrong", "path", "message"),
    [
        ({"rules": [rule(durations={})]}, "rules[0].durations", 'unknown key: "durations"; did you mean "duration"?'),
        ({"ruels": []}, "ruels", 'unknown key: "ruels"; did you mean "rules"?'),
        ({"rules": [rule(**{"for": {"group": ["staff"]}})]}, "rules[0].for.group", 'did you mean "groups"?'),
        ({"rules": [rule(for_={"groups": ["x"]})]}, "rules[0].for_", 'unknown key: "for_"'),
        (window(**{"from_": "08:00"}), "windows.office.from_", 'unknown key: "from_"'),
        (window(excpt="h"), "windows.office.excpt", 'did you mean "except"?'),
        ({"rules": [ask(mathces="x")]}, "rules[0].ask[0].mathces", 'did you mean "matches"?'),
        (
            {"rules": [rule(approve=approve(HEAD | {"cuont": 1}))]},
            "rules[0].approve.steps[0].cuont",
            'did you mean "count"?',
        ),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_name(wrong: dict[str, Any], path: str, message: str) -> None:
    found = {problem.path: problem for problem in problems(**wrong)}
    assert message in found[path].message
    assert found[path].line > 1


@pytest.mark.covers("R27")
@pytest.mark.parametrize("term", sorted(NOT_BUILT))
def test_a_term_that_is_not_built_is_refused_and_said_to_be(term: str) -> None:
    (problem,) = problems(rule(**{term: "x"}))
    assert problem.path == f"rules[0].{term}"
    assert f'this term is not built yet: "{term}"' in problem.message


@pytest.mark.covers("R27")
@pytest.mark.parametrize(
    "key", ["version", "rules[0].id", "rules[0].for", "rules[0].to", "rules[0].duration", "rules[0].approve"]
)
def test_what_must_be_said_is_missed(key: str) -> None:
    whole = document(rule())
    inside = whole["rules"][0] if key.startswith("rules") else whole
    del inside[key.rpartition(".")[2]]
    (problem,) = load_problems({"p.yaml": text(whole)})
    assert (problem.path, problem.message) == (key, f'the key "{key.rpartition(".")[2]}" is missing')


@pytest.mark.covers("R27", "TRAP-7")
@pytest.mark.parametrize(
    ("wrong", "path", "message"),
    [
        (rule(duration={"default": 30, "max": "1h"}), "rules[0].duration.default", "found 30, expected a duration"),
        (rule(duration={"default": "30", "max": "1h"}), "rules[0].duration.default", "found '30', expected a duration"),
        (rule(duration={"default": "0m", "max": "1h"}), "rules[0].duration.default", "more than zero"),
        (rule(duration={"default": "1h", "max": "91d"}), "rules[0].duration.max", "at most 90d"),
        (rule(duration={"default": "2h", "max": "1h"}), "rules[0].duration", "between"),
        (rule(duration={"min": "40m", "default": "30m", "max": "1h"}), "rules[0].duration", "between"),
        (rule(duration={"default": "1h", "max": "9h"}), "rules[0].duration.max", 'the entitlement "use" allows (8h)'),
        (rule(token={"ttl": "15m1s"}), "rules[0].token", "at most 15m"),
        (rule(limits={"per_day": 0}), "rules[0].limits.per_day", "found 0, expected greater than or equal to 1"),
        (rule(limits={"per_day": "4"}), "rules[0].limits.per_day", 'found "4", expected valid integer'),
        (rule(limits={"per_day": True}), "rules[0].limits.per_day", "found true, expected valid integer"),
        (rule(approve="nobody"), "rules[0].approve", "found \"nobody\", expected 'none'"),
        (rule(approve=["none"]), "rules[0].approve", "found a list"),
        (rule(when={"a": 1}), "rules[0].when", "found a mapping"),
        (rule(**{"for": {"groups": []}}), "rules[0].for.groups", "at least 1"),
        (rule(**{"for": {"groups": ["staff"], "credential": "divice_bound"}}), "rules[0].for.credential", '"device_bound"?'),
        (rule("Upper"), "rules[0].id", 'found "Upper"'),
        (ask(type="text"), "rules[0].ask[0]", 'found "text", expected'),
        (ask(matches="("), "rules[0].ask[0].matches", "not a regular expression"),
        (ask(matches="a{4294967295}"), "rules[0].ask[0].matches", "not a regular expression"),
        (ask(matches="[[a]"), "rules[0].ask[0].matches", "nested set"),
        (ask(matches="(a+)+"), "rules[0].ask[0].matches", "repeated groups"),
        (ask(matches="(?=a)b"), "rules[0].ask[0].matches", "look-around"),
        (ask(matches=r"(a)\1"), "rules[0].ask[0].matches", "back-references"),
        (ask(matches="a*b*c*d*"), "rules[0].ask[0].matches", "at most 3 repeats"),
        (ask(matches="a|b|c|d|e|f|g|h|i|j"), "rules[0].ask[0].matches", "8 alternatives"),
        (ask(max_length=201), "rules[0].ask[0].max_length", "found 201"),
        (ask(type="integer", min=2, max=1), "rules[0].ask[0]", "`min` is above `max`"),
        (ask(type="integer", min=0, max=2**53), "rules[0].ask[0].max", "less than or equal"),
    ],
)  # fmt: skip
def test_a_value_that_means_nothing_is_refused(wrong: dict[str, Any], path: str, message: str) -> None:
    found = {problem.path: problem.message for problem in problems(wrong)}
    assert message in found[path]


@pytest.mark.covers("R27")
@pytest.mark.parametrize(
    ("parts", "path", "message"),
    [
        (window(**{"from": "8:00"}), "windows.office.from", "found '8:00', expected a time"),
        (window(to="24:01"), "windows.office.to", "found '24:01', expected a time"),
        (window(to=960), "windows.office.to", "found 960, expected a time"),
        (window(**{"from": "22:00", "to": "06:00"}), "windows.office", "`from` must be before `to`"),
        (window(zone="Europe/Prishtine"), "windows.office.zone", "expected an IANA zone"),
        (window(zone="../zone"), "windows.office.zone", "expected an IANA zone"),
        (window(zone="Europe"), "windows.office.zone", "expected an IANA zone"),
        (window(days=[]), "windows.office.days", "at least 1"),
        (window(days=["monday"]), "windows.office.days[0]", 'found "monday"'),
        (window(**{"except": "hols"}) | {"holidays": {"holidays": []}}, "windows.office.except", 'unknown holiday list "hols"'),
        ({"holidays": {"h": ["2026-02-30"]}}, "holidays.h[0]", "expected a date"),
        ({"holidays": {"h": ["20260217"]}}, "holidays.h[0]", "expected a date"),
        ({"holidays": {"h": ["2026-W08-2"]}}, "holidays.h[0]", "expected a date"),
        ({"version": 2}, "version", "expected 1"),
        ({"denials": [{"id": "x", "when": "input.a"}]}, "denials[0].when", "undeclared reference"),
    ],
)  # fmt: skip
def test_a_section_that_means_nothing_is_refused(parts: dict[str, Any], path: str, message: str) -> None:
    found = {problem.path: problem.message for problem in problems(**parts)}
    assert message in found[path]


@pytest.mark.covers("R27")
@pytest.mark.parametrize(
    ("wrong", "path", "message"),
    [
        (
            rule(to={"target": "valut", "entitlements": ["use"]}),
            "rules[0].to.target",
            'unknown target "valut"; did you mean "vault"?',
        ),
        (
            rule(to={"target": "vault", "entitlements": ["ues"]}),
            "rules[0].to.entitlements[0]",
            'unknown entitlement "ues"; did you mean "use"?',
        ),
        (rule(during=["offices"]), "rules[0].during[0]", 'unknown window "offices"; did you mean "office"?'),
        (
            rule(**{"for": {"groups": ["staf"]}}),
            "rules[0].for.groups[0]",
            'unknown group "staf"; did you mean "staff"?',
        ),
        (
            rule(approve=approve(HEAD | {"groups": ["hed"]})),
            "rules[0].approve.steps[0].groups[0]",
            'unknown group "hed"',
        ),
        (
            rule(approve=approve(OWNER | {"institution": "ifra"})),
            "rules[0].approve.steps[0].institution",
            'unknown institution "ifra"; did you mean "infra"?',
        ),
        (
            rule(ask=[{"name": "a", "type": "boolean"}, {"name": "a", "type": "string"}]),
            "rules[0].ask[1].name",
            'the input "a" stands twice',
        ),
    ],
)
def test_a_name_that_nothing_has_is_refused(wrong: dict[str, Any], path: str, message: str) -> None:
    everybody = register(person("ana", "staff"), person("ben", "heads"), person("cem", "heads", institution="infra"))
    found = {problem.path: problem.message for problem in problems(wrong, register=everybody, **window())}
    assert message in found[path]


def test_the_owner_of_a_target_is_an_institution() -> None:
    whole = document()
    whole["targets"]["vault"]["owner"] = "infa"
    (problem,) = load_problems({"p.yaml": text(whole)})
    assert problem.message == 'unknown institution "infa"; did you mean "infra"?'


@pytest.mark.covers("R22", "R27", "T-01")
@pytest.mark.parametrize("count", [0, -1, None, "1", True, 21])
def test_a_quorum_that_is_zero_negative_or_absent_does_not_load(count: object) -> None:
    step = {key: value for key, value in (HEAD | {"count": count}).items() if value is not None}
    (problem,) = problems(rule(approve=approve(step)))
    assert problem.path == "rules[0].approve.steps[0].count"


@pytest.mark.covers("R22", "T-01")
@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([HEAD, HEAD], "two steps have one name"),
        ([HEAD | {"after": "head"}], "goes in a circle (head)"),
        ([HEAD | {"after": "owner"}, OWNER | {"after": "head"}], "goes in a circle"),
        ([HEAD | {"after": "tail"}], "`after` names no step"),
        ([{"name": "nobody", "count": 1}], "a step names `groups`, an `institution`, or both"),
    ],
)
def test_steps_that_cannot_mean_anything_do_not_load(steps: list[dict[str, Any]], message: str) -> None:
    assert message in told(rule(approve=approve(*steps)))


def test_an_approval_without_steps_does_not_load() -> None:
    assert "at least 1" in told(rule(approve={"steps": []}))


@pytest.mark.covers("R22", "R27", "T-01")
@pytest.mark.parametrize(
    ("approval", "people", "message"),
    [
        (approve(HEAD), [person("ana", "staff")], "too few different people"),
        (approve(HEAD | {"count": 2}), [person("ben", "heads")], "too few different people"),
        (approve(HEAD), [person("ana", "staff", "heads")], "nobody who may ask"),
        (approve(HEAD), [person("ana", "staff"), person("ben", "heads", active=False)], "too few different people"),
        (approve(HEAD), [person("ana", "staff"), person("ben", "heads", on_hold=True)], "too few different people"),
        (approve(HEAD, OWNER | {"groups": ["heads"]}), [person("ben", "heads", institution="infra")], "too few different people"),
        (
            approve(HEAD | {"count": 2}, distinct=["person", "institution"]),
            [person("ben", "heads"), person("cem", "heads")],
            "too few different institutions",
        ),
        (
            approve(HEAD, never=["managers_of_requester"]),
            [person("ana", "staff", manager="ben"), person("ben", "heads")],
            "nobody who may ask",
        ),
        (
            approve(HEAD, never=["subordinates_of_requester"]),
            [person("ana", "staff"), person("ben", "heads", manager="ana")],
            "nobody who may ask",
        ),
    ],
)  # fmt: skip
def test_a_quorum_that_nobody_could_meet_does_not_load(
    approval: dict[str, Any], people: list[Any], message: str
) -> None:
    (problem,) = problems(rule(approve=approval), register=register(*people))
    assert problem.path == "rules[0].approve.steps"
    assert message in problem.message


@pytest.mark.covers("R22")
def test_a_quorum_that_one_absence_locks_is_a_warning() -> None:
    known = register(person("ana", "staff"), person("ben", "heads"))
    (warning,) = policies(rule(approve=approve(HEAD)), register=known).warnings
    assert warning.level is Level.WARNING
    assert "warning: a single absence locks this: Ben" in str(warning)


def test_who_could_never_be_approved_is_named() -> None:
    known = register(person("ana", "staff"), person("ben", "staff", "heads"), person("cem", "heads", manager="ben"))
    approval = approve(HEAD, never=["subordinates_of_requester"])
    assert "could never be approved for Ben" in str(policies(rule(approve=approval), register=known).warnings[0])


@pytest.mark.covers("R22")
def test_an_able_quorum_loads_without_a_word() -> None:
    known = register(person("ana", "staff"), person("ben", "heads"), person("cem", "heads"))
    assert policies(rule(approve=approve(HEAD)), register=known).warnings == ()


@pytest.mark.covers("R27")
def test_ids_stand_once_over_all_files() -> None:
    twice = {"a.yaml": text(document(rule())), "b.yaml": text({"version": 1, "rules": [rule()]})}
    (problem,) = load_problems(twice)
    assert (problem.file, problem.path, problem.message) == ("b.yaml", "rules[0].id", 'the id "ask" stands twice')
    clash = {"a.yaml": text(document(rule(), denials=[{"id": "ask", "when": "true"}]))}
    assert load_problems(clash)[0].path == "denials[0].id"
    again = {"a.yaml": text(document()), "b.yaml": text({"version": 1, "institutions": {"mof": {"name": "x"}}})}
    assert load_problems(again)[0].message == '"mof" stands in another file too'


@pytest.mark.covers("R27")
def test_every_problem_of_every_file_is_told_in_order() -> None:
    found = load_problems({"b.yaml": "version: no\n", "a.yaml": "version: 1\nx: 1\ny: 2\n", "c.yaml": "a: &x 1\n"})
    assert [(problem.file, problem.line) for problem in found] == [
        ("a.yaml", 2),
        ("a.yaml", 3),
        ("b.yaml", 1),
        ("c.yaml", 1),
    ]


@pytest.mark.covers("R27")
def test_a_folder_is_neither_empty_nor_endless() -> None:
    assert "no policy file" in load_problems({})[0].message
    assert "200 files" in load_problems({f"{number}.yaml": "version: 1" for number in range(MAX_FILES + 1)})[0].message


@pytest.mark.parametrize("value", ["[]", "text", "5"])
def test_a_file_is_a_mapping(value: str) -> None:
    assert load_problems({"p.yaml": value})


@pytest.mark.covers("TRAP-8", "R27")
def test_a_condition_is_checked_at_load_and_told_at_its_column() -> None:
    lines = text(document(rule(when="@@"))).replace('"@@"', "input.amount == 1")
    (problem,) = load_problems({"p.yaml": lines.replace("input.amount == 1", "'person.id == 5'")})
    line = next(number for number, one in enumerate(lines.splitlines(), 1) if "input.amount" in one)
    column = lines.splitlines()[line - 1].index("input.amount") + 1
    assert (problem.line, problem.column) == (line, column + 1 + len("person.id "))
    assert "in the condition: found no matching overload" in problem.message


def test_durations_read_back() -> None:
    for written, seconds in {"30m": 1800, "1h30m": 5400, "2d": 172800, "90d": 7776000, "1s": 1}.items():
        assert schema.parse_duration(written) == seconds
        assert schema.format_duration(seconds) == written
    assert schema.format_duration(0) == "0s"


@pytest.mark.parametrize("written", ["", "m", "1", "1.5h", "h1", "1h 30m", "30m1h", "-1h", "1h\n", "٣h", None, 60])
def test_other_durations_are_refused(written: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        schema.parse_duration(written)


def test_no_name_is_near_when_none_is() -> None:
    assert nearest("zzz", ["abc"]) == ""


def test_the_error_says_every_problem() -> None:
    with pytest.raises(PolicyErrors) as caught:
        load_folder({"p.yaml": "a: 1\n"})
    assert str(caught.value) == 'p.yaml:1:1  version  the key "version" is missing\np.yaml:1:4  a  unknown key: "a"'


@pytest.mark.covers("R27", "R57")
@pytest.mark.parametrize(
    ("wrong", "path", "message"),
    [
        ({"every": "6m"}, "targets.vault.reconcile", "every 5m at least"),
        ({"unknown_account": "drop"}, "targets.vault.reconcile.unknown_account", 'found "drop"'),
        ({"exceptions": [{"account": "a"}]}, "targets.vault.reconcile.exceptions[0].why", "is missing"),
        ({"exceptions": [{"account": "a", "why": "x", "rihgts": []}]}, "targets.vault.reconcile.exceptions[0].rihgts", '"rights"?'),
        ({"exceptions": [{"account": "a", "why": "x"}] * 2}, "targets.vault.reconcile", "stands twice"),
        ({"evry": "1m"}, "targets.vault.reconcile.evry", '"every"?'),
    ],
)  # fmt: skip
def test_how_a_target_is_watched_must_be_meant(wrong: dict[str, Any], path: str, message: str) -> None:
    whole = document(rule())
    whole["targets"]["vault"]["reconcile"] = wrong
    found = {problem.path: problem.message for problem in load_problems({"p.yaml": text(whole)})}
    assert message in found[path]


def test_how_a_target_is_watched_changes_the_set_but_nobodys_access() -> None:
    whole = document(rule())
    plain = load_folder({"p.yaml": text(whole)})
    whole["targets"]["vault"]["reconcile"] = {"exceptions": [{"account": "dba", "why": "owns it"}]}
    watched = load_folder({"p.yaml": text(whole)})
    assert watched.digest != plain.digest
    assert watched.targets["vault"].config_digest == plain.targets["vault"].config_digest
    assert watched.targets["vault"].reconcile["every_s"] == 300
    assert "reconcile" not in plain.document["targets"]["vault"]  # type: ignore[index, operator] # a JSON object
