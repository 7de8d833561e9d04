/* The client of the bench: a closed loop over N connections on one epoll loop.
 *
 *   load --port P --path /v1/chat/completions --host NAME --auth VALUE [--connections N] [--seconds S]
 *        [--mode keep|new|stream] [--pace-us N] [--ca FILE] [--connect HOST:PORT]
 *
 * keep: requests on kept connections. new: one connection for each request. stream: kept, answers are event streams.
 * --ca speaks TLS to NAME, verified. --connect sends a CONNECT first (a proxy that intercepts).
 *
 * Protocol with the harness: every connection makes one request to warm up, then "ready" is printed and a line on
 * stdin is awaited (CPU is read there), then the loop runs and one line of JSON is printed while the connections are
 * still open (CPU is read again), and the end of stdin ends the process. What is measured holds no set-up.
 *
 * Every byte of every answer is compared with what the upstream sent; the first difference is the row's error.
 * It does not know: open-loop rates, pipelining, session resumption (every TLS handshake is a full one).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <strings.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "payload.h"

#define HEAD_CAP 16384
#define READ_CAP 131072

enum phase { CONNECTING, TUNNEL, HANDSHAKE, SEND, HEAD, BODY, IDLE };
enum framing { LENGTH, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER };

struct conn {
    int fd;
    SSL *ssl;
    enum phase phase;
    bool wants_out, warm, close_after;
    const char *out;
    size_t out_len;
    size_t head_len;
    enum framing framing;
    size_t left;    /* of the body (LENGTH) or of the chunk */
    size_t line;    /* bytes of the size line or trailer line so far */
    size_t body_at; /* bytes of the body compared so far */
    uint64_t began_ns, first_ns;
    char head[HEAD_CAP + 1];
};

struct samples {
    uint64_t *at;
    size_t len, cap;
};

static const char *path = "/v1/chat/completions", *host = "llm.bench", *auth = "", *ca_file, *tunnel_to, *mode = "keep";
static int port, connection_count = 1;
static double seconds = 1;
static unsigned pace_us;
static bool is_new, is_stream;
static SSL_CTX *tls_context;
static int epoll_fd;
static struct conn *conns;
static struct text request, tunnel_request, expected;
static size_t first_event_len;
static struct samples latency, first_byte;
static uint64_t requests, errors, connects, ends_ns;
static char first_error[512];
static int warm_count;
static bool measuring, stopping;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void add_sample(struct samples *s, uint64_t value)
{
    if (s->len == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 65536;
        s->at = realloc(s->at, s->cap * sizeof *s->at);
        if (s->at == NULL)
            abort();
    }
    s->at[s->len++] = value;
}

static void open_connection(struct conn *c);

static void close_connection(struct conn *c)
{
    if (c->ssl != NULL) {
        SSL_shutdown(c->ssl);
        SSL_free(c->ssl);
        c->ssl = NULL;
    }
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

/* One wrong answer makes an error row of the whole run: it stops there. */
static void fail(struct conn *c, const char *format, ...)
{
    if (errors++ == 0) {
        va_list words;
        va_start(words, format);
        vsnprintf(first_error, sizeof first_error, format, words);
        va_end(words);
    }
    close_connection(c);
    stopping = true;
    c->phase = IDLE;
}

static void watch(struct conn *c, bool out)
{
    if (c->wants_out == out)
        return;
    c->wants_out = out;
    struct epoll_event e = {.events = out ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

/* ---- bytes: > 0 so many, 0 would block, -1 ended or broken ---- */

static long tls_result(struct conn *c, int n)
{
    if (n > 0)
        return n;
    int code = SSL_get_error(c->ssl, n);
    if (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE) {
        watch(c, code == SSL_ERROR_WANT_WRITE);
        return 0;
    }
    return -1;
}

static long read_some(struct conn *c, char *at, size_t room)
{
    if (c->ssl != NULL && c->phase >= SEND)
        return tls_result(c, SSL_read(c->ssl, at, (int)room));
    ssize_t n = recv(c->fd, at, room, 0);
    return n > 0 ? n : n < 0 && errno == EAGAIN ? 0 : -1;
}

/* true: all of `out` is written */
static bool write_out(struct conn *c)
{
    while (c->out_len > 0) {
        long n;
        if (c->ssl != NULL && c->phase >= SEND) {
            n = tls_result(c, SSL_write(c->ssl, c->out, (int)c->out_len));
        } else {
            n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);
            n = n >= 0 ? n : errno == EAGAIN ? 0 : -1;
        }
        if (n < 0) {
            fail(c, "connection closed while the request was sent");
            return false;
        }
        if (n == 0) {
            watch(c, true);
            return false;
        }
        c->out += n;
        c->out_len -= (size_t)n;
    }
    watch(c, false);
    return true;
}

/* ---- one answer ---- */

static void begin_request(struct conn *c)
{
    c->phase = SEND;
    c->out = request.at;
    c->out_len = request.len;
    c->head_len = c->body_at = 0;
    c->first_ns = 0;
    if (!is_new)
        c->began_ns = now_ns();
}

static void answer_done(struct conn *c)
{
    uint64_t now = now_ns();
    if (c->body_at != expected.len) {
        fail(c, "body ended after %zu of %zu bytes", c->body_at, expected.len);
        return;
    }
    if (measuring) {
        requests++;
        add_sample(&latency, now - c->began_ns);
        if (c->first_ns != 0)
            add_sample(&first_byte, c->first_ns - c->began_ns);
    }
    c->phase = IDLE;
    if (!c->warm) {
        c->warm = true;
        warm_count++;
    }
    if (is_new || c->close_after)
        close_connection(c);
    if (!measuring || stopping)
        return; /* go() wakes it, or nothing does */
    if (c->fd < 0)
        open_connection(c);
    else
        begin_request(c);
}

static bool compare(struct conn *c, const char *at, size_t len)
{
    if (len > expected.len - c->body_at || memcmp(at, expected.at + c->body_at, len) != 0) {
        size_t i = 0;
        while (i < len && c->body_at + i < expected.len && at[i] == expected.at[c->body_at + i])
            i++;
        fail(c, "body differs at byte %zu: %.60s", c->body_at + i, at + i);
        return false;
    }
    c->body_at += len;
    if (is_stream && c->first_ns == 0 && c->body_at >= first_event_len)
        c->first_ns = now_ns();
    return true;
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
        if (!compare(c, at, n))
            return;
        at += n, len -= n;
        if ((c->left -= n) > 0)
            return;
        if (c->framing == LENGTH) {
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
    if (strncmp(c->head, "HTTP/1.1 200", 12) != 0) {
        fail(c, "%s answered %.40s", c->phase == TUNNEL ? "CONNECT was" : "request was", c->head);
        return;
    }
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
    take_body(c, at + (head_len - before), len - (head_len - before));
}

/* ---- one connection ---- */

static void start_tls(struct conn *c)
{
    c->ssl = SSL_new(tls_context);
    SSL_set_fd(c->ssl, c->fd);
    SSL_set_connect_state(c->ssl);
    SSL_set_tlsext_host_name(c->ssl, host);
    SSL_set1_host(c->ssl, host);
}

static void open_connection(struct conn *c)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    c->began_ns = now_ns();
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connects++;
    c->close_after = false;
    c->head_len = 0;
    c->phase = CONNECTING;
    c->wants_out = true;
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS) {
        fail(c, "cannot connect to port %d: %s", port, strerror(errno));
        return;
    }
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
}

static void connected(struct conn *c)
{
    int error = 0;
    socklen_t len = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error != 0) {
        fail(c, "cannot connect to port %d: %s", port, strerror(error));
        return;
    }
    if (tunnel_to != NULL) {
        c->phase = TUNNEL;
        c->out = tunnel_request.at;
        c->out_len = tunnel_request.len;
    } else if (ca_file != NULL) {
        c->phase = HANDSHAKE;
    } else {
        begin_request(c);
    }
}

static void handshake(struct conn *c)
{
    if (c->ssl == NULL)
        start_tls(c);
    int n = SSL_do_handshake(c->ssl);
    if (n == 1) {
        begin_request(c);
        return;
    }
    if (tls_result(c, n) < 0) {
        unsigned long code = ERR_get_error();
        fail(c, "TLS: %s", code ? ERR_reason_error_string(code) : "connection closed in the handshake");
        ERR_clear_error();
    }
}

static void read_answer(struct conn *c)
{
    static char buffer[READ_CAP];
    for (;;) {
        /* an answer to CONNECT is read alone: what follows it belongs to TLS */
        long n = read_some(c, buffer, READ_CAP);
        if (n == 0)
            return;
        if (n < 0) {
            ERR_clear_error();
            fail(c, "connection closed in the %s of an answer", c->phase == BODY ? "body" : "head");
            return;
        }
        enum phase before = c->phase;
        if (before == BODY)
            take_body(c, buffer, (size_t)n);
        else
            take_head(c, buffer, (size_t)n);
        if (c->phase != HEAD && c->phase != BODY)
            return;
        if (c->ssl == NULL && n < READ_CAP)
            return; /* level-triggered; TLS may hold bytes that epoll cannot see */
    }
}

static void drive(struct conn *c)
{
    for (;;) {
        enum phase before = c->phase;
        int fd = c->fd;
        switch (c->phase) {
        case CONNECTING:
            connected(c);
            break;
        case HANDSHAKE:
            handshake(c);
            break;
        case SEND:
            if (write_out(c))
                c->phase = HEAD;
            break;
        case TUNNEL:
            if (c->out_len > 0 && !write_out(c))
                return;
            read_answer(c);
            break;
        case HEAD:
        case BODY:
            read_answer(c);
            break;
        case IDLE: { /* an idle connection only becomes readable when the other side ends it, or sends a ticket */
            static char nothing[64];
            if (c->fd >= 0 && read_some(c, nothing, sizeof nothing) < 0)
                close_connection(c);
            return;
        }
        }
        if (c->phase == before || c->fd != fd || c->phase == CONNECTING)
            return;
        if (c->phase == HEAD && before == SEND && c->ssl == NULL)
            return; /* the answer cannot be there yet */
    }
}

/* ---- the run ---- */

static void turn(int timeout_ms)
{
    static struct epoll_event ready[256];
    int n = epoll_wait(epoll_fd, ready, 256, timeout_ms);
    for (int i = 0; i < n; i++)
        drive(ready[i].data.ptr);
}

static bool any_busy(void)
{
    for (int i = 0; i < connection_count; i++)
        if (conns[i].phase != IDLE)
            return true;
    return false;
}

static void warm_up(void)
{
    uint64_t give_up = now_ns() + 10000000000u;
    for (int i = 0; i < connection_count; i++)
        open_connection(&conns[i]);
    while (warm_count < connection_count && !stopping && now_ns() < give_up)
        turn(100);
    if (warm_count < connection_count && errors == 0) {
        errors = 1;
        snprintf(first_error, sizeof first_error, "only %d of %d connections got an answer in 10 s", warm_count,
                 connection_count);
    }
    puts("ready");
    fflush(stdout);
    if (getchar() == EOF)
        exit(1);
}

static double go(void)
{
    uint64_t began = now_ns();
    connects = 0;
    measuring = true;
    ends_ns = began + (uint64_t)(seconds * 1e9);
    for (int i = 0; i < connection_count && !stopping; i++) {
        if (conns[i].fd < 0)
            open_connection(&conns[i]);
        else
            begin_request(&conns[i]);
        drive(&conns[i]);
    }
    while (!stopping) {
        turn(50);
        if (now_ns() >= ends_ns)
            stopping = true;
    }
    /* what is in flight is answered and counted, so that the CPU spent on it is too */
    while (any_busy() && errors == 0 && now_ns() < ends_ns + 5000000000u)
        turn(50);
    return (double)(now_ns() - began) / 1e9;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void print_samples(const char *name, struct samples *s)
{
    if (s->len == 0)
        return;
    qsort(s->at, s->len, sizeof *s->at, by_value);
    printf(",\"%s_us\":{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f}", name, (double)s->at[s->len / 2] / 1e3,
           (double)s->at[s->len * 9 / 10] / 1e3, (double)s->at[s->len * 99 / 100] / 1e3,
           (double)s->at[s->len * 999 / 1000] / 1e3);
}

static void print_result(double took_s)
{
    printf("{\"seconds\":%.6f,\"requests\":%llu,\"events\":%llu,\"connects\":%llu,\"errors\":%llu", took_s,
           (unsigned long long)requests, (unsigned long long)(is_stream ? requests * EVENTS : 0),
           (unsigned long long)connects, (unsigned long long)errors);
    if (errors > 0) {
        printf(",\"error\":\"");
        for (const char *p = first_error; *p; p++)
            putchar(*p < 32 || *p > 126 || *p == '"' || *p == '\\' ? '?' : *p);
        putchar('"');
    }
    print_samples("latency", &latency);
    print_samples("first_event", &first_byte);
    puts("}");
    fflush(stdout);
}

static struct text format(const char *words, ...)
{
    struct text t = {malloc(8192), 0};
    va_list values;
    if (t.at == NULL)
        abort();
    va_start(values, words);
    t.len = (size_t)vsnprintf(t.at, 8192, words, values);
    va_end(values);
    return t;
}

static void prepare(void)
{
    char pace[64] = "";
    is_new = strcmp(mode, "new") == 0;
    is_stream = strcmp(mode, "stream") == 0;
    struct text body = is_stream ? request_stream : request_plain;
    expected = is_stream ? answer_sse : answer_json;
    first_event_len = events[0].len;
    if (pace_us)
        snprintf(pace, sizeof pace, "x-bench-pace-us: %u\r\n", pace_us);
    request = format("POST %s HTTP/1.1\r\nhost: %s\r\naccept: application/json\r\ncontent-type: application/json\r\n"
                     "user-agent: OpenAI/Python 3.0.0\r\nx-stainless-lang: python\r\nx-stainless-runtime: CPython\r\n"
                     "authorization: %s\r\n%scontent-length: %zu\r\n\r\n%s",
                     path, host, auth, pace, body.len, body.at);
    if (tunnel_to != NULL)
        tunnel_request = format("CONNECT %s HTTP/1.1\r\nhost: %s\r\n\r\n", tunnel_to, tunnel_to);
    if (ca_file != NULL) {
        tls_context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_verify(tls_context, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        if (SSL_CTX_load_verify_locations(tls_context, ca_file, NULL) != 1) {
            fprintf(stderr, "load: cannot read the CA file %s\n", ca_file);
            exit(2);
        }
    }
}

static void read_arguments(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (strcmp(name, "--port") == 0)
            port = atoi(value);
        else if (strcmp(name, "--path") == 0)
            path = value;
        else if (strcmp(name, "--host") == 0)
            host = value;
        else if (strcmp(name, "--auth") == 0)
            auth = value;
        else if (strcmp(name, "--ca") == 0)
            ca_file = value;
        else if (strcmp(name, "--connect") == 0)
            tunnel_to = value;
        else if (strcmp(name, "--mode") == 0)
            mode = value;
        else if (strcmp(name, "--connections") == 0)
            connection_count = atoi(value);
        else if (strcmp(name, "--seconds") == 0)
            seconds = atof(value);
        else if (strcmp(name, "--pace-us") == 0)
            pace_us = (unsigned)strtoul(value, NULL, 10);
        else {
            fprintf(stderr, "load: unknown argument %s\n", name);
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    read_arguments(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    payload_init();
    prepare();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    conns = calloc((size_t)connection_count, sizeof *conns);
    if (conns == NULL)
        abort();
    for (int i = 0; i < connection_count; i++) {
        conns[i].fd = -1;
        conns[i].phase = IDLE;
    }
    warm_up();
    print_result(go());
    while (getchar() != EOF) /* the harness reads the CPU clock while the connections are still open */
        ;
    return 0;
}
