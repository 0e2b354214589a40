"""The index of all runs: SQLite, one file per workspace. Run folders are the truth behind it."""
