"""Writers: the curated set as a folder that a trainer reads."""
