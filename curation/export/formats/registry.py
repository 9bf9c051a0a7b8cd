"""Every layout by name."""

from __future__ import annotations

from curation.export.formats import trl, winnow
from curation.export.formats.layout import Layout
from curation.export.formats.others import AXOLOTL, HF_DATASET, LLAMA_FACTORY, NEMO_RL, OPENRLHF
from curation.rules.expressions import closest
from schemas.errors import ExportError

LAYOUTS: dict[str, Layout] = {
    layout.name: layout for layout in (winnow.LAYOUT, trl.LAYOUT, LLAMA_FACTORY, OPENRLHF, AXOLOTL, NEMO_RL, HF_DATASET)
}


def find_layout(name: str) -> Layout:
    """A layout by name.

    Raises:
        ExportError: there is none of this name.
    """
    if name not in LAYOUTS:
        near = closest(name, LAYOUTS)
        known = ", ".join(LAYOUTS)
        raise ExportError(f"there is no export format {name!r}", mend=f"did you mean {near[0]}?" if near else known)
    return LAYOUTS[name]
