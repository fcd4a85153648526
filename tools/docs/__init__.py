"""Writes what the documentation takes from the code: run ``make docs``.

Pages in ``docs/`` are written by hand. Two kinds of marks in them are filled here: tables, whose rows come from a JSON
file or from the code (``tables.py``), and texts, which are whole sections (``texts.py``). A test compares.
"""
