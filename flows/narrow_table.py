"""Tables that fit into a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Collection

from rich.box import SIMPLE
from rich.table import Column, Table


def narrow_table(*names: str, figures: Collection[str]) -> Table:
    """A table without edges: figures to the right and never broken, other cells wrapped where they must.

    Args:
        names: headers of the columns.
        figures: those of them that hold numbers.
    """
    columns = (Column(name, justify="right" if name in figures else "left", no_wrap=name in figures) for name in names)
    return Table(*columns, header_style="bold", box=SIMPLE, padding=(0, 1, 0, 0), show_edge=False)
