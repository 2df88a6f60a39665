"""`smf decide`: a person's word on what `smf queue` lists, and on decisions that wait for a second person."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from derivation.scores.expected_errors import NOT_SCORED, expected_errors
from editing import decisions, proposals
from editing.decisions import Outcome
from editing.preview import Preview, preview
from editing.proposals import Proposal
from faults import OperatorFault
from pipelines.cli.output import AsOption, console, emit_json, faults_to_exit, login_name
from pipelines.cli.period import parse_day
from pipelines.cli.queue import clock
from storage.database import Database
from storage.review import decisions as stored
from storage.review.decisions import Decision, DecisionKind, DecisionState

app = typer.Typer(no_args_is_help=True, help="Decide about suspects, held readings, approvals; undo.")

Keys = Annotated[list[str], typer.Argument(help="Keys of smf queue: S12, H5 ...", metavar="KEY")]
DecisionArgument = Annotated[str, typer.Argument(help="The decision: D7.", metavar="DECISION")]
Why = Annotated[str, typer.Option("--why", help="The reason; it stands in the audit record.")]
OnlyShow = Annotated[bool, typer.Option("--preview", help="Show what it would change, and decide nothing.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]

SHOWN_CHANGES = 12


@app.command()
def accept(
    keys: Keys, why: Why = "", person: AsOption = None, only_show: OnlyShow = False, as_json: Json = False
) -> None:
    """Suspects are right: their values pass as measured."""
    with faults_to_exit(as_json), Database.open() as db:
        with db.connect() as conn:
            proposal = proposals.of_suspects(conn, DecisionKind.ACCEPT, _numbers(keys, "S"))
        make(db, proposal, why, person, only_show=only_show, as_json=as_json)


@app.command()
def reject(
    keys: Keys, why: Why = "", person: AsOption = None, only_show: OnlyShow = False, as_json: Json = False
) -> None:
    """Suspects (S) are wrong, or held readings (H) are never to be used: missing, and estimated."""
    with faults_to_exit(as_json), Database.open() as db:
        with db.connect() as conn:
            if keys[0].upper().startswith("H"):
                proposal = proposals.of_holds(conn, DecisionKind.DISCARD, _numbers(keys, "H"))
            else:
                proposal = proposals.of_suspects(conn, DecisionKind.REJECT, _numbers(keys, "S"))
        make(db, proposal, why, person, only_show=only_show, as_json=as_json)


@app.command()
def choose(
    key: Annotated[str, typer.Argument(help="Key of smf queue: Q17.", metavar="KEY")],
    take: Annotated[str, typer.Option(help="kept: the reading that is stored; refused: the other one.")],
    why: Why = "",
    person: AsOption = None,
    only_show: OnlyShow = False,
    as_json: Json = False,
) -> None:
    """Of two readings of the same intervals, say which one counts."""
    with faults_to_exit(as_json), Database.open() as db:
        with db.connect() as conn:
            proposal = proposals.of_conflict(conn, _numbers([key], "Q")[0], take)
        make(db, proposal, why, person, only_show=only_show, as_json=as_json)


@app.command()
def release(
    keys: Keys, why: Why = "", person: AsOption = None, only_show: OnlyShow = False, as_json: Json = False
) -> None:
    """Held readings are right as they are."""
    with faults_to_exit(as_json), Database.open() as db:
        with db.connect() as conn:
            proposal = proposals.of_holds(conn, DecisionKind.RELEASE, _numbers(keys, "H"))
        make(db, proposal, why, person, only_show=only_show, as_json=as_json)


@app.command()
def shift(
    keys: Keys,
    seconds: Annotated[int, typer.Option(help="Added to the times; positive where the meter was slow.")],
    why: Why = "",
    person: AsOption = None,
    only_show: OnlyShow = False,
    as_json: Json = False,
) -> None:
    """Held readings are right under other times."""
    with faults_to_exit(as_json), Database.open() as db:
        with db.connect() as conn:
            proposal = proposals.of_holds(conn, DecisionKind.SHIFT, _numbers(keys, "H"), seconds)
        make(db, proposal, why, person, only_show=only_show, as_json=as_json)


@app.command()
def approve(
    uc: Annotated[str, typer.Argument(help="Consumer unit code.", metavar="UC")],
    day: Annotated[str, typer.Argument(help="Civil day, YYYY-MM-DD.", metavar="DAY")],
    method: Annotated[str, typer.Option(help="The estimate's method, as smf trace and the queue name it.")],
    why: Why = "",
    person: AsOption = None,
    only_show: OnlyShow = False,
    as_json: Json = False,
) -> None:
    """Allow an estimate that needs a person's word."""
    with faults_to_exit(as_json), Database.open() as db:
        with db.connect() as conn:
            proposal = proposals.approve(conn, uc, parse_day(day, "DAY"), method)
        if not as_json:
            _tell_expected_error(db, proposal.uc_id, method)
        make(db, proposal, why, person, only_show=only_show, as_json=as_json)


def _tell_expected_error(db: Database, uc_id: int | None, method: str) -> None:
    """How far such an estimate is off, to whom is asked to allow it."""
    scored = None if uc_id is None else expected_errors(db, [uc_id])
    told = scored.of_method(uc_id, method) if scored and uc_id is not None else []
    words = [one.words for one in told] or [f"expected error of {method}: {NOT_SCORED}"]
    for line in words:
        console.print(line, highlight=False, soft_wrap=True)


@app.command()
def agree(decision: DecisionArgument, why: Why = "", person: AsOption = None, as_json: Json = False) -> None:
    """As the second person: the decision is put into force."""
    _answer(decisions.agree, decision, why, person, as_json)


@app.command()
def refuse(decision: DecisionArgument, why: Why = "", person: AsOption = None, as_json: Json = False) -> None:
    """As the second person: nothing is changed."""
    _answer(decisions.refuse, decision, why, person, as_json)


@app.command()
def undo(decision: DecisionArgument, why: Why = "", person: AsOption = None, as_json: Json = False) -> None:
    """Take a decision back: what it settled waits again."""
    _answer(decisions.undo, decision, why, person, as_json)


@app.command("list")
def list_decisions(
    uc: Annotated[str, typer.Option(help="Only this UC.")] = "",
    day: Annotated[str, typer.Option(help="Only this day, YYYY-MM-DD.")] = "",
    state: Annotated[str, typer.Option(help="waiting, in_force, refused, undone or lapsed.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    as_json: Json = False,
) -> None:
    """Decisions, the newest first."""
    with faults_to_exit(as_json), Database.open() as db, db.connect() as conn:
        uc_id = proposals.uc(conn, uc)[0] if uc else None
        rows = stored.listed(
            conn,
            states=[_state(state)] if state else [],
            uc_id=uc_id,
            day=parse_day(day) if day else None,
            limit=limit,
        )
    if as_json:
        emit_json([_document(row) for row in rows])
        return
    table = Table(box=None)
    for name in ("Decision", "State", "What", "UC", "Day", "From", "To", "By", "Second", "Reason"):
        table.add_column(name, no_wrap=name in ("Decision", "UC", "Day"), overflow="fold")
    for row in rows:
        end = None if row.last_slot is None else row.last_slot + 1
        table.add_row(
            f"D{row.id}", row.state, row.kind, row.uc_code or "", str(row.day or ""), clock(row.first_slot),
            clock(end), row.asked_by, row.answered_by or "", row.reason,
        )  # fmt: skip
    console.print(table)


@app.command()
def show(decision: DecisionArgument, as_json: Json = False) -> None:
    """One decision: who, why, and what the person was shown."""
    with faults_to_exit(as_json), Database.open() as db, db.connect() as conn:
        row = stored.one(conn, _numbers([decision], "D")[0])
    if as_json:
        emit_json(_document(row))
        return
    console.print(f"D{row.id} {row.kind}, {row.state}: {row.reason}", highlight=False)
    console.print(f"  asked by {row.asked_by} at {row.asked_at:%Y-%m-%d %H:%M %z}", highlight=False)
    for label, who, what in (
        ("answered", row.answered_by, row.answer),
        ("undone", row.undone_by, row.undo_reason),
    ):
        if who:
            console.print(f"  {label} by {who}: {what}", highlight=False)
    if row.second_why:
        console.print(f"  second person: {row.second_why}", highlight=False)
    for day in row.preview.get("days", ()):
        console.print(
            f"  UC {day['uc']} {day['day']}: {day['energy_before_kwh']} -> {day['energy_after_kwh']} kWh, "
            f"{len(day['changes'])} intervals, {day['delivery']}",
            highlight=False,
        )


def make(
    db: Database, proposal: Proposal, why: str, person: str | None, *, only_show: bool, as_json: bool
) -> None:
    """Show what a decision would change, or make it and derive its days; print what came of it."""
    now = datetime.now(UTC)
    if only_show:
        shown = preview(db, proposal, now)
        if as_json:
            emit_json(shown.document())
        else:
            show_preview(shown)
        return
    outcome = decisions.ask(db, proposal, by=person or login_name("--as"), why=why, at=now)
    decisions.derive_touched(db, outcome, datetime.now(UTC))
    tell(outcome, as_json)


def show_preview(shown: Preview) -> None:
    """Before and after, for people."""
    for day in shown.days:
        console.print(
            f"UC {day.uc_code} {day.day}: {day.energy_before_kwh:.3f} -> {day.energy_after_kwh:.3f} kWh, "
            f"{day.state_before} -> {day.state_after}; {day.sentence}",
            highlight=False,
        )
        if not day.changes:
            continue
        table = Table(box=None)
        for name in ("Interval ends", "Before kWh", "After kWh", "Before", "After"):
            table.add_column(name, justify="right" if "kWh" in name else "left")
        for one in day.changes[:SHOWN_CHANGES]:
            before, after = one.before_kwh, one.after_kwh
            table.add_row(
                clock(one.slot + 1),
                "missing" if before is None else f"{before:.3f}",
                "missing" if after is None else f"{after:.3f}",
                one.before_reason,
                one.after_reason,
            )
        console.print(table)
        if len(day.changes) > SHOWN_CHANGES:
            console.print(f"  and {len(day.changes) - SHOWN_CHANGES} more intervals (--json has all)")


def tell(outcome: Outcome, as_json: bool) -> None:
    """What became of a decision."""
    decision = outcome.decision
    if as_json:
        emit_json(_document(decision) | {"derived": [str(day) for _, day in outcome.touched]})
        return
    if outcome.preview is not None:
        show_preview(outcome.preview)
    if decision.state is DecisionState.WAITING:
        console.print(
            f"[yellow]D{decision.id} waits for a second person[/]: {decision.second_why}. "
            f"smf decide agree D{decision.id}",
            highlight=False,
        )
        return
    days = ", ".join(sorted({str(day) for _, day in outcome.touched})) or "nothing"
    console.print(f"D{decision.id} {decision.kind}: {decision.state}; derived again: {days}", highlight=False)


def _answer(act: Callable[..., Outcome], decision: str, why: str, person: str | None, as_json: bool) -> None:
    with faults_to_exit(as_json), Database.open() as db:
        number = _numbers([decision], "D")[0]
        outcome = act(db, number, by=person or login_name("--as"), why=why, at=datetime.now(UTC))
        decisions.derive_touched(db, outcome, datetime.now(UTC))
        tell(outcome, as_json)


def _numbers(keys: list[str], kind: str) -> list[int]:
    numbers = []
    for key in keys:
        if not (key[:1].upper() == kind and key[1:].isdigit()):
            raise OperatorFault(
                f"{key!r} is no {kind} key",
                where=key,
                remedy=f"write {kind} and its number, as smf queue shows it",
            )
        numbers.append(int(key[1:]))
    return numbers


def _state(text: str) -> DecisionState:
    try:
        return DecisionState(text)
    except ValueError as error:
        raise OperatorFault(
            f"no state {text!r}", where="--state", remedy=f"one of {', '.join(DecisionState)}"
        ) from error


def _document(row: Decision) -> dict[str, Any]:
    return {name: getattr(row, name) for name in Decision.__dataclass_fields__}
