"""``python -m xlt_ray`` runs the command line ``xlt``."""

from xlt_ray.cli import main

if __name__ == "__main__":
    main()
