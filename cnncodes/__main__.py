"""``python -m cnncodes``: the command line."""

from cnncodes.cli import main

if __name__ == "__main__":
    main()
