/* SPDX-License-Identifier: MIT */
/*
 * Peers of a QMP socket that lie, each a row of a table: what it says, what two calls must make of it, how much memory
 * that may cost. All of them must keep the deadline, with what it takes to look at the bytes: so the library's looks at
 * the clock are counted, and what it reads and computes between two of them. CPU time is compared with a loop over as
 * many bytes, so that the speed of the machine does not count.
 */
#include "migbuf/qmp_socket.h"
#include "unit.h"
#include <dirent.h>
#include <jansson.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define STEP_BYTES (256 * KIB) /* what may be read between two looks at the clock */
#define SHORT_MS 100           /* for a call that must end by its deadline */
#define LONG_MS 60000          /* for one that must end before */

/* ---- what the library does while it is watched ---- */

ssize_t __real_recv(int fd, void *bytes, size_t count, int flags);
ssize_t __wrap_recv(int fd, void *bytes, size_t count, int flags);
int __real_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t);

static _Thread_local struct {
    bool on;
    uint64_t bytes, most_bytes, all_bytes; /* read since the last look at the clock; the most between two; altogether */
    double cpu_s, most_cpu_s;              /* likewise */
    double timeout_s, deadline_s; /* counted from its first look */
    double seen_s;
    bool late_read; /* something was read although the clock had said that it is over */
} watch;

static double seconds(clockid_t clock)
{
    struct timespec t;

    __real_clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void look(void)
{
    double cpu_s = seconds(CLOCK_THREAD_CPUTIME_ID);

    watch.most_bytes = watch.bytes > watch.most_bytes ? watch.bytes : watch.most_bytes;
    watch.most_cpu_s = fmax(watch.most_cpu_s, cpu_s - watch.cpu_s);
    watch.bytes = 0;
    watch.cpu_s = cpu_s;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
    int rc = __real_clock_gettime(clock, t);

    if (watch.on && clock == CLOCK_MONOTONIC) {
        look();
        watch.seen_s = (double)t->tv_sec + (double)t->tv_nsec * 1e-9;
        if (watch.deadline_s <= 0)
            watch.deadline_s = watch.seen_s + watch.timeout_s + 1e-6; /* what a double does not tell apart */
    }
    return rc;
}

ssize_t __wrap_recv(int fd, void *bytes, size_t count, int flags)
{
    ssize_t n = __real_recv(fd, bytes, count, flags);

    if (watch.on && n > 0) {
        watch.bytes += (uint64_t)n;
        watch.all_bytes += (uint64_t)n;
        watch.late_read |= watch.seen_s >= watch.deadline_s;
    }
    return n;
}

static void begin_watch(uint32_t timeout_ms)
{
    memset(&watch, 0, sizeof watch);
    watch.cpu_s = seconds(CLOCK_THREAD_CPUTIME_ID);
    watch.timeout_s = timeout_ms * 1e-3;
    watch.on = true;
}

static void end_watch(void)
{
    look();
    watch.on = false;
}

static uint64_t held, peak, trees;

static void *resize(void *context, void *pointer, size_t old_bytes, size_t new_bytes)
{
    (void)context;
    held += new_bytes - old_bytes;
    peak = held > peak ? held : peak;
    if (new_bytes)
        return realloc(pointer, new_bytes);
    free(pointer);
    return NULL;
}

static void *count_trees(size_t bytes)
{
    trees += watch.on;
    return malloc(bytes);
}

/* ---- the peers ---- */

struct peer {
    int listener, fd, over; /* over: readable once the test has seen enough */
    const struct lie *lie;
    pthread_t thread;
};

static bool say_bytes(struct peer *p, const char *bytes, size_t count)
{
    while (count) {
        ssize_t n = send(p->fd, bytes, count, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        bytes += n;
        count -= (size_t)n;
    }
    return true;
}

static bool say(struct peer *p, const char *text)
{
    return say_bytes(p, text, strlen(text));
}

/* Reads on until a command has ended. */
static void hear(struct peer *p)
{
    char c = 0;

    while (c != '\n' && read(p->fd, &c, 1) == 1)
        ;
}

static void wait_until_over(struct peer *p)
{
    char c;

    if (read(p->over, &c, 1) != 0)
        abort();
}

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n"
#define NEGOTIATED "{\"return\": {}, \"id\": 0}\r\n"

static void negotiate(struct peer *p)
{
    say(p, GREETING);
    hear(p);
    say(p, NEGOTIATED);
}

/* A line that begins and ends so, with as many items in between as make it that long. */
static char *line_of(const char *begin, const char *item, const char *end, size_t bytes)
{
    size_t length = strlen(item), at = strlen(begin), ends = strlen(end);
    char *line = malloc(bytes + 1);

    if (!line)
        abort();
    memcpy(line, begin, at);
    for (; at + length + ends + 1 <= bytes; at += length)
        memcpy(line + at, item, length);
    memcpy(line + at - (length > 1 && item[length - 1] == ','), end, ends + 1); /* no comma before the end */
    return line;
}

static void repeat(struct peer *p, const char *text)
{
    while (say(p, text))
        ;
}

static void repeat_line(struct peer *p, const char *begin, const char *item, const char *end, size_t bytes)
{
    char *line = line_of(begin, item, end, bytes);

    repeat(p, line);
    free(line);
}

/* Answers the first command so, and the second one as it should. */
static void answer_line(struct peer *p, const char *begin, const char *item, const char *end)
{
    char *line = line_of(begin, item, end, MIB - 64);

    negotiate(p);
    hear(p);
    say(p, line);
    free(line);
    hear(p);
    say(p, "{\"return\": {}, \"id\": 2}");
}

struct lie {
    const char *name;
    void (*tell)(struct peer *p);
    const char *text;        /* without `tell`: the answer to the first command */
    int open, calls[2];      /* what must be returned */
    uint64_t memory;         /* bytes of the handle's allocator at most; 0: 100 KiB */
    const char *error;       /* a part of the first error's text */
    uint32_t argument_bytes; /* of the second command */
};

static void tell_nothing(struct peer *p)
{
    (void)p;
}
static void tell_half_a_greeting(struct peer *p)
{
    say(p, "{\"QMP\": {\"version\"");
}
static void tell_spaces(struct peer *p)
{
    repeat(p, " \r\n\t                                                                                         ");
}
static void answer_before_greeting(struct peer *p)
{
    say(p, NEGOTIATED);
}
static void greet_without_end(struct peer *p)
{
    repeat_line(p, "{\"QMP\": {\"x\": [", "{},", "]}}", MIB - 64);
}
static void events_before_greeting(struct peer *p)
{
    for (int i = 0; i < 1000; i++)
        say(p, "{\"event\": \"X\"}");
    negotiate(p);
    hear(p);
    say(p, "{\"return\": {}, \"id\": 1}");
}
static void refuse_to_negotiate(struct peer *p)
{
    say(p, GREETING);
    hear(p);
    say(p, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": 0}");
}
static void answer_others(struct peer *p)
{
    negotiate(p);
    hear(p);
    repeat(p, "{\"return\": {}, \"id\": 77}");
}
static void answer_twice(struct peer *p)
{
    negotiate(p);
    hear(p);
    say(p, "{\"return\": {\"a\": 1}, \"id\": 1}{\"return\": {\"a\": 2}, \"id\": 1}");
    hear(p);
    say(p, "{\"return\": {\"a\": 3}, \"id\": 1}{\"return\": {\"b\": 1}, \"id\": 2}{\"return\": {}, \"id\": 2}");
}
static void never_end_a_message(struct peer *p)
{
    negotiate(p);
    hear(p);
    say(p, "{\"return\": \"");
    repeat(p, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
}
static void dribble(struct peer *p)
{
    negotiate(p);
    say(p, "{\"return\": \"");
    while (say(p, "x"))
        nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
}
static void nest_deeply(struct peer *p)
{
    char *begin = line_of("{\"return\": ", "[", "", 100000), *end = line_of("", "]", ", \"id\": 1}", 100000 - 11 + 10);

    negotiate(p);
    hear(p);
    say(p, begin);
    say(p, end);
    free(begin);
    free(end);
    hear(p);
    say(p, "{\"return\": {}, \"id\": 2}");
}
static void flood(struct peer *p)
{
    negotiate(p);
    repeat(p, "{\"event\": \"E\", \"data\": {\"x\": 1}}\r\n");
}
static void flood_of_values(struct peer *p)
{
    negotiate(p);
    repeat_line(p, "{\"event\": \"E\", \"data\": {\"x\": [", "{},", "]}}\r\n", MIB - 64);
}
static void flood_of_long_events(struct peer *p)
{
    negotiate(p);
    repeat_line(p, "{\"event\": \"E\", \"data\": {\"x\": \"", "x", "\"}}\r\n", MIB - 64);
}
static void flood_of_invalid(struct peer *p)
{
    negotiate(p);
    repeat_line(p, "{\"x\": [", "[],", "]}", MIB - 64);
}
static void flood_of_spaces(struct peer *p)
{
    negotiate(p);
    tell_spaces(p);
}
static void leave_in_a_message(struct peer *p)
{
    negotiate(p);
    hear(p);
    say(p, "{\"return\": {\"a\"");
    shutdown(p->fd, SHUT_RDWR);
}
static void send_descriptors(struct peer *p)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control = { 0 };
    char event[] = "{\"event\": \"E\"}";
    struct iovec part = { .iov_base = event, .iov_len = sizeof event - 1 };
    struct msghdr m = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes
    };

    negotiate(p);
    hear(p);
    control.header =
        (struct cmsghdr){ .cmsg_len = CMSG_LEN(8 * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
    for (size_t i = 0; i < 8; i++)
        memcpy(CMSG_DATA(&control.header) + i * sizeof p->fd, &p->fd, sizeof p->fd);
    for (int i = 0; i < 20; i++)
        if (sendmsg(p->fd, &m, MSG_NOSIGNAL) < 0)
            abort();
    say(p, "{\"return\": {}, \"id\": 1}");
    hear(p);
    say(p, "{\"return\": {}, \"id\": 2}");
}
static void stop_listening(struct peer *p)
{
    negotiate(p);
    hear(p);
    shutdown(p->fd, SHUT_RD);
    say(p, "{\"return\": {}, \"id\": 1}");
}
/* Deaf, but it goes on talking: the handle must not live on that. */
static void stop_listening_and_flood(struct peer *p)
{
    negotiate(p);
    hear(p);
    shutdown(p->fd, SHUT_RD);
    say(p, "{\"return\": {}, \"id\": 1}");
    repeat_line(p, "{\"event\": \"E\", \"data\": {\"x\": \"", "x", "\"}}\r\n", 64 * KIB);
}
static void stop_talking(struct peer *p)
{
    negotiate(p);
    hear(p);
    shutdown(p->fd, SHUT_WR);
}
static void read_no_more(struct peer *p)
{
    negotiate(p);
}
static void many_values(struct peer *p)
{
    answer_line(p, "{\"return\": [", "{},", "], \"id\": 1}");
}
static void many_keys(struct peer *p)
{
    answer_line(p, "{\"return\": {", "\"a\":1,", "}, \"id\": 1}");
}
static void many_members(struct peer *p)
{
    answer_line(p, "{\"return\": {}, \"id\": 1, ", "\"a\":1,", "}");
}
static void many_ids(struct peer *p)
{
    answer_line(p, "{\"return\": {}, ", "\"id\":2,", ",\"id\": 1}");
}
static void many_nested(struct peer *p)
{
    answer_line(p, "{\"return\": [", "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":[[[[1]]]]}}}}},", "], \"id\": 1}");
}
static void many_escapes(struct peer *p)
{
    answer_line(p, "{\"return\": \"", "\\ud800", "\", \"id\": 1}");
}
static void many_digits(struct peer *p)
{
    answer_line(p, "{\"return\": ", "9", ", \"id\": 1}");
}
static void many_decimals(struct peer *p)
{
    answer_line(p, "{\"return\": 1.", "9", ", \"id\": 1}");
}
static void large_exponent(struct peer *p)
{
    answer_line(p, "{\"return\": 1e", "9", ", \"id\": 1}");
}
static void long_error(struct peer *p)
{
    answer_line(p, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"", "\\u0061", "\"}, \"id\": 1}");
}
static void answer(struct peer *p)
{
    negotiate(p);
    hear(p);
    say(p, p->lie->text);
    hear(p);
    say(p, "{\"return\": {}, \"id\": 2}");
}

#define TIMEOUT MIGBUF_E_TIMEOUT
#define CLOSED MIGBUF_E_CLOSED
#define BAD MIGBUF_E_PROTOCOL
#define LONG (4 * MIB) /* one message of 1 MiB, in pieces, then whole */

static const struct lie lies[] = {
    { "nothing is said", tell_nothing, NULL, TIMEOUT, { 0 }, 0, "another client holds the monitor", 0 },
    { "half a greeting", tell_half_a_greeting, NULL, TIMEOUT, { 0 }, 0, "no greeting", 0 },
    { "spaces for ever", tell_spaces, NULL, TIMEOUT, { 0 }, 0, "no greeting", 0 },
    { "greetings for ever", greet_without_end, NULL, BAD, { 0 }, MIB + LONG, "does not speak QMP", 0 },
    { "an answer before the greeting", answer_before_greeting, NULL, BAD, { 0 }, 0, "does not speak QMP", 0 },
    { "a refused negotiation", refuse_to_negotiate, NULL, BAD, { 0 }, 0, "does not speak QMP", 0 },
    { "events before the greeting", events_before_greeting, NULL, 0, { 0, TIMEOUT }, 250 * KIB, "no answer", 0 },
    { "answers to other commands", answer_others, NULL, 0, { TIMEOUT, TIMEOUT }, 200 * KIB, "no answer", 0 },
    { "two answers", answer_twice, NULL, 0, { 0, 0 }, 0, NULL, 0 },
    { "a message without an end",
      never_end_a_message,
      NULL,
      0,
      { MIGBUF_E_TOO_BIG, MIGBUF_E_TOO_BIG },
      LONG,
      "longer than max_message_bytes",
      0 },
    { "byte after byte", dribble, NULL, 0, { TIMEOUT, TIMEOUT }, 0, "no answer", 0 },
    { "100000 levels", nest_deeply, NULL, 0, { BAD, 0 }, LONG, "not a QMP message", 0 },
    { "events for ever", flood, NULL, 0, { TIMEOUT, TIMEOUT }, 200 * KIB, "no answer", 0 },
    { "events of many values for ever",
      flood_of_values,
      NULL,
      0,
      { TIMEOUT, TIMEOUT },
      4 * MIB + LONG,
      "no answer",
      0 },
    { "long events for ever", flood_of_long_events, NULL, 0, { TIMEOUT, TIMEOUT }, 4 * MIB + LONG, "no answer", 0 },
    { "what is no message for ever", flood_of_invalid, NULL, 0, { TIMEOUT, TIMEOUT }, 4 * MIB + LONG, "no answer", 0 },
    { "spaces for ever, later", flood_of_spaces, NULL, 0, { TIMEOUT, TIMEOUT }, 0, "no answer", 0 },
    { "left in a message", leave_in_a_message, NULL, 0, { CLOSED, CLOSED }, 0, "closed the monitor", 0 },
    { "descriptors", send_descriptors, NULL, 0, { 0, 0 }, 0, NULL, 0 },
    { "deaf", stop_listening, NULL, 0, { 0, CLOSED }, 0, "closed the monitor", 0 },
    { "deaf and talking", stop_listening_and_flood, NULL, 0, { 0, CLOSED }, MIB, "closed the monitor", 0 },
    { "dumb", stop_talking, NULL, 0, { CLOSED, CLOSED }, 0, "closed the monitor", 0 },
    { "commands are not read", read_no_more, NULL, 0, { TIMEOUT, TIMEOUT }, 4 * MIB, "no answer", 900000 },
    { "an answer of many values", many_values, NULL, 0, { 0, 0 }, LONG, NULL, 0 },
    { "an answer of many keys", many_keys, NULL, 0, { 0, 0 }, LONG, NULL, 0 },
    { "a message of many members", many_members, NULL, 0, { 0, 0 }, LONG, NULL, 0 },
    { "a message of many ids", many_ids, NULL, 0, { 0, 0 }, LONG, NULL, 0 },
    { "an answer of many levels", many_nested, NULL, 0, { 0, 0 }, LONG, NULL, 0 },
    { "an answer of many repairs", many_escapes, NULL, 0, { 0, 0 }, LONG, NULL, 0 },
    { "a number of many digits", many_digits, NULL, 0, { 0, 0 }, LONG, NULL, 0 },
    { "a number of many decimals", many_decimals, NULL, 0, { 0, 0 }, LONG, NULL, 0 },
    { "a number beyond all", large_exponent, NULL, 0, { BAD, 0 }, LONG, "not a QMP message", 0 },
    { "a long error", long_error, NULL, 0, { MIGBUF_E_PEER, 0 }, LONG, "answered with an error", 0 },
    { "bad UTF-8", answer, "{\"return\": \"\xff\xfe\", \"id\": 1}", 0, { BAD, 0 }, 0, "not a QMP message", 0 },
    { "id: a string", answer, "{\"return\": {}, \"id\": \"1\"}", 0, { TIMEOUT, 0 }, 0, "no answer", 0 },
    { "id: a real", answer, "{\"return\": {}, \"id\": 1.0}", 0, { TIMEOUT, 0 }, 0, "no answer", 0 },
    { "id: none", answer, "{\"return\": {}}", 0, { TIMEOUT, 0 }, 0, "no answer", 0 },
    { "an id and no more", answer, "{\"id\": 1}", 0, { BAD, 0 }, 0, "not a QMP message", 0 },
    { "an error without a class",
      answer,
      "{\"error\": {\"desc\": \"x\"}, \"id\": 1}",
      0,
      { BAD, 0 },
      0,
      "not a QMP message",
      0 },
    { "an error that is a string", answer, "{\"error\": \"x\", \"id\": 1}", 0, { BAD, 0 }, 0, "not a QMP message", 0 },
    { "an error without an id",
      answer,
      "{\"error\": {\"class\": \"a\", \"desc\": \"b\"}}",
      0,
      { MIGBUF_E_PEER, 0 },
      0,
      "answered with an error",
      0 },
    { "a return and an error",
      answer,
      "{\"return\": {}, \"error\": {\"class\": \"a\", \"desc\": \"b\"}, \"id\": 1}",
      0,
      { BAD, 0 },
      0,
      "not a QMP message",
      0 },
    { "null", answer, "{\"return\": null, \"id\": 1}", 0, { 0, 0 }, 0, NULL, 0 },
    { "a second greeting", answer, GREETING, 0, { BAD, BAD }, 0, "does not speak QMP", 0 },
    { "a list", answer, "[1]", 0, { BAD, BAD }, 0, "does not speak QMP", 0 },
    { "an HTTP error", answer, "HTTP/1.1 400 Bad Request\r\n\r\n", 0, { BAD, BAD }, 0, "does not speak QMP", 0 },
};

/* ---- what becomes of them ---- */

static void *tell(void *argument)
{
    struct peer *p = argument;

    p->fd = accept(p->listener, NULL, NULL);
    p->lie->tell(p);
    wait_until_over(p);
    close(p->fd);
    return NULL;
}

/* A loop over as many bytes as may come between two looks at the clock, and one message before them. */
static double loop_s(void)
{
    static unsigned char bytes[STEP_BYTES + MIB];
    double best = INFINITY;

    for (int i = 0; i < 5; i++) {
        double start = seconds(CLOCK_THREAD_CPUTIME_ID);
        volatile unsigned sum = 0;

        for (size_t k = 0; k < sizeof bytes; k++)
            sum = sum + bytes[k];
        best = fmin(best, seconds(CLOCK_THREAD_CPUTIME_ID) - start);
    }
    return best;
}

static int count_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;

    ck_assert_ptr_nonnull(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static const struct lie *now;

static void expect(int rc, int wanted, const struct migbuf_error *e, const char *what)
{
    const double loop = loop_s();

    ck_assert_msg(rc == wanted, "%s: %s returned %d, not %d", now->name, what, rc, wanted);
    ck_assert_msg(rc == 0 || (e->code == rc && (!now->error || strstr(e->text, now->error))), "%s: %s says: %s",
                  now->name, what, e->text);
    ck_assert_msg(wanted != TIMEOUT || watch.seen_s >= watch.deadline_s - 2e-6, "%s: %s ended before its deadline",
                  now->name, what);
    ck_assert_msg(!watch.late_read, "%s: %s read on after its deadline", now->name, what);
    ck_assert_msg(watch.most_bytes <= STEP_BYTES, "%s: %s read %llu bytes at once", now->name, what,
                  (unsigned long long)watch.most_bytes);
    /* Mostly 10 to 30 times; a tree would be 200. Reading one's own arguments is not the peer's doing. */
    ck_assert_msg(now->argument_bytes || watch.most_cpu_s <= 100 * loop, "%s: %s computed %.6f s at once, a loop %.6f",
                  now->name, what, watch.most_cpu_s, loop);
}

static void call_twice(struct migbuf_qmp_socket *s)
{
    char *arguments = now->argument_bytes ? line_of("{\"x\": \"", "y", "\"}", now->argument_bytes) : NULL;
    struct migbuf_error e = { .text = "" };
    struct migbuf_qmp_message m;

    for (int i = 0; i < 2; i++) {
        uint32_t ms = now->calls[i] == TIMEOUT ? SHORT_MS : LONG_MS;
        int rc;

        begin_watch(ms);
        rc = migbuf_qmp_socket_call(s, i ? "query-b" : "query-a", i ? arguments : NULL, ms, &m, &e);
        end_watch();
        expect(rc, now->calls[i], &e, i ? "the second call" : "the first call");
        ck_assert_msg(i || rc || m.id == 1, "%s: id %llu", now->name, (unsigned long long)m.id);
    }
    if (now->calls[1] == CLOSED)
        ck_assert_msg(migbuf_qmp_socket_wanted(s) == 0, "%s: the handle is ready for ever", now->name);
    free(arguments);
}

static void hear_lie(const struct lie *lie, const char *directory)
{
    struct migbuf_allocator a = { .resize = resize };
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    uint64_t most = lie->memory ? lie->memory : 100 * KIB;
    uint32_t ms = lie->open == TIMEOUT ? SHORT_MS : LONG_MS;
    struct peer p = { .lie = lie };
    struct migbuf_qmp_socket *s = NULL;
    struct migbuf_error e = { .text = "" };
    int over[2], rc, descriptors;

    now = lie;
    held = peak = trees = 0;
    snprintf(address.sun_path, sizeof address.sun_path, "%s/qmp", directory);
    p.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(p.listener, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(p.listener, 1), 0);
    ck_assert_int_eq(pipe(over), 0);
    p.over = over[0];
    ck_assert_int_eq(pthread_create(&p.thread, NULL, tell, &p), 0);
    descriptors = count_descriptors();

    begin_watch(ms);
    rc = migbuf_qmp_socket_open(address.sun_path, NULL, &a, ms, &s, &e);
    end_watch();
    expect(rc, lie->open, &e, "open");
    if (rc == 0) {
        call_twice(s);
        ck_assert_msg(count_descriptors() <= descriptors + 2, "%s: descriptors are left",
                      lie->name); /* ours and the peer's */
        migbuf_qmp_socket_free(s);
    }
    ck_assert_msg(peak <= most, "%s: %llu bytes, not %llu", lie->name, (unsigned long long)peak,
                  (unsigned long long)most);
    ck_assert_msg(trees == (lie->argument_bytes ? trees : 0), "%s: %llu blocks of jansson's", lie->name,
                  (unsigned long long)trees);
    ck_assert_uint_eq(held, 0);
    close(over[1]);
    pthread_join(p.thread, NULL);
    close(over[0]);
    close(p.listener);
    unlink(address.sun_path);
}

START_TEST(a_lie_costs_no_more_than_its_deadline)
{
    char directory[] = "/tmp/migbuf-lies-XXXXXX";

    ck_assert_ptr_nonnull(mkdtemp(directory));
    json_set_alloc_funcs(count_trees, free);
    hear_lie(&lies[_i], directory);
    rmdir(directory);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("qmp_lies");
    TCase *tcase = tcase_create("lies");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, a_lie_costs_no_more_than_its_deadline, 0, sizeof lies / sizeof *lies);
    suite_add_tcase(suite, tcase);
    srunner_set_tap(runner, "-");
    srunner_run_all(runner, CK_SILENT);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
