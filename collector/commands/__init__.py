"""What changes a meter, or reads it for a person: previewed, approved, on record before it is sent, judged.

Charter: who may have which command sent (`policy`, `policy.toml`), what a person sees first (`preview`), the
scripts (`steps`, `scripts`, clocks in `clock/`), how a write is shown to have taken effect (`readback`), and
commands in the database (`store`). Pure but for `store` and `clock.storage`. Not here: octets (`protocols`).
"""
