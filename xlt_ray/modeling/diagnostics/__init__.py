"""How similar two languages are in an encoder, layer by layer; one diagnostic per file.

Every diagnostic is a function ``measure(first, second, links)``: the states of n sentences and of
their translations (:class:`xlt_ray.modeling.diagnostics.layer_states.States`), and the gold links
of their words, or None. It returns one number for each layer, the embeddings first, float64
``(num_layers + 1,)``; NaN if the number is not defined.
"""
