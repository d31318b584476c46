"""A sweep in motion: Ray Tune executes what the ledger asks and the stages need."""

import time

LOADED_S = time.monotonic()
"""When this process first imported this package, before the libraries that take seconds; Ray
starts the process of a trial, and has it do so, once the trial has its resources."""
