"""Measurements: scripts that write their reports to bench/results, see bench/README.md."""
