"""What the driver costs per trial, from the first to the ten-thousandth, with a thousand workers.

    python -m benchmarks.control_plane scheduler [--trials N] [--workers N] [--sampler S] [K=V]
    python -m benchmarks.control_plane ask [--trials N] [--workers N]
    python -m benchmarks.control_plane dispatch [--trials N] [--workers N]
    python -m benchmarks.control_plane controller [--trials N] [--workers N] [--sampler S]
    python -m benchmarks.control_plane heartbeats [--trials N]
    python -m benchmarks.control_plane tune [--trials N]

``scheduler`` is the driver with simulated workers, ``ask`` the sampler on growing ledgers,
``dispatch`` the choice of the next trial. The others run trials that only report through Ray Tune:
``controller`` with Tune's real controller and simulated actors, ``heartbeats`` the same with trials
that only train on, ``tune`` with real Ray and MLflow. ``controller`` and ``tune`` compare this
project's driver with ``OptunaSearch``.
"""
