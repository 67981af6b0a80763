"""Functions that read numbers from the text of table cells, and a function that writes a number as a short text."""

import math
import re
from functools import lru_cache


def number(text: str) -> float | None:
    """Returns the finite number that ``text`` describes, or None if ``text`` is not a finite number.

    >>> number("1e3"), number("n/a"), number("inf")
    (1000.0, None, None)
    """
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) and "_" not in text else None


@lru_cache(maxsize=1024)  # a few labels occur again and again
def without_point(text: str) -> str:
    """Returns ``text`` without the decimals of a whole number: ``1.0`` becomes ``1``. Other text is unchanged.

    Some programs write class 1 as ``1.0`` if a cell in the column is empty.

    >>> without_point("1.0"), without_point("1.5")
    ('1', '1.5')
    """
    return str(int(text.partition(".")[0])) if re.fullmatch(r"[+-]?[0-9]{1,15}\.0+", text) else text


def often(times: float) -> str:
    """Returns ``times`` as a short text, for phrases such as ``8 times``.

    A number below 1.5 gets two decimals. Any other number is rounded to a whole number.

    >>> often(0.346), often(8.06)
    ('0.35', '8')
    """
    return f"{times:.2f}" if times < 1.5 else f"{times:,.0f}"
