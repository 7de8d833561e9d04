/* What client and upstream of the bench say to each other, built once by both from this one source.
 *
 * Rules: the sizes are those of everyday chat traffic (1.4 kB request, 1.4 kB answer, 200 events of about 217 bytes),
 * or what prompt_of() and answer_of() are asked for: the same words, more of them.
 * The client compares every byte of every answer, so a proxy that changes one is an error row and never a fast row.
 * The stream's request asks for usage itself: no proxy then has a reason to add or to remove an event.
 */
#ifndef BENCH_PAYLOAD_H
#define BENCH_PAYLOAD_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS 200
#define PAYLOAD_CAP (EVENTS * 400)

struct text {
    char *at;
    size_t len;
};

static struct text request_plain, request_stream, answer_json, answer_sse;
static struct text events[EVENTS]; /* slices of answer_sse */

static struct text text_of(const char *prefix, size_t filler, const char *suffix)
{
    static const char words[] = "the quick brown fox jumps over the lazy dog and then rests for a while ";
    struct text t = {malloc(strlen(prefix) + filler + strlen(suffix) + 1), 0};
    if (t.at == NULL)
        abort();
    t.len = strlen(prefix);
    memcpy(t.at, prefix, t.len);
    for (size_t i = 0; i < filler; i++)
        t.at[t.len++] = words[i % (sizeof words - 1)];
    memcpy(t.at + t.len, suffix, strlen(suffix) + 1);
    t.len += strlen(suffix);
    return t;
}

/* The last string named "content" in a JSON body or event, with its quotes; empty where there is none. */
static struct text content_of(struct text body)
{
    static const char name[] = "\"content\":";
    struct text found = {body.at, 0};
    for (char *at = body.at; (at = strstr(at, name)) != NULL && at < body.at + body.len;) {
        at += sizeof name - 1;
        found = (struct text){at, (size_t)(strchr(at + 1, '"') + 1 - at)};
    }
    return found;
}

static void build_events(void)
{
    answer_sse.at = malloc(PAYLOAD_CAP);
    if (answer_sse.at == NULL)
        abort();
    for (int i = 0; i < EVENTS; i++) {
        char *at = answer_sse.at + answer_sse.len;
        const char *head = "data: {\"id\":\"chatcmpl-Bench0123456789abcdefghij\",\"object\":\"chat.completion.chunk\","
                           "\"created\":1750000000,\"model\":\"gpt-4o-mini\",\"system_fingerprint\":\"fp_0123456789\",";
        int n;
        if (i == EVENTS - 1)
            n = sprintf(at, "data: [DONE]\n\n");
        else if (i == EVENTS - 2)
            n = sprintf(at, "%s\"choices\":[],\"usage\":{\"prompt_tokens\":231,\"completion_tokens\":198,"
                            "\"total_tokens\":429}}\n\n", head);
        else
            n = sprintf(at, "%s\"choices\":[{\"index\":0,\"delta\":{\"content\":\" w%03d\"},\"logprobs\":null,"
                            "\"finish_reason\":null}]}\n\n", head, i);
        events[i].at = at;
        events[i].len = (size_t)n;
        answer_sse.len += (size_t)n;
    }
}

#define PROMPT_HEAD "{\"model\":\"gpt-4o-mini\",\"temperature\":0.2,\"max_tokens\":256,\"messages\":[" \
                    "{\"role\":\"system\",\"content\":\"You are a helpful assistant.\"}," \
                    "{\"role\":\"user\",\"content\":\""
#define PROMPT_TAIL "\"}]}"
#define ANSWER_HEAD "{\"id\":\"chatcmpl-Bench0123456789abcdefghij\",\"object\":\"chat.completion\"," \
                    "\"created\":1750000000,\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"message\":" \
                    "{\"role\":\"assistant\",\"content\":\""
#define ANSWER_TAIL "\"},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":231," \
                    "\"completion_tokens\":198,\"total_tokens\":429},\"system_fingerprint\":\"fp_0123456789\"}"

/* The body of `bytes` bytes; never less than one word of filler. */
static struct text filled(const char *head, size_t bytes, const char *tail)
{
    size_t fixed = strlen(head) + strlen(tail);
    return text_of(head, bytes > fixed ? bytes - fixed : 1, tail);
}

static struct text prompt_of(size_t bytes)
{
    return filled(PROMPT_HEAD, bytes, PROMPT_TAIL);
}

static struct text answer_of(size_t bytes)
{
    return filled(ANSWER_HEAD, bytes, ANSWER_TAIL);
}

static void payload_init(void)
{
    request_plain = text_of(PROMPT_HEAD, 1180, PROMPT_TAIL);
    request_stream = text_of("{\"model\":\"gpt-4o-mini\",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
                             "\"temperature\":0.2,\"max_tokens\":256,\"messages\":["
                             "{\"role\":\"system\",\"content\":\"You are a helpful assistant.\"},"
                             "{\"role\":\"user\",\"content\":\"",
                             1130, "\"}]}");
    answer_json = text_of(ANSWER_HEAD, 1000, ANSWER_TAIL);
    build_events();
}

#endif
