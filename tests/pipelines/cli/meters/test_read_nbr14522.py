"""`smf read nbr14522` at a meter of which no registry knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import free_port
from tests.docs.pages import beside
from tests.pipelines.cli.command import smf


@pytest.mark.case("D12", "D13")
def test_without_a_registry_nothing_is_said_of_one(tmp_path: Path) -> None:
    port = free_port()
    with beside(["simulate", "nbr14522", "--port", str(port), "--serial", "10000001"], tmp_path):
        url = f"tcp://127.0.0.1:{port}"
        read = smf("read", "nbr14522", url, "--commands", "21,80", url=None, cwd=tmp_path)
        refused = smf("read", "nbr14522", url, "--commands", "20", url=None, cwd=tmp_path)
    assert read.returncode == 0, read.stderr
    assert "10000001" in read.stdout
    assert not [word for word in ("V10", "registry names", "registered") if word in read.stdout + read.stderr]
    assert refused.returncode != 0
    assert "it resets the demand" in refused.stderr
