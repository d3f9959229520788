"""When may a notice leave, and is a channel that cannot work refused?"""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitaccess.broker.channels import channels
from jitaccess.domain.notices import release_at
from jitaccess.errors import JitError, Kind
from jitaccess.settings import Channel, Notify, Settings

BELGRADE = ZoneInfo("Europe/Belgrade")
KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
MORNING = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)  # 10:30 in Belgrade
NIGHT = datetime(2026, 11, 23, 22, 30, tzinfo=UTC)  # 23:30
QUIET = (22 * 60, 7 * 60)


@pytest.mark.parametrize(
    ("now", "chosen", "leaves"),
    [
        (MORNING, {}, MORNING),
        (MORNING, {"quiet": QUIET}, MORNING),
        (NIGHT, {"quiet": QUIET}, datetime(2026, 11, 24, 6, 0, tzinfo=UTC)),
        (NIGHT + timedelta(hours=4), {"quiet": QUIET}, datetime(2026, 11, 24, 6, 0, tzinfo=UTC)),
        (MORNING, {"quiet": (9 * 60, 12 * 60)}, datetime(2026, 11, 23, 11, 0, tzinfo=UTC)),
        (MORNING, {"digest": "hour"}, datetime(2026, 11, 23, 10, 0, tzinfo=UTC)),
        (MORNING, {"digest": "day", "digest_minute": 480}, datetime(2026, 11, 24, 7, 0, tzinfo=UTC)),
        (MORNING, {"digest": "day", "digest_minute": 660}, datetime(2026, 11, 23, 10, 0, tzinfo=UTC)),
        (MORNING, {"digest": "day", "of_use_until": MORNING + timedelta(hours=1)}, MORNING),
        (
            NIGHT,
            {"digest": "day", "of_use_until": NIGHT + timedelta(hours=1), "quiet": QUIET},
            datetime(2026, 11, 24, 6, 0, tzinfo=UTC),
        ),
    ],
)
def test_a_notice_leaves_after_digest_and_quiet_hours(now: datetime, chosen: dict[str, Any], leaves: datetime) -> None:
    assert release_at(now, BELGRADE, **chosen) == leaves


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 # bounds are naive
    st.integers(0, 1439),
    st.integers(0, 1439),
    st.sampled_from(["", "hour", "day"]),
)
def test_no_notice_leaves_before_it_was_told_or_later_than_two_days(
    now: datetime, start: int, end: int, digest: str
) -> None:
    moment = release_at(now, BELGRADE, digest=digest, digest_minute=end, quiet=(start, end))
    assert now <= moment <= now + timedelta(days=2, hours=2)


@pytest.mark.covers("R73")
@pytest.mark.parametrize(
    ("name", "channel"),
    [
        ("mail", {"url": "json://localhost/"}),
        ("a b", {"url": "json://localhost/"}),
        ("chat", {"url": "nonsense"}),
        ("chat", {"url": "json://localhost/", "kinds": ["gossip"]}),
        ("hook", {"kind": "webhook", "url": "http://hooks.example/", "secret": SECRET}),
        ("hook", {"kind": "webhook", "url": "https://hooks.example/", "secret": "short"}),
        ("hook", {"kind": "webhook", "url": "https://hooks.example/", "secret": "whsec_c2hvcnQ="}),
    ],
)
def test_a_channel_that_cannot_work_is_refused_at_the_start(name: str, channel: dict[str, Any]) -> None:
    settings = Settings(notify=Notify(channels={name: Channel(**channel)}))
    with pytest.raises(JitError) as refused:
        channels(settings)
    assert refused.value.kind is Kind.CONFIGURATION
    assert "hooks.example" not in str(refused.value)


def test_settings_do_not_show_addresses_and_secrets() -> None:
    settings = Settings(notify=Notify(channels={"sms": Channel(url="json://user:pw@localhost/{to}", secret=SECRET)}))
    assert "pw" not in repr(settings)
    assert SECRET not in repr(settings)
    assert channels(settings)["sms"].shared is False
