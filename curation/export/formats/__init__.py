"""The layouts of an export, one a trainer that reads it."""
