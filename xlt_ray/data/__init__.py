"""Tasks, languages, sources, the zero-shot gate, and batches as numpy arrays; no torch."""
