"""Questions to the user, one at a time, each with numbered answers of which Enter takes the first."""

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
            given = self.read().replace(",", " ").split()
            numbers = [int(word) - 1 for word in given if word.isdecimal()]
            known = all(0 <= number < len(answers) for number in numbers)
            if known and len(numbers) == len(given) and (several or len(given) < 2):
                return list(dict.fromkeys(numbers)) if numbers or several else [0]
            self.console.print(f"Type {'numbers' if several else 'a number'} from 1 to {len(answers)}.")
