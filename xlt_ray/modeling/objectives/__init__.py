"""Training objectives besides the plain loss of labels: one objective per file.

All of them keep the promise of :mod:`xlt_ray.modeling.network`: a loss is a sum over labels
divided by the batch's ``denominator``, so that the losses and gradients of micro-batches add up
to those of the full batch.
"""
