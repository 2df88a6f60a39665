"""What changes a meter, or reads it for a person: previewed, approved, on record before it is sent, judged.

Charter: who may have which command sent (`policy`, `policy.toml`), what a person sees first (`preview`), the
scripts (`steps`, `scripts`, clocks in `clock/`), how a write is shown to have taken effect (`readback`), and
requests as they are asked for, taken and answered (`store`). Pure but for `store`, `clock.rule` and
`clock.storage`. Not here: octets (`protocols`), rows (`storage.commands`).
"""
