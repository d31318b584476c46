"""How a stage is made: one loop on a DeepSpeed engine, evaluation, and the walk along a path."""
