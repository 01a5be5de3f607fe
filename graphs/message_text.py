"""The content of the message that a run writes: its text with citations, and its refusal. Pure."""

from collections.abc import Sequence

from graphs.machine.stream_parts import Citation
from graphs.machine.text_buffer import TextBuffer
from wire.events import Event
from wire.messages import Annotation, MessageContent, TextValue, annotation

__all__ = ["MessageText"]


class MessageText:
    """What was received of a message so far."""

    def __init__(self) -> None:
        self._text = TextBuffer()
        self._annotations: list[Annotation] = []
        self._refusals: list[str] = []

    @property
    def has_text(self) -> bool:
        """Whether any text was received."""
        return bool(self._text)

    def add(self, texts: Sequence[str]) -> None:
        """Add fragments of the text. This is the hot path."""
        self._text.extend(texts)

    def cite(self, part: Citation) -> tuple[int, Annotation]:
        """Add a marker to the text, and return the number and the object of its citation."""
        made = annotation(part.marker, part.file_id, self._text.chars)
        self._text.extend([part.marker])
        self._annotations.append(made)
        return len(self._annotations) - 1, made

    def refuse(self, text: str) -> None:
        """Add a fragment of the refusal."""
        self._refusals.append(text)

    def clear_text(self) -> None:
        """Remove the text, which was reasoning."""
        self._text, self._annotations = TextBuffer(), []

    def restore(self, event: Event, message_id: str) -> None:
        """Add what an event of the log says about the message; nothing if it is about something else."""
        if event.name not in ("thread.message.delta", "threadhold.reasoning.delta"):
            return
        data = event.data()
        if data["id"] != message_id:
            return
        if data.get("taken"):
            self.clear_text()
        for part in data.get("delta", {}).get("content", ()):
            if part["type"] == "refusal":
                self._refusals.append(part["refusal"])
            else:
                self._text.extend([part["text"]["value"]])
                for each in part["text"].get("annotations", ()):
                    del each["index"]
                    self._annotations.append(each)

    def content(self) -> list[MessageContent]:
        """Return the parts of the whole message. Even an empty message has a text."""
        content: list[MessageContent] = []
        if self._text or not self._refusals:
            text = TextValue(value=str(self._text), annotations=list(self._annotations))
            content.append({"type": "text", "text": text})
        if self._refusals:
            content.append({"type": "refusal", "refusal": "".join(self._refusals)})
        return content
