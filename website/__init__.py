"""Builds the documents as a website: ``python -m website FOLDER``, or ``make site``."""
