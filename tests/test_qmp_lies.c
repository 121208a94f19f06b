/* SPDX-License-Identifier: MIT */
/*
 * What two calls make of the peers of qmp_liar.c. All of them must keep the deadline, with what it takes to look at the
 * bytes: so the library's looks at the clock are counted, and what it reads and computes between two of them. CPU time is
 * compared with a loop over as many bytes, so that the speed of the machine does not count.
 */
#include "qmp_liar.h"
#include "unit.h"
#include <dirent.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

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
    double timeout_s, deadline_s;          /* counted from its first look */
    double seen_s;
    bool late_read; /* something was read although the clock had said that it is over */
} watch;

static void look(void)
{
    watch.most_bytes = watch.bytes > watch.most_bytes ? watch.bytes : watch.most_bytes;
    watch.bytes = 0;
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

/* ---- what becomes of them ---- */

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
    ck_assert_msg(rc == wanted, "%s: %s returned %d, not %d", now->name, what, rc, wanted);
    ck_assert_msg(rc == 0 || (e->code == rc && (!now->error || strstr(e->text, now->error))), "%s: %s says: %s",
                  now->name, what, e->text);
    ck_assert_msg(wanted != TIMEOUT || watch.seen_s >= watch.deadline_s - 2e-6, "%s: %s ended before its deadline",
                  now->name, what);
    ck_assert_msg(!watch.late_read, "%s: %s read on after its deadline", now->name, what);
    ck_assert_msg(watch.most_bytes <= STEP_BYTES, "%s: %s read %llu bytes at once", now->name, what,
                  (unsigned long long)watch.most_bytes);
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
    char path[64];
    uint64_t most = lie->memory ? lie->memory : 100 * KIB;
    uint32_t ms = lie->open == TIMEOUT ? SHORT_MS : LONG_MS;
    struct peer p;
    struct migbuf_qmp_socket *s = NULL;
    struct migbuf_error e = { .text = "" };
    int rc, descriptors;

    now = lie;
    held = peak = trees = 0;
    snprintf(path, sizeof path, "%s/qmp", directory);
    liar_start(&p, lie, path);
    descriptors = count_descriptors();

    begin_watch(ms);
    rc = migbuf_qmp_socket_open(path, NULL, &a, ms, &s, &e);
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
    liar_end(&p);
    unlink(path);
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
    return unit_run_rows("qmp_lies", a_lie_costs_no_more_than_its_deadline, lies_count, 120);
}
