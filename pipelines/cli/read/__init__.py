"""`smf read`: one meter, now, without the queue; one module a protocol, and the survey of a strange meter."""
