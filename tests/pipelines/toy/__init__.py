"""A protocol of its own, as another package would bring it: the meter answers a day's counts, a line each.

> READ 2026-11-20\n
< TOY 70000001\n  2026-11-20 0 12\n ... 2026-11-20 287 9\n  END\n
"""

from protocols.table import ProtocolEntry

ENTRY = ProtocolEntry(
    name="toy",
    models="toy.models:MODELS",
    driver="toy.driver:DRIVER",
    decoder="toy.decoder:DECODER",
    evidence="toy.evidence:LOCATOR",
    explanation="toy.explanation:LINE",
    simulator="toy.meter:serve",
    read="toy.cli:register_read",
    decode="toy.cli:register_decode",
    simulate="toy.cli:register_simulate",
)
