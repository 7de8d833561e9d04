"""A conversation as one text, for models that take nothing else.

Rules: marks that end a turn are broken up where people write them, or they could speak as somebody else; a bare prompt
(a completion without a system text) stays as it is.
Does not know: which model wants which.
Source: Meta's model cards of Llama 2 and 3, AWS's parameters of Titan.
"""

import re
from typing import Final

from outrider.dialects.canonical import Part, Refusal, Request, Text

__all__ = ["llama_prompt", "transcript", "words_of"]

_LLAMA_MARK: Final = re.compile(r"<\|(?=[a-z_]+\|>)|\[(?=/?INST\])|<<(?=/?SYS>>)")


def words_of(parts: list[Part]) -> str:
    """What is said in words, without a break between its parts."""
    return "".join(part.text for part in parts if isinstance(part, (Text, Refusal)))


def _spoken(parts: list[Part]) -> str:
    """A mark that ends a turn is broken up by a space."""
    return _LLAMA_MARK.sub(lambda found: found[0] + " ", words_of(parts))


def llama_prompt(request: Request) -> str:
    """Llama 3's marks; 2's for 2."""
    if request.is_completion and not request.system:
        return words_of(request.messages[0].parts) if request.messages else ""
    turns = [("system", _spoken(request.system))] if request.system else []
    turns += [(message.role, _spoken(message.parts)) for message in request.messages]
    if "llama2" in request.model:
        return _llama2(turns)
    said = "".join(f"<|start_header_id|>{role}<|end_header_id|>\n\n{words}<|eot_id|>" for role, words in turns)
    return f"<|begin_of_text|>{said}<|start_header_id|>assistant<|end_header_id|>\n\n"


def _llama2(turns: list[tuple[str, str]]) -> str:
    prompt, system = "", ""
    for role, words in turns:
        if role == "system":
            system = f"<<SYS>>\n{words}\n<</SYS>>\n\n"
        elif role == "user":
            prompt, system = f"{prompt}<s>[INST] {system}{words} [/INST]", ""
        else:
            prompt += f" {words} </s>"
    return prompt


_SPEAKER: Final = re.compile(r"^(User|Bot)(?=:)", re.MULTILINE)


def transcript(request: Request) -> str:
    """Titan's: who speaks stands before what is said."""
    if request.is_completion and not request.system:
        return words_of(request.messages[0].parts) if request.messages else ""
    turns = []
    for role, parts in [("system", request.system), *((one.role, one.parts) for one in request.messages)]:
        words = _SPEAKER.sub(r"\1 ", words_of(parts))
        if words:
            turns.append(words if role == "system" else f"{'Bot' if role == 'assistant' else 'User'}: {words}")
    return "\n".join(turns) + "\nBot:"
