"""Contracts that every room shares: errors, enums, identifiers, and how a pair becomes tokens."""
