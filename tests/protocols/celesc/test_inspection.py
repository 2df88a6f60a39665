"""Each rule of the annex, broken one at a time, and the verdict on a lot (celesc_serial.md 2, 3, 7)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from faults import OperatorFault
from protocols.captures import Capture, Chunk
from protocols.celesc import encode_packet
from protocols.celesc.catalogue import meter_named
from protocols.celesc.inspection import MeterVerdict, Remark, Rule, Status, judge_meter
from protocols.celesc.sampling import LotStatus, example_plan, judge_lot, load_plan

pytestmark = pytest.mark.req("CE-A-test")

NUMBER = "0123456789"
MODEL = meter_named("27182")
CODES = ((0x0A, 0x02), (0x0A, 0x07), (0x0A, 0x0C))


def packet(code: tuple[int, int] = CODES[0], data: str = "013579", number: str = NUMBER) -> bytes:
    return encode_packet(number, *code, bytes.fromhex(data))


def line(
    packets: list[bytes],
    *,
    nominal: int = 2400,
    true_rate: float | None = None,
    inside_bits: float = 0.0,
    between_bits: float = 400.0,
    pause_s: float = 0.0,
    facts: dict[str, str] | None = None,
) -> Capture:
    """Octets one by one, stamped by an analyser."""
    bit_s = 1 / (true_rate or nominal)
    chunks, now = [], 0.0
    for octets in packets:
        for place, octet in enumerate(octets):
            now += bit_s * (10 + (inside_bits if place else 0.0))
            chunks.append(Chunk(now, bytes([octet])))
        now += bit_s * between_bits + pause_s
    return Capture(
        tuple(chunks),
        {"rate_bit_s": str(nominal), "resolution_s": "0.00001", "meter": NUMBER} | (facts or {}),
    )


GOOD = [packet(code) for code in CODES] * 10


def rule(verdict: MeterVerdict, name: Rule) -> Status:
    return next(finding.status for finding in verdict.findings if finding.rule is name)


def failing(capture: Capture, model: str = "27182") -> set[Rule]:
    verdict = judge_meter(capture, meter_named(model))
    return {finding.rule for finding in verdict.findings if finding.status is Status.FAIL}


def test_a_good_meter_passes_every_rule() -> None:
    verdict = judge_meter(line(GOOD), MODEL)
    assert {finding.rule for finding in verdict.findings} == set(Rule)
    assert verdict.status is Status.PASS
    assert verdict.meter_number == NUMBER
    assert verdict.registers == {"0A02": 13579, "0A07": 13579, "0A0C": 13579}


@pytest.mark.parametrize("nominal", [300, 600, 1200, 1800, 2400, 4800])
def test_rate_within_three_percent_at_every_admitted_rate(nominal: int) -> None:
    for factor, status in (
        (1.029, Status.PASS),
        (0.971, Status.PASS),
        (1.035, Status.FAIL),
        # Short legal pauses between octets look like a slow rate.
        (0.965, Status.INCONCLUSIVE),
    ):
        verdict = judge_meter(line(GOOD, nominal=nominal, true_rate=nominal * factor), MODEL)
        assert rule(verdict, Rule.RATE) is status, factor


def test_a_rate_that_is_not_admitted_fails() -> None:
    assert Rule.RATE in failing(line(GOOD, nominal=9600))


def test_stamps_too_coarse_are_inconclusive_never_passed() -> None:
    verdict = judge_meter(line(GOOD, facts={"resolution_s": "0.05"}), MODEL)
    assert rule(verdict, Rule.RATE) is Status.INCONCLUSIVE
    assert rule(verdict, Rule.GAP_INSIDE) is Status.INCONCLUSIVE
    assert verdict.status is Status.INCONCLUSIVE


@pytest.mark.parametrize(
    ("measured", "status"),
    [
        ("2460", Status.PASS),
        ("2480", Status.FAIL),
        ("2320", Status.FAIL),
        # At most 3 %: the limit itself is within.
        ("2472", Status.PASS),
        ("2328", Status.PASS),
        ("2472.1", Status.FAIL),
        ("2327.9", Status.FAIL),
    ],
)
def test_an_instrument_decides_the_rate(measured: str, status: Status) -> None:
    capture = line(GOOD, facts={"resolution_s": "0.05", "measured_rate_bit_s": measured})
    assert rule(judge_meter(capture, MODEL), Rule.RATE) is status


@pytest.mark.parametrize(("bits", "is_failing"), [(0, False), (49, False), (52, True), (1300, True)])
def test_gap_inside_a_packet(bits: float, is_failing: bool) -> None:
    assert (Rule.GAP_INSIDE in failing(line(GOOD, inside_bits=bits))) is is_failing


@pytest.mark.parametrize(("bits", "is_failing"), [(202, False), (198, True), (0, True)])
def test_gap_between_packets(bits: float, is_failing: bool) -> None:
    assert (Rule.GAP_BETWEEN in failing(line(GOOD, between_bits=bits))) is is_failing


def merged(capture: Capture, count: int) -> Capture:
    """As an adapter hands on octets: so many at once, stamped with the arrival of the first."""
    chunks = capture.chunks
    groups = [chunks[place : place + count] for place in range(0, len(chunks), count)]
    together = tuple(Chunk(group[0].at_s, b"".join(one.octets for one in group)) for group in groups)
    return Capture(together, capture.facts)


@pytest.mark.parametrize("count", [2, 4, 7, 15, 30])
def test_octets_that_came_together_pass_no_rule_about_their_pauses(count: int) -> None:
    """A USB adapter's milliseconds are fine, and still tell nothing of what came in one piece."""
    capture = merged(line(GOOD, inside_bits=60.0, between_bits=100.0, facts={"resolution_s": "0.001"}), count)
    verdict = judge_meter(capture, MODEL)
    assert rule(verdict, Rule.GAP_INSIDE) is not Status.PASS
    assert rule(verdict, Rule.GAP_BETWEEN) is not Status.PASS
    # What keeps the annex fails no rule for it, either.
    kept = judge_meter(merged(line(GOOD, facts={"resolution_s": "0.001"}), count), MODEL)
    assert rule(kept, Rule.GAP_INSIDE) is Status.INCONCLUSIVE
    assert rule(kept, Rule.GAP_BETWEEN) is Status.INCONCLUSIVE
    # Nor is the rate told by when an adapter handed octets on.
    assert rule(kept, Rule.RATE) is Status.INCONCLUSIVE


@pytest.mark.parametrize(("pause_s", "is_failing"), [(1.4, False), (1.7, True)])
def test_each_mandatory_packet_every_five_seconds(pause_s: float, is_failing: bool) -> None:
    assert (Rule.PERIOD in failing(line(GOOD, pause_s=pause_s))) is is_failing


def test_a_packet_that_stops_coming_breaks_its_period() -> None:
    capture = line([*GOOD, *[packet(CODES[0]), packet(CODES[1])] * 30])
    assert failing(capture) == {Rule.PERIOD}


def test_too_short_a_recording_is_inconclusive() -> None:
    verdict = judge_meter(line(GOOD[:3]), MODEL)
    assert verdict.status is Status.INCONCLUSIVE
    assert rule(verdict, Rule.PERIOD) is Status.INCONCLUSIVE


def test_packets_of_the_model() -> None:
    only_active = [packet()] * 30
    assert failing(line(only_active)) == {Rule.PACKETS}
    assert failing(line(only_active), "27184") == set()
    # A meter without reactive registers does not send them.
    assert failing(line(GOOD), "27184") == {Rule.PACKETS}
    # What the documents leave open is told and fails nothing.
    verdict = judge_meter(line(only_active), meter_named("36291"))
    assert verdict.status is Status.PASS
    told = next(finding.remarks for finding in verdict.findings if finding.rule is Rule.PACKETS)
    assert told == ((Remark.PACKET_EXPECTED, "0A07"), (Remark.PACKET_EXPECTED, "0A0C"))


def test_number() -> None:
    assert failing(line(GOOD, facts={"meter": "0123456780"})) == {Rule.NUMBER}
    assert Rule.NUMBER in failing(line([*GOOD, packet(number="0000000001")]))
    assert Rule.NUMBER in failing(line([*GOOD, packet(number="0A00000001"), *GOOD]))
    assert not failing(line(GOOD, facts={"meter": "123456789"}))


def test_data_is_six_bcd_digits() -> None:
    assert failing(line([*GOOD, packet(data="01357A")])) == {Rule.BCD}
    assert failing(line([*GOOD, packet(data="0000013579")])) == {Rule.BCD}
    assert failing(line([*GOOD, packet(data="FFFFFF")])) == {Rule.BCD}


def test_crc() -> None:
    bad = bytearray(packet())
    bad[11] ^= 1
    assert failing(line([*GOOD, bytes(bad), *GOOD])) == {Rule.CRC}
    # What is cut at the ends of a recording is nobody's fault.
    assert not failing(line([packet()[4:], *GOOD, packet()[:9]]))


def test_silence_fails_after_five_seconds() -> None:
    silent = Capture((Chunk(0.0, b"\x00"), Chunk(6.0, b"\x00")))
    assert judge_meter(silent, MODEL).status is Status.FAIL
    assert judge_meter(Capture((Chunk(0.0, b"\x00"),)), MODEL).status is Status.INCONCLUSIVE


def verdicts(passed: int, failed: int) -> list[MeterVerdict]:
    good, bad = judge_meter(line(GOOD), MODEL), judge_meter(line([packet()] * 20), MODEL)
    found = [good] * passed + [bad] * failed
    return [replace(one, meter_number=f"{n:010d}", plate=f"{n:010d}") for n, one in enumerate(found)]


@pytest.mark.parametrize(
    ("size", "passed", "failed", "status"),
    [
        (3000, 122, 3, LotStatus.ACCEPTED),
        (3000, 121, 4, LotStatus.REJECTED),
        (3000, 100, 0, LotStatus.INCOMPLETE),
        (3000, 0, 4, LotStatus.REJECTED),
        (8, 8, 0, LotStatus.ACCEPTED),
        (8, 7, 1, LotStatus.REJECTED),
    ],
)
def test_lots(size: int, passed: int, failed: int, status: LotStatus) -> None:
    verdict = judge_lot("L1", size, example_plan(), verdicts(passed, failed))
    assert verdict.status is status
    assert verdict.plan.is_example


def test_a_meter_recorded_again_counts_once() -> None:
    twice = [replace(one, meter_number="0000000001", plate="") for one in verdicts(1, 1)]
    found = judge_lot("L1", 8, example_plan(), twice)
    assert (found.inspected, found.failed, found.repeats) == (1, 1, ("0000000001",))


def test_meters_sending_one_wrong_number_are_counted_by_their_plates() -> None:
    wrong = [
        judge_meter(line(GOOD, facts={"meter": plate}), MODEL) for plate in ("1", "2", "0000000002", " 3 ")
    ]
    found = judge_lot("L1", 3000, example_plan(), wrong)
    assert (found.inspected, found.failed, found.repeats) == (3, 3, ("0000000002",))


def test_undecided_meters_keep_a_lot_open_as_long_as_they_could_reject_it() -> None:
    def judged(passed: int, failed: int, undecided: int) -> LotStatus:
        found = verdicts(passed + undecided, failed)
        short = judge_meter(line(GOOD[:3]), MODEL)
        for place in range(undecided):
            found[place] = replace(short, plate=found[place].plate)
        return judge_lot("L1", 3000, example_plan(), found).status

    # Of 125, up to 3 may fail.
    assert judged(125, 0, 3) is LotStatus.ACCEPTED
    assert judged(125, 0, 4) is LotStatus.INCOMPLETE
    assert judged(124, 1, 2) is LotStatus.ACCEPTED
    assert judged(124, 1, 3) is LotStatus.INCOMPLETE
    assert judged(122, 3, 1) is LotStatus.INCOMPLETE


HEAD = 'name="a"\nname_pt="a"\nsource="a"\nsource_pt="a"\nis_example=false\n'
ROW = "lot_from = 1, lot_to = 9, sample = 3, accept = 0, reject = 1"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEAD + f"rows = [{{ {ROW} }}, {{ {ROW} }}]", r"rows\[2\]: lots of 1 to 9: sizes rise"),
        (HEAD + f"rows = [{{ {ROW.replace('accept = 0', 'accept = -1')} }}]", r"rows\[1\].*accept \+ 1"),
        (HEAD + "rows = [{ lot_from=1, lot_to=9, sample=3, accept=-1, reject=0 }]", r"rows\[1\].*at least 0"),
        (HEAD + "rows = [{ lot_from=1, lot_to=9, sample=3, accept=3, reject=4 }]", "below the sample"),
        (HEAD + f"rows = [{{ {ROW.replace('3', '3.5')} }}]", r"rows\[1\].sample: 3.5 is not a whole number"),
        (
            HEAD + f"rows = [{{ {ROW.replace('3', 'true')} }}]",
            r"rows\[1\].sample: True is not a whole number",
        ),
        (HEAD + f"rows = [{{ {ROW}, amostra = 3 }}]", r"rows\[1\].amostra: unknown key"),
        (HEAD + "rows = [3]", r"rows\[1\]: must be a table"),
        (HEAD + "rows = []", "rows: is empty"),
        (HEAD, "rows: missing"),
        (
            HEAD.replace("false", '"false"') + f"rows = [{{ {ROW} }}]",
            "is_example: 'false' is not true or false",
        ),
        (HEAD.replace('name="a"', "name=1") + f"rows = [{{ {ROW} }}]", "name: 1 is not a text"),
        ("rows = [", "not TOML"),
    ],
)
def test_a_plan_that_a_person_got_wrong_is_refused_and_told_where(text: str, told: str) -> None:
    with pytest.raises(OperatorFault, match=told) as caught:
        load_plan(text, "plan.toml")
    assert caught.value.where.startswith("plan.toml")


def test_a_plan_that_contradicts_itself_is_refused() -> None:
    head = 'name="a"\nname_pt="a"\nsource="a"\nsource_pt="a"\nis_example=false\n'
    for rows in (
        "rows = [{ lot_from = 1, lot_to = 9, sample = 3, accept = 0, reject = 2 }]",
        "rows = [{ lot_from = 9, lot_to = 1, sample = 3, accept = 0, reject = 1 }]",
        "rows = [{ lot_from = 1, lot_to = 9, sample = 3, accept = 0 }]",
        "",
    ):
        with pytest.raises(OperatorFault):
            load_plan(head + rows, "plan")
