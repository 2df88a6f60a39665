"""Layer 1: pulses of the installed meters -> primary energy in kWh, exact.

Energy of an interval = pulses x energy per pulse (x TP x TC where the constant does not include them). The
meter is the one installed for the whole interval, so a swap in mid-day works by slots: the interval that the
swap cuts belongs to neither meter and is missing, and so are those between a meter's removal and the next
one's installation. Judging values is validation's work; a negative count
passes through here as it was read.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from faults.market_time import MARKET_ZONE
from vee.calendars import ONE_DAY, day_start, slots_per_day
from vee.frames import (
    DEFAULT_INTERVAL_S,
    I64,
    INT64_MAX,
    QUARANTINE_SCHEMA,
    U8,
    Mask,
    SeriesMatrix,
    as_fraction,
    clear_row,
    empty_series,
    in_order,
    max_abs,
    to_frame,
)
from vee.quality import Origin, Reason

_FOREVER_S = 10**12
_KEY = ["uc_id", "day"]
_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True)
class PrimaryParams:
    """Settings of layer 1.

    Attributes:
        zone, interval_s: the market's day and interval; fixed -03:00 and 5 minutes (TR 5.6).
        active_quantity_codes: NBR 14522 channel quantities that are active energy, direct.
        split_origin: what a longer interval split in equal parts counts as. Whether CCEE takes it as
            measured is unknown, so ESTIMATED (sent as AJUSTADO) is the default [C].
    """

    zone: str = MARKET_ZONE
    interval_s: int = DEFAULT_INTERVAL_S
    active_quantity_codes: tuple[int, ...] = (1,)
    split_origin: Origin = Origin.ESTIMATED


@dataclass(frozen=True)
class PrimaryResult:
    """Series of the main and of the backup meters (with `input_version Int32`), and what was set aside.

    `main` has one row per wanted UC-day; `backup` only those where a backup meter is installed.
    """

    main: pl.DataFrame
    backup: pl.DataFrame
    quarantined: pl.DataFrame


def energy_factor(
    pulse_energy_num: int, pulse_energy_den: int, tp_ratio: object, tc_ratio: object, includes_ratios: bool
) -> Fraction:
    """kWh per pulse at primary level."""
    factor = Fraction(pulse_energy_num, pulse_energy_den)
    return factor if includes_ratios else factor * as_fraction(tp_ratio) * as_fraction(tc_ratio)


def from_pulses(
    readings: pl.DataFrame,
    installations: pl.DataFrame,
    uc_days: pl.DataFrame,
    params: PrimaryParams | None = None,
    recovery_sessions: Collection[int] = (),
) -> PrimaryResult:
    """Primary series of the wanted UC-days.

    Args:
        readings: `meter_id, channel, day, version, quantity_code, interval_s, pulses List(Int32)` (null =
            missing); of several versions the latest counts. With `recovery_sessions` also `source_starts,
            source_sessions`.
        installations: `uc_id, meter_id, role ('main' | 'backup'), valid_from, valid_to (aware datetimes,
            null = open), active_channel, pulse_energy_num, pulse_energy_den, tp_ratio, tc_ratio (int,
            Decimal or text), constant_includes_ratios`. With `gap_until` (aware, null = none), one also
            says when the next one at its place begins; it may have ended earlier and be there for that.
        uc_days: `uc_id, day`, the UC-days wanted, each once.
        recovery_sessions: sessions that recovered mass memory late; their slots say LATE_RECOVERED (E1).
    """
    params = params or PrimaryParams()
    latest = readings.sort("version").unique(["meter_id", "channel", "day"], keep="last", maintain_order=True)
    factors = _with_factors(installations)
    mains: list[pl.DataFrame] = []
    backups: list[pl.DataFrame] = []
    bad = [pl.DataFrame(schema=QUARANTINE_SCHEMA)]
    for day in uc_days["day"].unique().sort().to_list():
        wanted = uc_days.filter(pl.col("day") == day)["uc_id"]
        of_day = latest.filter(pl.col("day") == day)
        for role, results in (("main", mains), ("backup", backups)):
            work = _Day(day, wanted, role, params, recovery_sessions)
            work.fill(of_day, factors.filter(pl.col("role") == role))
            results.append(work.frame())
            bad.append(work.quarantined())
    schema_only = empty_series().with_columns(input_version=pl.lit(0, pl.Int32))
    return PrimaryResult(
        main=in_order(uc_days, mains, schema_only),
        backup=pl.concat([schema_only, *backups]),
        quarantined=pl.concat(bad),
    )


def _with_factors(installations: pl.DataFrame) -> pl.DataFrame:
    """Add `factor_num, factor_den` (null where they do not fit 64 bits)."""
    key = ["pulse_energy_num", "pulse_energy_den", "tp_ratio", "tc_ratio", "constant_includes_ratios"]
    # The registry's interval is what the meter should have; what counts is what its memory was read with.
    frame = installations.drop("interval_s", strict=False).with_columns(
        pl.col("tp_ratio", "tc_ratio").cast(pl.String)
    )
    # Few distinct constants serve many meters: the exact product is made once for each.
    distinct = frame.select(key).unique()
    factors = [energy_factor(*row) for row in distinct.iter_rows()]
    fits = [factor.numerator <= INT64_MAX and factor.denominator <= INT64_MAX for factor in factors]
    distinct = distinct.with_columns(
        pl.Series(
            "factor_num",
            [f.numerator if ok else None for f, ok in zip(factors, fits, strict=True)],
            dtype=pl.Int64,
        ),
        pl.Series(
            "factor_den",
            [f.denominator if ok else None for f, ok in zip(factors, fits, strict=True)],
            dtype=pl.Int64,
        ),
    )
    return frame.join(distinct, on=key, how="left", maintain_order="left")


@dataclass
class _Piece:
    """Some installations' contribution to a day, all with readings of one interval length (or none).

    Arrays are (m,) or (m, slots); `inside` and `touched` say where the meter was installed for the whole of
    a slot, or for part of it.
    """

    row: I64
    denominator: I64
    numerators: I64
    known: Mask
    inside: Mask
    touched: Mask
    version: I64
    wrong_channel: Mask
    late: Mask
    is_split: bool

    def reason(self, measured: Reason) -> U8:
        split = Reason.SPLIT_INTERVAL if self.is_split else measured
        late = split if self.is_split else Reason.LATE_RECOVERED
        code = np.where(self.late, np.uint8(late), np.uint8(split))
        absent = np.where(self.wrong_channel, Reason.WRONG_CHANNEL, Reason.NOT_RECEIVED).astype(np.uint8)
        return np.where(self.known, code, absent[:, None])


def _widen(matrix: npt.NDArray[_T], ratio: int) -> npt.NDArray[_T]:
    """Each column `ratio` times: an interval of the meter over the slots it covers."""
    return matrix if ratio == 1 else np.repeat(matrix, ratio, axis=1)


class _Day:
    """One day of one role: a matrix that pieces are laid into."""

    def __init__(
        self,
        day: date,
        wanted: pl.Series,
        role: str,
        params: PrimaryParams,
        recovery_sessions: Collection[int],
    ) -> None:
        self.params = params
        self.day = day
        self.is_backup = role == "backup"
        self.recovery = list(recovery_sessions)
        self.start = day_start(day, params.zone)
        self.end = day_start(day + ONE_DAY, params.zone)
        self.slots = slots_per_day(day, params.zone, params.interval_s)
        n = len(wanted)
        self.rows = pl.DataFrame({"uc_id": wanted, "row": np.arange(n)})
        self.matrix = SeriesMatrix(
            uc_id=wanted.to_numpy().astype(np.int64),
            day=np.full(n, np.datetime64(day, "D")),
            denominator=np.ones(n, np.int64),
            numerators=np.zeros((n, self.slots), np.int64),
            known=np.zeros((n, self.slots), np.bool_),
            origin=np.zeros((n, self.slots), np.uint8),
            reason=np.full((n, self.slots), Reason.NO_INSTALLATION, np.uint8),
        )
        self.version = np.zeros(n, np.int32)
        self.installed = np.zeros(n, np.bool_)
        self.bad: dict[int, tuple[str, str]] = {}

    def fill(self, readings: pl.DataFrame, installations: pl.DataFrame) -> None:
        overlapping = installations.filter(
            pl.col("valid_from").is_null() | (pl.col("valid_from") < self.end),
            pl.col("valid_to").is_null() | (pl.col("valid_to") > self.start),
        )
        self._mark_gaps(installations)
        joined = (
            self.rows.join(overlapping, on="uc_id", how="inner")
            .join(
                readings.drop("day"),
                left_on=["meter_id", "active_channel"],
                right_on=["meter_id", "channel"],
                how="left",
                suffix="_reading",
            )
            .sort("row", "valid_from")
            .with_columns(turn=pl.int_range(pl.len()).over("row"))
        )
        for group in joined.partition_by("turn", "interval_s", maintain_order=True):
            length = group["interval_s"][0]
            piece = self._piece(group, int(length) if length is not None else None)
            if group["turn"][0] == 0:
                self._lay(piece)
            else:
                self._merge(piece)

    def _mark_gaps(self, installations: pl.DataFrame) -> None:
        """Where one meter was taken away and the next one was not there yet: missing, like any gap."""
        if self.is_backup or "gap_until" not in installations.columns:
            return
        gaps = installations.filter(
            pl.col("gap_until") > pl.col("valid_to"),
            pl.col("valid_to") < self.end,
            pl.col("gap_until") > self.start,
        )
        for row, begin, until in (
            self.rows.join(gaps, on="uc_id", how="inner").select("row", "valid_to", "gap_until").iter_rows()
        ):
            length = (self.end - self.start) / self.slots
            first = max((begin - self.start) // length, 0)
            last = min(-((self.start - until) // length), self.slots)
            self.matrix.reason[row, first:last] = Reason.METER_SWAP

    def _piece(self, group: pl.DataFrame, interval_s: int | None) -> _Piece:
        target_s = self.params.interval_s
        ratio = 1 if interval_s is None else interval_s // target_s
        usable = interval_s is not None and interval_s % target_s == 0 and self.slots % ratio == 0
        m, coarse = group.height, self.slots // ratio if usable else self.slots
        ratio = ratio if usable else 1
        pulses, known = np.zeros((m, coarse), np.int64), np.zeros((m, coarse), np.bool_)
        if interval_s is not None:
            lengths = group["pulses"].list.len().to_numpy()
            right = (lengths == coarse) & usable
            rows = group["row"].to_numpy()
            for row, length in zip(rows[~right], lengths[~right], strict=True):
                self._set_aside(int(row), "decode", f"{length} intervals of {interval_s} s in {self.day}")
            flat = group.filter(pl.Series(right))["pulses"].explode(empty_as_null=True)
            if len(flat):
                pulses[right] = flat.fill_null(0).to_numpy().reshape(-1, coarse)
                known[right] = flat.is_not_null().to_numpy().reshape(-1, coarse)
        wrong = (
            ~group["quantity_code"]
            .fill_null(self.params.active_quantity_codes[0])
            .is_in(list(self.params.active_quantity_codes))
            .to_numpy()
        )
        known &= ~wrong[:, None]
        inside, touched = self._validity(group, coarse)
        known &= inside
        numerators, denominator = self._scale(group, np.where(known, pulses, 0), ratio)
        return _Piece(
            row=group["row"].to_numpy(),
            denominator=denominator,
            numerators=_widen(numerators, ratio),
            known=_widen(known, ratio),
            inside=_widen(inside, ratio),
            touched=_widen(touched, ratio),
            version=group["version"].fill_null(0).to_numpy().astype(np.int64),
            wrong_channel=wrong,
            late=_widen(self._late(group, coarse), ratio),
            is_split=ratio > 1,
        )

    def _validity(self, group: pl.DataFrame, slots: int) -> tuple[Mask, Mask]:
        """Where the meter was installed for a whole slot, and where for a part."""
        begin = self._offset_s(group["valid_from"], -_FOREVER_S)
        until = self._offset_s(group["valid_to"], _FOREVER_S)
        day_s = (self.end - self.start) / timedelta(seconds=1)
        if (begin <= 0).all() and (until >= day_s).all():
            # Nearly every day: nobody installed or removed a meter.
            everywhere = np.broadcast_to(np.True_, (group.height, slots))
            return everywhere, everywhere
        length_s = day_s / slots
        starts = np.arange(slots) * length_s
        ends = starts + length_s
        inside = (starts >= begin[:, None]) & (ends <= until[:, None])
        touched = (ends > begin[:, None]) & (starts < until[:, None])
        return inside, touched

    def _offset_s(self, instant: pl.Series, open_s: int) -> npt.NDArray[np.float64]:
        """Seconds from the start of the day; `open_s` where the validity has no bound."""
        offset = (instant - self.start).dt.total_microseconds() / 1e6
        return offset.fill_null(float(open_s)).to_numpy().astype(np.float64)

    def _scale(self, group: pl.DataFrame, pulses: I64, ratio: int) -> tuple[I64, I64]:
        """pulses x factor / ratio with one denominator per row; rows that do not fit are set aside."""
        num = group["factor_num"].fill_null(1).to_numpy()
        den = group["factor_den"].fill_null(1).to_numpy()
        shared = np.gcd(num, ratio)
        num, parts = num // shared, ratio // shared
        too_big = (max_abs(pulses) > INT64_MAX // num) | (den > INT64_MAX // parts)
        too_big |= group["factor_num"].is_null().to_numpy()
        for row in group["row"].to_numpy()[too_big]:
            self._set_aside(int(row), "arithmetic", "primary energy does not fit 64 bits")
        num = np.where(too_big, 0, num)
        return pulses * num[:, None], np.where(too_big, 1, den * np.where(too_big, 1, parts))

    def _late(self, group: pl.DataFrame, slots: int) -> Mask:
        if not self.recovery or "source_sessions" not in group.columns:
            return np.broadcast_to(np.False_, (group.height, slots))
        late = np.zeros((group.height, slots), np.bool_)
        touched = (
            group["source_sessions"].list.eval(pl.element().is_in(self.recovery)).list.any().fill_null(False)
        )
        for i in np.flatnonzero(touched.to_numpy()):
            starts = [*group["source_starts"][int(i)].to_list(), slots]
            for k, session in enumerate(group["source_sessions"][int(i)].to_list()):
                late[i, starts[k] : starts[k + 1]] = session in self.recovery
        return late

    def _lay(self, piece: _Piece) -> None:
        """First installation of each UC on this day: the matrix is still empty there."""
        at = piece.row
        self.matrix.denominator[at] = piece.denominator
        self.matrix.numerators[at] = piece.numerators
        self.matrix.known[at] = piece.known
        self._mark(piece)

    def _merge(self, piece: _Piece) -> None:
        """Another meter of the same UC and day: bring both to one denominator."""
        for i, row in enumerate(piece.row.tolist()):
            here, there = int(self.matrix.denominator[row]), int(piece.denominator[i])
            common = math.lcm(here, there)
            biggest = max(
                int(max_abs(self.matrix.numerators[row : row + 1])[0]) * (common // here),
                int(max_abs(piece.numerators[i : i + 1])[0]) * (common // there),
                common,
            )
            if biggest > INT64_MAX:
                self._set_aside(row, "arithmetic", "the meters' constants have no common 64-bit denominator")
                continue
            add = piece.known[i]
            self.matrix.numerators[row] *= common // here
            self.matrix.numerators[row, add] = piece.numerators[i, add] * (common // there)
            self.matrix.known[row] |= add
            self.matrix.denominator[row] = common
        self._mark(piece)

    def _mark(self, piece: _Piece) -> None:
        """Origins and reasons of the slots the piece covers."""
        at = piece.row
        measured = Reason.BACKUP_METER if self.is_backup else Reason.MEASURED_OK
        full = Origin.BACKUP if self.is_backup else Origin.MEASURED
        if piece.is_split and not self.is_backup:
            full = self.params.split_origin
        reason, origin = (
            piece.reason(measured),
            np.where(piece.known, np.uint8(full), np.uint8(Origin.MISSING)),
        )
        if not piece.inside.all():
            before = self.matrix.reason[at]
            cut = piece.touched & (before == Reason.NO_INSTALLATION)
            reason = np.where(piece.inside, reason, np.where(cut, np.uint8(Reason.METER_SWAP), before))
            origin = np.where(piece.inside, origin, self.matrix.origin[at])
        self.matrix.reason[at], self.matrix.origin[at] = reason, origin
        self.version[at] = np.maximum(self.version[at], piece.version)
        self.installed[at] = True

    def _set_aside(self, row: int, stage: str, reason: str) -> None:
        self.bad[row] = (stage, reason)

    def frame(self) -> pl.DataFrame:
        for row, (stage, _) in self.bad.items():
            if stage == "arithmetic":
                clear_row(self.matrix, row)
        frame = to_frame(self.matrix).with_columns(input_version=pl.Series(self.version, dtype=pl.Int32))
        return frame.filter(pl.Series(self.installed)) if self.is_backup else frame

    def quarantined(self) -> pl.DataFrame:
        who = "backup" if self.is_backup else "main"
        return pl.DataFrame(
            [
                (int(self.matrix.uc_id[row]), self.day, stage, f"{who} meter: {reason}", "{}")
                for row, (stage, reason) in sorted(self.bad.items())
            ],
            schema=QUARANTINE_SCHEMA,
            orient="row",
        )
