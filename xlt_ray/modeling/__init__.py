"""Encoders, fusion of their layers, heads, and the two networks that are trained.

Everything here is a plain PyTorch module or a function that makes, saves or loads one;
there is no Ray, no MLflow and no DeepSpeed. :mod:`xlt_ray.modeling.model_info` and
:mod:`xlt_ray.modeling.toy_models` stay free of torch, so that a plan can be made without it.
"""
