"""What changes a meter, or reads it for a person: previewed, approved, on record before it is sent, judged.

Charter: who may have which command sent (`policy`, `policy.toml`), what a person sees first (`preview`), the
work and its outcome (`steps`), clocks (`clock/`), and requests as they are asked for, taken and answered
(`store`). Pure but for `store`, `clock.policy` and `clock.storage`. Knows no protocol: how a command is done
is in `collector.nbr14522.commands` and `collector.dlms.clock`. Not here: rows (`storage.commands`).
"""
