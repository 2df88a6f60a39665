"""The state tables of the line with ENQ and ACK (P0), sections 1.6 and 1.7."""

from __future__ import annotations

from enum import StrEnum

from protocols.nbr14522.link.tables import Branch, Row, row


class ReaderState(StrEnum):
    IDLE = "idle"
    DESYNCHRONISED = "desynchronised"
    SYNCHRONISED = "synchronised"
    DRAINING = "draining"
    SENT = "sent"
    DELAYED = "delayed"
    RECEIVING = "receiving"


class ReaderInput(StrEnum):
    BEGIN = "the caller gives a command"
    STOP = "the caller gives up, the connection closes, or too much noise came"
    ENQ = "ENQ"
    NAK = "NAK"
    WAIT = "WAIT"
    CODE = "first octet of an answer"
    OTHER = "any other octet"
    ECHO = "our own command comes back"
    BLOCK = "a block with a good CRC"
    DAMAGED = "a block with a bad CRC"
    TIMEOUT = "time is over"


class ReaderAction(StrEnum):
    BEGIN = "listen for ENQ; send at once where none is wanted"
    STOP = "fail"
    COUNT_ENQ = "count the ENQ; send the command when they are enough"
    SEND = "send the command, zero the counters"
    LISTEN = "wait for ENQ"
    GIVE_UP_SYNC = "fail: no ENQ"
    SEND_REFUSED = "send the command again, unless refused too often or in mid-answer"
    BEGIN_WAIT = "wait up to TSEMWAIT, unless put off too often"
    OPEN_BLOCK = "collect a block"
    ENQ_AFTER_SEND = "repeat a lost ACK, or pass over an ENQ in flight, or take the sequence as broken"
    BREAK = "drain the line and synchronise again"
    NO_ANSWER = "send the command again, unless silent too often or in mid-answer"
    WAIT_MORE = "wait again, unless too often"
    SEND_AFTER_WAIT = "send the command again"
    GIVE_UP_WAIT = "fail: waited too long"
    PASS_ECHO = "wait for the answer"
    TAKE_BLOCK = "send ACK and deliver the block, unless it does not fit"
    REFUSE_BLOCK = "send NAK, unless damaged too often"
    CLOSE_GAP = "ask again for the block that broke off, unless too often"


_S, _I, _A, _O = ReaderState, ReaderInput, ReaderAction, Branch

RUNNING = tuple(state for state in ReaderState if state is not ReaderState.IDLE)
"""The states in which an exchange runs."""

READER_TABLE: dict[tuple[ReaderState, ReaderInput], Row[ReaderAction, ReaderState]] = {
    (_S.IDLE, _I.BEGIN): Row(
        _A.BEGIN,
        {
            _O.NO_ENQ_YET: _S.DESYNCHRONISED,
            _O.ONE_ENQ: _S.SYNCHRONISED,
            _O.SENT: _S.SENT,
            _O.FAILED: _S.IDLE,
        },
    ),
    (_S.DESYNCHRONISED, _I.ENQ): Row(_A.COUNT_ENQ, {_O.ONE_ENQ: _S.SYNCHRONISED, _O.SENT: _S.SENT}),
    (_S.DESYNCHRONISED, _I.TIMEOUT): row(_A.GIVE_UP_SYNC, _S.IDLE, _O.FAILED),
    (_S.SYNCHRONISED, _I.ENQ): row(_A.SEND, _S.SENT, _O.SENT),
    (_S.SYNCHRONISED, _I.OTHER): Row(_A.LISTEN, {_O.NO_ENQ_YET: _S.DESYNCHRONISED, _O.FAILED: _S.IDLE}),
    (_S.SYNCHRONISED, _I.TIMEOUT): Row(_A.LISTEN, {_O.NO_ENQ_YET: _S.DESYNCHRONISED, _O.FAILED: _S.IDLE}),
    (_S.DRAINING, _I.TIMEOUT): Row(
        _A.LISTEN, {_O.NO_ENQ_YET: _S.DESYNCHRONISED, _O.SENT: _S.SENT, _O.FAILED: _S.IDLE}
    ),
    (_S.SENT, _I.NAK): Row(_A.SEND_REFUSED, {_O.SENT: _S.SENT, _O.FAILED: _S.IDLE}),
    (_S.SENT, _I.WAIT): Row(_A.BEGIN_WAIT, {_O.DONE: _S.DELAYED, _O.FAILED: _S.IDLE}),
    (_S.SENT, _I.CODE): row(_A.OPEN_BLOCK, _S.RECEIVING),
    (_S.SENT, _I.ENQ): Row(_A.ENQ_AFTER_SEND, {_O.DONE: _S.SENT, _O.DRAINS: _S.DRAINING, _O.FAILED: _S.IDLE}),
    (_S.SENT, _I.OTHER): Row(_A.BREAK, {_O.DRAINS: _S.DRAINING, _O.FAILED: _S.IDLE}),
    (_S.SENT, _I.TIMEOUT): Row(_A.NO_ANSWER, {_O.SENT: _S.SENT, _O.FAILED: _S.IDLE}),
    (_S.DELAYED, _I.WAIT): Row(_A.WAIT_MORE, {_O.DONE: _S.DELAYED, _O.FAILED: _S.IDLE}),
    (_S.DELAYED, _I.ENQ): row(_A.SEND_AFTER_WAIT, _S.SENT, _O.SENT),
    (_S.DELAYED, _I.NAK): Row(_A.BREAK, {_O.DRAINS: _S.DRAINING, _O.FAILED: _S.IDLE}),
    (_S.DELAYED, _I.CODE): Row(_A.BREAK, {_O.DRAINS: _S.DRAINING, _O.FAILED: _S.IDLE}),
    (_S.DELAYED, _I.OTHER): Row(_A.BREAK, {_O.DRAINS: _S.DRAINING, _O.FAILED: _S.IDLE}),
    (_S.DELAYED, _I.TIMEOUT): row(_A.GIVE_UP_WAIT, _S.IDLE, _O.FAILED),
    (_S.RECEIVING, _I.ECHO): row(_A.PASS_ECHO, _S.SENT),
    (_S.RECEIVING, _I.BLOCK): Row(_A.TAKE_BLOCK, {_O.NEXT: _S.SENT, _O.LAST: _S.IDLE, _O.FAILED: _S.IDLE}),
    (_S.RECEIVING, _I.DAMAGED): Row(_A.REFUSE_BLOCK, {_O.ASKED: _S.SENT, _O.FAILED: _S.IDLE}),
    (_S.RECEIVING, _I.TIMEOUT): Row(_A.CLOSE_GAP, {_O.ASKED: _S.SENT, _O.FAILED: _S.IDLE}),
    **{(state, _I.STOP): row(_A.STOP, _S.IDLE, _O.FAILED) for state in RUNNING},
}


class MeterState(StrEnum):
    IDLE = "idle"
    COLLECTING = "collecting"
    REFUSED = "refused"
    WORKING = "working"
    DELAYING = "delaying"
    WAIT_ACK = "wait for ACK"
    RECALLING = "recalling"
    PAUSED = "paused"


class MeterInput(StrEnum):
    ACK = "ACK"
    NAK = "NAK"
    SIGNAL = "a signal that does not belong here"
    OTHER = "any other octet"
    COMMAND = "a command with a good CRC"
    DAMAGED = "a command with a bad CRC"
    ANSWER = "the host gives its answer"
    DELAY = "the host needs time"
    READY = "the host is ready"
    FORGET = "the host does not answer"
    TIMEOUT = "time is over"


class MeterAction(StrEnum):
    SEND_ENQ = "send ENQ"
    OPEN_COMMAND = "collect a command, if not too late after the ENQ"
    OPEN_REPEAT = "collect the command again"
    PASS_OVER = "pass over"
    DROP_COMMAND = "throw the command away and pause"
    TAKE_COMMAND = "hand the command to the host"
    REFUSE_COMMAND = "send NAK; refused too often, back to ENQ"
    FORGET_REFUSED = "go back to ENQ"
    SEND_ANSWER = "send the first block"
    SEND_WAIT = "send WAIT, unless too often"
    CALL_BACK = "send ENQ and expect the command again"
    NEXT_BLOCK = "send the next block, or be done"
    SAME_BLOCK = "send the block again; refused too often, back to ENQ"
    BREAK_ANSWER = "pause, then back to ENQ"
    RECALL = "send ENQ, unless too often"
    RESUME = "back to ENQ"


_M, _N, _B = MeterState, MeterInput, MeterAction

_BLOCK_TAKEN = Row(_B.NEXT_BLOCK, {_O.NEXT: _M.WAIT_ACK, _O.LAST: _M.IDLE})
_BLOCK_REFUSED = Row(_B.SAME_BLOCK, {_O.SENT: _M.WAIT_ACK, _O.GIVEN_UP: _M.IDLE})
_NO_ACK = Row(_B.RECALL, {_O.SENT: _M.RECALLING, _O.GIVEN_UP: _M.IDLE})

METER_TABLE: dict[tuple[MeterState, MeterInput], Row[MeterAction, MeterState]] = {
    (_M.IDLE, _N.TIMEOUT): row(_B.SEND_ENQ, _M.IDLE),
    (_M.IDLE, _N.OTHER): Row(_B.OPEN_COMMAND, {_O.DONE: _M.COLLECTING, _O.LATE: _M.IDLE}),
    (_M.IDLE, _N.ACK): row(_B.PASS_OVER, _M.IDLE),
    (_M.IDLE, _N.NAK): row(_B.PASS_OVER, _M.IDLE),
    (_M.IDLE, _N.SIGNAL): row(_B.PASS_OVER, _M.IDLE),
    # The delay ended by itself, at the very time at which the host got ready.
    (_M.IDLE, _N.READY): row(_B.CALL_BACK, _M.IDLE),
    (_M.COLLECTING, _N.COMMAND): row(_B.TAKE_COMMAND, _M.WORKING),
    (_M.COLLECTING, _N.DAMAGED): Row(_B.REFUSE_COMMAND, {_O.REFUSED: _M.REFUSED, _O.GIVEN_UP: _M.IDLE}),
    (_M.COLLECTING, _N.TIMEOUT): row(_B.DROP_COMMAND, _M.PAUSED),
    (_M.REFUSED, _N.OTHER): row(_B.OPEN_REPEAT, _M.COLLECTING),
    (_M.REFUSED, _N.ACK): row(_B.PASS_OVER, _M.REFUSED),
    (_M.REFUSED, _N.NAK): row(_B.PASS_OVER, _M.REFUSED),
    (_M.REFUSED, _N.SIGNAL): row(_B.PASS_OVER, _M.REFUSED),
    (_M.REFUSED, _N.TIMEOUT): row(_B.FORGET_REFUSED, _M.IDLE),
    (_M.WORKING, _N.ANSWER): row(_B.SEND_ANSWER, _M.WAIT_ACK),
    (_M.WORKING, _N.DELAY): Row(_B.SEND_WAIT, {_O.SENT: _M.DELAYING, _O.GIVEN_UP: _M.IDLE}),
    (_M.WORKING, _N.FORGET): row(_B.RESUME, _M.IDLE),
    (_M.DELAYING, _N.TIMEOUT): Row(_B.SEND_WAIT, {_O.SENT: _M.DELAYING, _O.GIVEN_UP: _M.IDLE}),
    (_M.DELAYING, _N.READY): row(_B.CALL_BACK, _M.IDLE),
    (_M.WAIT_ACK, _N.ACK): _BLOCK_TAKEN,
    (_M.WAIT_ACK, _N.NAK): _BLOCK_REFUSED,
    (_M.WAIT_ACK, _N.SIGNAL): row(_B.BREAK_ANSWER, _M.PAUSED),
    (_M.WAIT_ACK, _N.OTHER): row(_B.BREAK_ANSWER, _M.PAUSED),
    (_M.WAIT_ACK, _N.TIMEOUT): _NO_ACK,
    (_M.RECALLING, _N.ACK): _BLOCK_TAKEN,
    (_M.RECALLING, _N.NAK): _BLOCK_REFUSED,
    (_M.RECALLING, _N.SIGNAL): row(_B.BREAK_ANSWER, _M.PAUSED),
    (_M.RECALLING, _N.OTHER): row(_B.BREAK_ANSWER, _M.PAUSED),
    (_M.RECALLING, _N.TIMEOUT): _NO_ACK,
    (_M.PAUSED, _N.TIMEOUT): row(_B.RESUME, _M.IDLE),
}
