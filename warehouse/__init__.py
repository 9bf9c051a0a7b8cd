"""The lake: one DuckLake of preference judgments, scores, diagnostics and decisions."""
