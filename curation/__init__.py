"""The domain: ingest, scoring, annotators, graphs, near-duplicates, rules and export. No database, no Prefect."""
