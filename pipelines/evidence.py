"""Evidence over HTTP, read only: the pages that links of assets and checks lead to.

What belongs here: which stored pages have an address, and the small index of them. What does not: making them
(`derivation.expectations`, `closing.report`), Dagster's own pages (`pipelines.ui`).

Only GET, only files below the data folder's page folders and the manual, only for the host that the setting
names: whoever opens it from elsewhere needs a proxy with a login in front.
    python -m pipelines.evidence HOST PORT
"""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from markdown_it import MarkdownIt
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assets.links import CLOSING, DATA_DOCS, DAYS, MANUAL, SCORES
from derivation import day_picture
from derivation.data_docs import STYLE
from derivation.scores import pictures as score_pictures
from faults import DeveloperFault
from faults.shipped import shipped
from storage.settings import Settings

# Pages bring nothing from elsewhere and run nothing.
_HEADERS = (
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_PAGE_NAME = re.compile(r"[a-z0-9_]+")


def build_app(data_dir: Path, hosts: Iterable[str]) -> Starlette:
    """The application.

    Args:
        data_dir: with the folders of pages and pictures; they need not be there yet.
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

    mounts = [
        Mount(f"/{name}", StaticFiles(directory=folder, html=True, check_dir=False), name=name)
        for name, folder in folders.items()
    ]
    return Starlette(
        routes=[Route("/", index), Route(f"/{MANUAL}/{{page}}", manual), *mounts],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=sorted({*hosts, "localhost", "127.0.0.1"})),
            Middleware(_Headers),
        ],
    )


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
        "<p>Páginas guardadas pelo sistema, somente leitura. O rastro de um valor: "
        "<code>smf trace UC INSTANTE</code>.</p>"
        "<h2>Auditoria por dia</h2>"
        + _list(
            [(f"/{DATA_DOCS}/{name}/index.html", name) for name in days],
            "Nenhum dia ainda: <code>smf run daily</code> faz o de ontem.",
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
    app = build_app(settings.database.data_dir, [name])
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
