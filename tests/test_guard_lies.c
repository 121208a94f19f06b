/* SPDX-License-Identifier: MIT */
/*
 * One VM under guard whose monitor lies: a row says which answer is a lie, and what the guard makes of it. It never takes
 * it for the truth, tells in a sentence what is wrong, builds no large tree of it, goes on when answers are right again,
 * and gives the host's limits back in the end.
 */
#include "guarded.h"
#include "trees.h"
#include "unit.h"
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define TREE_BYTES (32 * MIB) /* the readers take 16384 values, and one for each 16 bytes of 1 MiB */
#define NODE "incus_root--disk"
#define OTHER "incus_data" /* its second disk, of which only the truth is told */
#define STATS_OF(node, top, wr, parent) "{\"qdev\":\"dev-" node "\",\"node-name\":\"" top "\",\"stats\":{\"wr_bytes\":" wr ",\"wr_operations\":1},\"parent\":" parent \
    ",\"backing\":{\"node-name\":\"" node "\"}}"
#define STATS(wr, parent) "[" STATS_OF(NODE, "o", wr, parent) "," STATS_OF(OTHER, "p", "8192", FILE_OF("65544")) "]"
#define FILE_OF(highest) "{\"node-name\":\"#f\",\"stats\":{\"wr_highest_offset\":" highest "}}"
#define NODES_OF(node, top, size, actual) "{\"node-name\":\"" top "\",\"image\":{\"virtual-size\":" size actual "}},{\"node-name\":\"" node \
    "\",\"image\":{\"virtual-size\":" size "}}"
#define NODES(size, actual) "[" NODES_OF(NODE, "o", size, actual) "," NODES_OF(OTHER, "p", GOOD_SIZE, ",\"actual-size\":102400") "]"
#define GOOD_SIZE "1073741824"
#define BLOCK_OF(node, top, rates) "{\"qdev\":\"dev-" node "\",\"inserted\":{\"node-name\":\"" top "\"," rates "}}"
#define BLOCK(rates) "[" BLOCK_OF(NODE, "o", rates) "," BLOCK_OF(OTHER, "p", FREE) "]"
#define FREE RATES ",\"bps_wr\":0"
#define RATES "\"bps\":0,\"bps_rd\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":0"
#define ANSWER(text) "{\"return\":" text "}"

static const char *const good[][2] = {
    { "query-blockstats", STATS("4096", FILE_OF("196616")) },
    { "query-named-block-nodes", NODES(GOOD_SIZE, ",\"actual-size\":200704") },
    { "query-block-jobs", "[]" },
    { "query-status", "{\"status\":\"running\",\"running\":true}" },
    { "", "{}" },
};

/* What is a lie from the first answer (START), or from the first tick on (TICK). */
enum when { START, TICK };

static const struct lie {
    const char *name;
    enum when when;
    const char *command, *text; /* the whole message without its id; "": none comes */
    int rc;                     /* of guarded_start or guarded_tick */
    const char *words;          /* in g->error */
} lies[] = {
    { "no list of disks", START, "query-blockstats", ANSWER("{}"), -1, "not among QEMU's" },
    { "numbers for disks", START, "query-blockstats", ANSWER("[7,[],null]"), -1, "not among QEMU's" },
    { "1 MiB of disks", START, "query-blockstats", "*", -1, "more values" },
    { "no disk of ours", START, "query-blockstats", ANSWER("[{\"qdev\":\"dev-x\",\"node-name\":\"x\"}]"), -1, "not among QEMU's" },
    { "a refusal", START, "query-blockstats", "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"}}", -1, "query-blockstats: QEMU answered with an error: see the message: no" },
    { "neither answer nor refusal", START, "query-blockstats", "{}", -1, "not a QMP message" },
    { "no node of ours", START, "query-named-block-nodes", ANSWER("[]"), -1, "root disk" },
    { "a node without a size", START, "query-named-block-nodes", ANSWER("[{\"node-name\":\"o\"}]"), -1, "root disk" },
    { "a negative size", START, "query-named-block-nodes", ANSWER(NODES("-1", "")), -1, "root disk" },
    { "1 MiB of nodes", START, "query-named-block-nodes", "*", -1, "more values" },
    { "a disk of nothing", START, "query-named-block-nodes", ANSWER(NODES("0", "")), -1, "" },
    { "a disk beyond all", START, "query-named-block-nodes", ANSWER(NODES("9223372036854775807", "")), -1, "" },
    { "no list of limits", START, "query-block", ANSWER("{}"), -1, "" },
    { "no limits of ours", START, "query-block", ANSWER("[]"), -1, "" },
    { "a limit that is missing", START, "query-block", ANSWER(BLOCK(RATES)), -1, "" },
    { "a negative limit", START, "query-block", ANSWER(BLOCK(RATES ",\"bps_wr\":-5")), -1, "" },
    { "a limit that is a text", START, "query-block", ANSWER(BLOCK(RATES ",\"bps_wr\":\"1\"")), -1, "" },
    { "a group of a long name", START, "query-block",
      ANSWER(BLOCK(RATES ",\"bps_wr\":7,\"group\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"")),
      -1, "" },
    { "a disk that is gone", TICK, "query-blockstats", ANSWER("[]"), -1, "counters" },
    { "1 MiB of counters", TICK, "query-blockstats", "*", -1, "more values" },
    { "negative counters", TICK, "query-blockstats", ANSWER(STATS("-1", FILE_OF("1"))), -1, "counters" },
    { "counters that went back", TICK, "query-blockstats", ANSWER(STATS("0", FILE_OF("196616"))), 0, "" },
    { "an overlay that is gone", TICK, "query-named-block-nodes", ANSWER("[]"), -1, "overlay" },
    { "an overlay of less than nothing", TICK, "query-named-block-nodes", ANSWER(NODES(GOOD_SIZE, ",\"actual-size\":-1")), -1, "overlay" },
    { "an overlay of which no size is said", TICK, "query-named-block-nodes", ANSWER(NODES(GOOD_SIZE, "")), 0, "" },
    { "jobs that are a number", TICK, "query-block-jobs", ANSWER("7"), 0, "" },
    { "limits that cannot be read", TICK, "query-block", ANSWER("{\"qdev\":7}"), -1, "" },
    { "neither answer nor refusal of a limit", TICK, "query-block", "{}", -1, "not a QMP message" },
    { "an overlay larger than its volume", TICK, "query-named-block-nodes", ANSWER(NODES(GOOD_SIZE, ",\"actual-size\":5368709120")), 0, "" },
    { "silence", TICK, "query-blockstats", "", -1, "no answer" },
};

/* ---- the peer ---- */

static struct {
    const struct lie *lie;
    int listener;
    pthread_t thread;
    pthread_mutex_t mutex;
    bool lying;
    uint64_t asked;     /* commands that came */
    uint64_t owed_id;   /* of one that was not answered */
    int fd;
    uint64_t limits[2][3]; /* of each disk: bps_wr, iops_wr, iops_size in force */
} peer;

static uint64_t number_behind(const char *line, const char *key)
{
    const char *at = strstr(line, key);

    return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static void put_answer(uint64_t id, const char *text)
{
    size_t length = strlen(text);

    dprintf(peer.fd, "%.*s%s\"id\":%llu}\r\n", (int)length - 1, text, length > 2 ? "," : "", (unsigned long long)id);
}

static void put_much(uint64_t id)
{
    static const char item[] = "{},";
    size_t room = MIB - 64, at = 0;
    char *text = malloc(room + 8);

    if (!text)
        abort();
    at = (size_t)sprintf(text, "{\"return\":[");
    for (; at + 32 < room; at += sizeof item - 1)
        memcpy(text + at, item, sizeof item - 1);
    dprintf(peer.fd, "%.*s],\"id\":%llu}\r\n", (int)at - 1, text, (unsigned long long)id);
    free(text);
}

static void take_limits(const char *line)
{
    uint64_t *limits = peer.limits[strstr(line, "\"dev-" OTHER "\"") != NULL];

    if (!strstr(line, "block_set_io_throttle"))
        return;
    limits[0] = number_behind(line, "\"bps_wr\":");
    limits[1] = number_behind(line, "\"iops_wr\":");
    limits[2] = number_behind(line, "\"iops_size\":");
}

/* Each of the six rates of a disk, as they are. */
static const char *rates_of(int disk, char text[256])
{
    const uint64_t *limits = peer.limits[disk];

    snprintf(text, 256, "\"bps\":0,\"bps_rd\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":%llu,\"bps_wr\":%llu%s,\"iops_size\":%llu",
             (unsigned long long)limits[1], (unsigned long long)limits[0], limits[0] || limits[1] ? ",\"group\":\"migbuf-guard\"" : "",
             (unsigned long long)limits[2]);
    return text;
}

static void answer_truly(const char *line, uint64_t id)
{
    char text[1024] = "{\"return\":{}}", first[256], second[256];

    if (strstr(line, "\"query-block\""))
        snprintf(text, sizeof text, ANSWER("[" BLOCK_OF(NODE, "o", "%s") "," BLOCK_OF(OTHER, "p", "%s") "]"), rates_of(0, first), rates_of(1, second));
    for (size_t k = 0; k < sizeof good / sizeof *good; k++) {
        char name[64];

        snprintf(name, sizeof name, "\"%s\"", good[k][0]);
        if (*good[k][0] && strstr(line, name))
            snprintf(text, sizeof text, "{\"return\":%s}", good[k][1]);
    }
    put_answer(id, text);
}

static void answer(const char *line)
{
    const char *last = line; /* arguments may have a member of that name */
    uint64_t id;
    char name[64];

    for (const char *at = line; (at = strstr(at, "\"id\":")); at++)
        last = at;
    id = number_behind(last, "\"id\":");
    pthread_mutex_lock(&peer.mutex);
    peer.asked++;
    take_limits(line);
    snprintf(name, sizeof name, "\"%s\"", peer.lie->command);
    if (!peer.lying || !strstr(line, name))
        answer_truly(line, id);
    else if (!strcmp(peer.lie->text, "*"))
        put_much(id);
    else if (*peer.lie->text)
        put_answer(id, peer.lie->text);
    else
        peer.owed_id = id;
    pthread_mutex_unlock(&peer.mutex);
}

static void *serve(void *unused)
{
    char line[65536];
    FILE *in;

    peer.fd = accept(peer.listener, NULL, NULL);
    in = peer.fd < 0 ? NULL : fdopen(dup(peer.fd), "r");
    if (!in)
        return unused;
    dprintf(peer.fd, "{\"QMP\":{\"version\":{},\"capabilities\":[]}}\r\n");
    while (fgets(line, sizeof line, in))
        if (strstr(line, "qmp_capabilities"))
            dprintf(peer.fd, "{\"return\":{},\"id\":%llu}\r\n", (unsigned long long)number_behind(line, "\"id\":"));
        else
            answer(line);
    fclose(in);
    close(peer.fd);
    return unused;
}

static uint64_t asked(void)
{
    uint64_t n;

    pthread_mutex_lock(&peer.mutex);
    n = peer.asked;
    pthread_mutex_unlock(&peer.mutex);
    return n;
}

static void lie_from_now(bool lying)
{
    pthread_mutex_lock(&peer.mutex);
    peer.lying = lying;
    pthread_mutex_unlock(&peer.mutex);
}

/* Whether a limit is in force on so many disks. */
static bool limited(int disks)
{
    int n = 0;

    pthread_mutex_lock(&peer.mutex);
    for (int k = 0; k < 2; k++)
        n += peer.limits[k][0] || peer.limits[k][1];
    pthread_mutex_unlock(&peer.mutex);
    return n == disks;
}

/* ---- the guard ---- */

static void lies_at_a_tick(struct guarded *g)
{
    struct migbuf_buffer_stats stats = { .size = sizeof stats };
    uint64_t before;
    int rc;

    ck_assert_msg(!guarded_tick(g, 1000), "%s: %s", peer.lie->name, g->error);
    ck_assert(g->overlay && g->overlay_bytes == 200704 + 102400 && g->decisions && limited(2));
    ck_assert(!migbuf_buffer_stats(g->buffer, &stats));
    ck_assert_uint_eq(stats.used_bytes, 200704 + 102400);
    ck_assert_uint_eq(g->written_last, 4096 + 8192);
    lie_from_now(true);
    rc = guarded_tick(g, 2000);
    ck_assert_msg(rc == peer.lie->rc && strstr(g->error, peer.lie->words), "%s: %d, %s", peer.lie->name, rc, g->error);
    ck_assert_msg(rc || g->overlay_bytes >= 196616 + 102400, "%s: an overlay of %llu bytes", peer.lie->name, (unsigned long long)g->overlay_bytes);
    if (g->action == MIGBUF_ACTION_CANNOT_FIT) { /* the buffer says so at each tick; for people it is one decision */
        before = g->decisions;
        ck_assert_msg(!guarded_tick(g, 3000) && g->action == MIGBUF_ACTION_CANNOT_FIT, "%s: %s", peer.lie->name, g->error);
        ck_assert_uint_eq(g->decisions, before);
    }
    if (!*peer.lie->text) { /* nothing more is asked, however often it is its turn, and the rest waits for nobody */
        before = asked();
        for (uint64_t now_ms = 3000; now_ms < 9000; now_ms += 1000)
            ck_assert_msg(guarded_tick(g, now_ms) == -1 && strstr(g->error, "still owes"), "%s", g->error);
        ck_assert_uint_eq(asked(), before);
        lie_from_now(false);
        put_answer(peer.owed_id, "{\"return\":[]}");
        while (guarded_tick(g, 9000) && strstr(g->error, "still owes"))
            ;
        ck_assert_uint_gt(asked(), before);
    }
    lie_from_now(false);
    ck_assert_msg(!guarded_tick(g, 10000), "%s: %s", peer.lie->name, g->error);
    ck_assert_msg(limited(2), "%s: the limit is gone", peer.lie->name);
    ck_assert_msg(!guarded_end(g), "%s: %s", peer.lie->name, g->error);
    ck_assert_msg(limited(0), "%s: the host's limits are not back", peer.lie->name);
}

START_TEST(no_lie_is_taken_for_the_truth)
{
    static struct guarded g;
    char directory[] = "/tmp/migbuf-guard-XXXXXX";
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int rc;

    json_set_alloc_funcs(tree_malloc, tree_free);
    peer.lie = &lies[_i];
    peer.lying = peer.lie->when == START;
    ck_assert(!pthread_mutex_init(&peer.mutex, NULL));
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(g.monitor, sizeof g.monitor, "%s/qmp", directory);
    snprintf(g.saved, sizeof g.saved, "%s/saved", directory);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/qmp", directory);
    peer.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert(!bind(peer.listener, (struct sockaddr *)&address, sizeof address) && !listen(peer.listener, 1));
    ck_assert(!pthread_create(&peer.thread, NULL, serve, NULL));
    ck_assert(!migbuf_lxd_names(MIGBUF_LXD_INCUS, "root-disk", &g.disks[0].names));
    ck_assert(!migbuf_lxd_names(MIGBUF_LXD_INCUS, "data", &g.disks[1].names));
    g.disk_count = 2;
    g.state_bytes = 4096 * MIB;

    rc = guarded_start(&g, 1000);
    if (peer.lie->when == START) {
        ck_assert_msg(rc == peer.lie->rc && *g.error && strstr(g.error, peer.lie->words), "%s: %d, %s", peer.lie->name, rc, g.error);
        ck_assert_msg(limited(0), "%s: a limit was set", peer.lie->name);
    } else {
        ck_assert_msg(!rc, "%s: %s", peer.lie->name, g.error);
        ck_assert_msg(!access(g.saved, F_OK) && limited(0), "the host's limits are not saved before the first of ours");
        lies_at_a_tick(&g);
    }
    ck_assert_msg(most_trees_bytes < TREE_BYTES, "%s: a tree of %llu bytes", peer.lie->name, (unsigned long long)most_trees_bytes);
    pthread_join(peer.thread, NULL);
    close(peer.listener);
    unlink(g.monitor);
    unlink(g.saved);
    rmdir(directory);
}
END_TEST

int main(void)
{
    return unit_run_rows("guard_lies", no_lie_is_taken_for_the_truth, sizeof lies / sizeof *lies, WATCHDOG_S);
}
