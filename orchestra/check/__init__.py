"""Is a task what orchestra relies on? Its contract, rule by rule, each with a clear finding.

Part of the training plane: runs a task's own code on a few utterances, on the CPU, in one process;
the last rule (`processes`) in two. `orchestra task check` runs all of it as a program, tests run
all but that one through `orchestra.testing`.
"""
