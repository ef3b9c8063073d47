"""`python -m lightsweep`."""

from lightsweep.cli import main

if __name__ == "__main__":
    main()
