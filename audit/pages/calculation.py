"""The calculation of one delivered value, with its numbers: pulses, constant, losses, rounding.

What belongs here: the factors as the registry and the derivation's parameters have them, and whether they
give the stored values. What does not: deriving (`derivation`), which the trace does anew and compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from audit.pages.words import Words
from audit.parts import PointReading, Trace
from vee.layers.losses import loss_factor

_KINDS = {"transformation": ("transformação", "transformation"), "line": ("linha", "line")}


def steps(found: Trace, words: Words) -> list[str]:
    """One line a step, each with its numbers; a step is told only where it gives the value that is stored."""
    primary, _, estimated, adjusted, sent = found.layers
    lines = []
    pulses = found.reading.pulses if found.reading else None
    if found.points:
        lines += _points(found.points, primary.value_kwh, words)
    elif pulses is not None and primary.value_kwh is not None and found.reading is not None:
        lines += _constant(pulses, found.reading.meter, primary.value_kwh, words)
    if estimated.value_kwh is not None and estimated.value_kwh != primary.value_kwh:
        value = words.exact(estimated.value_kwh)
        lines.append(
            words(
                f"posto no lugar do medido: {value} kWh", f"put in the place of a measured one: {value} kWh"
            )
        )
    if estimated.value_kwh is not None and adjusted.value_kwh is not None:
        lines += _losses(found, estimated.value_kwh, adjusted.value_kwh, words)
    if adjusted.value_kwh is not None and sent.value_kwh is not None:
        exact, rounded = words.exact(adjusted.value_kwh), words.milli(sent.value_kwh)
        lines.append(
            words(
                f"{exact} kWh, arredondado uma vez, meio para cima, a três casas: {rounded} kWh",
                f"{exact} kWh, rounded once, half up, to three decimals: {rounded} kWh",
            )
        )
    return lines


def _constant(pulses: int, meter: dict[str, object], value: Fraction, words: Words) -> list[str]:
    num, den = int(str(meter["pulse_energy_num"])), int(str(meter["pulse_energy_den"]))
    factors = [f"{num}/{den}"]
    whole = Fraction(num, den)
    if not meter["constant_includes_ratios"]:
        for name in ("tp_ratio", "tc_ratio"):
            ratio = Fraction(str(meter[name]))
            whole *= ratio
            factors.append(f"{name[:2].upper()} {words.exact(ratio)}")
    if pulses * whole != value:
        return [
            words(
                f"{pulses} pulsos; o valor guardado, {words.exact(value)} kWh, é a soma de mais de um "
                "ponto, de "
                "um intervalo partido, ou foi movido: ver as camadas",
                f"{pulses} pulses; the stored value, {words.exact(value)} kWh, is the sum of several "
                "points, of "
                "a split interval, or was moved: see the layers",
            )
        ]
    product = " × ".join(factors)
    return [
        words(
            f"{pulses} pulsos × {product} kWh por pulso = {words.exact(value)} kWh",
            f"{pulses} pulses × {product} kWh a pulse = {words.exact(value)} kWh",
        )
    ]


def _points(points: Sequence[PointReading], value: Fraction | None, words: Words) -> list[str]:
    """Each point's own product, and the sum with signs and shares."""
    lines, parts = [], []
    for one in points:
        name = words(f"ponto {one.point}", f"point {one.point}")
        if one.reading is None or one.energy_kwh is None or one.reading.pulses is None:
            lines.append(f"{name}: " + words("sem leitura deste intervalo", "no reading of this interval"))
            continue
        lines += [
            f"{name}: {line}"
            for line in _constant(one.reading.pulses, one.reading.meter, one.energy_kwh, words)
        ]
        share = "" if one.share == 1 else f"{one.share} × "
        sign = "−" if one.sign < 0 else "+"
        parts.append(f"{sign} {share}{words.exact(one.energy_kwh)}")
    if parts and value is not None:
        lines.append(f"{' '.join(parts).removeprefix('+ ')} = {words.exact(value)} kWh")
    return lines


def _losses(found: Trace, before: Fraction, after: Fraction, words: Words) -> list[str]:
    applied = [
        row for row in found.registry["losses"] if row["compensated_at"] == "platform" and row["percent"]
    ]
    if before == after:
        return [words("sem perdas a aplicar", "no losses to apply")]
    percents = {row["kind"]: Fraction(str(row["percent"])) for row in applied}
    by_kind = {kind: percents[kind] for kind in _KINDS if kind in percents}
    mode = found.layers[3].parameters.get("mode", "product")
    none = Fraction(0)
    factor = loss_factor(by_kind.get("transformation", none), by_kind.get("line", none), mode)
    if before * factor != after:
        return [
            words(
                f"perdas aplicadas: {words.exact(after)} kWh; as do cadastro de hoje dariam outro valor",
                f"losses applied: {words.exact(after)} kWh; those of today's registry would give another "
                "value",
            )
        ]
    parts = []
    for kind, percent in by_kind.items():
        name = words(*_KINDS[kind])
        shown = words.exact(1 + percent / 100) if mode == "product" else f"{words.exact(percent)} %"
        parts.append((shown, f"{name} {words.exact(percent)} %"))
    named = ", ".join(name for _, name in parts)
    if mode == "product":
        product = " × ".join(shown for shown, _ in parts)
    else:
        product = f"(1 + {' + '.join(shown for shown, _ in parts)})"
    return [f"{words.exact(before)} kWh × {product} ({named}) = {words.exact(after)} kWh"]
