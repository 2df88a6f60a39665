"""A simulated month from readings to its frozen certificate: what every table says of it is the same, to the
kWh.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from ccee.counting import month_view
from ccee.profile import load_profile
from ccee.standin.records import Unit
from ccee.standin.rules import StandIn
from ccee.standin.server import Serving, serve_in_thread
from closing.document import Closing, document
from closing.report import closing_report
from closing.run import close, write
from derivation.layers import DerivationParameters
from derivation.run import derive
from documents import to_html
from faults import OperatorFault
from storage.database import Database
from tests.ccee.conftest import SECRET, deliver, month_of, rows
from tests.derivation.world import AGENT, Point, add_points, curve, put_history, put_readings, with_gap
from vee.calendars import load_calendars

pytestmark = pytest.mark.req("TR-2d", "TR-2g")

MONTH = dt.date(2026, 11, 1)
DAYS = [MONTH + dt.timedelta(n) for n in range(30)]
PROFILE = load_profile()
# MS+7du of November is 2026-12-09.
OPEN = dt.datetime(2026, 12, 2, 12, tzinfo=dt.UTC)
PAST = dt.datetime(2026, 12, 10, 12, tzinfo=dt.UTC)
LATE_FROM, LATE_TO = dt.date(2026, 11, 10), dt.date(2026, 11, 12)
CHANGED_DAY = dt.date(2026, 11, 20)
GAP = (100, 101)


@dataclass
class Market:
    """A distributor, its UCs, and CCEE's stand-in at a moment that the test moves."""

    db: Database
    serving: Serving
    silent: Point
    late: Point
    changed: Point
    conflict: Point
    moment: list[dt.datetime]

    def derive(self, now: dt.datetime, first: dt.date = MONTH, last: dt.date = DAYS[-1]) -> None:
        derive(self.db, first, last, as_of=now, run_id="derive")

    def deliver(self, now: dt.datetime) -> Any:
        self.moment[0] = now
        return deliver(self.db, self.serving, DAYS, now=now)

    def close(self, now: dt.datetime) -> Closing:
        return close(
            self.db, MONTH, PROFILE, DerivationParameters(), now=now, as_of=now, run_id=f"close-{now:%d}"
        )


@pytest.fixture
def market(embedded_db: Database) -> Iterator[Market]:
    db, moment = embedded_db, [OPEN]
    with db.connect() as conn:
        silent, late, changed, conflict = points = add_points(conn, 4)
        conn.execute("UPDATE uc_status SET valid = '[2026-11-01,)'")
        conn.execute("UPDATE uc_musd SET musd_kw = 12 WHERE uc_id = %s", [conflict.uc_id])
    put_history(db, [conflict], MONTH, DAYS[-1])
    put_history(db, [late], MONTH, LATE_FROM - dt.timedelta(1))
    put_history(db, [late], LATE_TO + dt.timedelta(1), DAYS[-1])
    put_history(db, [changed], MONTH, CHANGED_DAY - dt.timedelta(1))
    put_history(db, [changed], CHANGED_DAY + dt.timedelta(1), DAYS[-1])
    put_readings(db, [(changed.meter_id, CHANGED_DAY, with_gap(curve(7), *GAP))])
    units = [
        Unit(point.uc_code, AGENT, musd={dt.date.min: Decimal(12 if point is conflict else 1000)})
        for point in points
    ]
    operator = StandIn(PROFILE, load_calendars(), {AGENT: SECRET}, units, lambda: moment[0], None)
    with serve_in_thread(operator) as serving:
        yield Market(db, serving, silent, late, changed, conflict, moment)


def counted(market: Market, point: Point) -> tuple[Decimal, Decimal]:
    """What CCEE counts of a UC's month, and what it zeroes: by the stand-in, and the same by our ledger."""
    theirs = month_of(market.serving, point.uc_code)
    ours = month_view(market.db, PROFILE, point.uc_code, MONTH)
    assert Decimal(theirs["totalKwh"]) == Decimal(ours["totalKwh"])
    assert Decimal(theirs["rejeitadoKwh"]) == Decimal(ours["rejeitadoKwh"])
    return Decimal(ours["totalKwh"]), Decimal(ours["rejeitadoKwh"])


@pytest.mark.case("E5")
def test_certificate_recount_notices_and_ledger_agree_to_the_kwh(market: Market) -> None:
    db = market.db
    market.derive(OPEN)
    first = market.deliver(OPEN)
    assert (first.accepted, first.rejected) == (3 * 30 - 3, 0), first
    # Fixed late, before the deadline.
    put_history(db, [market.late], LATE_FROM, LATE_TO)
    market.derive(OPEN, LATE_FROM, LATE_TO)
    assert market.deliver(OPEN + dt.timedelta(days=1)).accepted == 3

    still_open = market.close(OPEN + dt.timedelta(days=2))

    assert still_open.frozen is None
    assert (still_open.report.days_due, still_open.report.days_delivered) == (120, 90)
    (run,) = still_open.report.runs
    assert (run.uc_code, run.days, run.who) == (market.silent.uc_code, 30, "analista")
    assert run.act_by == dt.date(2026, 12, 7), "MS+5du"
    (agent,) = still_open.report.agents
    assert (agent.outlook.outlook, agent.outlook.stuck) == ("stuck", 30), "of the silent UC nothing comes"
    zeroed = counted(market, market.conflict)[1]
    assert zeroed > 0
    assert still_open.report.conflict_kwh == agent.figures.zeroed_kwh == zeroed

    frozen = market.close(PAST)

    sums = [counted(market, point) for point in (market.late, market.changed, market.conflict)]
    total, zero = sum(one for one, _ in sums), sum(two for _, two in sums)
    assert frozen.frozen is not None
    assert (frozen.frozen.final, frozen.frozen.lost) == (90, 30)
    totals = frozen.certificates[0].document["totals"]
    assert Decimal(totals["counted_kwh"]) == total
    assert Decimal(totals["zeroed_kwh"]) == zero == zeroed
    by_uc = {uc["uc_code"]: uc for uc in frozen.certificates[0].document["ucs"]}
    for point, (kwh, _) in zip((market.late, market.changed, market.conflict), sums, strict=True):
        assert Decimal(by_uc[point.uc_code]["counted_kwh"]) == kwh
        assert by_uc[point.uc_code]["days_sha256"] == ledger_sha256(db, point)
    silent = by_uc[market.silent.uc_code]
    assert (silent["days_lost"], silent["sent_kwh"]) == (30, "0.000")
    assert frozen.recount is not None
    assert frozen.recount.changes == []
    assert rows(db, "SELECT DISTINCT state FROM submission_state") == [("definitivo",)]
    kept = rows(db, "SELECT fate, count(*), sum(sent_kwh - zeroed_kwh) FROM closed_day GROUP BY 1 ORDER BY 1")
    assert kept == [("final", 90, total), ("lost", 30, 0)]

    # The truth of the gap arrives after the freezing.
    put_readings(db, [(market.changed.meter_id, CHANGED_DAY, only(GAP, 390))], at=PAST)
    market.derive(PAST, CHANGED_DAY, CHANGED_DAY)
    late_delivery = market.deliver(PAST)
    assert (late_delivery.sent, late_delivery.after_deadline) == (0, 1)

    changed = market.close(PAST + dt.timedelta(days=1))

    assert changed.recount is not None
    (change,) = changed.recount.changes
    (draft,) = rows(
        db,
        "SELECT sum(n) FROM series_latest s, unnest(s.numerators) n "
        "WHERE uc_id = %s AND day = %s AND layer = 5",
        market.changed.uc_id,
        CHANGED_DAY,
    )
    assert Decimal(change["now"]["sent_kwh"]) == Decimal(draft[0]) / 1000
    difference = Decimal(change["now"]["sent_kwh"]) - Decimal(change["frozen"]["sent_kwh"])
    assert changed.recount.difference_kwh == difference != 0
    assert [hour["hour"] for hour in change["hours"]] == [9], "slots 100 and 101 end at 08:25 and 08:30"
    (sealed,) = rows(
        db,
        "SELECT body_sha256 FROM submission WHERE uc_id = %s AND day = %s",
        market.changed.uc_id,
        CHANGED_DAY,
    )
    assert change["frozen"]["body_sha256"] == sealed[0].hex()
    assert len(change["now"]["body_sha256"]) == 64
    assert [one.version for one in changed.certificates] == [1, 2]
    assert changed.certificates[0].content == frozen.certificates[0].content
    assert changed.certificates[1].document["frozen_sha256"] == frozen.certificates[0].sha256.hex()
    assert counted(market, market.changed) == sums[1], "CCEE has what it had"

    notices = rows(db, "SELECT kind, subject, body FROM notification WHERE kind LIKE 'ccee_%%' ORDER BY id")
    by_kind = {kind: (subject, body) for kind, subject, body in notices}
    assert by_kind["ccee_mes_perdido"][0] == "Mês 11/2026 encerrado; perdidos: 30 dias de UC"
    assert f"UC {market.silent.uc_code}: 30 dias, 01/11 a 30/11." in by_kind["ccee_mes_perdido"][1]
    subject, body = by_kind["ccee_recontabilizacao"]
    assert subject == "Mês 11/2026: 1 dia de UC a recontabilizar"
    shown = f"{difference.normalize():f}".replace(".", ",")
    assert f"Diferença: {shown} kWh" in body

    again = market.close(PAST + dt.timedelta(days=2))
    assert again.recount is not None
    assert (again.recount.is_new, len(again.certificates)) == (False, 2), "the same list is not kept twice"


def only(slots: tuple[int, int], pulses: int) -> list[int | None]:
    """Pulses in these slots, nothing in the others."""
    return [pulses if slots[0] <= slot <= slots[1] else None for slot in range(288)]


def ledger_sha256(db: Database, point: Point) -> str:
    """Of the accepted bodies of the month, as the certificate says to make it."""
    found = rows(
        db,
        "SELECT DISTINCT ON (day) day, version, body_sha256 FROM submission WHERE uc_id = %s "
        "ORDER BY day, version DESC",
        point.uc_id,
    )
    text = "".join(f"{day} {version} {digest.hex()}\n" for day, version, digest in found)
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.case("E4")
def test_days_that_were_never_ready_are_lost_and_told(embedded_db: Database) -> None:
    """Case E4: a UC in the market all month, never read; not even a row of the ledger speaks of it."""
    db, october = embedded_db, dt.date(2026, 10, 1)
    with db.connect() as conn:
        add_points(conn, 1)
        # From the first of the month on; a second UC comes on the last day and has one day due.
        conn.execute("UPDATE uc_status SET valid = '[2026-10-01,)'")
        other = conn.execute(
            "INSERT INTO uc (code, name, agent_id) SELECT '0000000099', 'UC 99', id FROM agent RETURNING id"
        ).fetchone()[0]
        conn.execute(
            "INSERT INTO uc_status (uc_id, valid, status) VALUES (%s, '[2026-10-31,)', 'active')", [other]
        )

    done = close(db, october, PROFILE, DerivationParameters(), now=PAST, as_of=PAST, run_id="r")

    assert done.frozen is not None
    assert (done.frozen.final, done.frozen.lost) == (0, 32)
    assert (done.report.days_due, len(done.report.missing)) == (32, 32)
    assert {row.cause for row in done.report.missing} == {"not_derived"}
    ((agent, subject, body),) = rows(
        db, "SELECT a.code, n.subject, n.body FROM notification n JOIN agent a ON a.id = n.agent_id"
    )
    assert (agent, subject) == (AGENT, "Mês 10/2026 encerrado; perdidos: 32 dias de UC")
    assert "UC 0000000001: 31 dias, 01/10 a 31/10." in body
    assert "UC 0000000099: dia 31/10." in body
    assert document(done).verdict.text == "Mês congelado. Dias de UC definitivos: 0; perdidos: 32."
    assert rows(db, "SELECT count(*) FROM submission") == [(0,)]


def test_no_month_is_frozen_before_its_deadline_is_past(market: Market) -> None:
    from closing.freeze import freeze_month

    with pytest.raises(OperatorFault, match="open until 2026-12-09"):
        freeze_month(
            market.db,
            MONTH,
            PROFILE,
            load_calendars(),
            now=dt.datetime(2026, 12, 9, 12, tzinfo=dt.UTC),
            run_id="r",
        )
    # Nor by a reference that lies ahead of the clock.
    done = close(market.db, MONTH, PROFILE, DerivationParameters(), now=OPEN, as_of=PAST, run_id="r")
    assert done.frozen is None
    assert rows(market.db, "SELECT count(*) FROM month_certificate") == [(0,)]


def test_a_certificate_and_its_days_cannot_be_changed(market: Market) -> None:
    """Case E5: whatever is derived after the freezing, and whoever tries by hand."""
    market.derive(OPEN, CHANGED_DAY, CHANGED_DAY)
    market.deliver(OPEN)
    frozen = market.close(PAST)
    content = frozen.certificates[0].content
    assert hashlib.sha256(content).digest() == frozen.certificates[0].sha256
    assert json.loads(content)["month"] == "2026-11"
    for statement in (
        "UPDATE month_certificate SET version = 3",
        "DELETE FROM month_certificate",
        "UPDATE closed_day SET sent_kwh = 0",
        "DELETE FROM closed_day",
    ):
        with market.db.connect() as conn, pytest.raises(Exception, match="append only"):
            conn.execute(statement)
    before = closing_report(market.db, MONTH, PAST, DAYS[-1], PROFILE).whole.sent_kwh
    with market.db.connect() as conn:
        conn.execute(
            "INSERT INTO point_loss (point_id, kind, valid, percent) "
            "SELECT id, 'line', tstzrange('2026-11-01Z', NULL), 5 FROM point"
        )
    market.derive(PAST, CHANGED_DAY, CHANGED_DAY)

    changed = market.close(PAST + dt.timedelta(days=1))

    assert changed.certificates[0].content == content
    assert changed.report.whole.sent_kwh == before, "energy is of delivered bodies"
    assert changed.recount is not None
    # Lost days that are ready by now have nothing to do with it: only this day was ever derived.
    assert {(change["uc_code"], change["what"]) for change in changed.recount.changes} == {
        (point.uc_code, "content") for point in (market.late, market.changed, market.conflict)
    }
    assert all(
        Decimal(change["hours"][0]["now_without_losses_kwh"]) > 0 for change in changed.recount.changes
    )


def test_the_report_is_written_as_page_sheet_and_paper(market: Market) -> None:
    market.derive(OPEN)
    market.deliver(OPEN)
    done = market.close(PAST)

    written = write(done, market.db.data_dir / "closing")

    page = written.html.read_text(encoding="utf-8")
    assert page == to_html(document(done))
    assert market.silent.uc_code in page
    assert done.certificates[0].sha256.hex() in page, "hashes are never cut"
    assert written.pdf.read_bytes().startswith(b"%PDF-")
    assert written.xlsx.read_bytes().startswith(b"PK")
    assert written.certificates[0].read_bytes() == done.certificates[0].content


def test_each_kind_of_change_is_listed_with_its_energy(market: Market) -> None:
    db, day = market.db, MONTH
    market.derive(OPEN, day, day + dt.timedelta(1))
    market.deliver(OPEN)
    frozen = market.close(PAST)
    assert frozen.recount is not None
    assert frozen.recount.changes == []
    zeroed = Decimal(frozen.certificates[0].document["totals"]["zeroed_kwh"])
    assert zeroed > 0
    with db.connect() as conn:
        # The register's limit is corrected too late; one UC was another agent's, and one was suspended.
        conn.execute("UPDATE uc_musd SET musd_kw = 1000 WHERE uc_id = %s", [market.conflict.uc_id])
        (other,) = conn.execute(
            "INSERT INTO agent (code, name, distributor_id) SELECT 4712, 'Outro', distributor_id FROM agent "
            "RETURNING id"
        ).fetchone()
        conn.execute("UPDATE uc_agent SET valid = '[2026-11-02,)' WHERE uc_id = %s", [market.late.uc_id])
        conn.execute("INSERT INTO uc_agent VALUES (%s, %s, '(,2026-11-02)')", [market.late.uc_id, other])
        conn.execute("UPDATE uc_status SET valid = '[2026-11-02,)' WHERE uc_id = %s", [market.changed.uc_id])
    # And a lost one is read after all.
    put_history(db, [market.silent], day, day)
    market.derive(PAST, day, day + dt.timedelta(1))

    changed = market.close(PAST + dt.timedelta(days=1))

    assert changed.recount is not None
    found = {(one["uc_code"], one["day"]): one for one in changed.recount.changes}
    first, second = day.isoformat(), (day + dt.timedelta(1)).isoformat()
    assert {key: one["what"] for key, one in found.items()} == {
        (market.silent.uc_code, first): "late",
        (market.late.uc_code, first): "owner",
        (market.changed.uc_code, first): "withdrawn",
        (market.conflict.uc_code, first): "musd",
        (market.conflict.uc_code, second): "musd",
    }
    sent = {
        (code, f"{on}"): kwh
        for code, on, kwh in rows(
            db, "SELECT u.code, d.day, d.sent_kwh FROM closed_day d JOIN uc u ON u.id = d.uc_id"
        )
    }
    withdrawn = found[market.changed.uc_code, first]
    assert Decimal(withdrawn["difference_kwh"]) == -sent[market.changed.uc_code, first]
    assert withdrawn["now"]["body_sha256"] is None
    late = found[market.silent.uc_code, first]
    assert Decimal(late["difference_kwh"]) == Decimal(late["now"]["sent_kwh"]) > 0
    assert (late["frozen"]["body_sha256"], len(late["now"]["body_sha256"])) == (None, 64)
    owner = found[market.late.uc_code, first]
    assert (owner["agent_code"], owner["now"]["agent_code"], owner["difference_kwh"]) == (
        AGENT,
        4712,
        "0.000",
    )
    limits = [found[market.conflict.uc_code, on] for on in (first, second)]
    assert sum(Decimal(one["difference_kwh"]) for one in limits) == zeroed
    assert all(one["hours"] == [] for one in limits), "the same energy in every hour"
    told = rows(
        db,
        "SELECT a.code FROM notification n JOIN agent a ON a.id = n.agent_id WHERE kind = %s",
        "ccee_recontabilizacao",
    )
    assert told == [(AGENT,)], "those whose days were frozen; the late one is of the same agent"
