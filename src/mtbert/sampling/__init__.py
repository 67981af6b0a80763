"""Samplers, which choose the task of each step, and streams, which choose its rows.

Both depend only on the seed and on the progress of the run. A resumed run therefore draws the same tasks and rows as an
uninterrupted run.
"""
