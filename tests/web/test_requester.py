"""Does the requester find, ask, wait, hand back and ask again without detours?"""

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st

from jitaccess.app import create_app
from jitaccess.broker import offers
from jitaccess.web import requester
from tests.web.conftest import Site

FIELDS = {
    "target": "treasury",
    "entitlement": "releaser",
    "input.order": "TR-000417",
    "input.amount_cents": "125000000",
    "duration_s": "1800",
    "reason": "July invoice",
}


def text(site: Site, path: str) -> str:
    """Give a page."""
    answer = site.get(path)
    assert answer.status_code == 200, path
    return answer.get_data(as_text=True)


@pytest.mark.parametrize("typed", ["1.250.000", "1 250 000", "1,250,000", "1250000"])
def test_a_number_may_be_typed_with_its_thousands_apart(site: Site, typed: str) -> None:
    html = site.as_("arta").form("/request/check", **FIELDS | {"input.amount_cents": typed}).text
    assert "12,500.00" in html


@pytest.mark.parametrize("field", ["input.amount_cents", "duration_s"])
@pytest.mark.parametrize("wrong", ["--5", "²", "٣", "1.25.0000", "1e3", "9" * 17, "-"])
def test_what_is_no_number_is_told_in_a_sentence(site: Site, field: str, wrong: str) -> None:
    found = site.as_("arta").form("/request/check", **FIELDS | {field: wrong})
    assert found.status_code == 422 or field == "duration_s"
    assert found.status_code < 500


def test_who_changes_something_finds_every_answer_again(site: Site) -> None:
    checked = BeautifulSoup(site.as_("arta").form("/request/check", **FIELDS).text, "html.parser")
    form = checked.select_one("form[action='/request/check']")
    assert form is not None
    fields = {str(one["name"]): str(one["value"]) for one in form.select("input, button")}
    again = BeautifulSoup(site.form("/request/check", **fields).text, "html.parser")
    shown = {str(one["name"]): str(one["value"]) for one in again.select("form input[value]")}
    assert shown.items() >= {name: FIELDS[name] for name in ("input.order", "input.amount_cents")}.items()
    assert again.select_one("textarea").text == FIELDS["reason"]  # type: ignore[union-attr] # it is there
    assert again.select_one("option[selected]")["value"] == FIELDS["duration_s"]  # type: ignore[index] # it is there


def test_one_search_box_finds_by_system_task_and_owner_whatever_the_marks_on_letters(site: Site) -> None:
    site.as_("arta")
    for query in ("treasury", "RELEASE", "infrastructure paym", "trëasury"):
        assert "Release a payment" in text(site, f"/request?q={query}"), query
        assert "Release a payment" in text(site, f"/request/find?q={query}"), query
    nothing = text(site, "/request/find?q=zeppelin")
    assert "Nothing is called like that" in nothing
    assert "</main>" not in nothing


def test_what_is_locked_is_shown_with_what_is_missing(site: Site) -> None:
    html = text(site.as_("arta"), "/request")
    open_, locked = html.split('class="locked"')
    assert "Release a payment" in open_
    assert "Read pay records" in locked
    assert "None of your groups may ask for this." in locked
    assert "payroll-staff" in locked
    assert 'href="/request?target=payroll' not in html
    assert site.get("/request?target=payroll&entitlement=reader").status_code == 403
    assert site.get("/request?target=payroll&entitlement=nothing").status_code == 404


def test_the_form_tells_who_has_to_sign_and_how_long_it_usually_takes(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    site.world.advance(timedelta(minutes=4))
    site.world.approved("blerim", filed.request.id)
    site.world.approved("drita", filed.request.id)
    html = text(site.as_("arta"), "/request?target=treasury&entitlement=releaser")
    assert "Blerim Gashi" in html
    assert "Drita Hoxha" in html
    assert "This usually takes 4 min." in html
    checked = site.form("/request/check", **FIELDS).get_data(as_text=True)
    assert re.search(r"Usual wait</dt><dd>4 min", checked)


def test_a_former_request_is_asked_again_with_its_answers_filled_in(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser", reason="July invoice")
    site.as_("arta")
    assert f"again={filed.request.id}" not in text(site, "/")  # it still waits
    site.form(f"/requests/{filed.request.id}/withdraw")
    assert f"/request?again={filed.request.id}" in text(site, "/")
    form = text(site, f"/request?again={filed.request.id}")
    for value in ('value="TR-000417"', 'value="125000000"', "July invoice", '<option value="600" selected>'):
        assert value in form
    assert site.as_("blerim").get(f"/request?again={filed.request.id}").status_code == 404


def test_the_start_page_refreshes_only_what_changed(site: Site) -> None:
    site.as_("arta")
    mark = re.search(r'hx-get="/live\?seen=(\w+)"', text(site, "/"))
    assert mark is not None
    same = site.get(f"/live?seen={mark.group(1)}")
    assert (same.status_code, same.get_data()) == (204, b"")
    site.world.filed()
    changed = text(site, f"/live?seen={mark.group(1)}")
    assert "Hand back" in changed
    assert mark.group(1) not in changed


def test_a_request_page_follows_its_signatures(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    page = text(site.as_("arta"), f"/requests/{filed.request.id}")
    mark = re.search(r"/live\?seen=(\w+)", page)
    assert mark is not None
    assert site.get(f"/requests/{filed.request.id}/live?seen={mark.group(1)}").status_code == 204
    site.world.approved("blerim", filed.request.id)
    assert "Blerim Gashi: signed" in text(site, f"/requests/{filed.request.id}/live?seen={mark.group(1)}")
    site.world.approved("drita", filed.request.id)
    assert "hx-get" not in text(site, f"/requests/{filed.request.id}/live").split("</main>")[0]
    assert site.as_("jelena").get(f"/requests/{filed.request.id}/live").status_code == 200  # an auditor may look
    assert site.as_("arta").get("/requests/nothing/live").status_code == 404


def test_a_person_with_one_passkey_is_nudged_to_a_second(site: Site) -> None:
    assert "only one passkey" in text(site.as_("arta"), "/")
    assert "only one passkey" not in text(site.as_("agim"), "/")  # founders have two


@given(st.integers(60, 10_000), st.integers(0, 100_000), st.integers(0, 1_000_000))
def test_steps_are_few_sensible_and_within_bounds(low: int, more: int, most: int) -> None:
    default, high = low + more, low + more + most
    found = requester.steps(low, default, high)
    assert {default, high} <= set(found)
    assert found == sorted(set(found))
    assert all(low <= step <= high for step in found)
    assert len(found) <= requester.MOST_STEPS


def test_steps_go_by_quarters_and_half_hours() -> None:
    assert requester.steps(900, 1800, 7200) == [900, 1800, 2700, 3600, 5400, 7200]
    assert requester.steps(600, 600, 600) == [600]


def test_search_folds_case_and_marks() -> None:
    assert offers.fold("Përgjegjëse Šabac") == "pergjegjese sabac"


def test_a_refusal_stands_on_the_start_page_until_it_is_read(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    path = f"/requests/{filed.request.id}"
    site.as_("blerim").form(f"/approvals/{filed.request.id}/deny", comment="Ask for the July invoice <only>.")
    card = BeautifulSoup(site.as_("arta").get("/").text, "html.parser").select_one("[data-refused]")
    assert card is not None
    text = card.get_text()
    assert "Blerim Gashi" in text
    assert "Ask for the July invoice <only>." in text
    assert card.select_one(f'a[href="/request?again={filed.request.id}"]') is not None
    assert site.as_("blerim").form(f"{path}/seen").status_code == 404
    for _ in range(2):
        assert site.as_("arta").form(f"{path}/seen").status_code == 303
    assert "data-refused" not in site.get("/").text
    waiting = site.world.filed(entitlement="releaser", inputs={"order": "TR-000431", "amount_cents": 5})
    assert site.form(f"/requests/{waiting.request.id}/seen").status_code == 404


def test_going_back_from_the_check_keeps_everything_that_was_filled_in(site: Site) -> None:
    given = {
        "target": "treasury", "entitlement": "releaser", "input.order": "TR-000417", "input.amount_cents": "125000000",
        "duration_s": "900", "reason": "July <b>invoice</b>",
    }  # fmt: skip
    checked = BeautifulSoup(site.as_("arta").form("/request/check", **given).text, "html.parser")
    back = checked.select_one('form[action="/request/check"]')
    assert back is not None
    fields = {str(field["name"]): str(field["value"]) for field in back.select("input[name], button[name]")}
    form = BeautifulSoup(site.form("/request/check", **fields).text, "html.parser")
    assert form.select_one('input[name="input.order"]')["value"] == "TR-000417"
    assert form.select_one('input[name="input.amount_cents"]')["value"] == "125000000"
    assert form.select_one('select[name="duration_s"] option[selected]')["value"] == "900"
    assert form.select_one('textarea[name="reason"]').get_text() == "July <b>invoice</b>"
    assert form.select_one(".problem") is None


def test_the_form_says_as_what_each_of_them_would_sign(site: Site) -> None:
    page = BeautifulSoup(site.as_("arta").get("/request?target=treasury&entitlement=releaser").text, "html.parser")
    said = [" ".join(one.get_text().split()) for one in page.select("main > section p")]
    assert said[0] == "Head of the treasury: one of Blerim Gashi"
    assert said[1].endswith(": one of Drita Hoxha")


@pytest.mark.covers("R26")
@pytest.mark.parametrize(
    ("limit", "code", "sentence"),
    [
        ("requests_per_person_hour", "too_many_requests", "You asked very often in the last hour."),
        ("open_per_requester", "too_many_open", "You have as many requests waiting"),
        ("open_per_approver", "approvers_busy", "You have asked everybody who could sign this very often."),
    ],
)
def test_a_limit_is_told_before_the_last_button(site: Site, limit: str, code: str, sentence: str) -> None:
    world = site.world
    assert "Sign and send" in site.as_("arta").form("/request/check", **FIELDS).text
    world.filed(entitlement="releaser", inputs={"order": "TR-000418", "amount_cents": 5})
    limits = world.broker.settings.limits.model_copy(update={limit: 1})
    world.broker = replace(world.broker, settings=world.broker.settings.model_copy(update={"limits": limits}))
    app = create_app(world.broker)
    lowered = Site(world, app, app.test_client(use_cookies=True)).as_("arta")
    checked = lowered.form("/request/check", **FIELDS)
    assert checked.status_code == 200
    assert sentence in checked.text
    assert "Sign and send" not in checked.text
    assert "Change something" in checked.text
    inputs = {"order": "TR-000417", "amount_cents": 125_000_000}
    ask = {"target": "treasury", "entitlement": "releaser", "inputs": inputs, "reason": "July invoice"}
    assert lowered.post("/api/requests/preview", ask).json["refused"]["code"] == code
    assert lowered.post("/api/requests/begin", ask).status_code == 429


def test_an_equal_request_that_waits_is_told_before_the_last_button(site: Site) -> None:
    site.world.filed(
        entitlement="releaser", duration_s=1800, inputs={"order": "TR-000417", "amount_cents": 125_000_000}
    )
    checked = site.as_("arta").form("/request/check", **FIELDS).text
    assert "You asked for exactly this already" in checked
    assert "Sign and send" not in checked
