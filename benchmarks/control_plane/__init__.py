"""What the driver costs per trial, from the first to the ten-thousandth, with a thousand workers.

    python -m benchmarks.control_plane desk [--trials N] [--workers N] [--sampler S] [KEY=VALUE ...]
    python -m benchmarks.control_plane ask [--trials N] [--workers N]
    python -m benchmarks.control_plane dispatch [--trials N] [--workers N]
    python -m benchmarks.control_plane controller [--trials N] [--workers N] [--sampler S]
    python -m benchmarks.control_plane signs [--trials N]
    python -m benchmarks.control_plane tune [--trials N]

``desk`` is the driver with simulated workers (``desk.py``); ``ask`` is the sampler alone on ledgers
of growing length (``asking.py``); ``dispatch`` is the rule of who is handed out next alone
(``dispatch.py``). The others run trials that only report through Ray Tune (``drivers.py``), with
this project's driver and, but for ``signs``, with ``OptunaSearch``: ``controller`` has Tune's
controller and actors that are played (``controller.py``, ``actors.py``), ``signs`` too, of trials
that train on and say no more than that (``signs.py``), ``tune`` real Ray and MLflow (``tune.py``).
"""
