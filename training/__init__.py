"""Preference training on an export: objectives, log-probs, the trainer and the metrics that tell the truth."""
