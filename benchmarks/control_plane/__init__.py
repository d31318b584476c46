"""What the driver costs per trial, from the first to the ten-thousandth, with a thousand workers.

    python -m benchmarks.control_plane scheduler [--trials N] [--workers N] [--sampler S] [K=V]
    python -m benchmarks.control_plane ask [--trials N] [--workers N]
    python -m benchmarks.control_plane dispatch [--trials N] [--workers N]
    python -m benchmarks.control_plane controller [--trials N] [--workers N] [--sampler S]
    python -m benchmarks.control_plane signs [--trials N]
    python -m benchmarks.control_plane tune [--trials N]

``scheduler`` is the driver with simulated workers (``scheduler.py``); ``ask`` is the sampler on
ledgers of growing length (``asking.py``); ``dispatch`` is the choice of the next trial
(``dispatch.py``). The others run trials that only report through Ray Tune (``drivers.py``), with
this project's driver and, but for ``signs``, with ``OptunaSearch``: ``controller`` has Tune's
controller and actors that are played (``controller.py``, ``actors.py``), ``signs`` too, of trials
that train on and say no more than that (``signs.py``), ``tune`` real Ray and MLflow (``tune.py``).
"""
