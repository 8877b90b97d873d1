"""`python -m pangen` is `pangen`."""

from pangen.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
