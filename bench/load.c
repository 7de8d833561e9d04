/* The client of the bench: N connections on one epoll loop, in a closed loop, on a schedule, or held open.
 *
 *   load --port P --path /v1/chat/completions --host NAME --auth VALUE [--connections N] [--seconds S]
 *        [--mode keep|new|resume|stream] [--rate R] [--requests N] [--hold 1] [--pace-us N] [--delay-us N]
 *        [--prompt-bytes N] [--answer-bytes N] [--keys N] [--refusals 1]
 *        [--check bytes|content] [--model NAME] [--headers LINES]
 *        [--ca FILE] [--connect HOST:PORT]
 *
 * keep: requests on kept connections. new, resume: one connection for each request, its TLS session new or resumed.
 * stream: kept, answers are event streams. --ca speaks TLS to NAME, verified. --connect sends a CONNECT first.
 * A closed loop sends the next request when the answer is there, until S seconds are over or N requests are answered.
 * --rate R is an open loop: request k is due k/R seconds after the start whatever has become of those before it, and
 * its latency counts from then, so that a stall shows in every request it held up (no coordinated omission); one that
 * never ended counts with the time it had waited. --hold 1 takes answers that are under way when the run begins and
 * when it ends: events are counted as they come. --keys N sends N different keys by turns. --check content is for a
 * gateway that writes bodies anew: it gets --model as the model's name, and the pace as "seed", since it drops headers
 * that it does not know but hands that field on. --headers are lines added to every request, CRLF at their ends.
 *
 * Protocol with the harness: every connection makes one request to warm up (--hold 1: until the first event is there,
 * or with --delay-us until the request is sent), then "ready" is printed and a line on stdin is awaited (CPU is read
 * there), then the loop runs and one line of JSON is printed while the connections are still open (CPU is read again),
 * and the end of stdin ends the process. What is measured holds no set-up.
 *
 * It does not know: pipelining, HTTP/2, more than one core.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "load_conn.h"

#define OPENING_MAX 64           /* connections that may be on their way at once while it warms up */
#define PATIENCE_NS 5000000000u  /* after the end, for what is under way */
#define SPREAD_MAX_US 50000      /* streams of a slower pace begin within this time */
#define FOREVER UINT64_MAX

static struct conn *conns;
static struct conn **idle; /* a ring: the connections that wait for their request, the one that waited longest first */
static long idle_first, idle_len;
static uint64_t scheduled, unfinished;

static void push_idle(struct conn *c)
{
    idle[(idle_first + idle_len++) % connection_count] = c;
}

static struct conn *pop_idle(void)
{
    struct conn *c = idle[idle_first];
    idle_first = (idle_first + 1) % connection_count;
    idle_len--;
    return c;
}

static void send_request(struct conn *c, uint64_t began_ns)
{
    if (c->fd < 0)
        open_connection(c, began_ns);
    else
        begin_request(c, began_ns);
}

static void next_request(struct conn *c)
{
    if (request_count != 0 && (long)(requests + refused_count) >= request_count)
        stopping = true;
    else if (rate > 0)
        push_idle(c);
    else
        send_request(c, now_ns());
}

/* One turn of the loop, not longer than until `until_ns`; milliseconds would be too coarse for a schedule. */
static void turn(uint64_t until_ns)
{
    static struct epoll_event ready[256];
    uint64_t now = now_ns(), left = until_ns > now ? until_ns - now : 0;
    if (left > 50000000u)
        left = 50000000u;
    struct timespec wait = {0, (long)left};
    int n = epoll_pwait2(epoll_fd, ready, 256, &wait, NULL);
    for (int i = 0; i < n; i++)
        drive(ready[i].data.ptr);
}

/* ---- before the run ---- */

/* Streams begin spread over one pace, as they would by themselves: together they would be one lump each time. */
static void warm_up(void)
{
    uint64_t began = now_ns(), give_up = began + 10000000000u + (uint64_t)connection_count * 20000000u;
    long spread_us = !hold ? 0 : pace_us < SPREAD_MAX_US ? pace_us : SPREAD_MAX_US;
    uint64_t apart_ns = (uint64_t)spread_us * 1000u / (uint64_t)connection_count;
    long opened = 0;
    while (warm_count < connection_count && !stopping && now_ns() < give_up) {
        while (opened < connection_count && opened - warm_count < OPENING_MAX &&
               now_ns() >= began + apart_ns * (uint64_t)opened)
            open_connection(&conns[opened++], now_ns());
        turn(opened < connection_count && opened - warm_count < OPENING_MAX ? began + apart_ns * (uint64_t)opened
                                                                            : FOREVER);
    }
    if (warm_count < connection_count && errors++ == 0)
        snprintf(first_error, sizeof first_error, "only %ld of %ld connections got an answer in time", warm_count,
                 connection_count);
    puts("ready");
    fflush(stdout);
    if (getchar() == EOF)
        exit(1);
    connects = 0;
    measuring = true;
    stopping = errors > 0;
}

/* ---- the run ---- */

static long busy_count(void)
{
    long busy = 0;
    for (long i = 0; i < connection_count; i++)
        busy += conns[i].phase != IDLE;
    return busy;
}

static void run_closed(void)
{
    uint64_t ends = now_ns() + (uint64_t)(seconds * 1e9);
    for (long i = 0; i < connection_count && !stopping; i++) {
        send_request(&conns[i], now_ns());
        drive(&conns[i]);
    }
    while (!stopping && now_ns() < ends)
        turn(ends);
    stopping = true;
    /* what is in flight is answered and counted, so that the CPU spent on it is too */
    for (uint64_t give_up = now_ns() + PATIENCE_NS; errors == 0 && busy_count() > 0 && now_ns() < give_up;)
        turn(give_up);
}

static void run_held(void)
{
    uint64_t ends = now_ns() + (uint64_t)(seconds * 1e9);
    while (!stopping && now_ns() < ends)
        turn(ends);
    stopping = true;
}

static uint64_t due_ns(uint64_t began, uint64_t k)
{
    return began + (uint64_t)((double)k * 1e9 / rate);
}

static void run_scheduled(void)
{
    uint64_t began = now_ns(), sent = 0, now;
    uint64_t give_up = began + (uint64_t)(seconds * 1e9) + PATIENCE_NS;
    scheduled = (uint64_t)(rate * seconds);
    for (long i = 0; i < connection_count; i++)
        push_idle(&conns[i]);
    while (!stopping && requests + refused_count < scheduled && (now = now_ns()) < give_up) {
        while (sent < scheduled && idle_len > 0 && due_ns(began, sent) <= now && !stopping) {
            struct conn *c = pop_idle();
            send_request(c, due_ns(began, sent));
            sent++;
            drive(c);
        }
        turn(sent < scheduled && idle_len > 0 ? due_ns(began, sent) : give_up);
    }
    now = now_ns();
    for (long i = 0; i < connection_count && errors == 0; i++)
        if (conns[i].phase != IDLE)
            add_sample(&latency, now - conns[i].began_ns);
    for (uint64_t k = sent; k < scheduled && errors == 0; k++)
        add_sample(&latency, now - due_ns(began, k));
    unfinished = scheduled - requests - refused_count;
    stopping = true;
}

/* ---- what came of it ---- */

static double cpu_s(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void print_result(double took_s, double used_s)
{
    printf("{\"seconds\":%.6f,\"cpu_s\":%.6f,\"errors\":%llu", took_s, used_s, (unsigned long long)errors);
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {{"requests", requests},     {"refused", refused_count},   {"events", event_count},
                  {"connects", connects},     {"handshakes", handshakes},   {"resumed", resumed_count},
                  {"scheduled", scheduled},   {"unfinished", unfinished}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        printf(",\"%s\":%llu", counts[i].name, (unsigned long long)counts[i].value);
    if (errors > 0) {
        printf(",\"error\":\"");
        for (const char *p = first_error; *p; p++)
            putchar(*p < 32 || *p > 126 || *p == '"' || *p == '\\' ? '?' : *p);
        putchar('"');
    }
    print_samples("latency", &latency);
    print_samples("first_event", &first_event);
    print_samples("gap", &gap);
    puts("}");
    fflush(stdout);
}

/* ---- start ---- */

static struct text format(const char *words, ...)
{
    struct text t;
    va_list values;
    va_start(values, words);
    int len = vasprintf(&t.at, words, values);
    va_end(values);
    if (len < 0)
        abort();
    t.len = (size_t)len;
    return t;
}

static struct text wish(const char *name, long value)
{
    return value ? format("x-bench-%s: %ld\r\n", name, value) : format("");
}

static struct text prepare_body(void)
{
    static const char named[] = "{\"model\":\"gpt-4o-mini\"";
    struct text body = is_stream ? request_stream : prompt_bytes ? prompt_of((size_t)prompt_bytes) : request_plain;
    if (!is_rewritten)
        return body;
    return format("{\"model\":\"%s\",\"seed\":%ld%s", model, pace_us, body.at + sizeof named - 1);
}

static void prepare_request(void)
{
    struct text body = prepare_body();
    struct text head = format("POST %s HTTP/1.1\r\nhost: %s\r\naccept: application/json\r\n"
                              "content-type: application/json\r\nuser-agent: OpenAI/Python 3.0.0\r\n"
                              "x-stainless-lang: python\r\nx-stainless-runtime: CPython\r\nauthorization: %s",
                              path, host, auth);
    struct text rest = format("%s\r\n%s%s%s%scontent-length: %zu\r\n\r\n", key_count > 1 ? "-000000" : "",
                              wish("pace-us", pace_us).at, wish("delay-us", delay_us).at,
                              wish("answer-bytes", answer_bytes).at, more_headers, body.len);
    key_at = head.len + 1;
    request.len = head.len + rest.len + body.len;
    request.at = malloc(request.len);
    if (request.at == NULL)
        abort();
    memcpy(request.at, head.at, head.len);
    memcpy(request.at + head.len, rest.at, rest.len);
    memcpy(request.at + head.len + rest.len, body.at, body.len);
    if (tunnel_to != NULL)
        tunnel_request = format("CONNECT %s HTTP/1.1\r\nhost: %s\r\n\r\n", tunnel_to, tunnel_to);
}

static void prepare_tls(void)
{
    if (ca_file == NULL)
        return;
    tls_name = strndup(host, strcspn(host, ":"));
    tls_context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(tls_context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (is_resumed) {
        SSL_CTX_set_session_cache_mode(tls_context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(tls_context, keep_session);
    }
    if (SSL_CTX_load_verify_locations(tls_context, ca_file, NULL) != 1) {
        fprintf(stderr, "load: cannot read the CA file %s\n", ca_file);
        exit(2);
    }
}

static void prepare_connections(void)
{
    conns = calloc((size_t)connection_count, sizeof *conns);
    idle = calloc((size_t)connection_count, sizeof *idle);
    if (conns == NULL || idle == NULL)
        abort();
    for (long i = 0; i < connection_count; i++) {
        conns[i].fd = -1;
        conns[i].phase = IDLE;
        conns[i].request = request.at;
        if (key_count > 1) {
            conns[i].request = malloc(request.len);
            if (conns[i].request == NULL)
                abort();
            memcpy(conns[i].request, request.at, request.len);
        }
    }
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1); /* a schedule is kept to the microsecond */
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    payload_init();
    expect_answer();
    prepare_request();
    prepare_tls();
    prepare_connections();
    warm_up();
    uint64_t began = now_ns();
    double used_s = cpu_s();
    if (hold)
        run_held();
    else if (rate > 0)
        run_scheduled();
    else
        run_closed();
    print_result((double)(now_ns() - began) / 1e9, cpu_s() - used_s);
    while (getchar() != EOF) /* the harness reads the CPU clock while the connections are still open */
        ;
    return 0;
}
