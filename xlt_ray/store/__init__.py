"""What is to be made and where it is kept: stages, keys, paths, store, leases. No torch."""
