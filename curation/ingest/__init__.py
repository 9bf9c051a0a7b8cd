"""Readers: one module a format, each turning a file into the long form of judgments."""
