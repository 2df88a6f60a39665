"""What tells people: the registry observed, and runs that failed, over a real mail server and webhook."""

from __future__ import annotations

import datetime as dt
import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import dagster as dg
import pytest

from assets.partitions import Partitions
from assets.resources import CceeAccess, Clock, Metering
from faults import OperatorFault, RetryFault
from pipelines.definitions import build_defs
from sensors import failures, registry
from sensors.switch import Switch
from storage import audit
from storage.database import Database
from tests.dagster_strict import strict_dagster
from tests.derivation.world import NOW, add_points

pytestmark = strict_dagster(pytest.mark.req("TR-2g"))


class Mailbox(socketserver.ThreadingTCPServer):
    """A mail server as small as RFC 5321 lets it be; it keeps what it took."""

    allow_reuse_address, daemon_threads = True, True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), MailConversation)
        self.messages: list[str] = []


class MailConversation(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"220 test\r\n")
        while line := self.rfile.readline():
            if line.upper().startswith(b"DATA"):
                self.wfile.write(b"354 go on\r\n")
                lines = iter(self.rfile.readline, b".\r\n")
                self.server.messages.append(b"".join(lines).decode())
            self.wfile.write(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 ok\r\n")


class Hook(BaseHTTPRequestHandler):
    got: list[dict[str, str]]

    def do_POST(self) -> None:
        self.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def hook() -> Iterator[ThreadingHTTPServer]:
    handler = type("Hook", (Hook,), {"got": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def failed_run(instance: dg.DagsterInstance) -> dg.RunFailureSensorContext:
    @dg.op
    def breaks() -> None:
        raise OperatorFault(
            "2 UC-days are ready and were not sent", where="agent 90", remedy="set the secret"
        )

    @dg.job(tags={"smf/day": "2026-11-20"})
    def delivery_job() -> None:
        breaks()

    result = delivery_job.execute_in_process(instance=instance, raise_on_error=False)
    return dg.build_run_status_sensor_context(
        sensor_name=failures.NAME,
        dagster_event=result.get_run_failure_event(),
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        partition_key=None,
    ).for_run_failure()


def test_a_failed_run_is_told_once_with_cause_and_remedy_over_each_way(
    embedded_db: Database,
    mailbox: Mailbox,
    hook: ThreadingHTTPServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SMF_NOTIFICATIONS_SMTP_HOST", "127.0.0.1")
    monkeypatch.setenv("SMF_NOTIFICATIONS_SMTP_PORT", str(mailbox.server_address[1]))
    monkeypatch.setenv("SMF_NOTIFICATIONS_MAIL_TO", "plantao@example.org")
    monkeypatch.setenv("SMF_NOTIFICATIONS_WEBHOOK_URL", f"http://127.0.0.1:{hook.server_port}/x")
    sensor = failures.build(Switch())
    metering = Metering(url=embedded_db.url, data_dir=str(embedded_db.data_dir))

    with dg.DagsterInstance.ephemeral() as instance:
        sensor(failed_run(instance), metering=metering)

    with embedded_db.connect() as conn:
        ((kind, subject, body),) = conn.execute("SELECT kind, subject, body FROM notification").fetchall()
    assert (kind, subject) == ("execucao_falhou", "Execução falhou: delivery_job de 2026-11-20")
    assert "agent 90: 2 UC-days are ready and were not sent (set the secret)" in body
    (told,) = hook.RequestHandlerClass.got
    assert told == {"subject": subject, "text": body}
    (mail,) = mailbox.messages
    assert "To: plantao@example.org" in mail


def test_a_silent_webhook_is_tried_again_and_its_address_is_not_told(
    embedded_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMF_NOTIFICATIONS_WEBHOOK_URL", "http://127.0.0.1:9/secret-token")
    metering = Metering(url=embedded_db.url, data_dir=str(embedded_db.data_dir))

    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(RetryFault) as told:
        failures.build(Switch())(failed_run(instance), metering=metering)

    assert "secret-token" not in str(told.value)
    with embedded_db.connect() as conn:
        assert conn.execute("SELECT count(*) FROM notification").fetchone() == (0,), "it is told later"


def test_the_registry_is_observed_after_each_change(embedded_db: Database) -> None:
    definitions = build_defs(partitions=Partitions(dt.date(2026, 1, 1)))

    def tick(cursor: str | None) -> dg.SensorExecutionData:
        resources = {
            "metering": Metering(url=embedded_db.url, data_dir=str(embedded_db.data_dir)),
            "clock": Clock(at=NOW.isoformat()),
            "ccee": CceeAccess(),
        }
        with dg.build_sensor_context(
            cursor=cursor, repository_def=definitions.get_repository_def(), resources=resources
        ) as context:
            return definitions.resolve_sensor_def(registry.NAME).evaluate_tick(context)

    with embedded_db.connect() as conn:
        add_points(conn, 2)
    first = tick(None)
    (seen,) = first.asset_events
    assert seen.asset_key == dg.AssetKey("registry")
    assert seen.metadata["ucs_submitted"].value == 2
    assert "| uc | 2 |" in seen.metadata["rows"].value
    assert seen.metadata["findings_blocks"].value + seen.metadata["findings_attention"].value > 0
    assert tick(first.cursor).asset_events == []
    with embedded_db.connect() as conn:
        audit.append(conn, actor="ana", action="registry.import", object="registry/uc", after=[])
    (seen,) = tick(first.cursor).asset_events
    assert seen.metadata["changed_by"].value == "ana"
