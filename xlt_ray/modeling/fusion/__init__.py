"""How the hidden states of all layers become one state per piece; one method a file.

Every fusion is an ``nn.Module`` made by ``Fusion(num_layers, hidden_size, settings)`` and called
with ``hidden_states``, a tuple of ``num_layers + 1`` tensors ``(batch, length, hidden)`` whose
first is the embeddings, and ``attention_mask`` ``(batch, length)``, 1 for pieces and 0 for
padding. It returns ``(batch, length, hidden)``; what it returns at padding is not used. A
piece's result depends neither on how much padding follows nor on the other rows of the batch.

A fusion may name the ``layers`` that it reads, -1 for the last; other states may then be None, so
that they take no memory. Without it, a fusion reads all layers.

A fusion may promise its initial output: ``initial(hidden_states)`` returns the output of a new
module, ``(batch, length, hidden)``, and the tolerance for any value.
"""
