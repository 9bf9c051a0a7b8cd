"""Curation rules: SQL expressions over the diagnostics of a pair that decide what happens to it."""
