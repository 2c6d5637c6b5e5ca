"""`python -m braindino`."""

from braindino.cli import main

if __name__ == "__main__":
    main()
