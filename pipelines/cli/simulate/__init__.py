"""`smf simulate`: meters that answer until they are stopped; one module a protocol."""
