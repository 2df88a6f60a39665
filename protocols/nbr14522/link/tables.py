"""The state tables of sections 1.6 and 1.7 as data: (state, input) to action.

Nothing else decides what may follow what. A pair that is not in a table cannot occur: the machines sort
octets into inputs by state.
"""

from __future__ import annotations

from enum import StrEnum


class ReaderState(StrEnum):
    IDLE = "idle"
    DESYNCHRONISED = "desynchronised"
    SYNCHRONISED = "synchronised"
    DRAINING = "draining"
    SENT = "sent"
    DELAYED = "delayed"
    RECEIVING = "receiving"


class ReaderInput(StrEnum):
    ENQ = "ENQ"
    NAK = "NAK"
    WAIT = "WAIT"
    CODE = "first octet of an answer"
    OTHER = "any other octet"
    TIMEOUT = "time is over"


class ReaderAction(StrEnum):
    FIRST_ENQ = "count the ENQ"
    SEND = "send the command, zero the counters"
    LISTEN = "wait for ENQ"
    GIVE_UP_SYNC = "fail: no ENQ"
    SEND_REFUSED = "send the command again; the 7th refusal, or one in mid-answer, fails"
    BEGIN_WAIT = "wait up to TSEMWAIT"
    OPEN_BLOCK = "collect a block"
    ENQ_AFTER_SEND = "repeat a lost ACK, or pass over an ENQ in flight, or take the sequence as broken"
    BREAK = "drain the line and synchronise again"
    NO_ANSWER = "send the command again; the 7th silence, or one in mid-answer, fails"
    WAIT_MORE = "wait again; the 12th more fails"
    SEND_AFTER_WAIT = "send the command again"
    GIVE_UP_WAIT = "fail: waited too long"
    CLOSE_GAP = "ask again for the block that broke off; the 7th fails"


_S, _I, _A = ReaderState, ReaderInput, ReaderAction

READER_TABLE: dict[tuple[ReaderState, ReaderInput], ReaderAction] = {
    (_S.DESYNCHRONISED, _I.ENQ): _A.FIRST_ENQ,
    (_S.DESYNCHRONISED, _I.TIMEOUT): _A.GIVE_UP_SYNC,
    (_S.SYNCHRONISED, _I.ENQ): _A.SEND,
    (_S.SYNCHRONISED, _I.TIMEOUT): _A.LISTEN,
    (_S.DRAINING, _I.TIMEOUT): _A.LISTEN,
    (_S.SENT, _I.NAK): _A.SEND_REFUSED,
    (_S.SENT, _I.WAIT): _A.BEGIN_WAIT,
    (_S.SENT, _I.CODE): _A.OPEN_BLOCK,
    (_S.SENT, _I.ENQ): _A.ENQ_AFTER_SEND,
    (_S.SENT, _I.OTHER): _A.BREAK,
    (_S.SENT, _I.TIMEOUT): _A.NO_ANSWER,
    (_S.DELAYED, _I.WAIT): _A.WAIT_MORE,
    (_S.DELAYED, _I.ENQ): _A.SEND_AFTER_WAIT,
    (_S.DELAYED, _I.NAK): _A.BREAK,
    (_S.DELAYED, _I.CODE): _A.BREAK,
    (_S.DELAYED, _I.OTHER): _A.BREAK,
    (_S.DELAYED, _I.TIMEOUT): _A.GIVE_UP_WAIT,
    (_S.RECEIVING, _I.TIMEOUT): _A.CLOSE_GAP,
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
    TIMEOUT = "time is over"


class MeterAction(StrEnum):
    SEND_ENQ = "send ENQ"
    OPEN_COMMAND = "collect a command, if not too late after the ENQ"
    OPEN_REPEAT = "collect the command again"
    PASS_OVER = "pass over"
    DROP_COMMAND = "throw the command away and pause"
    FORGET_REFUSED = "go back to ENQ"
    SEND_WAIT = "send WAIT again, 12 at most"
    NEXT_BLOCK = "send the next block, or be done"
    SAME_BLOCK = "send the block again; the 7th refusal goes back to ENQ"
    BREAK_ANSWER = "pause, then back to ENQ"
    RECALL = "send ENQ, 7 at most"
    RESUME = "back to ENQ"


_M, _N, _B = MeterState, MeterInput, MeterAction

METER_TABLE: dict[tuple[MeterState, MeterInput], MeterAction] = {
    (_M.IDLE, _N.TIMEOUT): _B.SEND_ENQ,
    (_M.IDLE, _N.OTHER): _B.OPEN_COMMAND,
    (_M.IDLE, _N.ACK): _B.PASS_OVER,
    (_M.IDLE, _N.NAK): _B.PASS_OVER,
    (_M.IDLE, _N.SIGNAL): _B.PASS_OVER,
    (_M.COLLECTING, _N.TIMEOUT): _B.DROP_COMMAND,
    (_M.REFUSED, _N.OTHER): _B.OPEN_REPEAT,
    (_M.REFUSED, _N.ACK): _B.PASS_OVER,
    (_M.REFUSED, _N.NAK): _B.PASS_OVER,
    (_M.REFUSED, _N.SIGNAL): _B.PASS_OVER,
    (_M.REFUSED, _N.TIMEOUT): _B.FORGET_REFUSED,
    (_M.DELAYING, _N.TIMEOUT): _B.SEND_WAIT,
    (_M.WAIT_ACK, _N.ACK): _B.NEXT_BLOCK,
    (_M.WAIT_ACK, _N.NAK): _B.SAME_BLOCK,
    (_M.WAIT_ACK, _N.SIGNAL): _B.BREAK_ANSWER,
    (_M.WAIT_ACK, _N.OTHER): _B.BREAK_ANSWER,
    (_M.WAIT_ACK, _N.TIMEOUT): _B.RECALL,
    (_M.RECALLING, _N.ACK): _B.NEXT_BLOCK,
    (_M.RECALLING, _N.NAK): _B.SAME_BLOCK,
    (_M.RECALLING, _N.SIGNAL): _B.BREAK_ANSWER,
    (_M.RECALLING, _N.OTHER): _B.BREAK_ANSWER,
    (_M.RECALLING, _N.TIMEOUT): _B.RECALL,
    (_M.PAUSED, _N.TIMEOUT): _B.RESUME,
}
