"""Which code, packages and machine a run used: recorded, kept alive in git, laid out to run."""
