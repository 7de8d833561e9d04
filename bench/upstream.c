/* The provider of the bench: HTTP/1.1 with keep-alive on one epoll loop, plain and over TLS.
 *
 *   upstream --http PORT [--tls PORT --cert FILE --key FILE] --auth VALUE [--rewritten 1]
 *
 * POST .../chat/completions gets 1.4 kB of JSON, or 200 server-sent events (one chunk and one write each) where the
 * body has the length of payload.h's stream request. The header x-bench-pace-us: N waits N microseconds between
 * events; without it the streams take turns, an event each, as they would from a provider: one stream's events do not
 * come in one lump. x-bench-answer-bytes: N asks for an answer of N bytes, x-bench-delay-us: N for a slow one.
 * x-bench-sum: HEX lets the prompt be any bytes of that FNV-1a sum (64 bits), and x-bench-events: N then streams an
 * answer of N events: callers of many sizes and models, still checked.
 * It refuses what a provider refuses: another path 404, another authorization 401, no content-length 411, and 400
 * where one byte of the prompt was changed. Below /rewritten/, for gateways that write the body anew, it is 400 where
 * the prompt's text is not whole; there a stream is what says "stream": true, and its pace is the body's "seed", where
 * it says one. --rewritten 1 takes every path so.
 * It does not know: pipelining beyond its buffer, chunked requests, HTTP/1.0, more than one core.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "payload.h"

#define IN_CAP 65536
#define MAX_CONNECTIONS 65536
#define FRAMES (EVENTS + 1) /* the last one ends the chunked body */
#define FNV_BASIS 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u
#define SIZES 32            /* different prompt and answer sizes in the life of one process */

struct conn {
    int fd; /* -1: a listener's entry never gets here */
    SSL *ssl;
    bool handshaking, wants_out, streaming;
    bool has_turn; /* an unpaced stream may write one event */
    long queue_at; /* index among the unpaced streams that wait for their turn, -1: not there */
    size_t have;
    bool in_body, is_rewritten, is_summed, wants_stream, delayed;
    uint64_t sum, wanted_sum;   /* of the body so far, and what it must come to */
    const char *prompt;         /* what the rest of the body must be, NULL: it is refused already */
    size_t body_left;
    int refused_status;         /* 0: answered as asked */
    const char *refused_reason; /* always static memory */
    size_t answer_bytes;        /* 0: the everyday answer */
    struct text out;            /* what is left to write: always static memory */
    int next_frame, skip_frame; /* at the latter the last two events follow */
    uint32_t pace_us, delay_us;
    uint64_t due_us;
    long heap_at; /* index in the heap of paced connections, -1: not in it */
    char in[IN_CAP];
};

struct listener {
    int fd;
    bool tls;
};

static struct listener listeners[2];
static int listener_count, epoll_fd;
static SSL_CTX *tls_context;
static const char *expected_auth = "";
static bool all_rewritten;
static struct text plain_answer, stream_head, frames[FRAMES];
static struct text prompts[SIZES], answers[SIZES]; /* of other sizes, built when first asked for */
static size_t answer_sizes[SIZES];
static struct conn *heap[MAX_CONNECTIONS];
static long heap_len;
static struct conn *queue[MAX_CONNECTIONS];
static long queue_len;

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void die(const char *what)
{
    fprintf(stderr, "upstream: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- the heap of connections that wait for their next paced event, earliest first ---- */

static void heap_put(long i, struct conn *c)
{
    heap[i] = c;
    c->heap_at = i;
}

static void heap_settle(long i)
{
    struct conn *c = heap[i];
    while (i > 0 && heap[(i - 1) / 2]->due_us > c->due_us) {
        heap_put(i, heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    for (;;) {
        long child = 2 * i + 1;
        if (child >= heap_len)
            break;
        if (child + 1 < heap_len && heap[child + 1]->due_us < heap[child]->due_us)
            child++;
        if (heap[child]->due_us >= c->due_us)
            break;
        heap_put(i, heap[child]);
        i = child;
    }
    heap_put(i, c);
}

static void heap_push(struct conn *c)
{
    heap_put(heap_len++, c);
    heap_settle(c->heap_at);
}

static void heap_remove(struct conn *c)
{
    long i = c->heap_at;
    c->heap_at = -1;
    heap_len--;
    if (i != heap_len) {
        heap_put(i, heap[heap_len]);
        heap_settle(i);
    }
}

/* ---- the unpaced streams, an event each per turn ---- */

static void queue_push(struct conn *c)
{
    c->queue_at = queue_len;
    queue[queue_len++] = c;
}

static void queue_remove(struct conn *c)
{
    struct conn *last = queue[--queue_len];
    queue[c->queue_at] = last;
    last->queue_at = c->queue_at;
    c->queue_at = -1;
}

/* ---- one connection ---- */

static void drop(struct conn *c)
{
    if (c->heap_at >= 0)
        heap_remove(c);
    if (c->queue_at >= 0)
        queue_remove(c);
    if (c->ssl != NULL) {
        SSL_shutdown(c->ssl);
        SSL_free(c->ssl);
    }
    close(c->fd);
    free(c);
}

static void watch(struct conn *c, bool out)
{
    if (c->wants_out == out)
        return;
    c->wants_out = out;
    struct epoll_event e = {.events = out ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

/* > 0 bytes, 0 would block, -1 ended or broken */
static long tls_result(struct conn *c, int n)
{
    if (n > 0)
        return n;
    int code = SSL_get_error(c->ssl, n);
    ERR_clear_error();
    return code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static long conn_write(struct conn *c)
{
    if (c->ssl != NULL)
        return tls_result(c, SSL_write(c->ssl, c->out.at, (int)c->out.len));
    ssize_t n = send(c->fd, c->out.at, c->out.len, MSG_NOSIGNAL);
    return n >= 0 ? n : errno == EAGAIN ? 0 : -1;
}

static long conn_read(struct conn *c)
{
    size_t room = IN_CAP - 1 - c->have;
    if (room == 0)
        return -1;
    if (c->ssl != NULL)
        return tls_result(c, SSL_read(c->ssl, c->in + c->have, (int)room));
    ssize_t n = recv(c->fd, c->in + c->have, room, 0);
    return n > 0 ? n : n < 0 && errno == EAGAIN ? 0 : -1;
}

/* The value of a header in a head that ends in a NUL, or NULL; `name` ends in a colon. */
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

static struct text refusal(int status, const char *reason)
{
    static char out[4][256];
    static int turn; /* several connections may be refused in one turn of the loop */
    char *at = out[turn = (turn + 1) % 4];
    int body = (int)strlen(reason) + 24;
    int n = snprintf(at, 256, "HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                              "{\"error\":{\"message\":\"%s\"}}", status, reason, body, reason);
    return (struct text){at, (size_t)n};
}

#define COMMON_HEADERS "date: Sat, 01 Nov 2025 12:00:00 GMT\r\nopenai-organization: bench\r\n" \
                       "openai-processing-ms: 12\r\nx-request-id: req_0123456789abcdef\r\n" \
                       "x-ratelimit-limit-requests: 10000\r\nx-ratelimit-remaining-requests: 9999\r\n"

static struct text http_answer(struct text body)
{
    char *at = malloc(body.len + 1024);
    if (at == NULL)
        die("memory");
    size_t n = (size_t)sprintf(at, "HTTP/1.1 200 OK\r\n" COMMON_HEADERS
                               "content-type: application/json\r\ncontent-length: %zu\r\n\r\n", body.len);
    memcpy(at + n, body.at, body.len);
    return (struct text){at, n + body.len};
}

/* The prompt of that length, NULL: there is none. */
static const char *prompt_for(size_t body_len)
{
    if (body_len == request_stream.len)
        return request_stream.at;
    if (body_len == request_plain.len)
        return request_plain.at;
    for (int i = 0; i < SIZES && body_len > request_plain.len; i++) {
        if (prompts[i].len == 0)
            prompts[i] = prompt_of(body_len);
        if (prompts[i].len == body_len)
            return prompts[i].at;
    }
    return NULL;
}

static struct text answer_for(size_t bytes)
{
    if (bytes == 0)
        return plain_answer;
    for (int i = 0; i < SIZES; i++) {
        if (answer_sizes[i] == 0) {
            answer_sizes[i] = bytes;
            answers[i] = http_answer(answer_of(bytes));
        }
        if (answer_sizes[i] == bytes)
            return answers[i];
    }
    die("too many sizes of answers");
    return plain_answer;
}

static unsigned long number(const char *head, const char *name)
{
    const char *value = header(head, name);
    return value ? strtoul(value, NULL, 10) : 0;
}

static void refuse(struct conn *c, int status, const char *reason)
{
    if (c->refused_status == 0) {
        c->refused_status = status;
        c->refused_reason = reason;
    }
}

/* What the head asks for, and whether it may; the head ends in a NUL. */
static void judge(struct conn *c, const char *head)
{
    const char *line_end = strstr(head, "\r\n");
    const char *auth = header(head, "authorization:");
    c->refused_status = 0;
    c->body_left = number(head, "content-length:");
    c->is_rewritten = all_rewritten || strncmp(head, "POST /rewritten/", 16) == 0;
    c->is_summed = header(head, "x-bench-sum:") != NULL;
    c->sum = FNV_BASIS;
    c->wanted_sum = c->is_summed ? strtoull(header(head, "x-bench-sum:"), NULL, 16) : 0;
    c->prompt = c->is_rewritten || c->is_summed ? NULL : prompt_for(c->body_left);
    c->pace_us = (uint32_t)number(head, "x-bench-pace-us:");
    c->delay_us = (uint32_t)number(head, "x-bench-delay-us:");
    c->answer_bytes = number(head, "x-bench-answer-bytes:");
    if (strncmp(head, "POST ", 5) != 0 ||
        memmem(head, (size_t)(line_end - head), "chat/completions HTTP/1.1", 25) == NULL)
        refuse(c, 404, "Not Found");
    if (*expected_auth && (auth == NULL || strncmp(auth, expected_auth, strlen(expected_auth)) != 0 ||
                           auth[strlen(expected_auth)] != '\r'))
        refuse(c, 401, "Unauthorized");
    if (header(head, "content-length:") == NULL)
        refuse(c, 411, "Length Required");
    if (c->prompt == NULL && !c->is_rewritten && !c->is_summed)
        refuse(c, 400, "Body Was Changed");
    unsigned long events_wanted = c->is_summed ? number(head, "x-bench-events:") : 0;
    c->wants_stream = events_wanted != 0 || c->prompt == request_stream.at;
    c->skip_frame = events_wanted > 2 && events_wanted < EVENTS ? (int)events_wanted - 2 : EVENTS - 2;
}

static void discard(struct conn *c, size_t bytes)
{
    c->have -= bytes;
    memmove(c->in, c->in + bytes, c->have);
}

static bool take_head(struct conn *c)
{
    c->in[c->have] = 0;
    char *end = memmem(c->in, c->have, "\r\n\r\n", 4);
    if (end == NULL)
        return false;
    end[2] = 0; /* header() reads whole lines and stops here */
    judge(c, c->in);
    discard(c, (size_t)(end - c->in) + 4);
    c->in_body = true;
    return true;
}

/* What follows a name in JSON, white space skipped; "" where it is not there. The buffer ends in a NUL. */
static const char *json_value(const char *body, const char *name)
{
    const char *at = strstr(body, name);
    return at ? at + strlen(name) + strspn(at + strlen(name), ": ") : "";
}

/* true: the body is whole. It is read where it stands: one that does not fit the buffer does not get here. */
static bool take_rewritten_body(struct conn *c)
{
    if (c->have < c->body_left)
        return false;
    c->in[c->have] = 0;
    c->wants_stream = strncmp(json_value(c->in, "\"stream\""), "true", 4) == 0;
    struct text prompt = content_of(c->wants_stream ? request_stream : request_plain);
    if (memmem(c->in, c->body_left, prompt.at, prompt.len) == NULL)
        refuse(c, 400, "Body Was Changed");
    unsigned long seed = strtoul(json_value(c->in, "\"seed\""), NULL, 10);
    c->pace_us = seed ? (uint32_t)seed : c->pace_us;
    discard(c, c->body_left);
    c->body_left = 0;
    return true;
}

/* true: the body is whole; its bytes are compared as they come, so that it may be larger than the buffer. */
static bool take_body(struct conn *c)
{
    if (c->is_rewritten && c->body_left > IN_CAP / 2) {
        refuse(c, 413, "Too Large To Be Compared");
        c->is_rewritten = false; /* the rest is skipped */
    }
    if (c->is_rewritten)
        return take_rewritten_body(c);
    size_t n = c->have < c->body_left ? c->have : c->body_left;
    if (c->prompt != NULL && memcmp(c->in, c->prompt, n) != 0)
        refuse(c, 400, "Body Was Changed");
    if (c->prompt != NULL)
        c->prompt += n;
    for (size_t i = 0; i < n && c->is_summed; i++)
        c->sum = (c->sum ^ (unsigned char)c->in[i]) * FNV_PRIME;
    c->body_left -= n;
    discard(c, n);
    if (c->body_left == 0 && c->is_summed && c->sum != c->wanted_sum)
        refuse(c, 400, "Body Was Changed");
    return c->body_left == 0;
}

static struct text answer(struct conn *c)
{
    if (c->refused_status != 0)
        return refusal(c->refused_status, c->refused_reason);
    if (!c->wants_stream)
        return answer_for(c->answer_bytes);
    c->streaming = true;
    c->next_frame = 0;
    c->due_us = now_us(); /* the first event does not wait */
    return stream_head;
}

/* Not due yet: in the heap until then. */
static bool must_wait(struct conn *c)
{
    if (now_us() < c->due_us) {
        if (c->heap_at < 0)
            heap_push(c);
        return true;
    }
    if (c->heap_at >= 0)
        heap_remove(c);
    return false;
}

/* Takes one whole request off the buffer and sets its answer; false: no whole request there yet, or not answered yet. */
static bool take_request(struct conn *c)
{
    if (!c->delayed) {
        if ((!c->in_body && !take_head(c)) || !take_body(c))
            return false;
        c->in_body = false;
        c->due_us = now_us() + c->delay_us;
        c->delayed = true;
    }
    if (c->delay_us != 0 && must_wait(c))
        return false;
    c->delayed = false;
    c->out = answer(c);
    return true;
}

/* What is next to write, once `out` is empty; false: nothing now. */
static bool refill(struct conn *c)
{
    if (!c->streaming)
        return take_request(c);
    if (c->pace_us == 0 && !c->has_turn) {
        if (c->queue_at < 0)
            queue_push(c);
        return false;
    }
    c->has_turn = false;
    if (c->pace_us != 0 && c->next_frame < FRAMES - 1) {
        if (must_wait(c))
            return false;
        c->due_us += c->pace_us;
    }
    c->out = frames[c->next_frame++];
    if (c->next_frame == c->skip_frame)
        c->next_frame = EVENTS - 2;
    c->streaming = c->next_frame < FRAMES;
    return true;
}

/* Writes until nothing is left or the peer is slow; false: the connection is gone. */
static bool pump(struct conn *c)
{
    for (;;) {
        while (c->out.len > 0) {
            long n = conn_write(c);
            if (n < 0) {
                drop(c);
                return false;
            }
            if (n == 0) {
                watch(c, true);
                return true;
            }
            c->out.at += n;
            c->out.len -= (size_t)n;
        }
        if (!refill(c)) {
            watch(c, false);
            return true;
        }
    }
}

static void on_ready(struct conn *c)
{
    if (c->handshaking) {
        long n = tls_result(c, SSL_accept(c->ssl));
        if (n < 0)
            drop(c);
        if (n <= 0)
            return;
        c->handshaking = false;
    }
    for (;;) {
        long n = conn_read(c);
        if (n < 0) {
            drop(c);
            return;
        }
        if (n == 0)
            break;
        c->have += (size_t)n;
        if (!pump(c) || c->ssl == NULL)
            return; /* level-triggered: what is left wakes us again; TLS may hold bytes that epoll cannot see */
    }
    pump(c);
}

static void on_connect(struct listener *l)
{
    int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct conn *c = calloc(1, sizeof *c);
    if (c == NULL)
        die("memory");
    c->fd = fd;
    c->heap_at = c->queue_at = -1;
    if (l->tls) {
        c->ssl = SSL_new(tls_context);
        SSL_set_fd(c->ssl, fd);
        c->handshaking = true;
    }
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e);
}

static void run_due(void)
{
    uint64_t now = now_us();
    while (heap_len > 0 && heap[0]->due_us <= now) {
        struct conn *c = heap[0];
        heap_remove(c);
        pump(c);
    }
}

static void run_turns(void)
{
    static struct conn *now[MAX_CONNECTIONS];
    long count = queue_len;
    memcpy(now, queue, (size_t)count * sizeof *now);
    queue_len = 0;
    for (long i = 0; i < count; i++)
        now[i]->queue_at = -1;
    for (long i = 0; i < count; i++) { /* pump() frees at most the one it is given, and each stands here once */
        now[i]->has_turn = true;
        pump(now[i]);
    }
}

/* Until something is ready or due; milliseconds would be too coarse for the pace. */
static int wait_ready(struct epoll_event *ready, int cap)
{
    struct timespec left = {0, 0};
    if (queue_len == 0 && heap_len == 0)
        return epoll_wait(epoll_fd, ready, cap, -1);
    uint64_t now = now_us();
    if (queue_len == 0 && heap[0]->due_us > now)
        left = (struct timespec){(time_t)((heap[0]->due_us - now) / 1000000u),
                                 (long)((heap[0]->due_us - now) % 1000000u * 1000u)};
    return epoll_pwait2(epoll_fd, ready, cap, &left, NULL);
}

/* ---- start ---- */

static void build_answers(void)
{
    plain_answer = http_answer(answer_json);
    char *at = malloc(1024), *end = at;
    if (at == NULL)
        die("memory");
    end += sprintf(end, "HTTP/1.1 200 OK\r\n%scontent-type: text/event-stream; charset=utf-8\r\n"
                        "transfer-encoding: chunked\r\n\r\n", COMMON_HEADERS);
    stream_head = (struct text){at, (size_t)(end - at)};
    for (int i = 0; i < EVENTS; i++) {
        at = malloc(events[i].len + 16);
        if (at == NULL)
            die("memory");
        size_t n = (size_t)sprintf(at, "%zx\r\n", events[i].len);
        memcpy(at + n, events[i].at, events[i].len);
        memcpy(at + n + events[i].len, "\r\n", 2);
        frames[i] = (struct text){at, n + events[i].len + 2};
    }
    frames[EVENTS] = (struct text){"0\r\n\r\n", 5};
}

static void listen_on(int port, bool tls)
{
    struct listener *l = &listeners[listener_count++];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    l->tls = tls;
    l->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(l->fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(l->fd, 4096) != 0)
        die("cannot listen");
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = l};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, l->fd, &e);
}

static void start_tls(const char *cert, const char *key)
{
    tls_context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(tls_context, SSL_OP_IGNORE_UNEXPECTED_EOF);
    if (SSL_CTX_use_certificate_chain_file(tls_context, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls_context, key, SSL_FILETYPE_PEM) != 1) {
        fprintf(stderr, "upstream: cannot use certificate %s with key %s\n", cert, key);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    const char *cert = NULL, *key = NULL;
    int http = 0, tls = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--http") == 0)
            http = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--tls") == 0)
            tls = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--cert") == 0)
            cert = argv[i + 1];
        else if (strcmp(argv[i], "--key") == 0)
            key = argv[i + 1];
        else if (strcmp(argv[i], "--auth") == 0)
            expected_auth = argv[i + 1];
        else if (strcmp(argv[i], "--rewritten") == 0)
            all_rewritten = atoi(argv[i + 1]) != 0;
    }
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1); /* the pace is told in microseconds */
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    payload_init();
    build_answers();
    if (tls)
        start_tls(cert, key);
    if (http)
        listen_on(http, false);
    if (tls)
        listen_on(tls, true);
    static struct epoll_event ready[256];
    for (;;) {
        int n = wait_ready(ready, 256);
        for (int i = 0; i < n; i++) {
            void *at = ready[i].data.ptr;
            if (at == &listeners[0] || at == &listeners[1])
                on_connect(at);
            else if (((struct conn *)at)->wants_out && !(ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
                pump(at);
            else
                on_ready(at);
        }
        run_due();
        run_turns();
    }
}
