"""The ``winnow`` commands, one module a room. Imports of heavy packages stand inside the functions."""

from __future__ import annotations

import typer

from flows.commands import (
    curate,
    demo,
    diagnose,
    doctor,
    export,
    ingest,
    run,
    schedule,
    score,
    sql,
    synth,
    train,
    versions,
    workspace,
)


def register_all(app: typer.Typer) -> None:
    """Add every command; each module of this package has a ``register``."""
    for module in (
        workspace,
        demo,
        ingest,
        run,
        schedule,
        doctor,
        score,
        diagnose,
        curate,
        export,
        sql,
        synth,
        train,
        versions,
    ):
        module.register(app)
