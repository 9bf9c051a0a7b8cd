"""Wiring: Prefect flows, stages and the ``winnow`` command. The only place that joins the other packages."""
