"""ABNT NBR 14522: the exchange of information between reader and electronic meter.

Charter, by module, from the wire upwards:

- `crc`, `bcd`, `frames`: octets of one frame, plain (P0) and addressed (P8, P2);
- `commands`: the catalogue: name, kind, composite or not, known layout, how sure we are;
- `messages`: typed requests and responses, decoded by the reader's side and encoded by the meter's;
- `sending`: what may be sent to a meter, writes whose layout only its manual gives, tokens of command 11;
- `sequences`: the usual orders of commands;
- `memory`: the 12-bit words of the mass memory, vectorised;
- `profile`, `profiles`: what differs between meters and what no public source settles, as named settings;
- `models`, `models.toml`: the catalogue of meter models, data; `survey`: how a strange meter gets its entry;
- `link`: the two state machines, `ReaderLink` and `MeterLink`;
- `checks`: what one answer proves about another.

Octets are numbered from 1, as the reference does (`o1` is the first octet on the wire). Times are naive: the
meter's own wall clock, which knows no zone; who reads the meter knows what zone it was set to. Not here: the
text and FK7 file forms, and who may send what.
"""
