"""Scripts against a meter that is a dictionary: the order of commands, and what old meters make of it."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest

from collector.nbr14522.sequences import Answered, fixed, script_for
from collector.work.planning import Goal, SequenceName, day_spans
from faults import OperatorFault
from protocols.nbr14522.messages import (
    CurrentRegistersRequest,
    NotImplementedAnswer,
    OccurrenceAnswer,
    Registers,
)
from protocols.nbr14522.profiles import DEFAULT, OLD_3CH
from tests.collector.nbr14522.exchanges import SERIAL, parameters

YESTERDAY = tuple(day_spans(date(2026, 11, 20), 300, None, datetime(2026, 11, 22)))


def answered(response):
    return Answered(response.encode(SERIAL)[:-2])


def run(script, absent=(), **changes):
    """The codes that a script sends, a meter answering as `parameters(**changes)` says."""
    sent = []
    answer = None
    try:
        while True:
            request = script.send(answer)
            code = request.CODE
            sent.append(f"{code:02X}")
            if code in absent:
                answer = answered(NotImplementedAnswer(refused_code=code))
            elif code in (0x21, 0x22, 0x51):
                answer = answered(parameters(code, **changes))
            elif code in (0x26, 0x27, 0x52):
                answer = Answered(None, 5)
            else:
                answer = answered(Registers(code=code))
    except StopIteration:
        return " ".join(sent)


def goal(sequence=SequenceName.MISSING, **changes):
    return Goal(sequence, **{"spans": YESTERDAY, **changes})


@pytest.mark.req("TR-5.12a")
@pytest.mark.parametrize(
    ("sequence", "commands"),
    [
        (SequenceName.VERIFICATION, "21 80 23 25 28 26"),
        (SequenceName.RECOVERY, "22 80 24 25 28 27"),
        (SequenceName.WHOLE, "51 80 52"),
    ],
)
def test_the_standard_sequences(sequence, commands):
    assert run(script_for(goal(sequence), DEFAULT)) == commands


@pytest.mark.req("TR-5.7c", "TR-5.12a")
@pytest.mark.parametrize(
    ("sequence", "commands"),
    [
        (SequenceName.VERIFICATION, "21 80 23 25 28 26 21 23 26 21 23 26 21 23 26"),
        (SequenceName.RECOVERY, "22 80 24 25 28 27 22 24 27 22 24 27 22 24 27"),
        (SequenceName.WHOLE, "51 80 52 51 52 51 52 51 52"),
        (SequenceName.MISSING, "21 80 23 25 28 26 21 26 21 26 21 26"),
    ],
)
def test_all_channel_groups_up_to_twelve_channels(sequence, commands):
    assert run(script_for(goal(sequence), DEFAULT), group_count=4) == commands
    assert run(script_for(goal(sequence), DEFAULT), group_count=7) == commands


@pytest.mark.req("TR-5.7c")
def test_a_quarter_hourly_session_reads_the_first_group_only():
    assert run(script_for(goal(with_records=False), DEFAULT), group_count=4) == "21 26"


@pytest.mark.req("TR-5.5a")
class TestMissing:
    def test_a_long_period_is_read_by_days(self):
        long = {"last_reset": datetime(2026, 11, 1), "words_current": 3 * (20 * 288 + 36)}
        assert run(script_for(goal(), DEFAULT), **long) == "21 80 23 25 28 51 52"

    def test_a_short_period_is_read_as_it_is(self):
        assert run(script_for(goal(), DEFAULT)) == "21 80 23 25 28 26"

    def test_without_records_only_the_memory_is_read(self):
        assert run(script_for(goal(with_records=False), DEFAULT)) == "21 26"

    def test_before_the_reset_the_previous_period_is_read(self):
        spans = tuple(day_spans(date(2026, 11, 19), 300, None, datetime(2026, 11, 22)))
        assert run(script_for(goal(spans=spans), OLD_3CH), has_command_80=False) == "21 23 25 28 22 24 27"

    def test_nothing_missing_in_reach_reads_no_memory(self):
        spans = tuple(day_spans(date(2026, 11, 20), 300, None, datetime(2026, 11, 22)))
        later = tuple(
            type(span)(span.first_end + timedelta(days=9), span.last_end + timedelta(days=9))
            for span in spans
        )
        assert run(script_for(goal(spans=later), DEFAULT)) == "21 80 23 25 28"

    def test_a_meter_never_reset_is_read_from_its_beginning(self):
        born = {"last_reset": None, "previous_reset": None, "words_previous": 0}
        assert run(script_for(goal(), OLD_3CH), **born).endswith("26")


@pytest.mark.req("TR-5.6b")
class TestOldMeters:
    def test_a_39_to_51_falls_back_to_the_current_period_in_the_same_session(self):
        long = {"last_reset": datetime(2026, 11, 1), "words_current": 3 * (20 * 288 + 36)}
        assert run(script_for(goal(), DEFAULT), {0x51, 0x80}, **long) == "21 80 23 25 28 51 26"

    def test_what_is_known_to_be_absent_is_not_asked(self):
        long = {"last_reset": datetime(2026, 11, 1), "words_current": 3 * (20 * 288 + 36)}
        known = goal(absent=frozenset({0x51, 0x80}))
        assert run(script_for(known, DEFAULT), {0x51, 0x80}, **long) == "21 23 25 28 26"

    def test_whole_memory_becomes_both_periods(self):
        assert run(script_for(goal(SequenceName.WHOLE), DEFAULT), {0x51, 0x80}) == (
            "51 22 80 24 25 28 27 21 23 25 28 26"
        )


def test_a_meter_without_parameters_cannot_be_read():
    with pytest.raises(OperatorFault, match="39"):
        run(script_for(goal(), DEFAULT), {0x21})


def test_an_occurrence_instead_of_memory_needs_a_person():
    script = script_for(goal(with_records=False), DEFAULT)
    next(script)
    script.send(answered(parameters()))
    with pytest.raises(OperatorFault, match="occurrence 43"):
        script.send(answered(OccurrenceAnswer(occurrence=0x43)))


def test_named_commands_are_sent_as_they_are():
    assert run(fixed([CurrentRegistersRequest(), CurrentRegistersRequest()])) == "23 23"
