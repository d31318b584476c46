"""Runs a sweep: Ray Tune executes the trials that the ledger asks for."""

import time

LOADED_S = time.monotonic()
"""When this process imported this package, before libraries that take seconds. Ray starts the
process of a trial, which imports it, when the trial has its resources."""
