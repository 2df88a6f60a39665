"""Password sessions (13 and 11) before protected commands, with meters that refuse without one."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from collector.drain import drain
from collector.nbr14522.passwords import find_passwords
from faults import OperatorFault
from protocols.nbr14522.messages import SessionOpened
from protocols.nbr14522.profile import DEFAULT, GENERIC, P8_GENERIC, PasswordAnswer
from protocols.nbr14522.sending.passwords import is_open
from simulator.nbr14522.passwords import Guard, PasswordRules
from simulator.wires.faultplan import FaultPlan
from tests.collector.commands.case import FULL, POLICY, carry_out, one_meter, request, status
from tests.collector.world import NOW, assert_day_is_exact, collect, meter, query, quick, register, served

WRITE, READ = "escrita001", "leitura001"
TRANSFORM = "landis-commercial-sha256"
GUARDED = frozenset({"20", "30", "31", "79"})
RULES = PasswordRules(WRITE, READ, protected=frozenset({0x20, 0x30, 0x31, 0x79}))


def profile(base, commands=GUARDED, **changes):
    changes = {"commands": base.commands | {0x11, 0x13}, **changes}
    changes = {"password_transform": TRANSFORM, "password_commands": frozenset(commands), **changes}
    return replace(base, name=f"guarded-{base.name}", **changes)


@pytest.fixture
def ready(embedded_db, tmp_path, monkeypatch):
    """A collector's database whose passwords file stands in the test's folder, and the profiles used here."""
    monkeypatch.setitem(GENERIC, FULL.name, FULL)
    for base in (FULL, P8_GENERIC, DEFAULT):
        monkeypatch.setitem(GENERIC, f"guarded-{base.name}", profile(base))
    (tmp_path / "policy.toml").write_text(POLICY)
    path = tmp_path / "passwords.toml"
    write_passwords(path, WRITE)
    return quick(embedded_db, command_policy_path=tmp_path / "policy.toml", meter_passwords_path=path)


def write_passwords(path, write, read=READ, since=None):
    told = "" if since is None else f"since = {since.isoformat()}\n"
    path.write_text(f'[meters.10000001]\nwrite = "{write}"\nread = "{read}"\nuser = 7\n{told}')


def sent(db):
    """Command codes in the order in which they went out."""
    rows = query(db, "SELECT get_byte(payload, 0) FROM frame WHERE direction = '>' ORDER BY session_id, seq")
    return [f"{row[0]:02X}" for row in rows]


@pytest.mark.req("TR-5.7b")
@pytest.mark.parametrize(
    ("command", "values"),
    [("31", {"interval_min": 30}), ("20", {}), ("30", {"clock": "now"})],
    ids=["write", "reset", "clock"],
)
def test_a_session_is_opened_before_a_protected_write(ready, command, values):
    told = carry_out(ready, command, values, profile=profile(FULL), passwords=RULES)
    assert told["verdict"] == "confirmed", told
    order = sent(ready)
    assert order.count("11") == order.count("13") == 1
    assert order[order.index("11") + 1] == command, "nothing stands between the session and the write"


@pytest.mark.req("TR-5.7b")
def test_without_its_profile_saying_so_the_meter_refuses(ready):
    told = carry_out(ready, "31", {"interval_min": 30}, profile=FULL, passwords=RULES)
    assert (told["verdict"], told["detail"]["occurrence"]) == ("refused", "43")
    assert "password_commands" in told["error"]["remedy"]
    assert "11" not in sent(ready)


@pytest.mark.req("TR-5.7b")
@pytest.mark.parametrize("base", [DEFAULT, P8_GENERIC], ids=["point-to-point", "addressed"])
def test_a_session_is_opened_before_protected_reads(ready, monkeypatch, base):
    """The read password is enough, and the whole day comes."""
    reading = profile(base, {"26", "27", "52"})
    monkeypatch.setitem(GENERIC, reading.name, reading)
    rules = PasswordRules(WRITE, READ, protected_reads=frozenset({0x26, 0x27, 0x52}))
    station = meter(profile=reading, passwords=rules)

    async def work():
        async with served(station) as servers:
            ids = register(ready, servers)
            (summary,) = (await collect(ready)).values()
            assert (summary.state, summary.attempts) == ("done", 1), summary
            return ids

    ids = asyncio.run(work())
    assert_day_is_exact(ready, ids["10000001"], station)


@pytest.mark.req("TR-5.7b")
def test_a_wrong_password_is_never_tried_again_until_another_is_entered(ready, tmp_path):
    """A meter that locks at the second wrong one: refused once, then not asked, then opened."""
    path = tmp_path / "passwords.toml"
    write_passwords(path, "errado0001")
    rules = replace(RULES, tries=2)

    async def ask(meter_id, at):
        request_id = request(ready, meter_id, "31", {"interval_min": 30})
        await drain(ready, [request_id], lambda: at, deadline_s=60)
        return status(ready, request_id)

    async def work():
        async with one_meter(ready, profile=profile(FULL), passwords=rules) as (server, meter_id):
            first = await ask(meter_id, NOW)
            assert (first["state"], first["attempts"], first["error"]["actor"]) == ("failed", 1, "operator")
            assert first["error"]["where"] == "command 11"
            for _ in range(3):
                again = await ask(meter_id, NOW)
                assert again["error"]["where"] == "password", again
                assert again["attempts"] == 1
            assert sent(ready).count("11") == 1
            assert not server.station.meter.is_locked
            write_passwords(path, WRITE, since=NOW + timedelta(minutes=1))
            return await ask(meter_id, NOW + timedelta(minutes=2))

    told = asyncio.run(work())
    assert told["verdict"] == "confirmed", told
    assert sent(ready).count("11") == 2


@pytest.mark.req("TR-5.7b")
def test_a_lost_answer_to_the_token_is_tried_once_more_and_then_left(ready):
    """The meter hangs up instead of answering to 11, as one that counts wrong tokens may."""
    plan = FaultPlan(drop_first=9, drop_at_block=3, drop_after_octets=0)
    station = meter(profile=profile(FULL), passwords=RULES, plan=plan)

    async def work():
        async with served(station) as servers:
            (meter_id,) = register(ready, servers).values()
            request_id = request(ready, meter_id, "31", {"interval_min": 30})
            await drain(ready, [request_id], lambda: NOW, deadline_s=60)
            return status(ready, request_id)

    told = asyncio.run(work())
    assert (told["state"], told["error"]["actor"]) == ("failed", "operator"), told
    assert sent(ready).count("11") == 2


@pytest.mark.req("TR-5.7b")
def test_nothing_is_written_to_another_meter_than_the_registry_names(ready):
    async def work():
        station = meter("10000002", profile=FULL)
        async with served(station) as (server,):
            (meter_id,) = register(ready, [server]).values()
            with ready.connect() as conn:
                conn.execute("UPDATE meter SET serial = '10000001' WHERE id = %s", [meter_id])
            request_id = request(ready, meter_id, "79", {"is_shown": True, "codes": [3]})
            await drain(ready, [request_id], lambda: NOW, deadline_s=60)
            return status(ready, request_id)

    told = asyncio.run(work())
    assert (told["state"], told["error"]["actor"]) == ("failed", "operator")
    assert "V10" in told["error"]["message"]
    assert sent(ready) == ["28"], "a read tells who answers; 79 is not sent"


@pytest.mark.req("TR-5.7b")
def test_a_transform_that_is_not_public_is_said_and_nothing_is_sent(ready, monkeypatch):
    for name in ("abnt", "star-hmac-sha256", "none"):
        monkeypatch.setitem(GENERIC, "guarded-full", profile(FULL, password_transform=name))
        told = carry_out(ready, "31", {"interval_min": 30}, profile=profile(FULL), passwords=RULES)
        assert told["state"] == "failed"
        assert "no token can be made" in told["error"]["message"]
        with ready.connect() as conn:
            conn.execute("DELETE FROM installation")
            conn.execute("UPDATE meter SET serial = serial || 'x'")
            conn.execute("UPDATE point SET code = code || 'x'")
            conn.execute("UPDATE uc SET code = code || 'x'")
            conn.execute("UPDATE unit SET code = code || 'x'")
    assert "11" not in sent(ready)


@pytest.mark.req("TR-5.7b")
def test_no_secret_is_kept_anywhere(ready):
    tokens = []
    opened = Guard.open

    def spy(self, request):
        tokens.extend([request.write_token, request.read_token])
        return opened(self, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Guard, "open", spy)
        told = carry_out(ready, "31", {"interval_min": 30}, profile=profile(FULL), passwords=RULES)
    assert told["verdict"] == "confirmed"
    secret = next(token for token in tokens if any(token))
    dump = query(
        ready,
        "SELECT string_agg(encode(payload, 'hex'), ' ') FROM frame UNION ALL "
        "SELECT string_agg(command_execution::text, ' ') FROM command_execution UNION ALL "
        "SELECT string_agg(session::text, ' ') FROM session UNION ALL "
        "SELECT string_agg(audit::text, ' ') FROM audit UNION ALL "
        "SELECT string_agg(quarantine::text, ' ') FROM quarantine",
    )
    kept = " ".join(text for (text,) in dump if text).lower()
    for octets in (secret, WRITE.encode(), READ.encode()):
        assert octets.hex() not in kept
    assert WRITE not in kept


class TestTheFile:
    def test_a_meter_comes_before_its_profile(self, tmp_path):
        path = tmp_path / "p.toml"
        path.write_text(
            f'[profiles.default]\nwrite = "{READ}"\n[meters.10000001]\nwrite_hex = "00112233445566778899"\n'
        )
        own = find_passwords(path, "10000001", "default")
        assert own.write == bytes.fromhex("00112233445566778899")
        assert find_passwords(path, "10000002", "default").write == READ.encode()
        assert "0011" not in repr(own)
        assert "17" not in repr(own), "nor as octets"

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ('[meters.10000001]\nwrite = "segredo"', "10 ASCII characters"),
            ('[meters.10000001]\nwrite = "segredo123"\nwrite_hex = "00112233445566778899"', "10 ASCII"),
            ('[meters.10000001]\npassword = "segredo123"', "unknown key 'password'"),
            ('[meters.10000001]\nwrite = "segredo123"\nsince = 2026-11-20T10:00:00', "offset"),
            ('[meters.10000001]\nwrite = "segredo123"\nuser = 100', "two digits"),
            ('[meters.10000002]\nwrite = "segredo123"', "no password for meter 10000001"),
            ('[others.10000001]\nwrite = "segredo123"', "unknown section"),
            ('[meters.10000001]\nwrite = "segredo123', "not TOML"),
        ],
    )
    def test_what_is_wrong_is_said_without_quoting_it(self, tmp_path, text, words):
        path = tmp_path / "p.toml"
        path.write_text(text)
        with pytest.raises(OperatorFault, match=words) as caught:
            find_passwords(path, "10000001", "default")
        assert "segredo" not in str(caught.value) + caught.value.where + caught.value.remedy

    def test_without_a_file_the_setting_is_named(self):
        with pytest.raises(OperatorFault) as caught:
            find_passwords(None, "10000001", "default")
        assert "collector.meter_passwords_path" in caught.value.remedy


@pytest.mark.parametrize(
    ("kind", "octets", "is_write", "good"),
    [
        (PasswordAnswer.PER_PASSWORD, (0, 4), True, True),
        (PasswordAnswer.PER_PASSWORD, (4, 0), True, False),
        (PasswordAnswer.PER_PASSWORD, (4, 0), False, True),
        (PasswordAnswer.STATUS, (1, 0), True, True),
        (PasswordAnswer.STATUS, (1, 1), False, True),
        (PasswordAnswer.STATUS, (0, 0), True, False),
        (PasswordAnswer.STATUS, (1, 4), True, False),
    ],
)
def test_what_the_answer_to_11_means(kind, octets, is_write, good):
    opened = SessionOpened(code=0x11, write_result=octets[0], read_result=octets[1])
    assert is_open(kind, opened, is_write=is_write) is good
