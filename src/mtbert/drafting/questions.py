"""Questions to the user, one at a time. The user chooses from numbered answers. Enter alone chooses a suggested answer.

Each answer is shown as a name, such as the name of a column. Two spaces and an explanation may follow the name. To
choose an answer, the user types its number or its name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console

from mtbert.messages import clean


@dataclass(frozen=True)
class Questions:
    """Asks the user. If ``read`` is None, nobody is asked, and the answers are those that Enter alone would give.

    Attributes:
        console: The console that shows a question.
        read: A function that returns the line that the user types.
    """

    console: Console
    read: Callable[[], str] | None

    def one(self, question: str, answers: Sequence[str]) -> int:
        """Returns the index of the answer that the user chooses. Enter alone chooses the first answer."""
        return self._ask(question, answers, "Enter takes 1", several=False)[0] if len(answers) > 1 else 0

    def several(self, question: str, answers: Sequence[str], guess: Sequence[int]) -> list[int]:
        """Returns the indices of the answers that the user chooses. If the user chooses none, returns ``guess``."""
        if len(answers) < 2 or self.read is None:
            return list(guess)
        taken = " ".join(str(number + 1) for number in guess)
        return self._ask(question, answers, f"one or more; Enter takes {taken}", several=True) or list(guess)

    def _ask(self, question: str, answers: Sequence[str], enter: str, *, several: bool) -> list[int]:
        if self.read is None:
            return [0]
        self.console.print(question, soft_wrap=True)
        for number, answer in enumerate(answers, 1):
            self.console.print(f"  {number}  {clean(answer)}", soft_wrap=True)
        while True:
            self.console.print(f"{enter}: ", end="")
            chosen = _chosen(self.read(), [answer.partition("  ")[0] for answer in answers])
            if chosen is not None and (several or len(chosen) < 2):
                return chosen if chosen or several else [0]
            wanted = ("numbers", "names") if several else ("a number", "a name")
            self.console.print(f"Type {wanted[0]} from 1 to {len(answers)}, or {wanted[1]}.")


def _chosen(typed: str, names: Sequence[str]) -> list[int] | None:
    """Returns the indices of the answers that a user has typed, or None if a typed word stands for no answer.

    The user types names of answers, or their numbers, which count from 1. Spaces or commas separate them.

    >>> _chosen("1, id", ["text", "label", "id"])
    [0, 2]
    """
    whole = typed.strip()
    parts = [whole] if whole in names else [part.strip() for part in whole.split(",")]  # a name may contain commas
    words = [word for part in parts for word in ([part] if part in names else part.split())]
    known = {name: index for index, name in reversed(list(enumerate(names)))}
    known |= {str(index + 1): index for index in range(len(names))}  # a number never means a column of this name
    return list(dict.fromkeys(known[word] for word in words)) if all(word in known for word in words) else None
