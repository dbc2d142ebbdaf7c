"""The explorer: a run's report on this machine, with a panel whose answers come from Python."""
