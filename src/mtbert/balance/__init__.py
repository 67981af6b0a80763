"""How the gradients of several tasks become one: surgery and balancing.

Every method gives each task's whole gradient a weight, and finds the weights from inner products alone: gradients ->
:func:`mtbert.balance.gram.gram` -> a :data:`mtbert.balance.gram.Balance` -> :func:`mtbert.balance.gram.combine`. Heads
and adapters belong to one task each and keep their own gradient.
"""
