"""CCEE: the market operator's interface, from contract profile to receipt.

Charter: here live the contract profile (`profile`, `profiles/*.toml`), its closing dates (`deadlines`), the
exact bodies (`body`), the HTTP client (`client`) and what a reply says (`replies`), the append-only ledger of
what was told to CCEE (`ledger`), what is due (`survey`), the run that plans and sends (`delivery`,
`sending`), the month as CCEE counts it (`counting`), messages to connected agents (`notices`), and the strict
stand-in server (`standin/`).
What changes with CCEE's contract is data in a profile, never code. Values are taken as they are: losses,
estimation and rounding belong to `vee`, tables and bulk transfer to `storage`, schedules to orchestration.
"""
