"""From one state per piece to logits: one kind of task a file.

A head is called with ``hidden`` ``(batch, length, hidden)`` and ``attention_mask``
``(batch, length)``.
"""
