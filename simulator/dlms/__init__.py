"""DLMS/COSEM meters: the load as objects (`meter`), one connection (`end`, `optical`), sockets (`server`)."""
