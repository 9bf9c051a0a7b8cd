"""The prompt of ``winnow sql``: one statement at a time, with completion over views, columns and keywords."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from flows.console import err
from flows.hints import error_line
from schemas.errors import QueryError
from warehouse.query import QuerySession

_WORD = re.compile(r"[\w.]+$")
_KEYWORDS = (
    *("select", "from", "where", "group by", "order by", "having", "limit", "join", "left join", "on", "using", "as"),
    *("and", "or", "not", "in", "is null", "distinct", "count", "sum", "avg", "min", "max", "case", "when", "then"),
    *("else", "end", "with", "union all", "between", "like", "unnest", "describe", "summarize", "filter", "over"),
)


class LakeCompleter(Completer):
    """Names of views and tables, columns of those that the statement names (all columns before), and keywords."""

    def __init__(self, columns: Sequence[tuple[str, str, str]]) -> None:
        """Take (view with schema, column, meaning) of every column that can be named."""
        self._columns: dict[str, list[tuple[str, str]]] = {}
        for view, column, meaning in columns:
            self._columns.setdefault(view, []).append((column, meaning))

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Completions of the word before the cursor."""
        found = _WORD.search(document.text_before_cursor)
        word = (found.group() if found else "").lower()
        if not word and not complete_event.completion_requested:
            return
        for text, meta in self._candidates(document.text, word):
            if text.lower().startswith(word):
                yield Completion(text, start_position=-len(word), display_meta=meta)

    def _candidates(self, text: str, word: str) -> Iterable[tuple[str, str]]:
        named = [view for view in self._columns if re.search(rf"\b{re.escape(view)}\b", text)]
        seen: set[str] = set()
        for view in named or self._columns:
            for column, meaning in self._columns[view]:
                if column not in seen:
                    seen.add(column)
                    yield column, meaning
        for view in self._columns:
            yield view, f"{len(self._columns[view])} columns"
            bare = view.partition(".")[2]
            if word and bare.startswith(word):
                yield view, "view"
        for keyword in _KEYWORDS:
            yield keyword, ""


def lake_columns(session: QuerySession) -> list[tuple[str, str, str]]:
    """View with schema, column and meaning of everything that a query can name, marts first."""
    rows = session.frame(
        """
        select columns.schema_name || '.' || columns.table_name as view, columns.column_name,
            coalesce(described.meaning || coalesce(' [' || described.unit || ']', ''), lower(columns.data_type))
        from duckdb_columns() as columns
        left join mart.columns as described
            on columns.schema_name = 'mart' and described.mart = columns.table_name
            and described.column_name = columns.column_name
        where columns.database_name = 'lake' and columns.schema_name in ('mart', 'model', 'raw')
        order by columns.schema_name, columns.table_name, columns.column_index
        """
    )
    return [(str(view), str(column), str(meaning)) for view, column, meaning in rows.iter_rows()]


def run_prompt(
    session: QuerySession,
    show: Callable[[pa.RecordBatchReader], None],
    *,
    workspace: Path,
    history: Path,
    **terminal: Any,
) -> None:
    """Read statements until end of input; each ends with a semicolon. Errors are said, and the prompt goes on.

    Args:
        session: where queries run.
        show: prints a result.
        workspace: folder as the user named it, for hints.
        history: file that keeps what was typed.
        terminal: ``input`` and ``output`` of prompt_toolkit, for another terminal than the own one.
    """
    prompt: PromptSession[str] = PromptSession(
        completer=LakeCompleter(lake_columns(session)),
        history=FileHistory(str(history)),
        multiline=True,
        key_bindings=_enter_runs_a_whole_statement(),
        prompt_continuation="   ... ",
        **terminal,
    )
    err.print("Read-only SQL; end a statement with ; and Enter. Tab completes, Ctrl-D leaves.")
    while True:
        try:
            text = prompt.prompt("winnow> ").strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if text in ("exit", "quit", "exit;", "quit;"):
            return
        if not text:
            continue
        try:
            with session.batches(text) as reader:
                show(reader)
        except QueryError as error:
            err.print(error_line(error, workspace), soft_wrap=True)


def _enter_runs_a_whole_statement() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter")
    def _(event: KeyPressEvent) -> None:
        text = event.current_buffer.text.strip()
        if not text or text.endswith(";") or text in ("exit", "quit"):
            event.current_buffer.validate_and_handle()
        else:
            event.current_buffer.insert_text("\n")

    return bindings
