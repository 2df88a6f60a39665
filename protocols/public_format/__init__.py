"""The public file formats of NBR 14522 readings: FK7 (raw blocks) and the text format.

Charter: `names` (the file name that carries a date), `fk7` (blocks of 256 octets), `text` (2,400 header
characters and lines of memory). All are pure: bytes in, values out, and back unchanged. `scan` takes what is
good of a damaged file. Which readings go into a file, and where it is kept, is the exporter's affair. Facts:
reference "nbr14522", section 10.

Regions of the text header that no source describes stay blank, and are listed by `text.UNDESCRIBED`.
"""

from protocols.public_format.fk7 import read_fk7, write_fk7
from protocols.public_format.names import FileKind, file_name, parse_name
from protocols.public_format.text import ReaderRecord, TextFile, read_text, write_text

__all__ = [
    "FileKind",
    "ReaderRecord",
    "TextFile",
    "file_name",
    "parse_name",
    "read_fk7",
    "read_text",
    "write_fk7",
    "write_text",
]
