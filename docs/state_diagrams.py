"""State tables of the NBR 14522 link as Mermaid diagrams and tables, from the rows that the link runs on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import StrEnum

from protocols.nbr14522.link import addressed_tables, serial_tables
from protocols.nbr14522.link.tables import Branch, Row

Rows = Mapping[tuple[StrEnum, StrEnum], Row[StrEnum, StrEnum]]
Translate = Callable[[str], str]

_EXCHANGE = "troca em curso"

# Each table, its first state, and the states that one exchange runs through. Each table has enums of its own,
# and a mapping's keys are invariant: that is what the ignored types below are.
TABLES: dict[str, tuple[Rows, StrEnum, Collection[StrEnum]]] = {
    "estados-leitora-p0": (
        serial_tables.READER_TABLE,  # type: ignore[dict-item]
        serial_tables.ReaderState.IDLE,
        serial_tables.RUNNING,
    ),
    "estados-medidor-p0": (
        serial_tables.METER_TABLE,  # type: ignore[dict-item]
        serial_tables.MeterState.IDLE,
        (),
    ),
    "estados-leitora-p8": (
        addressed_tables.READER_TABLE,  # type: ignore[dict-item]
        addressed_tables.ReaderState.IDLE,
        addressed_tables.RUNNING,
    ),
    "estados-medidor-p8": (
        addressed_tables.METER_TABLE,  # type: ignore[dict-item]
        addressed_tables.MeterState.IDLE,
        (),
    ),
}


def section(name: str, translate: Translate) -> str:
    """The diagram and the rows of one table."""
    rows, first, running = TABLES[name]
    return f"{_diagram(rows, first, running, translate)}\n{_listing(rows, running, translate)}"


def _diagram(rows: Rows, first: StrEnum, running: Collection[StrEnum], translate: Translate) -> str:
    """One arrow for each pair of states; what all running states do alike is one arrow from their frame."""
    labels: dict[tuple[str, str], list[str]] = {}
    for (state, event), row in rows.items():
        is_common = bool(running) and _is_common(rows, running, event)
        for outcome, next_state in row.next.items():
            source = "exchange" if is_common and state in running else state.name
            label = translate(event) + _guard(row, outcome, translate)
            arrows = labels.setdefault((source, next_state.name), [])
            if label not in arrows:
                arrows.append(label)
    states = list(dict.fromkeys(state for state, _ in rows))
    names = {state: f'state "{translate(state)}" as {state.name}' for state in states}
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f"    {names[state]}" for state in states if state not in running]
    if running:
        lines += [f'    state "{_EXCHANGE}" as exchange {{']
        lines += [f"        {names[state]}" for state in states if state in running]
        lines += ["    }"]
    lines += [f"    [*] --> {first.name}"]
    for (source, target), texts in labels.items():
        lines.append(f"    {source} --> {target} : {'<br/>'.join(_plain(text) for text in texts)}")
    return "\n".join([*lines, "```", ""])


def _is_common(rows: Rows, running: Collection[StrEnum], event: StrEnum) -> bool:
    """Whether every running state does the same about an input."""
    answers = [rows.get((state, event)) for state in running]
    return all(row is not None and row == answers[0] for row in answers)


def _guard(row: Row[StrEnum, StrEnum], outcome: Branch, translate: Translate) -> str:
    return f" [{translate(outcome)}]" if len(set(row.next.values())) > 1 else ""


def _plain(text: str) -> str:
    """Without what ends a label in Mermaid."""
    return text.replace(":", " –").replace(";", ",")


def _listing(rows: Rows, running: Collection[StrEnum], translate: Translate) -> str:
    header = ["Estado", "O que chega", "O que se faz", "Próximo estado"]
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    listed: set[StrEnum] = set()
    for (state, event), row in rows.items():
        name = translate(state)
        if running and state in running and _is_common(rows, running, event):
            if event in listed:
                continue
            listed.add(event)
            name = _EXCHANGE
        following = "; ".join(
            translate(next_state) + (f" ({translate(outcome)})" if len(row.next) > 1 else "")
            for outcome, next_state in row.next.items()
        )
        lines.append(f"| {name} | {translate(event)} | {translate(row.action)} | {following} |")
    return "\n".join(lines) + "\n"
