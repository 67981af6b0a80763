"""``python -m mtbert`` is ``mtbert``."""

from mtbert.cli import main

main()
