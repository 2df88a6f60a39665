"""What differs between meters, and what no public source settles, as named settings.

A profile is data: nothing outside asks a meter's name. Each field carries its default's reason, the
reference section and the confidence (A two sources or a check, B one source, C inference);
`unverified_settings` lists all that are not A, for the documentation.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from typing import Any

from protocols.nbr14522.frames import Addressing
from protocols.nbr14522.memory import Packing
from protocols.nbr14522.sending.layouts import WriteLayout

READ_COMMANDS = frozenset({0x14, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x51, 0x52, 0x80})
WRITE_COMMANDS = frozenset({0x29, 0x30, 0x37})
"""What a meter of which nothing is known is taken to have; a model of the catalogue says more."""


class HandShake(StrEnum):
    """How the next block of a composite answer is asked for."""

    ACK = "ack"
    """ACK or NAK after each block."""
    REPEAT_COMMAND = "repeat_command"
    """The command again with o5 = 00 first block, 01 next, 02 again."""


class EmptyMemory(StrEnum):
    """How a memory command is answered when there are no words."""

    LAST_BLOCK = "last_block"
    """One block of filler, marked last."""
    OCCURRENCE = "occurrence"
    """Answer 40."""


class LimitedCount(StrEnum):
    """What o75-77 of the answer to a limited 51 counts."""

    LIMITED = "limited"
    """Only the words that 52 then brings."""
    WHOLE = "whole"
    """All words of the memory; 52 brings fewer."""


class WordsUpTo(StrEnum):
    """Up to where o75-77 count the running period."""

    DEMAND_INTERVAL = "demand_interval"
    """The last complete demand interval."""
    MEMORY_INTERVAL = "memory_interval"
    """The last complete memory interval."""


class GapRecovery(StrEnum):
    """What the reader sends when a block after the first breaks off."""

    NAK = "nak"
    COMMAND = "command"


class PasswordAnswer(StrEnum):
    """How the answer to 11 says whether the password was right."""

    PER_PASSWORD = "per_password"
    """o6 the result for the write password, o7 for the read password; 0 is good."""
    STATUS = "status"
    """o6 whether the reader is authenticated (1: it is), o7 a result of which 0 and 1 are good."""


class ClockChange(StrEnum):
    """What setting the clock does to the memory."""

    KEEP = "keep"
    """Words go on; only the change log tells."""
    CLOSE_PERIOD = "close_period"
    """The billing period closes, as one maker's meters do: the grid stays clean on both sides."""


class FileGroups(StrEnum):
    """Which channel groups an FK7 file is taken to hold; its blocks do not say their group."""

    IN_ORDER = "in_order"
    """All, where it holds each group's parameters and memory whole and once, one group after the other."""
    FIRST = "first"
    """Channels 1 to 3 alone."""


SERIAL_DIGITS = 8
"""Of a meter's serial on the wire."""


def setting(default: Any, confidence: str, section: str, reason: str) -> Any:
    """A field with its default, how sure that is, where it comes from, and why."""
    return field(default=default, metadata={"confidence": confidence, "section": section, "reason": reason})


@dataclass(frozen=True, slots=True)
class LinkTiming:
    """Time-outs of the link in seconds; the field names follow section 1.5. See `STRICT` and `RELAXED`."""

    name: str
    max_char_gap_s: float
    """TMAXCAR: largest silence inside a frame."""
    min_enq_s: float
    """TMINENQ: least time between two ENQ of the meter."""
    max_enq_s: float
    """TMAXENQ: most time between two ENQ for the reader to count them as neighbours."""
    max_sync_s: float
    """TMAXSINC: a command must start so soon after an ENQ."""
    max_response_s: float
    """TMAXRSP: most silence before an answer, ACK or NAK."""
    max_wait_s: float
    """TSEMWAIT: longest silence after a WAIT."""
    drain_quiet_s: float
    """Silence that counts as a drained line. Below the meter's ENQ period, or draining would never end."""
    enq_in_flight_s: float
    """ENQ that arrive so soon after a command were sent before it came in: not a broken sequence. The
    round trip of the line; 0 on a wire."""
    synchronise_s: float
    """How long the reader waits for ENQ before it gives up (TMAXCON, whose value no source gives)."""
    addressed_response_s: float
    """P8, P2: most silence before an answer (10 s in a maker's reader)."""
    addressed_memory_response_s: float
    """P8, P2: the same for a memory block (5 s in a maker's reader)."""
    meter_enq_period_s: float
    """Meter: time between the ENQ it sends while idle, between TMINENQ and TMAXENQ."""
    meter_pause_s: float
    """Meter: how long it ignores the line after something it did not understand (S1's simulated meter)."""


STRICT = LinkTiming(
    name="strict",
    max_char_gap_s=0.006,
    min_enq_s=0.022,
    max_enq_s=0.502,
    max_sync_s=0.012,
    max_response_s=0.502,
    max_wait_s=305.0,
    drain_quiet_s=0.006,
    enq_in_flight_s=0.0,
    synchronise_s=15.0,
    addressed_response_s=10.0,
    addressed_memory_response_s=5.0,
    meter_enq_period_s=0.25,
    meter_pause_s=0.25,
)
"""The norm's times as one source copied them (section 1.5, B): for a wire and bare hardware."""

RELAXED = LinkTiming(
    name="relaxed",
    max_char_gap_s=2.0,
    min_enq_s=0.022,
    max_enq_s=5.0,
    max_sync_s=5.0,
    max_response_s=10.0,
    max_wait_s=305.0,
    drain_quiet_s=0.1,
    enq_in_flight_s=3.0,
    synchronise_s=30.0,
    addressed_response_s=20.0,
    addressed_memory_response_s=20.0,
    meter_enq_period_s=0.25,
    meter_pause_s=0.25,
)
"""For modems, TCP and USB adapters: field readers wait 100 ms to 20 s instead of 6 ms (section 1.5, B)."""


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """How often is too often (section 1.5, B)."""

    naks: int = 7
    waits: int = 12
    sends: int = 7


@dataclass(frozen=True, slots=True)
class MeterProfile:
    """One kind of meter on one kind of line. `dataclasses.replace` makes a variant."""

    name: str
    description: str = ""
    addressing: Addressing = Addressing.P0
    address: int = 1
    """P2 only: the two digits of the address."""
    timing: LinkTiming = RELAXED
    limits: LinkLimits = field(default_factory=LinkLimits)
    commands: frozenset[int] = READ_COMMANDS | WRITE_COMMANDS
    """Codes that the meter implements, as on the wire; it answers 39 to any other."""
    extended_commands: frozenset[int] = frozenset()
    """Sub-codes of command 98 that the meter implements."""
    groups: int = 1
    """Channel groups of three channels."""
    write_layouts: tuple[WriteLayout, ...] = ()
    """Layouts of writes that no public source gives, from the maker's manual."""
    inferred_writes: frozenset[str] = setting(
        frozenset(),
        "C",
        "6.2",
        "Writes whose layout is an inference (34, 36, 67, fields of 95, 73 above 9 minutes) and that a test "
        "on such a meter has shown to be right: none until then.",
    )
    password_commands: frozenset[str] = setting(
        frozenset(),
        "C",
        "6.1",
        "Commands before which a session is opened with 13, 11 and the meter's password. Which ones a make "
        "protects is not public: none until its manual, or a refusal with occurrence 43, tells.",
    )
    password_answer: PasswordAnswer = setting(
        PasswordAnswer.PER_PASSWORD,
        "B",
        "6.1",
        "What o6 and o7 of the answer to 11 mean: one source has a result for each password, one maker "
        "whether it authenticated and a result.",
    )
    password_transform: str = setting(
        "none",
        "C",
        "6.1",
        "How the token of command 11 is made of the password; the standard's own way is not public.",
    )
    serial_prefixes: tuple[str, ...] = ()
    """Digits that the maker prints before the serial that the meter answers with; `same_serial`."""
    has_serial_check_digit: bool = False
    """Whether a check digit is printed behind it."""
    instantaneous_filling: int = 0x00
    """Octet that the meter leaves in what its answer to 14 does not say; readers accept any."""

    packing: Packing = setting(
        Packing.S,
        "B",
        "8.2",
        "Found in one maker's own reader, four versions alike; no captured block proves it. "
        "`checks.packing_fit` tells it at each reading that has registers.",
    )
    enq_required: int = setting(
        2,
        "B",
        "1.6",
        "ENQ before a command is sent: two is one reading of the norm, and noise rarely fakes two; many "
        "field readers act on the first (1), some over TCP on none (0).",
    )
    p2_hand_shake: HandShake = setting(
        HandShake.REPEAT_COMMAND,
        "C",
        "1.9",
        "Composite answers on P2 were not seen; P8's way is likely because neither has ENQ.",
    )
    resumes_broken_answer: bool = setting(
        False,
        "C",
        "6.1",
        "P8, P2: whether a meter goes on with a composite answer in a new connection (o5 = 02 after the last "
        "good block). Not seen; a meter that starts over instead costs that session, nothing that came.",
    )
    tolerates_echo: bool = setting(
        True,
        "C",
        "1.7",
        "Some optical heads return the reader's own octets; a command's 66 octets cannot begin an answer.",
    )
    gap_recovery: GapRecovery = setting(
        GapRecovery.NAK,
        "C",
        "1.6",
        "The table sends the command again, which in mid-answer restarts it at block 1; NAK makes the meter "
        "repeat the block. Before the first block the command is sent again in either case.",
    )
    empty_memory: EmptyMemory = setting(
        EmptyMemory.LAST_BLOCK,
        "C",
        "8.1",
        "A reader that knows the count need not ask; a last block keeps the link's rules simple.",
    )
    filler_word: int = setting(
        0, "C", "8.1", "Unused words of the last block; unused octets are 00 elsewhere."
    )
    block_after_999: int = setting(
        0,
        "C",
        "8.1",
        "Three decimal digits overflow; a counter wraps to 000, if it does not start over at 001.",
    )
    sign_bit: bool = setting(
        False, "B", "8.2", "One parser takes bit 11 as a sign; counts up to 4095 are the plain reading."
    )
    counts_above_2047: bool = setting(
        False,
        "B",
        "8.2",
        "Whether bit 11 of a word belongs to the count. The largest word of a real month was 698, and one "
        "parser takes the bit as a sign: such words are held until it is known of the model.",
    )
    hours_limit_is_trusted: bool = setting(
        False, "C", "2.1", "Unit 01 of command 51 as hours is an inference; days (02) were found."
    )
    limited_count: LimitedCount = setting(
        LimitedCount.LIMITED,
        "C",
        "2.1",
        "What o75-77 of a limited 51 count; a reader takes the number and stops at the last-block flag.",
    )
    words_up_to: WordsUpTo = setting(
        WordsUpTo.DEMAND_INTERVAL,
        "C",
        "3.2",
        "A real answer to 20 counted 0 words with two memory intervals over since the reset.",
    )
    clock_change: ClockChange = setting(
        ClockChange.KEEP,
        "C",
        "8.4",
        "Unmarked in the words; one maker closes the period (B). The change log is the only general sign.",
    )
    second_set_active_octet: int = setting(
        0x00, "B", "3.1", "o163: the norm as reported says 00 = active; some meters use the opposite."
    )
    file_groups: FileGroups = setting(
        FileGroups.IN_ORDER,
        "C",
        "10.1",
        "FK7 blocks do not say their channel group. Readers ask the groups in order (2.2); a file that has "
        "not each group whole and once brings only the first.",
    )
    sunday: int = setting(1, "A", "3.1", "Weekday 1 is Sunday: a real frame and two vectors agree.")

    def __post_init__(self) -> None:
        if self.enq_required not in (0, 1, 2):
            raise ValueError(f"enq_required is 0, 1 or 2, not {self.enq_required}")

    def layout_of(self, command: str) -> WriteLayout | None:
        """The layout that this profile supplies for a command (`63`, `98/30`), if it does."""
        return next((layout for layout in self.write_layouts if layout.command == command), None)

    def has_command(self, code: int, sub_code: int | None = None) -> bool:
        """Whether the meter implements a command; for 98 also whether it knows the sub-code."""
        return code in self.commands and (sub_code is None or sub_code in self.extended_commands)

    def wire_serials(self, registered: str) -> frozenset[str]:
        """What a meter may answer with whose serial stands so in the registry, without leading zeros.

        Blanks, hyphens and leading zeros do not count; nor does what the maker prints around the number.
        """
        printed = "".join(filter(str.isalnum, registered)).upper()
        candidates = {printed}
        for prefix in self.serial_prefixes:
            if printed.startswith(prefix):
                candidates.add(printed.removeprefix(prefix))
        if self.has_serial_check_digit:
            candidates |= {candidate[:-1] for candidate in candidates}
        return frozenset(candidate.lstrip("0") for candidate in candidates)

    def same_serial(self, registered: str, answered: str) -> bool:
        """Whether a serial as it stands on the meter is the one that it answers with; see `wire_serials`."""
        return answered.upper().lstrip("0") in self.wire_serials(registered)

    def addressed_serial(self, registered: str) -> str:
        """The eight digits by which a meter is addressed whose serial stands so in the registry.

        A number that begins with one of the maker's prefixes is taken as printed; any other as it is.
        """
        printed = "".join(filter(str.isalnum, registered)).upper()
        for prefix in self.serial_prefixes:
            # Only where something is left over: a serial of eight digits may begin like a prefix.
            if printed.startswith(prefix) and (len(printed) > SERIAL_DIGITS or printed != registered):
                printed = printed.removeprefix(prefix)
                printed = printed[:-1] if self.has_serial_check_digit else printed
                break
        return printed.lstrip("0").zfill(SERIAL_DIGITS)

    @property
    def hand_shake(self) -> HandShake:
        """How composite answers go on."""
        if self.addressing is Addressing.P0:
            return HandShake.ACK
        return HandShake.REPEAT_COMMAND if self.addressing is Addressing.P8 else self.p2_hand_shake


DEFAULT = MeterProfile(
    name="default",
    description="A current meter alone on its line, or behind a transparent gateway: all read commands.",
)

OLD_3CH = MeterProfile(
    name="old-3ch",
    description="An outdated meter: three channels, no reverse registers, no 14, 51, 52, 80.",
    commands=(READ_COMMANDS | WRITE_COMMANDS) - {0x14, 0x51, 0x52, 0x80},
)

P8_GENERIC = MeterProfile(
    name="p8-generic",
    description="A meter addressed by its eight-digit serial: no ENQ, no ACK, hand-shake in o5.",
    addressing=Addressing.P8,
)

P2_GENERIC = MeterProfile(
    name="p2-generic",
    description="A meter behind a remote with a two-digit address, CRC-16/MODBUS around both frames.",
    addressing=Addressing.P2,
)

GENERIC: dict[str, MeterProfile] = {
    profile.name: profile for profile in (DEFAULT, OLD_3CH, P8_GENERIC, P2_GENERIC)
}
"""Profiles of no model in particular, which the models of the catalogue extend."""


@dataclass(frozen=True, slots=True)
class UnverifiedSetting:
    """A setting whose default no second source confirms."""

    name: str
    default: str
    confidence: str
    section: str
    reason: str


_TIMING_REASON = {
    "synchronise_s": ("C", "TMINCON and TMAXCON exist, their values were found nowhere."),
    "enq_in_flight_s": ("C", "Inference: on a line with a round trip, ENQ cross the command."),
    "drain_quiet_s": ("C", "TMAXCAR strictly; relaxed, something below the meters' ENQ period."),
}


def unverified_settings() -> list[UnverifiedSetting]:
    """All settings of a profile that rest on one source or on inference, in the order of their fields."""
    found = [
        UnverifiedSetting(
            name=f"profile.{item.name}",
            default=str(item.default) if item.default is not MISSING else "",
            confidence=item.metadata["confidence"],
            section=item.metadata["section"],
            reason=item.metadata["reason"],
        )
        for item in fields(MeterProfile)
        if item.metadata.get("confidence", "A") != "A"
    ]
    for item in fields(LinkTiming):
        if item.name == "name":
            continue
        confidence, reason = _TIMING_REASON.get(
            item.name, ("B", "One source copied the norm's times; relaxed values follow field readers.")
        )
        default = f"{getattr(STRICT, item.name)} (strict), {getattr(RELAXED, item.name)} (relaxed)"
        found.append(UnverifiedSetting(f"timing.{item.name}", default, confidence, "1.5", reason))
    for item in fields(LinkLimits):
        reason = "One source copied the norm's limits."
        found.append(UnverifiedSetting(f"limits.{item.name}", str(item.default), "B", "1.5", reason))
    return found
