"""Which streams are whole, by what they say last."""

import pytest

from outrider.dialects import canonical
from outrider.dialects.base import Notes
from outrider.dialects.endings import ENDINGS, Ending
from outrider.dialects.registry import dialect

STREAMS = {
    "openai.chat": b'data: {"choices":[{"delta":{"content":"[DONE] \\"finish_reason\\":\\"x"}}]}\n\n|data: [DONE]\n\n',
    "openai.responses": b'data: {"type":"x.delta","delta":"\\"type\\":\\"response.completed\\""}\n\n|'
    b'event: response.completed\ndata: {"type":"response.completed","response":{}}\n\n',
    "anthropic.messages": b'data: {"type":"content_block_delta"}\n\n|data: {"type": "message_stop"}\n\n',
    "gemini.generate": b'data: {"candidates":[{"content":{}}]}\n\n|data: {"candidates":[{"finishReason": "STOP"}]}\n\n',
    "ollama.chat": b'{"message":{"content":"done"},"done":false}\n|{"done": true}\n',
    "cohere.chat": b'data: {"type":"content-delta"}\n\n|data: {"type":"message-end"}\n\n',
}  # fmt: skip


def is_whole(name: str, *pieces: bytes) -> bool:
    ending = Ending(ENDINGS[name])
    for piece in pieces:
        ending(None, piece)
    return ending(None, b"")


@pytest.mark.parametrize("name", list(STREAMS))
def test_a_stream_is_whole_once_its_last_word_has_come_however_it_was_cut(name: str) -> None:
    before, last = STREAMS[name].split(b"|")
    whole = before + last
    assert not is_whole(name)
    assert not is_whole(name, before)
    for at in range(len(whole) + 1):
        assert is_whole(name, whole[:at], whole[at:])
    assert is_whole(name, *(whole[i : i + 1] for i in range(len(whole))))


def test_an_error_that_the_stream_tells_itself_is_an_end() -> None:
    assert is_whole("openai.chat", b'data: {"error": {"message": "overloaded"}}\n\n')
    assert is_whole("ollama.chat", b'{"error":"the model broke"}\n')


@pytest.mark.parametrize("name", list(ENDINGS))
def test_what_each_adapter_writes_is_whole_with_its_end_and_not_without(name: str) -> None:
    spoken = dialect(name)
    assert spoken is not None
    request = canonical.Request("openai.chat", "m", [], stream=True)
    writer = spoken.stream_writer(request, Notes())
    begun = writer.write(
        [
            canonical.Start("id", "m", 1),
            canonical.PartStart(0, 0, canonical.Text("")),
            canonical.TextDelta(0, 0, "[DONE] message_stop"),
        ]
    )
    ended = writer.write([canonical.PartStop(0, 0), canonical.Finish(0, "stop"), canonical.End()])
    assert not is_whole(name, begun)
    assert is_whole(name, begun, ended)
