"""A sweep in motion: Ray Tune executes what the ledger asks and the stages need."""
