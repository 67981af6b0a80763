"""Making parts. A part is an output file with the answers to a fixed number of consecutive rows of one input file.

Part ``k`` begins with row ``k * part_rows`` of the input file. Only the last part may have fewer than ``part_rows``
rows. The content of a part depends only on the model, the input file and the options, so any process can make it at any
time.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mtbert.data import streams
from mtbert.data.streams import RowStream
from mtbert.messages import few, near, shown
from mtbert.part_share import PartShare
from mtbert.recipe.settings import Recipe
from mtbert.use.part_files import Filled, InputFile, PartFolder, PartRecord, part_writer
from mtbert.use.predictor import Predictor
from mtbert.use.scorer import Scorer
from mtbert.use.trained import load_whole

BLOCK_ROWS = 8192  # rows that are sorted by length and answered together


@dataclass
class Maker:
    """Answers the rows of input files, and writes the answers as parts. A part is an output file.

    Attributes:
        scorer: Answers the rows.
        parts: The output folder.
        part_rows: The largest number of rows in a part.
        share: Says which parts this command makes.
        tick: Called after each block of rows, with the number of its rows and the fraction of the current file that has
            been read.
    """

    scorer: Scorer
    parts: PartFolder
    part_rows: int
    share: PartShare = field(default_factory=PartShare)
    tick: Callable[[int, float], None] = lambda rows, share: None

    def make(self, given: InputFile, only: int | None = None, *, wait: bool = False) -> Iterator[int | None]:
        """Makes the missing parts of one input file. A part is an output file with the answers to some of the rows.

        Parts outside ``self.share`` are left out. If ``only`` is a number, all parts but the one with this number are
        left out too. Yields the number of each part that this call has made. Yields None for a part that another
        process is making at the moment; if ``wait`` is true, waits for that process instead.
        """
        if self.ended(given):
            return
        with streams.opened_stream(given.name, given.path, self.scorer.wanted) as stream:
            number = 0
            if stream.more() or given.suffix != ".jsonl":  # an empty file of JSON lines names no columns
                self.check_columns(given, stream.columns)
            if not stream.more():
                with self.parts.claimed(given, 0, wait=True):
                    self.parts.write(given, 0, None)
            while stream.more() and (only is None or number <= only):
                if not self.share.has(given.number + number) or only not in (None, number):
                    stream.skip(self.part_rows)
                else:
                    with self.parts.claimed(given, number, wait=wait) as free:
                        if not free:
                            yield None
                        if not free or self.parts.record(given, number) is not None:
                            stream.skip(self.part_rows)
                        else:
                            self.parts.write(given, number, partial(self._fill, stream))
                            yield number
                number += 1

    def ended(self, given: InputFile) -> bool:
        """Returns whether this command is done with an input file.

        The answers to a file are written in parts, and several commands may share the parts. This command is done if
        all its own parts and the last part of the file are finished. Another command may make the last part.
        """
        return self.complete(self.parts.finished(given), lambda number: self.share.has(given.number + number))

    def pending(self, given: InputFile) -> list[int | None]:
        """Returns the indices of the parts of a file that this command has yet to make with :meth:`make`.

        Parts can be listed for a Parquet file only. For any other file, returns an empty list if :meth:`ended` is
        true, otherwise ``[None]``, which stands for all parts.
        """
        found = self.parts.finished(given)
        if given.suffix != ".parquet":
            return [] if self.ended(given) else [None]
        with streams.opened_parquet(given.name, given.path) as file:
            rows = int(file.metadata.num_rows)
        numbers = range(max(1, -(-rows // self.part_rows)))
        return [number for number in numbers if self.share.has(given.number + number) and number not in found]

    def complete(self, found: Mapping[int, PartRecord], wanted: Callable[[int], bool] = lambda _: True) -> bool:
        """Returns whether the last part of an input file, and each earlier part that the caller wants, is finished.

        The last part must be finished even if the caller does not want it. ``found`` holds the records of the finished
        parts, by part number. ``wanted`` takes a part number, and returns whether the caller wants the part.
        """
        stop = next((number + 1 for number, record in found.items() if record.last), None)
        return stop is not None and all(number in found for number in range(stop) if wanted(number))

    def _fill(self, stream: RowStream, file: Path) -> Filled:
        rows, without = 0, dict.fromkeys(self.scorer.tasks, 0)
        with part_writer(file, self.scorer) as write:
            while rows < self.part_rows and stream.more():
                block = stream.take(min(BLOCK_ROWS, self.part_rows - rows))
                scored = self.scorer.score(block)
                write(block, scored)
                rows += block.size
                for task, number in scored.without.items():
                    without[task] += number
                self.tick(block.size, stream.share())
        return Filled(rows, not stream.more(), without)

    def check_columns(self, given: InputFile, columns: Collection[str]) -> None:
        """Raises a ValueError if the columns of a file do not suit the tasks.

        The file must have all columns that the tasks read. The file must have no column whose name the output files use
        for an answer.
        """
        check_has(given.name, columns, self.scorer.wanted)
        if clash := [name for name in self.scorer.names.values() if name in columns]:
            raise ValueError(
                f"{given.name}: has a column {shown(clash[0])}, which is the name of an answer in the parts of other "
                "files. Rename the column."
            )


def check_has(name: str, columns: Collection[str], wanted: Sequence[str]) -> None:
    """Raises a ValueError if the file ``name`` lacks one of the ``wanted`` columns."""
    for column in wanted:
        if column not in columns:
            raise ValueError(
                f"{name}: there is no column {shown(column)}, found {few(columns, quoted=True)}."
                f"{near(column, columns)} All files must have the columns of the first."
            )


@dataclass(frozen=True)
class PartPlan:
    """Everything that a process needs to make parts, as plain values that can be sent to another machine.

    A part is an output file with the answers to some rows of an input file.

    Attributes:
        run: The folder of the run or model.
        recipe: The recipe of the run, which names the columns that tasks read.
        tasks: The tasks that answer.
        single: Whether answers are written without the name of the task.
        columns: The columns of the first input file.
        name: The name of the input file from which ``columns`` were read, for messages.
        suffix: The ending of the parts.
        folder: The output folder.
        part_rows: The largest number of rows in a part.
        model: The SHA-256 of the files of the model.
        share: The parts that this command makes.
    """

    run: Path
    recipe: Recipe
    tasks: tuple[str, ...]
    single: bool
    columns: tuple[str, ...]
    name: str
    suffix: str
    folder: Path
    part_rows: int
    model: str
    share: PartShare

    def maker(self, predictor: Predictor | None = None) -> Maker:
        """Returns a :class:`Maker` for the parts that this plan names.

        The maker uses ``predictor``. If ``predictor`` is None, the model is loaded.

        Raises:
            ValueError: If the files of the loaded model have changed since the plan was made.
        """
        if predictor is None:
            predictor, model = load_whole(self.run)
            if model != self.model:
                raise ValueError(
                    f"{self.run}: its model was replaced since the command began. Start again, with another --output "
                    "if some parts are finished."
                )
        scorer = Scorer(
            predictor,
            self.recipe,
            self.tasks,
            single=self.single,
            columns=self.columns,
            name=self.name,
            suffix=self.suffix,
        )
        return Maker(scorer, PartFolder(self.folder, self.suffix), self.part_rows, self.share)
