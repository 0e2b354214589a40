"""Benchmarks behind the numbers of the README: `make bench`."""
