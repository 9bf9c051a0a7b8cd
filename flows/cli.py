"""The ``winnow`` command. Nothing heavy is imported before a command runs, so ``--help`` is quick."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from flows.commands import register_all
from schemas.errors import WinnowError

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
}

PATIENCE_S = 20.0
"""So long another process than torchrun's first waits to be ended by torchrun before it prints its error."""


class _Commands(TyperGroup):
    """The commands; of several processes, one prints what is wrong with a command line."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().make_context(*args, **kwargs)
        except TyperException:
            _leave_it_to_the_first()
            raise

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TyperException:
            _leave_it_to_the_first()
            raise


INTERRUPTED = 130
"""Exit code behind Ctrl-C."""

app = typer.Typer(
    name="winnow",
    cls=_Commands,
    help="Find the preference pairs on which alignment training goes wrong, mend them, and train on the rest.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
register_all(app)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        typer.echo(f"winnow {version('winnow-curation')}")
        raise typer.Exit


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    if debug:
        os.environ["WINNOW_DEBUG"] = "1"


def main(arguments: list[str] | None = None) -> None:
    """Run the command; an error that the user can mend is one line and exit code 2.

    Under torchrun all processes meet the same error, and the line is the first one's: behind it torchrun ends the
    others. One that met an error alone prints it after :data:`PATIENCE_S`.

    Args:
        arguments: the process's own where None.
    """
    for name, value in TELEMETRY_OFF.items():
        os.environ.setdefault(name, value)
    try:
        with _one_standard_output():
            _run(arguments)
    except SystemExit as end:
        if os.environ.get("WORLD_SIZE", "1") != "1":
            from training.processes import end_process

            end_process(end.code)
        raise


@contextmanager
def _one_standard_output() -> Iterator[None]:
    """Results, help and version of torchrun's first process alone."""
    if os.environ.get("RANK", "0") == "0":
        yield
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


def _run(arguments: list[str] | None) -> None:
    try:
        app(args=arguments)
    except WinnowError as error:
        if os.environ.get("WINNOW_DEBUG") == "1":
            raise
        _print_error(error, sys.argv[1:] if arguments is None else arguments)
        sys.exit(2)
    except RuntimeError as error:
        from warehouse.connection import is_interrupt

        if not is_interrupt(error):
            raise
        sys.exit(INTERRUPTED)


def _print_error(error: WinnowError, arguments: list[str]) -> None:
    from flows.console import err
    from flows.hints import error_line, given_workspace

    _leave_it_to_the_first()
    err.print(error_line(error, given_workspace(arguments)), soft_wrap=True)


def _leave_it_to_the_first() -> None:
    """Wait until torchrun ends this process, because the first one has ended; return where that does not come."""
    from training.processes import rank

    if rank() != 0:
        time.sleep(PATIENCE_S)


if __name__ == "__main__":
    main()
