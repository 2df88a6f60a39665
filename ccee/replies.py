"""What a reply of CCEE's says, read tolerantly, and what one try came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from ccee.profile import ERROR_PREFIX, Action

# What is kept of an identifier; the reply itself is kept whole.
RECEIPT_MAX_CHARS = 500
# Names under which creation calls of this interface, or common sense, return an identifier.
_RECEIPT_NAMES = (
    "protocolo",
    "numeroProtocolo",
    "id",
    "identificador",
    "identificadorMedicaoConsumo",
    "uuid",
)


class Outcome(StrEnum):
    """What one try came to, in the ledger's words."""

    ACCEPTED = "accepted"
    PROCESSING = "processing"
    REJECTED = "rejected"
    TRANSIENT = "transient"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Attempt:
    """One try and everything that came back.

    Attributes:
        http_status: None where no reply was seen.
        action: what the error table says; None on success and where no reply was seen.
        receipt: protocol or entity id where the reply carries one.
    """

    started_at: datetime
    ended_at: datetime
    outcome: Outcome
    http_status: int | None = None
    reply_headers: Mapping[str, str] | None = None
    reply_body: bytes | None = None
    receipt: str | None = None
    action: Action | None = None
    error: str | None = None


@dataclass(frozen=True)
class SendResult:
    """The end of one call: all tries in order. Empty: the agent is stopped."""

    attempts: tuple[Attempt, ...]
    stopped: str = ""

    @property
    def outcome(self) -> Outcome | None:
        """What is known after all tries: a clear reply settles it, one unknown try clouds the rest."""
        if not self.attempts:
            return None
        last = self.attempts[-1].outcome
        if last is Outcome.TRANSIENT and any(attempt.outcome is Outcome.UNKNOWN for attempt in self.attempts):
            return Outcome.UNKNOWN
        return last


@dataclass(frozen=True)
class Reply:
    """A reply read tolerantly: code and texts of an error, whatever shape `message` has."""

    status: int
    code: str
    text: str
    document: Any

    @classmethod
    def read(cls, status: int, content: bytes) -> Reply:
        """Malformed JSON is a reply like any other: its text is kept, its structure is absent."""
        try:
            document = orjson.loads(content) if content else None
        except orjson.JSONDecodeError:
            return cls(status, "", content[:2000].decode("utf-8", "replace"), None)
        parts = document if isinstance(document, dict) else {}
        code = next((str(parts[key]) for key in ("error", "code", "codigo") if parts.get(key)), "")
        message = parts.get("message", "")
        text = message if isinstance(message, str) else orjson.dumps(message).decode()
        return cls(status, code, f"{code} {text}".strip(), document)

    def at(self, json_path: str) -> str | None:
        """The value at a dotted path; of a list of one, inside its element."""
        node = self._entity
        for key in json_path.split("."):
            node = node.get(key) if isinstance(node, dict) else None
        return None if node is None else str(node)

    def receipt(self, json_path: str) -> str | None:
        """The identifier at `json_path`, or under one of the usual names where no path is given."""
        if json_path:
            return kept_receipt(self.at(json_path))
        entity = self._entity if isinstance(self._entity, dict) else {}
        named = (entity[name] for name in _RECEIPT_NAMES if entity.get(name) is not None)
        return kept_receipt(next((str(value) for value in named), None))

    @property
    def is_error(self) -> bool:
        """Whether it names an error, whatever its status says."""
        return self.code.startswith(ERROR_PREFIX) or (
            isinstance(self.document, dict) and bool(self.document.get("error"))
        )

    def is_entity_of(self, identity: Mapping[str, Any]) -> bool:
        """Whether it is an object (or a list of one) that names all of these values."""
        entity = self._entity
        return isinstance(entity, dict) and all(
            str(entity.get(name)) == str(value) for name, value in identity.items()
        )

    @property
    def _entity(self) -> Any:
        return self.document[0] if isinstance(self.document, list) and self.document else self.document


def kept_receipt(text: str | None) -> str | None:
    return None if text is None else without_nul(text)[:RECEIPT_MAX_CHARS]


def without_nul(text: str) -> str:
    """PostgreSQL's text cannot hold the character zero, which a broken reply can."""
    return text.replace("\x00", "\ufffd")
