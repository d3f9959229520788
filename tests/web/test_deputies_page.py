"""The page of deputies says what one may lend, and what a deputy does not reach."""

import re

from bs4 import BeautifulSoup

from tests.web.conftest import Site


def test_the_page_says_what_a_deputy_reaches_before_one_is_named_and_after(site: Site) -> None:
    def words() -> str:
        return " ".join(BeautifulSoup(site.get("/deputies").text, "html.parser").get_text().split())

    site.as_("blerim")
    before = words()
    assert re.search(
        r"for how long a deputy may be named for it: Treasury payments: [A-Z][a-z ]+: at most 14 d", before
    )
    assert ("14 d (longer" in before, "30 d (longer than every rule allows)" in before) == (False, True)
    body = {"deputy": site.world.person("agim"), "start": "", "lasts_s": str(30 * 86_400)}
    assert site.ceremony("blerim", "/api/deputies", body).status_code == 200
    assert "none named for so long: Treasury payments: " in words()
    site.as_("milan")
    assert "By the rules you sign nothing now" in words()
    assert 'data-ceremony="/api/deputies"' not in site.get("/deputies").text, "what would be refused is not offered"
    assert site.post("/api/deputies/begin", body).status_code == 403
