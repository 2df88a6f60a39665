"""`smf status`: how a day stands: what was read, estimated, delivered; of the rest why, who acts, by when."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from documents import Language
from pipelines.cli.language import LangOption
from pipelines.cli.output import EXIT_ATTENTION, console, emit_json, faults_to_exit
from pipelines.cli.period import AsOfOption, parse_day, parse_moment

if TYPE_CHECKING:
    from closing.standing import DayStanding
    from storage.database import Database

app = typer.Typer(help="How a day stands, and who must act.", add_completion=False)

# UCs of each cause on a screen; files, CSV and JSON have all.
MOST_SHOWN = 12


@app.command()
def status(
    day: Annotated[
        str, typer.Option("--day", help="Day, YYYY-MM-DD; default the last that is over.", metavar="DAY")
    ] = "",
    agent: Annotated[int | None, typer.Option(help="Only the UCs of the agent with this code.")] = None,
    as_of: AsOfOption = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="Every UC as CSV.")] = False,
    xlsx: Annotated[
        Path | None, typer.Option(help="Write all tables into this sheet (.xlsx).", dir_okay=False)
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write all tables into this page (.html).", dir_okay=False)
    ] = None,
    lang: LangOption = Language.ENGLISH,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what of a day was read, estimated and delivered; of what was not: why, who acts, and by when.

    Exit code 1: something that is due has not reached CCEE.
    """
    with faults_to_exit(as_json):
        from pipelines.cli.document import tell_written, write_csv, write_file
        from storage.database import Database
        from storage.settings import Settings

        settings = Settings.load()
        moment = parse_moment(as_of, settings) or datetime.now(UTC)
        wanted = parse_day(day) if day else None
        with Database.open(settings) as db:
            standing = standing_of(db, wanted, moment, agent)
        from closing.standing_document import every_uc_table, standing_document

        document = standing_document(standing, lang)
        if as_json:
            emit_json(standing_json(standing))
        elif as_csv:
            write_csv(every_uc_table(standing, lang, with_causes=True))
        elif not (xlsx or html):
            show_standing(standing, lang)
        for file in (xlsx, html):
            if file is not None:
                write_file(document, file)
        if not (as_json or as_csv):
            tell_written(xlsx, html)
    if standing.waiting:
        raise typer.Exit(EXIT_ATTENTION)


def standing_of(db: Database, day: Any, moment: datetime, agent: int | None = None) -> DayStanding:
    """The standing of a day; of the last one that is over at `moment` where none is named."""
    from ccee.profile import DEFAULT_PROFILE, load_profile
    from closing.standing import day_standing

    profile = load_profile(db.settings.ccee.profile_path or DEFAULT_PROFILE)
    zone = db.settings.market.tzinfo
    day = day or moment.astimezone(zone).date() - timedelta(days=1)
    return day_standing(db, day, profile, moment.astimezone(zone), agent_code=agent)


def show_standing(standing: DayStanding, lang: Language) -> None:
    """In the terminal: the figures, then what CCEE does not have, cause by cause. Files have every UC."""
    from dataclasses import replace

    from closing.standing_document import group_words, standing_document
    from pipelines.cli.document import show_document

    show_document(replace(standing_document(standing, lang), sections=()))
    for ucs in (standing.waiting, standing.not_expected):
        for _, group in groupby(ucs, key=lambda uc: (uc.cause, uc.act_by)):
            alike = list(group)
            head, remedy, lines, more = group_words(alike, MOST_SHOWN, lang)
            console.print(f"\n[bold]{escape(head)}[/]", highlight=False)
            console.print(
                f"  {escape(remedy)}", highlight=False, style="yellow" if alike[0].is_due else "dim"
            )
            for line in lines:
                console.print(f"  {escape(line)}", highlight=False)
            if more:
                console.print(f"  {more}", highlight=False)


def standing_json(standing: DayStanding) -> dict[str, Any]:
    """For programs: everything, with the words of both languages beside each cause."""
    document = asdict(standing)
    for row, uc in zip(document["ucs"], standing.ucs, strict=True):
        for lang in Language:
            row[f"cause_{lang}"], row[f"who_acts_{lang}"], row[f"remedy_{lang}"] = uc.words(lang)
    return {
        **document,
        "due": standing.due,
        "delivered": standing.delivered,
        "energy_kwh": standing.energy_kwh,
        "zeroed_kwh": standing.zeroed_kwh,
        "intervals": standing.intervals,
        "waiting": [uc.uc_code for uc in standing.waiting],
        "last_delivery": standing.last_delivery,
    }
