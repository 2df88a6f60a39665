"""The manuals' pictures: made from a demonstration of a fixed day, and known to be stale when the pages
change.

python -m tests.screenshots            make them anew: docs/imagens/*.png
python -m tests.screenshots --check    say whether what they show has changed since
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "imagens"
RECORD = FOLDER / "capturas.json"
DAY = date(2026, 11, 20)
UC = "000120000602834"
WIDTH, HEIGHT = 1440, 1000
# Name -> server, path, and what must be on the page before it is taken.
SHOTS = {
    "dagster_inicio": ("dagster", "/overview/activity/timeline", "daily_job"),
    "dagster_linhagem": ("dagster", "/assets/series_ccee?view=lineage", "ccee_submissions"),
    "dagster_serie": ("dagster", "/assets/series_ccee?view=overview", "quem age"),
    "dagster_entrega": ("dagster", "/assets/ccee_submissions?view=overview", "not_delivered"),
    "evidencia_rastro": ("evidence", f"/rastro/{UC}/{DAY}T10:05", "SHA-256"),
    "evidencia_situacao": ("evidence", f"/situacao/{DAY}", "Quem age"),
}


def fingerprint() -> str:
    """Of what the pictures show: assets and jobs by their words, and the pages' style."""
    import dagster as dg

    from pipelines.definitions import build_defs

    defs = build_defs()
    graph = defs.resolve_asset_graph()
    shown = {
        "dagster": dg.__version__,
        "assets": sorted(
            [key.to_user_string(), node.group_name, node.description or "", sorted(node.kinds)]
            for key in graph.get_all_asset_keys()
            for node in [graph.get(key)]
        ),
        "jobs": sorted(
            [job.name, job.description or ""] for job in defs.resolve_all_job_defs() if job.name[0] != "_"
        ),
        "pages": [
            hashlib.sha256((ROOT / path).read_bytes()).hexdigest()
            for path in ("documents/page.css", "documents/html.py", "closing/standing_document.py")
        ],
        "shots": SHOTS,
    }
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()


def stale() -> list[str]:
    """What is wrong with the pictures that are there; nothing where they show the pages of today."""
    if not RECORD.is_file():
        return ["docs/imagens/capturas.json is missing"]
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    wrong = [
        f"docs/imagens/{name}.png is missing" for name in SHOTS if not (FOLDER / f"{name}.png").is_file()
    ]
    if record["shown"] != fingerprint():
        wrong.append("the pages have changed since the pictures were made")
    return wrong


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def make() -> None:
    from pipelines.demo.job import DemoOptions, run_demo
    from storage.database import Database
    from storage.settings import Settings
    from tests.browser import chromium, free_port, interface

    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        with _environment(SMF_DATA_DIR=folder, SMF_DAGSTER_EVIDENCE_URL=address):
            run_demo(DemoOptions(points=24, day=DAY), print, lambda step: None)
            with (
                Database.open(Settings.load()) as db,
                chromium() as browser,
                interface(db, Path(folder), port) as servers,
            ):
                page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, locale="pt-BR")
                page.set_default_timeout(120_000)
                for name, (server, path, text) in SHOTS.items():
                    page.goto(getattr(servers, server) + path)
                    page.get_by_text(text).first.wait_for()
                    page.wait_for_timeout(3_000)  # graphs and pictures settle
                    seen = page.get_by_text(text).first
                    seen.evaluate("element => element.scrollIntoView({block: 'center'})")
                    page.wait_for_timeout(500)
                    (FOLDER / f"{name}.png").write_bytes(_small(page.screenshot()))
                    print(f"docs/imagens/{name}.png")
    RECORD.write_text(
        json.dumps({"day": str(DAY), "shown": fingerprint()}, indent=2) + "\n", encoding="utf-8"
    )


def _small(picture: bytes) -> bytes:
    """The same picture with 256 colours: a third of the octets."""
    from PIL import Image

    small = BytesIO()
    Image.open(BytesIO(picture)).convert("RGB").quantize(256).save(small, "PNG", optimize=True)
    return small.getvalue()


if __name__ == "__main__":
    if "--check" in sys.argv:
        found = stale()
        for line in found:
            print(f"screenshots: {line}; make screenshots makes them anew")
        sys.exit(bool(found))
    make()
