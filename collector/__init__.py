"""The service that talks to meters.

Charter: what there is to do (`work`), which of it may begin
(`gates`), the service that works through the queue with limits and back-off (`service`, `batching`,
`drain`), and what becomes of sessions (`conversing`, `finishing`, `merging`). It stores every frame before
anything is decoded from it, and decodes only from what it stored. `drivers` is the seam: a protocol is a
driver with one session and one decoding, all else is common. One folder each: `lines` (ways to meters),
`nbr14522`, `dlms`, `streams` (meters that speak by themselves), `files` (a technician's file is a session,
too), `commands` (what changes a meter). What does not belong here: the octets of a protocol (`protocols`),
tables and their merge rules (`storage`), judging a value (`vee`).
"""
