/* One connection of the client: opened, through a tunnel and a handshake where asked, then request after request.
 *
 * Rules: non-blocking, driven by epoll; whoever runs the loop says what follows an answer (next_request of load.c).
 * Each connection keeps the last TLS session it was given and, in mode resume, begins the next one with it.
 */
#ifndef BENCH_LOAD_CONN_H
#define BENCH_LOAD_CONN_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "load_answer.h"

#define READ_CAP 131072

static SSL_CTX *tls_context;
static const char *tls_name; /* the host without its port */
static int epoll_fd;
static struct text request, tunnel_request;
static size_t key_at; /* where the digits of a request's key stand */
static uint64_t requests, refused_count, errors, connects, handshakes, resumed_count;
static char first_error[512];
static long warm_count, keys_used;
static bool stopping;

static void next_request(struct conn *c);

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

/* ---- requests and answers ---- */

static void begin_request(struct conn *c, uint64_t began_ns)
{
    c->phase = SEND;
    c->out = c->request;
    c->out_len = request.len;
    c->began_ns = began_ns;
    begin_answer(c);
    if (key_count > 1) {
        char digits[8];
        snprintf(digits, sizeof digits, "%06ld", keys_used++ % key_count % 1000000);
        memcpy(c->request + key_at, digits, 6);
    }
}

static void became_warm(struct conn *c)
{
    warm_count += !c->warm;
    c->warm = true;
}

static void answer_done(struct conn *c)
{
    uint64_t now = now_ns();
    if (!is_whole(c))
        return;
    if (hold && delay_us != 0) {
        fail(c, "a call was answered that the upstream keeps open");
        return;
    }
    if (measuring) {
        requests += !c->refused;
        refused_count += c->refused;
        add_sample(&latency, now - c->began_ns);
    }
    c->phase = IDLE;
    became_warm(c);
    if (is_new || c->close_after)
        close_connection(c);
    if (!stopping && (measuring || hold))
        next_request(c);
}

/* ---- the way to the first request ---- */

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    struct conn *c = SSL_get_app_data(ssl);
    SSL_SESSION_free(c->session);
    c->session = session;
    return 1; /* the reference is ours now */
}

static void start_tls(struct conn *c)
{
    c->ssl = SSL_new(tls_context);
    SSL_set_app_data(c->ssl, c);
    SSL_set_fd(c->ssl, c->fd);
    SSL_set_connect_state(c->ssl);
    SSL_set_tlsext_host_name(c->ssl, tls_name);
    SSL_set1_host(c->ssl, tls_name);
    if (is_resumed && c->session != NULL)
        SSL_set_session(c->ssl, c->session);
}

static void open_connection(struct conn *c, uint64_t began_ns)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    c->began_ns = began_ns;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connects++;
    c->close_after = false;
    begin_answer(c);
    c->phase = CONNECTING;
    c->wants_out = true;
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS) {
        fail(c, "cannot connect to port %ld: %s", port, strerror(errno));
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
        fail(c, "cannot connect to port %ld: %s", port, strerror(error));
        return;
    }
    if (tunnel_to != NULL) {
        c->phase = TUNNEL;
        c->out = tunnel_request.at;
        c->out_len = tunnel_request.len;
    } else if (ca_file != NULL) {
        c->phase = HANDSHAKE;
    } else {
        begin_request(c, c->began_ns);
    }
}

static void handshake(struct conn *c)
{
    if (c->ssl == NULL)
        start_tls(c);
    int n = SSL_do_handshake(c->ssl);
    if (n == 1) {
        handshakes += measuring;
        resumed_count += measuring && SSL_session_reused(c->ssl);
        begin_request(c, c->began_ns);
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
            if (write_out(c)) {
                c->phase = HEAD;
                if (hold && delay_us != 0)
                    became_warm(c);
            }
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
            long n = c->fd >= 0 ? read_some(c, nothing, sizeof nothing) : 0;
            if (n < 0)
                close_connection(c);
            else if (n > 0)
                fail(c, "%ld bytes came after the end of an answer", n);
            return;
        }
        }
        if (c->phase == before || c->fd != fd || c->phase == CONNECTING)
            return;
        if (c->phase == HEAD && before == SEND && c->ssl == NULL)
            return; /* the answer cannot be there yet */
    }
}

#endif
