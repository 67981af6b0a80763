"""Samplers, which choose the task of a step, and streams, which choose its rows.

Both depend only on the seed and on how far the run is, so a resumed run draws what an uninterrupted one would.
"""
