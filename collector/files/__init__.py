"""Files that technicians collected, brought in as sessions.

Charter: the octets that a path brings (`sources`), what they mean (`decode`, pure), evidence first and then
merged like any session (`importing`); CSV files of intervals the same way (`pulse_lines`,
`pulse_importing`). Not here: files that go out (`exchange`).
"""
