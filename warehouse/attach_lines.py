"""The lines that attach the lake, read-only, in somebody's own DuckDB: shell, Python and R."""

from __future__ import annotations

from warehouse.connection import LakeLocation, extension_path, literal


def attach_lines(location: LakeLocation) -> dict[str, tuple[str, str, str]]:
    """Three lines for each client, by its name.

    The extensions are the files that came with this installation, so nothing is downloaded; they fit DuckDB of the
    same version.
    """
    names = ["httpfs"] if "://" in location.data_path else []
    names += ["sqlite_scanner" if location.catalog_kind == "sqlite" else "postgres_scanner", "ducklake"]
    load = "; ".join(f"load {literal(str(extension_path(name)))}" for name in names)
    catalog, data = literal(f"ducklake:{location.catalog}"), literal(location.data_path)
    attach = f"attach {catalog} as lake (data_path {data}, read_only); use lake"
    query = "select * from mart.pair_diagnostics limit 10"
    return {
        "DuckDB shell": (f"{load};", f"{attach};", f"{query};"),
        "Python": (
            "import duckdb; con = duckdb.connect()",
            f'con.execute("{load}; {attach}")',
            f'con.sql("{query}").show()',
        ),
        "R": (
            "library(duckdb); con <- dbConnect(duckdb())",
            f'dbExecute(con, "{load}"); dbExecute(con, "{attach}")',
            f'dbGetQuery(con, "{query}")',
        ),
    }
