/* One answer as the client takes it: head, framing, body; every byte compared with what the upstream sent.
 *
 * Rules: the first difference is the row's error and ends the run. Where a gateway writes the body anew (--check
 * content), the words are compared instead: the whole text of an answer, every event's text in its order, and the end
 * that the dialect's streams have.
 * A refusal (--refusals 1) is right when it is a 429 that says x-outrider-error: rate_limited and explains itself.
 * Does not know: sockets, TLS; it is told bytes and calls answer_done() of load_conn.h once.
 */
#ifndef BENCH_LOAD_ANSWER_H
#define BENCH_LOAD_ANSWER_H

#include <openssl/ssl.h>
#include <strings.h>

#include "load_options.h"
#include "load_samples.h"
#include "payload.h"

#define HEAD_CAP 16384
#define HELD_CAP (PAYLOAD_CAP * 8)

enum phase { CONNECTING, TUNNEL, HANDSHAKE, SEND, HEAD, BODY, IDLE };
enum framing { LENGTH, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER };

struct conn {
    int fd;
    SSL *ssl;
    SSL_SESSION *session; /* of the connection before, to be resumed */
    enum phase phase;
    bool wants_out, warm, close_after, refused;
    char *request; /* its own copy where keys differ, else the one of all */
    const char *out;
    size_t out_len;
    size_t head_len;
    enum framing framing;
    size_t left;    /* of the body (LENGTH) or of the chunk */
    size_t line;    /* bytes of the size line or trailer line so far */
    size_t body_at; /* bytes of the body so far */
    int next_event;
    uint64_t began_ns, event_ns; /* of the request; of the last event */
    char *held;                  /* the body, where it is not compared byte by byte */
    size_t scanned;
    char head[HEAD_CAP + 1];
};

static struct text expected, expected_content;
static size_t event_end[EVENTS];
static struct text event_content[EVENTS];
static struct samples latency, first_event, gap;
static uint64_t event_count;
static bool measuring;

static void fail(struct conn *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void answer_done(struct conn *c);
static void became_warm(struct conn *c);

static void expect_answer(void)
{
    expected = is_stream ? answer_sse : answer_bytes ? answer_of((size_t)answer_bytes) : answer_json;
    expected_content = content_of(expected);
    for (int i = 0; i < EVENTS; i++) {
        event_end[i] = (size_t)(events[i].at - answer_sse.at) + events[i].len;
        event_content[i] = content_of(events[i]);
    }
}

static void begin_answer(struct conn *c)
{
    c->head_len = c->body_at = c->scanned = 0;
    c->next_event = 0;
    c->refused = false;
}

static void took_event(struct conn *c)
{
    if (measuring) {
        uint64_t now = pace_us != 0 || c->next_event == 0 ? now_ns() : 0;
        event_count++;
        if (c->next_event == 0)
            add_sample(&first_event, now - c->began_ns);
        else if (pace_us != 0 && c->event_ns != 0)
            add_sample(&gap, now - c->event_ns);
        c->event_ns = now;
    }
    if (c->next_event++ == 0 && hold)
        became_warm(c);
}

static bool compare(struct conn *c, const char *at, size_t len)
{
    if (len > expected.len - c->body_at || memcmp(at, expected.at + c->body_at, len) != 0) {
        size_t i = 0;
        while (i < len && c->body_at + i < expected.len && at[i] == expected.at[c->body_at + i])
            i++;
        fail(c, "body differs at byte %zu: %.*s", c->body_at + i, (int)(len - i < 60 ? len - i : 60), at + i);
        return false;
    }
    c->body_at += len;
    while (is_stream && c->next_event < EVENTS && c->body_at >= event_end[c->next_event])
        took_event(c);
    return true;
}

/* The texts of a stream that was written anew, each in its turn. */
static void scan_events(struct conn *c)
{
    while (c->next_event < EVENTS - 2) {
        struct text content = event_content[c->next_event];
        char *found = memmem(c->held + c->scanned, c->body_at - c->scanned, content.at, content.len);
        if (found == NULL)
            return;
        c->scanned = (size_t)(found - c->held) + content.len;
        took_event(c);
    }
}

static bool keep(struct conn *c, const char *at, size_t len)
{
    if (c->held == NULL && (c->held = malloc(HELD_CAP)) == NULL)
        abort();
    if (len > HELD_CAP - c->body_at) {
        fail(c, "body of more than %d bytes", HELD_CAP);
        return false;
    }
    memcpy(c->held + c->body_at, at, len);
    c->body_at += len;
    if (is_stream && !c->refused)
        scan_events(c);
    return true;
}

static bool take_data(struct conn *c, const char *at, size_t len)
{
    return c->refused || is_rewritten ? keep(c, at, len) : compare(c, at, len);
}

static bool holds(struct conn *c, struct text words)
{
    return c->held != NULL && memmem(c->held, c->body_at, words.at, words.len) != NULL;
}

/* The body has ended: was it the one that should have come? */
static bool is_whole(struct conn *c)
{
    static const struct text limited = {"\"rate_limited\"", 14};
    static const struct text done = {"[DONE]", 6}, stopped = {"\"message_stop\"", 14}; /* OpenAI's, Anthropic's */
    if (c->refused) {
        if (holds(c, limited))
            return true;
        fail(c, "a refusal that does not say why");
        return false;
    }
    if (!is_rewritten) {
        if (c->body_at == expected.len)
            return true;
        fail(c, "body ended after %zu of %zu bytes", c->body_at, expected.len);
        return false;
    }
    if (is_stream ? c->next_event == EVENTS - 2 && (holds(c, done) || holds(c, stopped)) : holds(c, expected_content)) {
        event_count += is_stream && measuring ? 2 : 0; /* usage and [DONE] */
        return true;
    }
    fail(c, "the answer's text is not whole: %.*s", (int)(c->body_at < 60 ? c->body_at : 60), c->held ? c->held : "");
    return false;
}

/* One step inside a chunked body's framing bytes; returns bytes taken, 0 on failure or end (phase says which). */
static size_t take_framing(struct conn *c, char byte)
{
    switch (c->framing) {
    case CHUNK_SIZE:
        if (byte == '\n') {
            c->framing = c->left ? CHUNK_DATA : TRAILER;
            c->line = 0;
        } else if (byte != '\r') {
            int low = byte | 32; /* a digit has that bit already */
            int digit = low >= '0' && low <= '9' ? low - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
            if (digit < 0 || ++c->line > 8) {
                fail(c, "bad chunk size");
                return 0;
            }
            c->left = c->left * 16 + (size_t)digit;
        }
        return 1;
    case CHUNK_END:
        if (byte == '\n') {
            c->framing = CHUNK_SIZE;
            c->left = c->line = 0;
        }
        return 1;
    default: /* TRAILER: an empty line ends it */
        if (byte == '\n' && c->line == 0) {
            answer_done(c);
            return 0;
        }
        c->line = byte == '\n' ? 0 : byte == '\r' ? c->line : c->line + 1;
        return 1;
    }
}

static void take_body(struct conn *c, const char *at, size_t len)
{
    while (len > 0 && c->phase == BODY) {
        if (c->framing != LENGTH && c->framing != CHUNK_DATA) {
            if (take_framing(c, *at) == 0)
                return;
            at++, len--;
            continue;
        }
        size_t n = len < c->left ? len : c->left;
        if (!take_data(c, at, n))
            return;
        at += n, len -= n;
        if ((c->left -= n) > 0)
            return;
        if (c->framing == LENGTH) {
            if (len > 0)
                fail(c, "%zu bytes came after the end of an answer", len);
            else
                answer_done(c);
            return;
        }
        c->framing = CHUNK_END;
    }
}

static const char *header(const char *head, const char *name)
{
    size_t len = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, len) == 0)
            return line + len + strspn(line + len, " ");
    }
    return NULL;
}

/* The status is one that is expected here; the head ends in a NUL. */
static bool take_status(struct conn *c)
{
    if (strncmp(c->head, "HTTP/1.1 200", 12) == 0)
        return true;
    const char *code = header(c->head, "x-outrider-error:");
    c->refused = refusals && c->phase == HEAD && strncmp(c->head, "HTTP/1.1 429", 12) == 0 && code != NULL &&
                 strncmp(code, "rate_limited\r", 13) == 0;
    if (!c->refused)
        fail(c, "%s answered %.40s", c->phase == TUNNEL ? "CONNECT was" : "request was", c->head);
    return c->refused;
}

static void take_head(struct conn *c, const char *at, size_t len)
{
    size_t room = HEAD_CAP - c->head_len, n = len < room ? len : room;
    size_t before = c->head_len;
    memcpy(c->head + before, at, n);
    c->head_len += n;
    char *end = memmem(c->head, c->head_len, "\r\n\r\n", 4);
    if (end == NULL) {
        if (c->head_len == HEAD_CAP)
            fail(c, "head of more than %d bytes", HEAD_CAP);
        return;
    }
    size_t head_len = (size_t)(end - c->head) + 4;
    end[2] = 0;
    if (!take_status(c))
        return;
    if (c->phase == TUNNEL) {
        c->phase = HANDSHAKE;
        c->head_len = 0;
        return;
    }
    const char *length = header(c->head, "content-length:"), *coding = header(c->head, "transfer-encoding:");
    const char *ending = header(c->head, "connection:");
    c->close_after = ending != NULL && strncasecmp(ending, "close", 5) == 0;
    if (length == NULL && (coding == NULL || strncasecmp(coding, "chunked", 7) != 0)) {
        fail(c, "answer without length");
        return;
    }
    c->framing = length ? LENGTH : CHUNK_SIZE;
    c->left = length ? strtoul(length, NULL, 10) : 0;
    c->line = 0;
    c->phase = BODY;
    if (c->framing == LENGTH && c->left == 0)
        answer_done(c);
    take_body(c, at + (head_len - before), len - (head_len - before));
}

#endif
