"""Makes ``python -m mtbert`` do the same as the command ``mtbert``."""

from mtbert.cli import main

main()
