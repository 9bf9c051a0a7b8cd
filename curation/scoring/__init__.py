"""Scoring: log-probs of every response under the reference policy, by one of several engines."""
