"""The registry: who is metered, by what, since when, as files and as tables.

Charter: the sheets and their SQL (`sheets`), the cells of a file and what they mean (`cells`, `codes`),
workbooks and CSV files (`workbook`, `files`), loading and writing back (`loading`), and the registry as the
derivation sees it on given days (`snapshot`). What only other rooms know of the contents (check digits,
strategies, meter profiles, URLs) comes in as `Rules`.
"""

from storage.registry.loading import (
    ImportResult,
    RegistryFault,
    Rules,
    SheetResult,
    export_registry,
    load_registry,
)
from storage.registry.sheets import SUBMITTED
from storage.registry.snapshot import RegistrySnapshot, snapshot

__all__ = [
    "SUBMITTED",
    "ImportResult",
    "RegistryFault",
    "RegistrySnapshot",
    "Rules",
    "SheetResult",
    "export_registry",
    "load_registry",
    "snapshot",
]
