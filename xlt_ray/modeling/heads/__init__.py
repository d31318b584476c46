"""From one state per piece to logits and their loss: one kind of task a file.

A head is called with ``hidden`` ``(batch, length, hidden)``, or ``(batch, options, length,
hidden)`` where a batch shows several options for every example, and with ``attention_mask`` of
the same shape but for the last.
"""
