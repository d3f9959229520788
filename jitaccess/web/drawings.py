"""Which pictures does a span of time give? Puts the broker's figures into words and hands them to the pure drawings.

The only place where numbers, words and drawings meet: `broker.figures` counts, `web.pictures` draws.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from flask_babel import format_date

from jitaccess.broker import figures
from jitaccess.broker.context import Broker
from jitaccess.broker.figures import GrantSpan
from jitaccess.clock import to_epoch_s
from jitaccess.identity.people import register
from jitaccess.policy.evaluate import PolicySet
from jitaccess.store.db import View
from jitaccess.web import pictures, telling
from jitaccess.web.display import duration_text, visible
from jitaccess.web.naming import here
from jitaccess.web.pictures import Bar, BarKind, Month, Picture
from jitaccess.web.speech import gettext, ngettext, time_here, zone_words

LAG_LIMIT_MS = 5_000
"""A session must be over this long after its end (requirement on revocation)."""
AXIS_S = {60.0: "1 min", 600.0: "10 min", 3600.0: "1 h", 21_600.0: "6 h", 86_400.0: "1 d"}


def of_span(view: View, broker: Broker, *, days: int, target: str | None) -> list[Picture]:
    """Return all pictures of the last days."""
    start = view.now - timedelta(days=days)
    policies = broker.policies.active_or_none(view)
    return [
        grants(view, policies, start=start, target=target),
        hours(view, policies, start=start),
        approval_time(view, start=start, target=target),
        who_signs(view, start=start),
        rights(view, broker),
        lags(view, start=start),
    ]


def grants(view: View, policies: PolicySet | None, *, start: datetime, target: str | None) -> Picture:
    """Draw the grants of a span, one lane a target."""
    end = view.now + (view.now - start) / 20
    found = figures.grant_spans(view, start=start, end=end, target=target)
    names = register(view).persons
    states = {pair: telling.cause(pair[0]) if pair[0] else telling.state(pair[1]) for pair in _ways(found)}
    bars = [
        Bar(
            _target_name(policies, span.target),
            to_epoch_s(span.start),
            to_epoch_s(span.end),
            _kind(span),
            f"{visible(names[span.person_id].name if span.person_id in names else span.person_id)}: {span.entitlement}, "
            f"{states[span.cause, span.state]}",
        )
        for span in found
    ]
    moments = _times({at for bar in bars for at in (bar.start_s, bar.end_s)})
    step = (end - start) / 4
    ticks = [
        (to_epoch_s(start + step * number), str(format_date(start + step * number, "d MMM"))) for number in range(4)
    ]
    return pictures.timeline(
        bars,
        start_s=to_epoch_s(start),
        end_s=to_epoch_s(end),
        now_s=to_epoch_s(view.now),
        ticks=ticks,
        title=gettext("Access over time"),
        description=ngettext("%(num)s access, system by system.", "%(num)s accesses, system by system.", len(bars))
        if len(bars) < figures.MOST_GRANTS
        else gettext("The newest %(most)s accesses, system by system.", most=len(bars)),
        heads=(gettext("System"), gettext("Who and what"), gettext("From"), gettext("Until")),
        times=moments,
    )


def _ways(spans: Sequence[GrantSpan]) -> set[tuple[str | None, str]]:
    """Return the few pairs of cause and state that there are: each is put into words once."""
    return {(span.cause, span.state) for span in spans}


def _times(moments: Iterable[int]) -> dict[int, str]:
    """Return instants in the reader's words."""
    return {at: time_here(at) for at in moments}


def _kind(span: GrantSpan) -> BarKind:
    match span.state, span.cause:
        case "SCHEDULED", _:
            return BarKind.READY
        case "ACTIVE", _:
            return BarKind.OPEN
        case _, "returned":
            return BarKind.RETURNED
        case _, "expired" | "unused" | None:
            return BarKind.ENDED
        case _:
            return BarKind.CUT


def _target_name(policies: PolicySet | None, target: str) -> str:
    known = policies.targets.get(target) if policies is not None else None
    return str(here(known.name)) if known is not None else target


def hours(view: View, policies: PolicySet | None, *, start: datetime) -> Picture:
    """Draw when access was opened, hour by weekday; what lies outside every declared window is outlined."""
    zone, inside = figures.declared_hours(policies)
    counts = figures.began_by_hour(view, start=start, zone=zone)
    outside = sum(count for cell, count in counts.items() if inside is not None and cell not in inside)
    return pictures.heat_map(
        counts,
        inside=inside,
        days=(
            gettext("Mon"), gettext("Tue"), gettext("Wed"), gettext("Thu"), gettext("Fri"), gettext("Sat"), gettext("Sun"),
        ),
        title=gettext("When access is opened"),
        description=gettext(
            "%(all)s openings by hour and weekday (%(zone)s), %(outside)s of them out of hours.",
            all=sum(counts.values()),
            zone=zone_words(zone.key),
            outside=outside,
        ),
        out_of_hours=gettext("out of hours"),
    )  # fmt: skip


def approval_time(view: View, *, start: datetime, target: str | None) -> Picture:
    """Draw how long approvals took."""
    seconds = sorted(figures.approval_seconds(view, start=start, target=target))
    median, ninth = pictures.quantile(seconds, 0.5), pictures.quantile(seconds, 0.9)
    texts = {0.5: duration_text(round(median)), 0.9: duration_text(round(ninth))}
    return pictures.latency(
        seconds,
        title=gettext("How long approval takes"),
        description=gettext(
            "%(all)s approvals: half within %(median)s, nine of ten within %(ninth)s.",
            all=len(seconds),
            median=texts[0.5],
            ninth=texts[0.9],
        ),
        marks=AXIS_S,
        median=gettext("half: %(time)s", time=texts[0.5]),
        p90=gettext("nine of ten: %(time)s", time=texts[0.9]),
        heads=(gettext("Share"), gettext("Within")),
        texts=texts,
    )


def who_signs(view: View, *, start: datetime) -> Picture:
    """Draw who signed for whom."""
    names = register(view).persons

    def name(person: str) -> str:
        return visible(names[person].name) if person in names else person

    counts: dict[tuple[str, str], int] = {}
    for (approver, requester), count in figures.signed_for(view, start=start).items():
        pair = name(approver), name(requester)
        counts[pair] = counts.get(pair, 0) + count
    return pictures.matrix(
        counts,
        title=gettext("Who signs for whom"),
        description=gettext(
            "%(all)s signatures; a dark square is one approver signing often for one person.", all=sum(counts.values())
        ),
        heads=(gettext("Approver"), gettext("Requester"), gettext("Signatures")),
    )


def rights(view: View, broker: Broker) -> Picture:
    """Draw standing rights that the broker makes unnecessary beside those that were really open."""
    found = [
        Month(str(format_date(month.month, "LLL")), month.could, month.open, month.standing)
        for month in figures.months_of_rights(view, broker)
    ]
    now = found[-1]
    return pictures.months(
        found,
        title=gettext("Standing rights and just-in-time rights"),
        description=gettext(
            "Without the broker %(could)s rights would stand open all the time; this month %(open)s were open at an average moment.",
            could=now.could,
            open=f"{now.open:.2f}",
        ),
        heads=(
            gettext("Month"),
            gettext("Would stand open"),
            gettext("Open on average"),
            gettext("Stand open (administration)"),
        ),
        labels=(gettext("would stand open"), gettext("open on average")),
    )


def lags(view: View, *, start: datetime) -> Picture:
    """Draw how long revocations took."""
    found = [(to_epoch_s(lag.at), lag.ms, lag.target) for lag in figures.revocation_lags(view, start=start)]
    late = sum(ms > LAG_LIMIT_MS for _, ms, _ in found)
    return pictures.lag_strip(
        found,
        limit_ms=LAG_LIMIT_MS,
        title=gettext("How fast access is gone"),
        description=gettext(
            "%(all)s ends of access, %(late)s of them slower than %(limit)s.", all=len(found), late=late, limit="5 s"
        ),
        limit=gettext("limit %(limit)s", limit="5 s"),
        heads=(gettext("Ended"), gettext("System"), gettext("Gone after")),
        times=_times({at for at, _, _ in found}),
    )
