"""`smf decode`: octets of a capture into words; one module a kind of octets, `source` for their source."""
