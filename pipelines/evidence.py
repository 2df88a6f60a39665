"""Evidence over HTTP, read only: the pages that links of assets and checks lead to.

What belongs here: which pages have an address, stored ones and those that are made from the database when
they are asked for (a value's trace, how a day stands), and the small index of them. What does not: making
them (`derivation.expectations`, `closing`, `audit.pages`), Dagster's own pages (`pipelines.ui`).

Only GET, only files below the data folder's page folders and the manual, only for the host that the setting
names: whoever opens it from elsewhere needs a proxy with a login in front.
    python -m pipelines.evidence HOST PORT
"""

from __future__ import annotations

import html
import re
import sys
import threading
from collections.abc import Callable, Iterable
from datetime import date, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

import uvicorn
from markdown_it import MarkdownIt
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assets.links import CLOSING, DATA_DOCS, DAYS, MANUAL, SCORES, STANDING, TRACE
from audit.pages import day_page, interval_page
from audit.parts import parse_interval_end
from ccee.profile import DEFAULT_PROFILE, load_profile
from closing.standing import day_standing
from closing.standing_document import standing_document
from derivation import day_picture
from derivation.data_docs import STYLE
from derivation.scores import pictures as score_pictures
from documents import Language, to_html
from faults import Actor, DeveloperFault, Fault, OperatorFault
from faults.market_time import fixed_offset
from faults.shipped import shipped
from storage.database import Database
from storage.settings import Settings

# Pages bring nothing from elsewhere and run nothing.
_HEADERS = (
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_DAY_NAME = re.compile(r"\d{4}-\d\d-\d\d")
_PAGE_NAME = re.compile(r"[a-z0-9_]+")


def build_app(data_dir: Path, hosts: Iterable[str], open_database: Callable[[], Database]) -> Starlette:
    """The application.

    Args:
        data_dir: with the folders of pages and pictures; they need not be there yet.
        open_database: called once, when the first page needs it.
        hosts: names under which it may be asked for.
    """
    folders = {
        DATA_DOCS: data_dir / "data_docs",
        CLOSING: data_dir / "closing",
        DAYS: data_dir / day_picture.PICTURES,
        SCORES: data_dir / score_pictures.PICTURES,
    }

    async def index(request: Request) -> Response:
        return HTMLResponse(_index(folders))

    async def manual(request: Request) -> Response:
        return HTMLResponse(_manual(request.path_params["page"]))

    made = _Made(open_database)

    def trace(request: Request) -> Response:
        return made.answer(lambda db: made.trace(db, request.path_params["uc"], request.path_params["when"]))

    def standing(request: Request) -> Response:
        return made.answer(lambda db: made.standing(db, request.path_params["day"]))

    def search(request: Request) -> Response:
        uc, when = (request.query_params.get(name, "").strip() for name in ("uc", "quando"))
        return RedirectResponse(
            f"/{TRACE}/{quote(uc, safe='')}/{quote(when, safe='')}" if uc and when else "/"
        )

    mounts = [
        Mount(f"/{name}", StaticFiles(directory=folder, html=True, check_dir=False), name=name)
        for name, folder in folders.items()
    ]
    return Starlette(
        routes=[
            Route("/", index),
            Route(f"/{MANUAL}/{{page}}", manual),
            Route(f"/{TRACE}", search),
            Route(f"/{TRACE}/{{uc}}/{{when}}", trace),
            Route(f"/{STANDING}/{{day}}", standing),
            *mounts,
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=sorted({*hosts, "localhost", "127.0.0.1"})),
            Middleware(_Headers),
        ],
    )


class _Made:
    """Pages that are made when they are asked for."""

    def __init__(self, open_database: Callable[[], Database]) -> None:
        self._open_database = open_database
        self._lock = threading.Lock()
        self._db: Database | None = None

    def answer(self, make: Callable[[Database], str]) -> Response:
        """A page, or what is wrong with what was asked for, in words."""
        try:
            with self._lock:
                self._db = self._db or self._open_database()
            return HTMLResponse(make(self._db))
        except Fault as fault:
            status = 404 if fault.actor is Actor.OPERATOR else 503
            said = f"<p>{html.escape(str(fault))}</p><p>{html.escape(fault.remedy)}</p>"
            return HTMLResponse(_page("Não há o que mostrar", said), status)

    @staticmethod
    def trace(db: Database, uc_code: str, when: str) -> str:
        """The document of `smf trace UC INSTANTE|DIA --html`."""
        profile = load_profile(db.settings.ccee.profile_path or DEFAULT_PROFILE)
        zone, language = fixed_offset(db.settings.market.zone), Language.PORTUGUESE
        if len(when) == len("2026-11-20"):
            page = day_page(db, profile, uc_code, _day(when), language, zone)
        else:
            at = parse_interval_end(when, db.settings.market.zone)
            page = interval_page(db, profile, uc_code, at, language, zone)
        return to_html(page.document)

    @staticmethod
    def standing(db: Database, day: str) -> str:
        """The document of `smf status --day DIA --html`."""
        profile = load_profile(db.settings.ccee.profile_path or DEFAULT_PROFILE)
        now = datetime.now(db.settings.market.tzinfo)
        return to_html(standing_document(day_standing(db, _day(day), profile, now), Language.PORTUGUESE))


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise OperatorFault(
            f"{text!r} não é um dia", where="endereço", remedy="escreva AAAA-MM-DD"
        ) from error


class _Headers:
    """The same headers on each answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        await self._app(scope, receive, with_headers)


def _index(folders: dict[str, Path]) -> str:
    days = sorted((each.name for each in _entries(folders[DATA_DOCS]) if each.is_dir()), reverse=True)
    reports = sorted((each.name for each in _entries(folders[CLOSING]) if each.is_file()), reverse=True)
    return _page(
        "Evidências",
        "<p>Páginas do sistema, somente leitura.</p>"
        f'<h2>Rastro de um valor</h2><form action="/{TRACE}"><label>UC <input name="uc" required></label> '
        '<label>Dia, ou fim do intervalo <input name="quando" required placeholder="2026-11-20T10:05">'
        "</label> <button>Explicar</button></form>"
        "<h2>Auditoria por dia</h2>"
        + _list(
            [(f"/{DATA_DOCS}/{name}/index.html", name) for name in days],
            "Nenhum dia ainda: <code>smf run daily</code> faz o de ontem.",
        )
        + "<h2>Situação por dia</h2>"
        + _list(
            [(f"/{STANDING}/{name}", name) for name in days if _DAY_NAME.fullmatch(name)],
            "Nenhum dia ainda.",
        )
        + "<h2>Fechamentos</h2>"
        + _list(
            [(f"/{CLOSING}/{name}", name) for name in reports],
            "Nenhum ainda: <code>smf run closing --month AAAA-MM</code>.",
        )
        + "<h2>Manual</h2>"
        + _list([(f"/{MANUAL}/{name}", name) for name in _manual_pages()], "Não instalado aqui."),
    )


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _list(links: list[tuple[str, str]], empty: str) -> str:
    if not links:
        return f"<p>{empty}</p>"
    items = "".join(f'<li><a href="{html.escape(to)}">{html.escape(text)}</a></li>' for to, text in links)
    return f"<ul>{items}</ul>"


def _manual_pages() -> list[str]:
    try:
        folder = shipped("docs")
    except DeveloperFault:
        return []
    return sorted(page.stem for page in folder.glob("*.md") if _PAGE_NAME.fullmatch(page.stem))


def _manual(name: str) -> str:
    if name.removesuffix(".md") not in _manual_pages():
        raise HTTPException(404, "Essa página do manual não existe.")
    text = (shipped("docs") / f"{name.removesuffix('.md')}.md").read_text(encoding="utf-8")
    return _page(name, MarkdownIt("commonmark", {"html": False}).enable("table").render(text))


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="pt-BR"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)} · smf</title><style>{STYLE}</style></head>"
        f'<body><p><a href="/">Evidências</a></p><h1>{html.escape(title)}</h1>{body}</body></html>'
    )


def main(host: str, port: int) -> None:
    settings = Settings.load()
    name = urlsplit(settings.dagster.evidence_url).hostname or host
    app = build_app(settings.database.data_dir, [name], lambda: Database.open(settings))
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
