"""`python -m orchestra`: the same program as the `orchestra` console script."""

from __future__ import annotations

from orchestra.cli.main import main

main()
