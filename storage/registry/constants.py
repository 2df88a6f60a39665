"""The constants that meters state of themselves, proposed to the registry, and a proposal accepted.

A session keeps what its source stated (`protocols.acquisition.Statement`). What differs from the registry is
a proposal; a person accepts it, and it goes through the same import, checks and audit as any registry file.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import psycopg

from faults import OperatorFault
from storage import audit
from storage.database import Database
from storage.registry.files import Row, write
from storage.registry.loading import ImportResult, Rules, load_registry
from storage.registry.sheets import BY_NAME
from storage.sessions import fitting_constants

_INSTALLATIONS = BY_NAME["installations"]
_WH = 1000

# By meter, its newest session that states a constant of the channel of active energy, in force at that time.
STATED = """
SELECT i.id AS installation_id, s.id AS session_id, s.started_at, c ->> 'constant' AS constant_wh,
       s.statement ->> 'ratio' AS ratio
FROM installation i
CROSS JOIN LATERAL (
    SELECT s.id, s.started_at, s.statement FROM session s
    WHERE s.meter_id = i.meter_id AND s.outcome IN ('complete', 'partial') AND i.valid @> s.started_at
      AND jsonb_path_exists(
        s.statement, '$.columns[*] ? (@.channel == $channel && @.constant != null && @.refused == null)',
        jsonb_build_object('channel', i.active_channel))
    ORDER BY s.started_at DESC LIMIT 1
) s
CROSS JOIN LATERAL jsonb_array_elements(s.statement -> 'columns') c
WHERE (c ->> 'channel')::int = i.active_channel AND c ->> 'constant' IS NOT NULL AND c ->> 'refused' IS NULL
"""


@dataclass(frozen=True)
class Proposal:
    """A constant that a meter states and the registry does not have, kWh a pulse.

    Attributes:
        since: from when the installation is; None: ever. at: start of the session that stated it.
    """

    serial: str
    point: str
    registered: Fraction
    stated: Fraction
    since: dt.datetime | None
    session_id: int
    at: dt.datetime

    @property
    def words(self) -> str:
        """For people."""
        return (
            f"{self.registered} kWh a pulse in the registry, the meter stated {self.stated} "
            f"(x {self.stated / self.registered}) in session {self.session_id}"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "meter_serial": self.serial,
            "point_code": self.point,
            "registered": {"pulse_energy_num": self.registered.numerator,
                           "pulse_energy_den": self.registered.denominator},
            "proposed": {"pulse_energy_num": self.stated.numerator,
                         "pulse_energy_den": self.stated.denominator},
            "session_id": self.session_id,
            "stated_at": self.at.isoformat(),
        }  # fmt: skip


def proposals(conn: psycopg.Connection[Any], serials: Collection[str] | None = None) -> list[Proposal]:
    """What meters state otherwise than the registry, of installations that are open; by serial.

    Args:
        serials: of these meters only; None: of all.
    """
    rows = conn.execute(
        f"WITH told AS ({STATED}) SELECT m.serial, p.code, i.pulse_energy_num, i.pulse_energy_den, "
        "i.tp_ratio * i.tc_ratio, i.constant_includes_ratios, lower(i.valid), t.constant_wh, t.session_id, "
        "t.started_at FROM told t JOIN installation i ON i.id = t.installation_id "
        "JOIN meter m ON m.id = i.meter_id JOIN point p ON p.id = i.point_id "
        "WHERE upper_inf(i.valid) AND (%s::text[] IS NULL OR m.serial = ANY(%s)) ORDER BY m.serial",
        [None if serials is None else list(serials)] * 2,
    ).fetchall()
    found = []
    for serial, point, num, den, ratio, includes, since, constant_wh, session_id, at in rows:
        registered, stated = Fraction(num, den), Fraction(constant_wh) / _WH
        if stated not in fitting_constants(registered, Fraction(ratio), includes):
            found.append(Proposal(serial, point, registered, stated, since, session_id, at))
    return found


def accept(
    db: Database, serial: str, since: dt.datetime | None, *, actor: str, why: str, rules: Rules | None = None
) -> tuple[Proposal, ImportResult]:
    """Take a meter's own constant into the registry, by the import that takes every registry file.

    Args:
        since: aware; from then on the new constant holds, and the old one before. None: the installation was
            registered wrong from its start on.

    Raises:
        OperatorFault: there is no proposal for this meter, or `since` is outside of its installation.
        RegistryFault: the registry refuses the change.
    """
    with db.connect() as conn:
        found = proposals(conn, [serial])
        rows = [row for row in conn.execute(_INSTALLATIONS.select).fetchall() if row[0] == serial]
    if not found:
        raise OperatorFault(
            "no session states another constant than the registry has",
            where=f"meter {serial}",
            remedy="smf registry check lists what meters state otherwise; read the meter first",
        )
    (proposal,) = found
    if since is not None and proposal.since is not None and since <= proposal.since:
        raise OperatorFault(
            f"{since.isoformat()} is not after the start of the installation, {proposal.since.isoformat()}",
            where=f"meter {serial}",
            remedy="leave --from out to correct the whole installation",
        )
    changed = _changed(rows, proposal.stated, since)
    with tempfile.TemporaryDirectory(prefix="smf-") as name:
        folder = Path(name) / f"constant-{serial}"
        write(folder, {_INSTALLATIONS.name: changed}, db.settings.market.tzinfo)
        result = load_registry(db, folder, actor=actor, rules=rules)
    with db.connect() as conn:
        audit.append(
            conn,
            actor=actor,
            action="registry.accept_constant",
            object=f"meter/{serial}",
            before={"kwh_per_pulse": str(proposal.registered)},
            after={
                "kwh_per_pulse": str(proposal.stated),
                "since": None if since is None else since.isoformat(),
                "session_id": proposal.session_id,
                "why": why,
            },
        )
    return proposal, result


def _changed(rows: Sequence[Row], stated: Fraction, since: dt.datetime | None) -> list[Row]:
    """The meter's timeline with its open installation corrected, or cut in two at `since`."""
    at = {name: place for place, name in enumerate(_INSTALLATIONS.names)}
    found: list[Row] = []
    for row in rows:
        if row[at["valid_to"]] is not None:
            found.append(row)
            continue
        corrected = list(row)
        corrected[at["pulse_energy_num"]] = str(stated.numerator)
        corrected[at["pulse_energy_den"]] = str(stated.denominator)
        if since is not None:
            border = since.astimezone(dt.UTC).isoformat(timespec="seconds")
            before = list(row)
            before[at["valid_to"]] = corrected[at["valid_from"]] = border
            found.append(tuple(before))
        found.append(tuple(corrected))
    return found
