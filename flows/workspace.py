"""A workspace: a folder with ``winnow.toml``, the lake, exports, checkpoints and summaries."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from flows.settings import FILE_NAME, Settings, load_settings
from schemas.errors import WorkspaceError
from warehouse.connection import make_folder
from warehouse.lake import Lake


@dataclass(frozen=True)
class Workspace:
    """Where everything of one curated set lies."""

    root: Path
    settings: Settings

    @classmethod
    def open(cls, root: Path) -> Workspace:
        """Open an existing workspace.

        Raises:
            WorkspaceError: the folder holds no ``winnow.toml``.
            ConfigError: ``winnow.toml`` is not valid.
        """
        path = root / FILE_NAME
        if not path.is_file():
            raise WorkspaceError(f"{root} is not a Winnow workspace", mend=f"winnow init {root}")
        return cls(root, load_settings(path))

    @classmethod
    def create(cls, root: Path) -> Workspace:
        """Make a workspace, or open the one that is there; an existing ``winnow.toml`` is left as it is."""
        if root.exists() and not root.is_dir():
            raise WorkspaceError(f"{root} is a file, not a folder", mend="give a folder for the workspace")
        make_folder(root)
        path = root / FILE_NAME
        if not path.exists():
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text("# Settings of this workspace; docs/settings.md lists every key.\n", encoding="utf-8")
            temporary.replace(path)
        workspace = cls.open(root)
        Lake.create(root, workspace.settings.lake).close()
        return workspace

    def lake(self, *, read_only: bool = False) -> Lake:
        """Open the workspace's lake."""
        return Lake.open(self.root, self.settings.lake, read_only=read_only)

    @property
    def exports(self) -> Path:
        """Folder of the exports."""
        return self.root / "exports"

    @property
    def checkpoints(self) -> Path:
        """Folder of the trained models."""
        return self.root / "checkpoints"

    @property
    def summaries(self) -> Path:
        """Folder of the Markdown summaries."""
        return self.root / "summaries"
