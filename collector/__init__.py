"""The service that talks to meters.

Charter: ways to meters (TCP out and in, serial lines and gateways), one session with one meter, the
sequences of commands that bring what is missing, and the service that works through the queue with limits and
back-off. It stores every frame before anything is decoded from it, and decodes only from what it stored.
What does not belong here: the octets of a protocol (`protocols`), tables and their merge rules (`storage`),
judging a value (`vee`).

`drivers` is the seam: a protocol is a driver with one session and one decoding, all else is common. A
technician's file is a session, too: `public_files` (pure) decodes it, `public_import` brings it in.

`planning`, `sequences`, `decode`, `decoded`, `clocks`, `command_policy`, `preview`, `readback`, `gates`,
`dial_in_kinds`, `clock_steps` and the scripts of `commands` and `clock_commands` are pure; `transports`,
`dial_in`, `callers`, `session`, `store`, `command_store`, `clock_store`, `settling` and `service` are
adapters. Of DLMS, `dlms_script` and `dlms_decode` are pure; `dlms_clock` waits between its questions and has
time, record and line as arguments; `dlms_session`, `dlms_secrets` and `dlms_counters` are adapters.

Of meters that speak by themselves, `stream_profiles`, `stream_frames` and `stream_decode` are pure,
`stream_line`, `streams` and `line_recording` adapters.

What changes a meter is on record before it is sent: see `command_store`.
"""
