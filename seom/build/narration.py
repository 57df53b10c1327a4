"""What a build tells its client: the classic builder's lines, stage after stage.

Stages that run at the same time would tear each other's lines apart, so only the first unfinished
one speaks; what later ones have to say waits until it is their turn.
"""

from __future__ import annotations

from collections.abc import Sequence

from seom.images.progress import Message, Report

SHORT_ID_DIGITS = 12


class Narrator:
    """The client's stream; one chapter for each stage, in the order of the Dockerfile."""

    def __init__(self, report: Report, lengths: Sequence[int]) -> None:
        """lengths tells how many steps each chapter has."""
        self._report = report
        self._total = sum(lengths)
        self.chapters = [
            Chapter(self, sum(lengths[:position]), self._total) for position in range(len(lengths))
        ]
        self._turn = 0

    def speak(self, chapter: Chapter, message: Message) -> None:
        """Pass a line on, now or when it is the chapter's turn."""
        if self._turn < len(self.chapters) and self.chapters[self._turn] is chapter:
            self._report(message)
        else:
            chapter.waiting.append(message)

    def end(self, chapter: Chapter) -> None:
        """A chapter has nothing more to say."""
        chapter.ended = True
        while self._turn < len(self.chapters) and self.chapters[self._turn].ended:
            self._turn += 1
            if self._turn < len(self.chapters):
                self._flush(self.chapters[self._turn])

    def end_all(self) -> None:
        """After a failure: what still waits comes out."""
        for chapter in self.chapters:
            if not chapter.ended:
                self.end(chapter)

    def _flush(self, chapter: Chapter) -> None:
        for message in chapter.waiting:
            self._report(message)
        chapter.waiting.clear()


class Chapter:
    """The voice of one stage."""

    def __init__(self, narrator: Narrator, done: int, total: int) -> None:
        self._narrator = narrator
        self._step = done
        self._total = total
        self.waiting: list[Message] = []
        self.ended = False

    def message(self, message: Message) -> None:
        """Any line, such as the progress of a pull."""
        self._narrator.speak(self, message)

    def tell(self, text: str) -> None:
        """A piece of text as it is."""
        self.message(Message(stream=text))

    def step(self, text: str) -> None:
        """The next instruction begins."""
        self._step += 1
        self.tell(f"Step {self._step}/{self._total} : {text}\n")

    def cached(self) -> None:
        """Its result was there already."""
        self.tell(" ---> Using cache\n")

    def running(self, container: str) -> None:
        """A container was started for it."""
        self.tell(f" ---> Running in {container}\n")

    def removed(self, container: str) -> None:
        """The container is gone again."""
        self.tell(f" ---> Removed intermediate container {container}\n")

    def result(self, image_id: str) -> None:
        """What an image with the steps so far would be called."""
        self.tell(f" ---> {image_id.removeprefix('sha256:')[:SHORT_ID_DIGITS]}\n")

    def end(self) -> None:
        """The stage is complete, or not needed any more."""
        self._narrator.end(self)
