"""The language of what a command tells people: `--lang`, or SMF_LANG for all commands."""

from __future__ import annotations

from typing import Annotated

import typer

from documents import Language

LangOption = Annotated[
    Language, typer.Option("--lang", envvar="SMF_LANG", help="Language of what is shown: pt or en.")
]
