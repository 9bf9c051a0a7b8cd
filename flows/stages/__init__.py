"""One module a stage: each joins a workspace's lake to the domain and returns a :class:`flows.report.StageReport`."""
