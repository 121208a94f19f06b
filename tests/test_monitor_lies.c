/* SPDX-License-Identifier: MIT */
/*
 * The monitor of `evacuate` against the peers of qmp_liar.c. Its clock is an argument: so a peer that keeps silent is given
 * up after a minute that nobody waits for, and no sooner. One step reads a bounded number of bytes, and builds no tree of
 * them.
 */
#include "monitor.h"
#include "qmp_liar.h"
#include "trees.h"
#include "unit.h"
#include <jansson.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define STEP_BYTES (256 * KIB)      /* what one step may read */
#define STEPS 40                    /* of what says nothing that counts, for ever */
#define TREE_BYTES (64 * KIB)       /* of jansson's, at any moment */
#define MINUTE_NS (MONITOR_ANSWER_MS * UINT64_C(1000000))

static uint64_t read_bytes, most_read_bytes;

ssize_t __real_recv(int fd, void *bytes, size_t count, int flags);
ssize_t __wrap_recv(int fd, void *bytes, size_t count, int flags);

ssize_t __wrap_recv(int fd, void *bytes, size_t count, int flags)
{
    ssize_t n = __real_recv(fd, bytes, count, flags);

    read_bytes += n > 0 ? (uint64_t)n : 0;
    return n;
}

static void step(struct monitor *m, uint64_t now)
{
    read_bytes = 0;
    monitor_step(m, now);
    most_read_bytes = read_bytes > most_read_bytes ? read_bytes : most_read_bytes;
}

/* Steps until that call, or the monitor, has come to an end. What never ends gets a number of steps, then a minute. The steps of a
 * peer that never stops talking count from its first word on, however late that comes. */
static void run(struct monitor *m, int who, bool ends, bool floods, const char *name)
{
    bool heard = false;

    for (int n = 0; !m->lost && (who < 0 ? !monitor_ready(m) : m->call[who].state == CALL_WAITING); n += heard || !floods) {
        struct pollfd f = { .fd = -1 };

        if (!ends && n == STEPS) {
            step(m, m->connect_by_ns || who < 0 ? MINUTE_NS - 1 : m->call[who].deadline_ns - 1);
            ck_assert_msg(!m->lost, "%s: given up too soon: %s", name, m->error);
            step(m, 2 * MINUTE_NS);
            ck_assert_msg(m->lost, "%s: waited for after a minute", name);
            return;
        }
        f.events = monitor_poll(m, &f.fd);
        ck_assert_msg(poll(&f, 1, ends ? PATIENCE_MS : 5) >= 0, "%s", name);
        step(m, 0);
        heard |= read_bytes != 0;
    }
}

/* What the first call of migbuf_qmp_socket returns for the peer is what becomes of the monitor's. */
static void expect(const struct monitor *m, const struct lie *lie)
{
    const struct call *call = &m->call[CALL_DISK];
    int wanted = lie->open ? lie->open : lie->calls[0];

    if (!wanted || wanted == MIGBUF_E_PEER) {
        ck_assert_msg(call->state == (wanted ? CALL_REFUSED : CALL_ANSWERED), "%s: state %d, %s", lie->name, call->state, m->error);
        ck_assert_msg(call->text && strlen(call->text) <= call->text_bytes, "%s: no text", lie->name);
        return;
    }
    ck_assert_msg(m->lost && *m->error && call->state != CALL_ANSWERED && call->state != CALL_REFUSED,
                  "%s: what nobody knows was taken for %s", lie->name, call->state == CALL_REFUSED ? "a refusal" : "an answer");
    if (wanted == TIMEOUT)
        ck_assert_msg(strstr(m->error, lie->open ? "no greeting" : "in time"), "%s: %s", lie->name, m->error);
    else
        ck_assert_msg(strstr(m->error, "cannot be read") || strstr(m->error, lie->error), "%s: %s", lie->name, m->error);
}

START_TEST(what_nobody_knows_is_no_answer)
{
    char directory[] = "/tmp/migbuf-monitor-XXXXXX", path[64];
    const struct lie *lie = &lies[_i];
    struct monitor m;
    struct peer p;

    json_set_alloc_funcs(tree_malloc, tree_free);
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/qmp", directory);
    liar_start(&p, lie, path);
    monitor_open(&m, path, 0);
    monitor_step(&m, 0);
    ck_assert_ptr_nonnull(m.socket);
    run(&m, -1, lie->open != TIMEOUT, false, lie->name);
    if (!lie->open) {
        ck_assert_msg(!m.lost, "%s: %s", lie->name, m.error);
        monitor_send(&m, CALL_DISK, "query-a", NULL, 0);
        run(&m, CALL_DISK, lie->calls[0] != TIMEOUT, liar_floods(lie), lie->name);
    }
    expect(&m, lie);
    ck_assert(m.facts.running && !m.facts.overflows);
    ck_assert_msg(most_read_bytes <= STEP_BYTES, "%s: %llu bytes in one step", lie->name, (unsigned long long)most_read_bytes);
    ck_assert_msg(most_trees_bytes <= TREE_BYTES, "%s: a tree of %llu bytes", lie->name, (unsigned long long)most_trees_bytes);
    monitor_close(&m);
    liar_end(&p);
    unlink(path);
    rmdir(directory);
}
END_TEST

int main(void)
{
    return unit_run_rows("monitor_lies", what_nobody_knows_is_no_answer, lies_count, WATCHDOG_S);
}
