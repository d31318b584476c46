"""The kinds of task in this room: what an example is, how it becomes arrays, how it is scored.

One kind a file, each an object ``KIND`` of :class:`xlt_ray.data.types.base.TaskType`; the registry
is :mod:`xlt_ray.config.task_types`.
"""
