"""The state tables of the addressed lines (P8, P2), section 1.9.

No ENQ tells where an answer begins: octets are collected as long as they may be one, in every state.
"""

from __future__ import annotations

from enum import StrEnum

from protocols.nbr14522.link.tables import Branch, Row, row


class ReaderState(StrEnum):
    IDLE = "idle"
    OVERHEARING = "overhearing"
    ASKED = "asked"
    RECEIVING = "receiving"
    ASKED_OVERHEARING = "asked while overhearing"


class ReaderInput(StrEnum):
    BEGIN = "the caller gives a command"
    RESUME = "the caller takes a broken answer up"
    STOP = "the caller gives up, the connection closes, or too much noise came"
    FIRST = "octets that may begin an answer"
    NOISE = "they were not an answer after all"
    BLOCK = "a frame with a good CRC"
    DAMAGED = "a frame with a bad CRC"
    TIMEOUT = "time is over"


class ReaderAction(StrEnum):
    BEGIN = "send the command"
    RESUME = "send the command again: from the block that is wanted"
    STOP = "fail"
    COLLECT = "collect a frame"
    WAIT = "wait for the answer"
    REST = "wait for nothing"
    DROP = "drop what broke off"
    SET_ASIDE = "set the occurrence aside"
    PASS_OVER = "pass over"
    TAKE_BLOCK = "deliver the block and ask for the next, unless it does not fit"
    REFUSE_BLOCK = "ask again, unless damaged too often"
    TAKE_OR_SET_ASIDE = "set an occurrence aside and wait on; deliver anything else"
    REFUSE_OR_PASS_OVER = "pass a damaged occurrence over and wait on; ask again for anything else"
    NO_ANSWER = "ask again, unless silent too often"


_S, _I, _A, _O = ReaderState, ReaderInput, ReaderAction, Branch

RUNNING = (_S.ASKED, _S.RECEIVING, _S.ASKED_OVERHEARING)
"""The states in which an exchange runs."""

_SILENCE = Row(_A.NO_ANSWER, {_O.ASKED: _S.ASKED, _O.FAILED: _S.IDLE})

READER_TABLE: dict[tuple[ReaderState, ReaderInput], Row[ReaderAction, ReaderState]] = {
    (_S.IDLE, _I.BEGIN): row(_A.BEGIN, _S.ASKED),
    (_S.IDLE, _I.RESUME): row(_A.RESUME, _S.ASKED),
    (_S.IDLE, _I.FIRST): row(_A.COLLECT, _S.OVERHEARING),
    (_S.OVERHEARING, _I.BEGIN): row(_A.BEGIN, _S.ASKED_OVERHEARING),
    (_S.OVERHEARING, _I.RESUME): row(_A.RESUME, _S.ASKED_OVERHEARING),
    (_S.OVERHEARING, _I.NOISE): row(_A.REST, _S.IDLE),
    (_S.OVERHEARING, _I.BLOCK): row(_A.SET_ASIDE, _S.IDLE),
    (_S.OVERHEARING, _I.DAMAGED): row(_A.PASS_OVER, _S.IDLE),
    (_S.OVERHEARING, _I.TIMEOUT): row(_A.DROP, _S.IDLE),
    (_S.ASKED, _I.FIRST): row(_A.COLLECT, _S.RECEIVING),
    (_S.ASKED, _I.TIMEOUT): _SILENCE,
    (_S.RECEIVING, _I.NOISE): row(_A.WAIT, _S.ASKED),
    (_S.RECEIVING, _I.BLOCK): Row(_A.TAKE_BLOCK, {_O.NEXT: _S.ASKED, _O.LAST: _S.IDLE, _O.FAILED: _S.IDLE}),
    (_S.RECEIVING, _I.DAMAGED): Row(_A.REFUSE_BLOCK, {_O.ASKED: _S.ASKED, _O.FAILED: _S.IDLE}),
    (_S.RECEIVING, _I.TIMEOUT): _SILENCE,
    (_S.ASKED_OVERHEARING, _I.NOISE): row(_A.WAIT, _S.ASKED_OVERHEARING),
    (_S.ASKED_OVERHEARING, _I.BLOCK): Row(
        _A.TAKE_OR_SET_ASIDE,
        {_O.ASIDE: _S.ASKED, _O.NEXT: _S.ASKED, _O.LAST: _S.IDLE, _O.FAILED: _S.IDLE},
    ),
    (_S.ASKED_OVERHEARING, _I.DAMAGED): Row(
        _A.REFUSE_OR_PASS_OVER, {_O.ASIDE: _S.ASKED, _O.ASKED: _S.ASKED, _O.FAILED: _S.IDLE}
    ),
    (_S.ASKED_OVERHEARING, _I.TIMEOUT): _SILENCE,
    **{(state, _I.STOP): row(_A.STOP, _S.IDLE, _O.FAILED) for state in RUNNING},
}


class MeterState(StrEnum):
    IDLE = "idle"
    WORKING = "working"
    ANSWERED = "answered"


class MeterInput(StrEnum):
    COMMAND = "a command"
    NEXT = "the command again: block taken"
    AGAIN = "the command again: same block"
    ACK = "ACK"
    NAK = "NAK"
    ANSWER = "the host gives its answer"
    FORGET = "the host does not answer"


class MeterAction(StrEnum):
    TAKE_COMMAND = "hand the command to the host"
    PASS_OVER = "pass over"
    SEND_ANSWER = "send the first block"
    NEXT_BLOCK = "send the next block; the last one again where none follows"
    SAME_BLOCK = "send the block again"
    TAKEN = "send the next block, or be done"
    REST = "wait for a command"


_M, _N, _B = MeterState, MeterInput, MeterAction

METER_TABLE: dict[tuple[MeterState, MeterInput], Row[MeterAction, MeterState]] = {
    (_M.IDLE, _N.COMMAND): row(_B.TAKE_COMMAND, _M.WORKING),
    (_M.WORKING, _N.COMMAND): row(_B.PASS_OVER, _M.WORKING),
    (_M.WORKING, _N.ANSWER): row(_B.SEND_ANSWER, _M.ANSWERED),
    (_M.WORKING, _N.FORGET): row(_B.REST, _M.IDLE),
    (_M.ANSWERED, _N.COMMAND): row(_B.TAKE_COMMAND, _M.WORKING),
    (_M.ANSWERED, _N.NEXT): row(_B.NEXT_BLOCK, _M.ANSWERED),
    (_M.ANSWERED, _N.AGAIN): row(_B.SAME_BLOCK, _M.ANSWERED),
    (_M.ANSWERED, _N.ACK): Row(_B.TAKEN, {_O.NEXT: _M.ANSWERED, _O.LAST: _M.IDLE}),
    (_M.ANSWERED, _N.NAK): row(_B.SAME_BLOCK, _M.ANSWERED),
}
