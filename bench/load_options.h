/* The words on the client's command line and what they set; load.c says what each is for. */
#ifndef BENCH_LOAD_OPTIONS_H
#define BENCH_LOAD_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *path = "/v1/chat/completions", *host = "llm.bench", *auth = "", *ca_file, *tunnel_to, *mode = "keep";
static const char *check = "bytes", *model = "gpt-4o-mini", *more_headers = "";
static double seconds = 1, rate;
static long port, connection_count = 1, pace_us, delay_us, prompt_bytes, answer_bytes, request_count, key_count;
static long hold, refusals;
static bool is_new, is_resumed, is_stream, is_rewritten; /* what mode and check say */

enum option_kind { WORD, WHOLE, REAL };

static const struct {
    const char *name;
    enum option_kind kind;
    void *at;
} options[] = {
    {"--port", WHOLE, &port},
    {"--path", WORD, &path},
    {"--host", WORD, &host},
    {"--auth", WORD, &auth},
    {"--ca", WORD, &ca_file},
    {"--connect", WORD, &tunnel_to},
    {"--mode", WORD, &mode},
    {"--check", WORD, &check},
    {"--model", WORD, &model},
    {"--headers", WORD, &more_headers},
    {"--connections", WHOLE, &connection_count},
    {"--seconds", REAL, &seconds},
    {"--rate", REAL, &rate},
    {"--requests", WHOLE, &request_count},
    {"--keys", WHOLE, &key_count},
    {"--pace-us", WHOLE, &pace_us},
    {"--delay-us", WHOLE, &delay_us},
    {"--prompt-bytes", WHOLE, &prompt_bytes},
    {"--answer-bytes", WHOLE, &answer_bytes},
    {"--hold", WHOLE, &hold},
    {"--refusals", WHOLE, &refusals},
};

static void set_option(const char *name, const char *value)
{
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (strcmp(name, options[i].name) != 0)
            continue;
        if (options[i].kind == WORD)
            *(const char **)options[i].at = value;
        else if (options[i].kind == WHOLE)
            *(long *)options[i].at = atol(value);
        else
            *(double *)options[i].at = atof(value);
        return;
    }
    fprintf(stderr, "load: unknown argument %s\n", name);
    exit(2);
}

static void read_options(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2)
        set_option(argv[i], argv[i + 1]);
    is_resumed = strcmp(mode, "resume") == 0;
    is_new = is_resumed || strcmp(mode, "new") == 0;
    is_stream = strcmp(mode, "stream") == 0;
    is_rewritten = strcmp(check, "content") == 0;
    if (connection_count < 1 || seconds < 0 || rate < 0) {
        fprintf(stderr, "load: --connections must be 1 or more, --seconds and --rate not negative\n");
        exit(2);
    }
}

#endif
