"""Preference graphs: one a prompt and criterion, responses as nodes, the votes on a pair between two of them."""

from curation.graphs.preference_graphs import PreferenceGraphs, preference_graphs

__all__ = ["PreferenceGraphs", "preference_graphs"]
