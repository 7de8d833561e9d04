"""The app of `outrider demo`: an ordinary script with the official SDKs, which knows nothing of a sidecar.

It is run by another interpreter, as any user's script would be, and imports nothing of this project.
"""

import os
import time

import anthropic
import openai

CALLS_AT_MOST = 50
PAUSE_S = 0.15  # for who reads along: an answer from memory is there at once


def ask_openai(client: openai.OpenAI) -> None:
    print("asking gpt-5-mini, whole answer:")
    answer = client.chat.completions.create(
        model="gpt-5-mini", messages=[{"role": "user", "content": "Who rides beside the carriage?"}]
    )
    print(f"  {answer.choices[0].message.content}")


def stream_openai(client: openai.OpenAI) -> None:
    print("asking gpt-5-mini, streamed:")
    print("  ", end="", flush=True)
    chunks = client.chat.completions.create(
        model="gpt-5-mini",
        messages=[{"role": "user", "content": "each word of this answer arrives on its own as it is spoken"}],
        stream=True,
    )
    for chunk in chunks:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


def stream_anthropic(client: anthropic.Anthropic) -> None:
    print("asking claude-sonnet-4-6, streamed:")
    print("  ", end="", flush=True)
    with client.messages.stream(
        model="claude-sonnet-4-6",
        max_tokens=64,
        messages=[{"role": "user", "content": "and a second provider speaks its own dialect just as well"}],
    ) as stream:
        for text in stream.text_stream:
            print(text, end="", flush=True)
    print()


def ask_thrice(client: openai.OpenAI) -> None:
    for words in ("asking gpt-4o:", "asking gpt-4o the same again:", "and once more:"):
        print(words)
        time.sleep(PAUSE_S)
        answer = client.chat.completions.create(
            model="gpt-4o", temperature=0, messages=[{"role": "user", "content": "Who answers when you are down?"}]
        )
        print(f"  {answer.choices[0].message.content} (says {answer.model})")


def run_into_the_limit(client: openai.OpenAI) -> None:
    print("asking gpt-5-mini again and again:")
    impatient = client.with_options(max_retries=0)
    for number in range(1, CALLS_AT_MOST + 1):
        try:
            impatient.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "again"}])
        except openai.RateLimitError as error:
            print(f"  call {number}: {type(error).__name__} {error.status_code}: {error.body['message']}")  # type: ignore[index]
            return
    print(f"  {CALLS_AT_MOST} calls and no limit")


def main() -> None:
    print(f"my OPENAI_API_KEY    is {os.environ['OPENAI_API_KEY']}")
    print(f"my ANTHROPIC_API_KEY is {os.environ['ANTHROPIC_API_KEY']}")
    with openai.OpenAI() as gpt, anthropic.Anthropic() as claude:
        ask_openai(gpt)
        stream_openai(gpt)
        stream_anthropic(claude)
        ask_thrice(gpt)
        run_into_the_limit(gpt)


if __name__ == "__main__":
    main()
