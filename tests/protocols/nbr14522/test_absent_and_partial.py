"""What a meter does not have is absent, and one odd entry does not cost a whole list."""

from __future__ import annotations

import orjson
import pytest
from typer.testing import CliRunner

from pipelines.cli.decode.app import app as decode_app
from pipelines.cli.read.app import app as read_app
from protocols.nbr14522.frames import Addressing, wrap_command
from protocols.nbr14522.messages import Instantaneous, decode_response, request_for
from protocols.nbr14522.messages.writes import DisplayCodesShown


@pytest.mark.case("D9")
def test_the_good_codes_of_a_list_stay_and_the_odd_one_is_named():
    octets = bytes.fromhex("79 14522001 01 0304 1A 0608 2433").ljust(256, b"\0")
    shown = decode_response(octets)
    assert isinstance(shown, DisplayCodesShown)
    assert shown.codes == (3, 4, 6, 8, 24, 33)
    assert [(problem.name, problem.reason) for problem in shown.problems] == [("codes", "not decimal: 1A")]


@pytest.mark.case("D11")
def test_what_14_fills_with_ones_is_absent():
    page = decode_response(bytes.fromhex("14 14522001").ljust(256, b"\xff"))
    assert isinstance(page, Instantaneous)
    assert (page.connection_type, page.meter_version, page.conversion_indicator) == (None, None, None)
    assert (page.position, page.load_kinds, page.voltage_a_v) == (None, None, None)
    assert page.encode("14522001")[:256] == page.octets[:256]


def test_a_decoded_command_says_whom_it_is_addressed_to():
    plain = request_for(0x14).encode("000001")
    for addressing, address in ((Addressing.P8, "55000052"), (Addressing.P2, "01")):
        wire = wrap_command(plain, addressing, meter_serial="55000052", address=1)
        result = CliRunner().invoke(decode_app, ["nbr14522-command", "--hex", wire.hex(), "--json"])
        assert result.exit_code == 0, result.output
        (record,) = [orjson.loads(line) for line in result.output.splitlines() if line.startswith("{")]
        assert record["address"] == address


def test_a_reading_says_why_it_does_not_send_a_command():
    for code, words in (("20", "resets the demand"), ("29", "Alteração da data"), ("XY", "no such command")):
        result = CliRunner().invoke(read_app, ["nbr14522", "tcp://127.0.0.1:9", "--commands", code])
        assert result.exit_code == 11
        assert words in " ".join(result.output.split())
