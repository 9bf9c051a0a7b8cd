"""One small reader a format: each turns JSON rows into candidates for judgments, in SQL, and knows its own rows."""
