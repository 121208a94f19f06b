/* SPDX-License-Identifier: MIT */
/*
 * The room lxd against a scripted server in a thread: what real daemons cannot be made to do, and the answers of
 * releases that are not at hand (LXD 6: operations for volumes, progress as an object; clusters). Real daemons are in
 * test_lxd_daemon.c.
 */
#include "migbuf/lxd.h"
#include "unit.h"
#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

enum how {
    WHOLE,
    CUT,         /* half of the body, then the connection ends */
    CUT_CHUNKED, /* the same without a length */
    SILENT,      /* takes the request and says nothing */
    HALF,        /* half of the body, then says nothing more */
    BIG,         /* 100 MiB announced */
    BIG_CHUNKED, /* 100 MiB not announced */
    NO_HTTP,
    HANG_UP /* ends the connection without a word */
};

struct answer {
    const char *expect; /* how the request must begin; NULL: anything */
    int status;
    enum how how;
    const char *body;
};

/* A server: path, what it answers in turn, what was asked. */
struct server {
    char directory[40], path[64];
    int listener, stop[2];
    pthread_t thread;
    const struct answer *script; /* ends with expect NULL and body NULL */
    char asked[32][700];
    size_t requests;
    bool bad;
};

#define HELLO(more)                                                                                                    \
    {                                                                                                                  \
        "GET /1.0 HTTP", 200, WHOLE,                                                                                   \
            "{\"type\":\"sync\",\"status_code\":200,\"metadata\":{\"auth\":\"trusted\",\"config\":{\"user.a\":\"b\"},"  \
            "\"api_extensions\":[\"migration_vm_live\",\"operations_get_query_all_projects\"]," more "}}"              \
    }
#define LXD_6 "\"environment\":{\"server\":\"lxd\",\"server_version\":\"6.6\",\"server_name\":\"h1\"}"
#define CLUSTER "\"environment\":{\"server\":\"incus\",\"server_version\":\"6.14\",\"server_name\":\"m1\",\"server_clustered\":true}"
#define SYNC(metadata) "{\"type\":\"sync\",\"status\":\"Success\",\"status_code\":200,\"metadata\":" metadata "}"
#define OPERATION(code) "{\"id\":\"11-22\",\"class\":\"task\",\"status_code\":" code ",\"err\":\"no luck\"}"
#define ASYNC(code) "{\"type\":\"async\",\"operation\":\"/1.0/operations/11-22?project=p\",\"metadata\":" OPERATION(code) "}"
#define ENDS { NULL, 0, WHOLE, NULL }

static struct migbuf_error e;

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- the server ---- */

/* Ready to read before we are told to stop? */
static bool wait_for(const struct server *s, int fd)
{
    fd_set set;

    FD_ZERO(&set);
    FD_SET(fd, &set);
    FD_SET(s->stop[0], &set);
    select((fd > s->stop[0] ? fd : s->stop[0]) + 1, &set, NULL, NULL, NULL);
    return FD_ISSET(fd, &set) && !FD_ISSET(s->stop[0], &set);
}

static bool say(int fd, const char *text, size_t length)
{
    while (length) {
        ssize_t n = send(fd, text, length, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        text += n;
        length -= (size_t)n;
    }
    return true;
}

/* One request with its body; false when the other side left. */
static bool take_request(struct server *s, int fd, char *request, size_t room)
{
    size_t n = 0, body = 0;
    const char *end;

    for (;;) {
        ssize_t got;

        request[n] = 0;
        end = strstr(request, "\r\n\r\n");
        if (end) {
            const char *length = strstr(request, "Content-Length: ");

            body = length ? strtoul(length + 16, NULL, 10) : 0;
            if (n >= (size_t)(end + 4 - request) + body)
                break;
        }
        if (!wait_for(s, fd) || (got = recv(fd, request + n, room - 1 - n, 0)) <= 0)
            return false;
        n += (size_t)got;
    }
    if (s->requests < 32) /* the first line, a space, the body */
        snprintf(s->asked[s->requests++], sizeof *s->asked, "%.*s %s", (int)strcspn(request, "\r"), request, end + 4);
    return true;
}

static bool answer(struct server *s, int fd, const struct answer *a)
{
    static char flood[1 << 16];
    size_t length = a->body ? strlen(a->body) : 0;
    char head[160];
    bool chunked = a->how == CUT_CHUNKED || a->how == BIG_CHUNKED;

    if (a->how == HANG_UP)
        return false;
    if (a->how == SILENT) {
        wait_for(s, s->stop[0]);
        return false;
    }
    if (a->how == NO_HTTP)
        return say(fd, "220 welcome to ftp\r\n", 20) && false;
    if (chunked)
        snprintf(head, sizeof head, "HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n", a->status);
    else
        snprintf(head, sizeof head, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n\r\n", a->status,
                 a->how == BIG ? (size_t)(100 * MIB) : length);
    if (!say(fd, head, strlen(head)))
        return false;
    memset(flood, 'x', sizeof flood);
    switch (a->how) {
    case CUT:
        return say(fd, a->body, length / 2) && false;
    case CUT_CHUNKED:
        snprintf(head, sizeof head, "%zx\r\n", length);
        return say(fd, head, strlen(head)) && say(fd, a->body, length / 2) && false;
    case HALF:
        say(fd, a->body, length / 2);
        wait_for(s, s->stop[0]);
        return false;
    case BIG:
        for (size_t k = 0; k < 1600 && say(fd, flood, sizeof flood); k++)
            ;
        return false;
    case BIG_CHUNKED:
        for (size_t k = 0; k < 1600; k++)
            if (!say(fd, "10000\r\n", 7) || !say(fd, flood, sizeof flood) || !say(fd, "\r\n", 2))
                return false;
        return say(fd, "0\r\n\r\n", 5);
    default:
        return say(fd, a->body, length);
    }
}

static void *serve(void *context)
{
    struct server *s = context;
    const struct answer *a = s->script;
    static char request[65536];

    while ((a->expect || a->body) && wait_for(s, s->listener)) {
        int fd = accept(s->listener, NULL, NULL);

        while ((a->expect || a->body) && take_request(s, fd, request, sizeof request)) {
            if (a->expect && strncmp(request, a->expect, strlen(a->expect)))
                s->bad = true;
            if (!answer(s, fd, a++))
                break;
        }
        close(fd);
    }
    return NULL;
}

static void start(struct server *s, const struct answer *script)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };

    *s = (struct server){ .directory = "/tmp/migbuf-test-XXXXXX", .script = script };
    ck_assert_ptr_nonnull(mkdtemp(s->directory));
    snprintf(s->path, sizeof s->path, "%s/socket", s->directory);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", s->path);
    s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(s->listener, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(listen(s->listener, 8), 0);
    ck_assert_int_eq(pipe(s->stop), 0);
    ck_assert_int_eq(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void finish(struct server *s)
{
    close(s->stop[1]);
    pthread_join(s->thread, NULL);
    ck_assert(!s->bad);
    close(s->stop[0]);
    close(s->listener);
    unlink(s->path);
    rmdir(s->directory);
}

static struct migbuf_lxd *open_with(struct server *s, const struct answer *script,
                                    const struct migbuf_lxd_options *options)
{
    struct migbuf_lxd *lxd = NULL;

    start(s, script);
    ck_assert_msg(migbuf_lxd_open(s->path, options, NULL, PATIENCE_MS, &lxd, &e) == 0, "%s", e.text);
    return lxd;
}

static void end(struct server *s, struct migbuf_lxd *lxd)
{
    migbuf_lxd_free(lxd);
    finish(s);
}

/* What a pools call gives when the server answers like that, in how many ms. */
static int pools_by(enum how how, int status, const char *body, uint32_t timeout_ms, uint64_t *took_ms)
{
    const struct answer script[] = { HELLO(LXD_6), { "GET /1.0/storage-pools?recursion=1 HTTP", status, how, body }, ENDS };
    struct migbuf_lxd_pool pools[2];
    struct server s;
    struct migbuf_lxd *lxd = open_with(&s, script, NULL);
    uint64_t before = now_ms();
    int rc = migbuf_lxd_pools(lxd, timeout_ms, pools, 2, &e);

    if (took_ms)
        *took_ms = now_ms() - before;
    end(&s, lxd);
    return rc;
}

/* ---- bad peers ---- */

START_TEST(nobody_there)
{
    struct migbuf_lxd *lxd = NULL;
    struct server s;
    char path[200];
    const struct answer script[] = { ENDS };

    start(&s, script);
    close(s.listener);
    ck_assert_int_eq(migbuf_lxd_open(s.path, NULL, NULL, PATIENCE_MS, &lxd, &e), MIGBUF_E_SYSTEM);
    ck_assert_int_eq(e.os_errno, ECONNREFUSED);
    finish(&s);
    ck_assert_int_eq(migbuf_lxd_open(s.path, NULL, NULL, PATIENCE_MS, &lxd, &e), MIGBUF_E_SYSTEM);
    ck_assert_int_eq(e.os_errno, ENOENT);
    memset(path, 'x', sizeof path);
    path[0] = '/';
    path[sizeof path - 1] = 0;
    ck_assert_int_eq(migbuf_lxd_open(path, NULL, NULL, PATIENCE_MS, &lxd, &e), MIGBUF_E_TOO_BIG);
    ck_assert(e.need == 200 && e.have == sizeof((struct sockaddr_un *)0)->sun_path);
    ck_assert_int_eq(migbuf_lxd_open("http://h", NULL, NULL, PATIENCE_MS, &lxd, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_lxd_open("/x", NULL, NULL, 0, &lxd, &e), MIGBUF_E_RANGE);
    ck_assert_ptr_null(lxd);
}
END_TEST

START_TEST(a_reply_that_is_cut)
{
    ck_assert_int_eq(pools_by(CUT, 200, SYNC("[]"), PATIENCE_MS, NULL), MIGBUF_E_CLOSED);
    ck_assert_int_eq(pools_by(CUT_CHUNKED, 200, SYNC("[]"), PATIENCE_MS, NULL), MIGBUF_E_CLOSED);
    ck_assert_int_eq(pools_by(NO_HTTP, 200, SYNC("[]"), PATIENCE_MS, NULL), MIGBUF_E_PROTOCOL);
}
END_TEST

START_TEST(a_server_that_hangs)
{
    uint64_t took;

    ck_assert_int_eq(pools_by(SILENT, 200, SYNC("[]"), 300, &took), MIGBUF_E_TIMEOUT);
    ck_assert(took >= 295 && took < 3000);
    ck_assert_int_eq(pools_by(HALF, 200, SYNC("[]"), 300, &took), MIGBUF_E_TIMEOUT);
    ck_assert(took >= 295 && took < 3000);
}
END_TEST

START_TEST(a_reply_of_100_mib)
{
    uint64_t took;

    ck_assert_int_eq(pools_by(BIG, 200, "", PATIENCE_MS, &took), MIGBUF_E_TOO_BIG);
    ck_assert_ptr_nonnull(strstr(e.text, "bound"));
    ck_assert_int_eq(pools_by(BIG_CHUNKED, 200, "", PATIENCE_MS, &took), MIGBUF_E_TOO_BIG);
}
END_TEST

START_TEST(replies_that_are_not_what_they_should_be)
{
    static const char *const bodies[] = { "",
                                          "{",
                                          "[]",
                                          "null",
                                          "{}",
                                          "{\"type\":7}",
                                          "{\"type\":\"other\",\"metadata\":[]}",
                                          SYNC("{}"),
                                          SYNC("7"),
                                          "{\"type\":\"sync\"}",
                                          SYNC("[7]"),
                                          SYNC("[{}]"),
                                          SYNC("[{\"name\":\"p\"}]"),
                                          "{\"type\":\"async\",\"operation\":\"\",\"metadata\":[]}",
                                          "{\"type\":\"async\",\"operation\":\"/etc/passwd\",\"metadata\":{\"status_code\":103}}",
                                          "{\"type\":\"async\",\"operation\":\"/1.0/operations/1\",\"metadata\":null}",
                                          "{\"type\":\"sync\",\"metadata\":[{\"name\":\"p\",\"driver\":\"dir\"}]" };

    for (size_t k = 0; k < sizeof bodies / sizeof *bodies; k++) {
        int rc = pools_by(WHOLE, 200, bodies[k], PATIENCE_MS, NULL);

        if (strstr(bodies[k], "\"operation\":\"\"")) /* an answer at once after all */
            ck_assert_int_eq(rc, 0);
        else
            ck_assert_msg(rc == MIGBUF_E_PROTOCOL, "%s gives %d", bodies[k], rc);
    }
}
END_TEST

START_TEST(errors_by_their_status)
{
    static const struct {
        int status, code;
    } given[] = { { 404, MIGBUF_E_NOTFOUND }, { 409, MIGBUF_E_EXISTS }, { 403, MIGBUF_E_PEER },
                  { 400, MIGBUF_E_PEER },     { 500, MIGBUF_E_PEER },   { 503, MIGBUF_E_PEER } };

    for (size_t k = 0; k < sizeof given / sizeof *given; k++) {
        ck_assert_int_eq(pools_by(WHOLE, given[k].status, "{\"type\":\"error\",\"error\":\"no\"}", PATIENCE_MS, NULL),
                         given[k].code);
        ck_assert_uint_eq(e.need, (uint64_t)given[k].status);
    }
    ck_assert_int_eq(pools_by(WHOLE, 200, SYNC("null"), PATIENCE_MS, NULL), 0); /* an empty list, as Incus has it */
    ck_assert_int_eq(pools_by(WHOLE, 502, SYNC("[]"), PATIENCE_MS, NULL), MIGBUF_E_PEER); /* a proxy's */
}
END_TEST

START_TEST(what_is_no_such_server)
{
    static const char *const bodies[] = {
        SYNC("{\"auth\":\"untrusted\",\"api_extensions\":[],\"environment\":{}}"),
        SYNC("{\"auth\":\"trusted\",\"environment\":{}}"),
        SYNC("{\"auth\":\"trusted\",\"api_extensions\":[]}"),
        SYNC("[]"),
    };

    for (size_t k = 0; k < sizeof bodies / sizeof *bodies; k++) {
        const struct answer script[] = { { "GET /1.0 HTTP", 200, WHOLE, bodies[k] }, ENDS };
        struct migbuf_lxd *lxd = NULL;
        struct server s;
        int rc;

        start(&s, script);
        rc = migbuf_lxd_open(s.path, NULL, NULL, PATIENCE_MS, &lxd, &e);
        ck_assert(rc == MIGBUF_E_PEER || rc == MIGBUF_E_PROTOCOL);
        ck_assert_ptr_null(lxd);
        finish(&s);
    }
}
END_TEST

/* The daemon was restarted between two calls: the connection is gone, the next call makes another. */
START_TEST(a_server_that_comes_back)
{
    const struct answer script[] = { HELLO(LXD_6),
                                     { "GET /1.0/storage-pools?", 200, HANG_UP, "" },
                                     { "GET /1.0/storage-pools?", 200, WHOLE, SYNC("[]") },
                                     { "GET /1.0/storage-pools?", 200, CUT, SYNC("[]") },
                                     { "GET /1.0/storage-pools?", 200, WHOLE, SYNC("[]") },
                                     ENDS };
    struct migbuf_lxd_pool pools[2];
    struct server s;
    struct migbuf_lxd *lxd = open_with(&s, script, NULL);

    ck_assert_int_eq(migbuf_lxd_pools(lxd, PATIENCE_MS, pools, 2, &e), 0); /* libcurl asks again itself: nothing had come */
    ck_assert_int_eq(migbuf_lxd_pools(lxd, PATIENCE_MS, pools, 2, &e), MIGBUF_E_CLOSED);
    ck_assert_int_eq(migbuf_lxd_pools(lxd, PATIENCE_MS, pools, 2, &e), 0);
    end(&s, lxd);
}
END_TEST

/* ---- answers of other releases ---- */

START_TEST(volumes_made_by_an_operation)
{
    const struct answer script[] = {
        HELLO(LXD_6),
        { "GET /1.0/storage-pools/p%2F1 HTTP", 200, WHOLE, SYNC("{\"name\":\"p/1\",\"driver\":\"lvm\",\"status\":\"Created\"}") },
        { "GET /1.0/storage-pools/p%2F1/resources HTTP", 200, WHOLE, SYNC("{\"space\":{\"used\":1,\"total\":99999999999}}") },
        { "POST /1.0/storage-pools/p%2F1/volumes/custom HTTP", 202, WHOLE, ASYNC("103") },
        { "GET /1.0/operations/11-22/wait?timeout=", 200, WHOLE, SYNC(OPERATION("103")) },
        { "GET /1.0/operations/11-22/wait?timeout=", 400, WHOLE, "{\"type\":\"error\",\"error\":\"context deadline exceeded\"}" },
        { "GET /1.0/operations/11-22 HTTP", 200, WHOLE, SYNC(OPERATION("103")) },
        { "GET /1.0/operations/11-22/wait?timeout=", 200, WHOLE, SYNC(OPERATION("200")) },
        { "DELETE /1.0/storage-pools/p%2F1/volumes/custom/v HTTP", 202, WHOLE, ASYNC("103") },
        { "GET /1.0/operations/11-22/wait?timeout=", 200, WHOLE, SYNC(OPERATION("400")) },
        ENDS
    };
    struct server s;
    struct migbuf_lxd *lxd = open_with(&s, script, NULL);

    ck_assert_msg(migbuf_lxd_volume_create(lxd, "p/1", "v", 64 * MIB, PATIENCE_MS, &e) == 0, "%s", e.text);
    ck_assert_int_eq(migbuf_lxd_volume_delete(lxd, "p/1", "v", PATIENCE_MS, &e), MIGBUF_E_PEER);
    ck_assert_str_eq(migbuf_lxd_said(lxd), "no luck");
    ck_assert_str_eq(e.text, "the server's operation failed");
    ck_assert_ptr_nonnull(strstr(s.asked[3], "\"name\":\"v\",\"config\":{\"size\":\"67108864\"}"));
    end(&s, lxd);
}
END_TEST

START_TEST(an_operation_that_does_not_end)
{
    struct answer script[64] = { HELLO(LXD_6), { "POST /1.0/x", 202, WHOLE, ASYNC("103") } };
    size_t asked = 0;

    for (size_t k = 2; k < 63; k++)
        script[k] = (struct answer){ "GET /1.0/operations/11-22/wait?timeout=", 200, WHOLE, SYNC(OPERATION("103")) };
    /* Who asks for the operation knows of it. A machine on which there was no time for that gets more. */
    for (uint32_t ms = 400; asked < 3 && ms < PATIENCE_MS; ms *= 2) {
        struct server s;
        struct migbuf_lxd *lxd = open_with(&s, script, NULL);
        uint64_t before = now_ms();

        ck_assert_int_eq(migbuf_lxd_call(lxd, "POST", "/1.0/x", "{}", ms, NULL, NULL, &e), MIGBUF_E_TIMEOUT);
        ck_assert(now_ms() - before >= ms - 5 && now_ms() - before < ms + 2600);
        end(&s, lxd);
        asked = s.requests;
        ck_assert(asked < 20 || ms > 400); /* it is not asked without a pause */
    }
    ck_assert_uint_ge(asked, 3);
    ck_assert_ptr_nonnull(strstr(e.text, "operation"));
}
END_TEST

START_TEST(progress_in_both_forms)
{
    const struct answer script[] = {
        HELLO(LXD_6),
        { "GET /1.0/operations?recursion=1&all-projects=true HTTP", 200, WHOLE,
          SYNC("{\"success\":[{\"id\":\"old\",\"description\":\"Migrating instance\",\"resources\":{\"instances\":[\"/1.0/instances/o\"]}}],"
               "\"running\":["
               "{\"id\":\"1\",\"description\":\"Migrating instance\",\"may_cancel\":true,\"location\":\"m1\","
               "\"resources\":{\"instances\":[\"/1.0/instances/vm%201?project=p%26q\"]},"
               "\"metadata\":{\"control\":\"x\",\"progress\":{\"stage\":\"migrate_instance\",\"processed\":\"123456789\",\"percent\":\"42\",\"speed\":\"1000\"}}},"
               "{\"id\":\"2\",\"description\":\"Creating instance\",\"resources\":{\"instances\":[\"/1.0/instances/x\"]}},"
               "{\"id\":\"3\",\"description\":\"Live-migrating instance\",\"resources\":{\"containers\":[\"/1.0/containers/b\"],\"instances\":[\"/1.0/instances/b\"]},"
               "\"metadata\":{\"block_progress\":\"1.20GB (110.00MB/s)\"}},"
               "{\"id\":\"4\",\"description\":\"Migrating instance\",\"resources\":{\"containers\":[\"/1.0/containers/c\"]},\"metadata\":{\"live_progress\":\"Live migration: 3MB remaining\"}},"
               "{\"id\":\"5\",\"description\":\"Migrating instance\",\"resources\":null}"
               "]}") },
        ENDS
    };
    struct migbuf_lxd_migration m[4];
    struct server s;
    struct migbuf_lxd *lxd = open_with(&s, script, NULL);

    ck_assert_int_eq(migbuf_lxd_migrations(lxd, PATIENCE_MS, m, 4, &e), 3);
    ck_assert(!strcmp(m[0].instance, "vm 1") && !strcmp(m[0].project, "p&q") && !strcmp(m[0].location, "m1"));
    ck_assert(m[0].processed_bytes == 123456789 && m[0].percent == 42 && m[0].speed_bytes_per_s == 1000);
    ck_assert_str_eq(m[0].stage, "migrate_instance");
    ck_assert_uint_eq(m[0].flags, MIGBUF_LXD_MAY_CANCEL | MIGBUF_LXD_HAS_PROCESSED);
    ck_assert(!strcmp(m[1].instance, "b") && !strcmp(m[1].project, "default") && !strcmp(m[1].stage, "block"));
    ck_assert(m[1].processed_bytes == 1200000000 && m[1].speed_bytes_per_s == 110000000 && m[1].percent == -1);
    ck_assert(!strcmp(m[2].instance, "c") && !(m[2].flags & MIGBUF_LXD_HAS_PROCESSED) && !m[2].processed_bytes);
    end(&s, lxd);
}
END_TEST

START_TEST(a_cluster_and_its_target)
{
    const struct answer script[] = {
        HELLO(CLUSTER),
        { "GET /1.0/storage-pools/zz HTTP", 200, WHOLE,
          SYNC("{\"name\":\"zz\",\"driver\":\"zfs\",\"config\":{\"volume.zfs.block_mode\":\"true\"},\"status\":\"Created\"}") },
        { "GET /1.0/storage-pools/zz/resources?target=m%202 HTTP", 200, WHOLE, SYNC("{\"space\":{\"used\":300,\"total\":100}}") },
        { "GET /1.0/storage-pools/zz/volumes/custom/v?target=m%202 HTTP", 200, WHOLE,
          SYNC("{\"config\":{\"size\":\"1GB\"},\"location\":\"m 2\",\"content_type\":\"filesystem\",\"used_by\":[\"/1.0/instances/a\"]}") },
        { "GET /1.0/storage-pools/zz/volumes/custom/v/state?target=m%202 HTTP", 200, WHOLE, SYNC("{\"usage\":{\"total\":5}}") },
        ENDS
    };
    struct migbuf_lxd_options o;
    struct migbuf_lxd_pool pool;
    struct migbuf_lxd_volume v;
    struct migbuf_lxd *lxd;
    struct server s;

    ck_assert_int_eq(migbuf_lxd_options_init(&o, sizeof o), 0);
    o.target = "m 2";
    lxd = open_with(&s, script, &o);
    ck_assert_int_eq(migbuf_lxd_need(lxd, MIGBUF_LXD_LIVE_MIGRATION | MIGBUF_LXD_DISK_LIMITS, &e), 0);
    ck_assert_int_eq(migbuf_lxd_pool(lxd, "zz", PATIENCE_MS, &pool, &e), 0);
    ck_assert(pool.limit == MIGBUF_LXD_LIMIT_ENOSPC && !pool.remote && pool.total_bytes == 100 && !pool.free_bytes);
    ck_assert_int_eq(migbuf_lxd_volume(lxd, "zz", "v", PATIENCE_MS, &v, &e), 0);
    ck_assert(v.size_bytes == 1000000000 && v.users == 1 && v.has_usage && !v.used_bytes && !strcmp(v.location, "m 2"));
    end(&s, lxd);
}
END_TEST

START_TEST(memory_cpus_and_limits_as_they_are_written)
{
#define VM(name, config, devices)                                                                                      \
    "{\"name\":\"" name "\",\"type\":\"virtual-machine\",\"status\":\"Running\",\"expanded_config\":{" config              \
    "},\"expanded_devices\":{" devices "}}"
    const struct answer script[] = {
        HELLO(LXD_6),
        { "GET /1.0/instances?recursion=1&all-projects=true HTTP", 200, WHOLE,
          SYNC("[" VM("a", "\"limits.memory\":\"50%\",\"limits.cpu\":\"8\"", "") ","
               "{\"name\":\"c\",\"type\":\"container\"},"
               VM("b", "\"limits.cpu\":\"0-3,7\"", "\"r\":{\"type\":\"disk\",\"path\":\"/\",\"size.state\":\"2GiB\"}") "]") },
        { "GET /1.0/instances/b?project=p HTTP", 200, WHOLE,
          SYNC(VM("b", "", "\"r\":{\"type\":\"disk\",\"path\":\"/\",\"limits.max\":\"10MB,200iops\"},\"n\":{\"type\":\"nic\"},"
                           "\"d\":{\"type\":\"disk\",\"pool\":\"q\",\"source\":\"v\",\"io.bus\":\"nvme\",\"limits.read\":\"5MiB/s\"}")) },
        ENDS
    };
    struct migbuf_lxd_vm vm[3];
    struct migbuf_lxd_disk d[3];
    struct server s;
    struct migbuf_lxd *lxd = open_with(&s, script, NULL);
    int r;

    ck_assert_int_eq(migbuf_lxd_vms(lxd, PATIENCE_MS, vm, 3, &e), 2);
    ck_assert(vm[0].flags == (MIGBUF_LXD_VM_MEMORY_PERCENT | MIGBUF_LXD_VM_RUNNING | MIGBUF_LXD_VM_STATE_DEFAULT));
    ck_assert(vm[0].memory_bytes == 0 && vm[0].cpus == 8 && !vm[0].root[0] && vm[0].state_bytes == 100 * MIB);
    ck_assert(vm[1].memory_bytes == 1024 * MIB && vm[1].cpus == 5 && vm[1].state_bytes == 2048 * MIB);
    ck_assert_int_eq(migbuf_lxd_disks(lxd, "p", "b", PATIENCE_MS, d, 3, &e), 2);
    r = d[0].root ? 0 : 1;
    ck_assert(d[r].read_bytes_per_s == 10000000 && d[r].write_bytes_per_s == 10000000 && d[r].read_iops == 200 && d[r].write_iops == 200);
    ck_assert(d[!r].read_bytes_per_s == 5 * MIB && !d[!r].write_bytes_per_s && !strcmp(d[!r].bus, "nvme") && !strcmp(d[!r].source, "v"));
    end(&s, lxd);
}
END_TEST

START_TEST(a_request_as_it_stands)
{
    const struct answer script[] = { HELLO(LXD_6),
                                     { "GET /1.0/networks HTTP", 200, WHOLE, SYNC("[\"/1.0/networks/lo\"]") },
                                     { "PATCH /1.0 HTTP", 200, WHOLE, SYNC("{}") },
                                     ENDS };
    struct server s;
    struct migbuf_lxd *lxd = open_with(&s, script, NULL);
    const char *text = "";
    uint64_t bytes = 0;

    ck_assert_int_eq(migbuf_lxd_call(lxd, "GET", "/1.0/networks", NULL, PATIENCE_MS, &text, &bytes, NULL), 0);
    ck_assert_str_eq(text, "[\"/1.0/networks/lo\"]");
    ck_assert_uint_eq(bytes, strlen(text));
    ck_assert_int_eq(migbuf_lxd_set_key(lxd, "user.x", "a\"b", PATIENCE_MS, &e), 0);
    ck_assert_ptr_nonnull(strstr(s.asked[2], "{\"config\":{\"user.x\":\"a\\\"b\"}}"));
    ck_assert_int_eq(migbuf_lxd_call(lxd, "GET", "x", NULL, PATIENCE_MS, &text, &bytes, NULL), MIGBUF_E_INVALID);
    end(&s, lxd);
}
END_TEST

START_TEST(wrong_arguments)
{
    const struct answer script[] = { HELLO(LXD_6), ENDS };
    struct server s;
    struct migbuf_lxd *lxd = open_with(&s, script, NULL);
    struct migbuf_lxd_options o;
    struct migbuf_lxd_pool pool;
    char name[200];

    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = 0;
    ck_assert_int_eq(migbuf_lxd_pool(lxd, name, 10, &pool, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_lxd_pool(lxd, "..", 10, &pool, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_lxd_pool(lxd, NULL, 10, &pool, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_lxd_pool(lxd, "p", 0, &pool, &e), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_lxd_pool(NULL, "p", 10, &pool, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_lxd_pools(lxd, 10, NULL, 1, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_lxd_need(lxd, 64, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_lxd_server(lxd, 10, NULL, &e), MIGBUF_E_INVALID);
    ck_assert_str_eq(migbuf_lxd_said(NULL), "");
    ck_assert_int_eq(migbuf_lxd_has(NULL, "x"), 0);
    migbuf_lxd_free(NULL);
    ck_assert_int_eq(migbuf_lxd_options_init(&o, 3), MIGBUF_E_STRUCT);
    ck_assert_int_eq(migbuf_lxd_options_init(&o, sizeof o), 0);
    ck_assert_uint_eq(o.max_reply_bytes, 16777216);
    o.max_reply_bytes = 3;
    ck_assert_int_eq(migbuf_lxd_open("/x", &o, NULL, 10, &lxd, &e), MIGBUF_E_RANGE);
    end(&s, lxd);
}
END_TEST

/* The first allocation fails, then the second, until none does. */
static int64_t allocations_left;

static void *resize_or_fail(void *context, void *pointer, size_t old_bytes, size_t new_bytes)
{
    (void)context;
    (void)old_bytes;
    if (new_bytes == 0) {
        free(pointer);
        return NULL;
    }
    return allocations_left-- > 0 ? realloc(pointer, new_bytes) : NULL;
}

START_TEST(no_memory)
{
    struct migbuf_allocator a = { .resize = resize_or_fail };
    int rc = MIGBUF_E_NOMEM;

    for (int64_t n = 0; rc == MIGBUF_E_NOMEM && n < 10; n++) {
        const struct answer script[] = { HELLO(LXD_6), ENDS };
        struct migbuf_lxd *lxd = NULL;
        struct server s;

        allocations_left = n;
        start(&s, script);
        rc = migbuf_lxd_open(s.path, NULL, &a, PATIENCE_MS, &lxd, &e);
        ck_assert((rc == 0) == (lxd != NULL) && (n > 0 || rc));
        migbuf_lxd_free(lxd);
        finish(&s);
    }
    ck_assert_int_eq(rc, 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { nobody_there,
                                   a_reply_that_is_cut,
                                   a_server_that_hangs,
                                   a_reply_of_100_mib,
                                   replies_that_are_not_what_they_should_be,
                                   errors_by_their_status,
                                   what_is_no_such_server,
                                   a_server_that_comes_back,
                                   volumes_made_by_an_operation,
                                   an_operation_that_does_not_end,
                                   progress_in_both_forms,
                                   a_cluster_and_its_target,
                                   memory_cpus_and_limits_as_they_are_written,
                                   a_request_as_it_stands,
                                   wrong_arguments,
                                   no_memory,
                                   NULL };
    int status;

    curl_global_init(CURL_GLOBAL_DEFAULT);
    status = unit_run("lxd", tests, WATCHDOG_S);
    curl_global_cleanup();
    return status;
}
