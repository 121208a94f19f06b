/* SPDX-License-Identifier: MIT */
/*
 * The room lxd against a scripted server in a thread: what real daemons cannot be made to do, and the answers of
 * releases that are not at hand (LXD 6: operations for volumes, progress as an object; clusters). Real daemons are in
 * test_lxd_daemon.c.
 */
#include "json.h"
#include "migbuf/lxd.h"
#include "unit.h"
#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

/* Tables say what is not zero. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

enum how {
    WHOLE,
    CUT,         /* half of the body, then the connection ends */
    CUT_CHUNKED, /* the same without a length */
    SILENT,      /* takes the request and says nothing */
    HALF,        /* half of the body, then says nothing more */
    BIG,         /* 100 MiB announced */
    BIG_CHUNKED, /* 100 MiB not announced */
    NO_HTTP,
    HANG_UP, /* ends the connection without a word */
    RAW,     /* the body is all of it, headers too, and then nothing more is said */
    ENDLESS, /* the same, and then `unit` until the other side has enough */
    DRIP,    /* a byte at a time */
    LATE     /* all but the last byte, which follows after 400 ms */
};

struct answer {
    const char *expect; /* how the request must begin; NULL: anything */
    int status;
    enum how how;
    const char *body;
    const char *unit; /* stands `times` between body and tail */
    size_t times;
    const char *tail;
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

/* All that an answer has for a body; the caller gives it back. */
static char *whole_body(const struct answer *a, size_t *length)
{
    size_t head = a->body ? strlen(a->body) : 0, unit = a->unit ? strlen(a->unit) : 0, tail = a->tail ? strlen(a->tail) : 0;
    char *body = malloc(head + unit * a->times + tail + 1), *at = body;

    ck_assert_ptr_nonnull(body);
    memcpy(at, a->body ? a->body : "", head);
    at += head;
    for (size_t k = 0; k < a->times; k++, at += unit)
        memcpy(at, a->unit, unit);
    memcpy(at, a->tail ? a->tail : "", tail + 1);
    *length = (size_t)(at - body) + tail;
    return body;
}

static bool answer_raw(struct server *s, int fd, const struct answer *a)
{
    if (!say(fd, a->body, strlen(a->body)))
        return false;
    while (a->how == ENDLESS && say(fd, a->unit, strlen(a->unit)))
        ;
    if (a->how == RAW)
        wait_for(s, fd); /* who has his answer leaves, or asks again */
    return false;
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

static bool answer(struct server *s, int fd, const struct answer *a)
{
    static char flood[1 << 16];
    size_t length = a->body ? strlen(a->body) : 0;
    char head[160], *body;
    bool good = true;
    bool chunked = a->how == CUT_CHUNKED || a->how == BIG_CHUNKED;

    if (a->how == HANG_UP)
        return false;
    if (a->how == SILENT) {
        wait_for(s, s->stop[0]);
        return false;
    }
    if (a->how == NO_HTTP)
        return say(fd, "220 welcome to ftp\r\n", 20) && false;
    if (a->how == RAW || a->how == ENDLESS)
        return answer_raw(s, fd, a);
    body = whole_body(a, &length);
    if (chunked)
        snprintf(head, sizeof head, "HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n", a->status);
    else
        snprintf(head, sizeof head, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n\r\n", a->status,
                 a->how == BIG ? (size_t)(100 * MIB) : length);
    memset(flood, 'x', sizeof flood);
    good = say(fd, head, strlen(head));
    switch (good ? a->how : WHOLE) {
    case CUT:
        good = say(fd, body, length / 2) && false;
        break;
    case CUT_CHUNKED:
        snprintf(head, sizeof head, "%zx\r\n", length);
        good = say(fd, head, strlen(head)) && say(fd, body, length / 2) && false;
        break;
    case HALF:
        say(fd, body, length / 2);
        wait_for(s, s->stop[0]);
        good = false;
        break;
    case BIG:
        for (size_t k = 0; k < 1600 && say(fd, flood, sizeof flood); k++)
            ;
        good = false;
        break;
    case BIG_CHUNKED:
        for (size_t k = 0; k < 1600 && good; k++)
            good = say(fd, "10000\r\n", 7) && say(fd, flood, sizeof flood) && say(fd, "\r\n", 2);
        good = good && say(fd, "0\r\n\r\n", 5);
        break;
    case DRIP:
        for (size_t k = 0; k < length && good; k++) {
            good = say(fd, body + k, 1);
            pause_ms(20);
        }
        break;
    case LATE:
        good = say(fd, body, length - 1);
        pause_ms(400);
        good = good && say(fd, body + length - 1, 1);
        break;
    default:
        good = good && say(fd, body, length);
    }
    free(body);
    return good;
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

/* ---- a server that lies ---- */

/* What the room has in use: everything that its allocator and jansson's give, at the moments when more is asked for. What is
 * asked for and given back untouched does not count. The thread of the server takes from neither. */
static size_t in_use_bytes, most_bytes;
static void *last_block;

static void note_use(void)
{
    most_bytes = in_use_bytes > most_bytes ? in_use_bytes : most_bytes;
}

static void *counted_resize(void *context, void *pointer, size_t old_bytes, size_t new_bytes)
{
    void *moved;

    (void)context;
    in_use_bytes += new_bytes; /* the old one and the new one exist for a moment */
    note_use();
    moved = new_bytes ? realloc(pointer, new_bytes) : NULL;
    if (!new_bytes)
        free(pointer);
    in_use_bytes -= moved || !new_bytes ? old_bytes : new_bytes;
    return moved;
}

static void *counted_malloc(size_t bytes)
{
    size_t *block = malloc(sizeof(max_align_t) + bytes);

    note_use();
    if (!block)
        return NULL;
    *block = bytes;
    in_use_bytes += bytes;
    return last_block = (char *)block + sizeof(max_align_t);
}

static void counted_free(void *pointer)
{
    size_t *block = pointer ? (size_t *)((char *)pointer - sizeof(max_align_t)) : NULL;

    if (pointer != last_block)
        note_use();
    in_use_bytes -= block ? *block : 0;
    free(block);
}

#define HTTP(status, headers) "HTTP/1.1 " status "\r\n" headers "\r\n"
#define RUNNING(url) "{\"type\":\"async\",\"operation\":\"" url "\",\"metadata\":{\"status_code\":103}}"
#define MIB_16 ((size_t)16 << 20)
#define MAX_REQUESTS 12 /* in three seconds, of a server that does not wait */

static const struct lie {
    const char *name;
    struct answer answers[3]; /* the last one goes on for ever */
    int code;
    uint64_t need;
    const char *words, *said; /* of the error's text, and of the server; NULL: none */
    uint32_t timeout_ms;      /* 0: one that is not reached, however slow the machine */
    size_t requests;          /* at most; 0: one */
} lies[] = {
    /* What HTTP says without JSON */
    { "401 without JSON", { { NULL, 401, WHOLE, "who are you?\n" } }, MIGBUF_E_PEER, 401, "does not trust", "HTTP status 401" },
    { "404 without JSON", { { NULL, 404, WHOLE, "404 page not found\n" } }, MIGBUF_E_NOTFOUND, 404, "no such thing", "HTTP status 404" },
    { "404 without a body", { { NULL, 404, WHOLE, "" } }, MIGBUF_E_NOTFOUND, 404, "no such thing", "HTTP status 404" },
    { "500 without JSON", { { NULL, 500, WHOLE, "<html>" } }, MIGBUF_E_PEER, 500, "refused", "HTTP status 500" },
    { "502 of a proxy", { { NULL, 502, WHOLE, "<html>Bad Gateway</html>" } }, MIGBUF_E_PEER, 502, "stands before", "HTTP status 502" },
    { "503 without JSON", { { NULL, 503, WHOLE, "" } }, MIGBUF_E_PEER, 503, "starting or ending", "HTTP status 503" },
    { "an error without words", { { NULL, 500, WHOLE, "{\"type\":\"error\"}" } }, MIGBUF_E_PEER, 500, "refused", "HTTP status 500" },
    { "a success that is an error", { { NULL, 200, WHOLE, "{\"type\":\"error\",\"error\":\"gone\",\"error_code\":404}" } },
      MIGBUF_E_NOTFOUND, 404, "no such thing", "gone" },
    { "an error that is a success", { { NULL, 403, WHOLE, SYNC("{}") } }, MIGBUF_E_PEER, 403, "does not trust", "HTTP status 403" },
    { "a redirection", { { NULL, 0, RAW, HTTP("302 Found", "Location: http://evil.example/1.0\r\nContent-Length: 2\r\n") "{}" } },
      MIGBUF_E_PEER, 302, "another place", "http://evil.example/1.0" },
    { "a redirection with a success in it",
      { { NULL, 0, RAW, HTTP("301 Moved", "Location: file:///etc/passwd\r\nContent-Length: 29\r\n") "{\"type\":\"sync\",\"metadata\":{}}" } },
      MIGBUF_E_PEER, 301, "another place", "file:///etc/passwd" },
    { "304", { { NULL, 0, RAW, HTTP("304 Not Modified", "") } }, MIGBUF_E_PEER, 304, "another place", "HTTP status 304" },
    { "204", { { NULL, 0, RAW, HTTP("204 No Content", "") } }, MIGBUF_E_PROTOCOL, 0, "no JSON", NULL },
    { "status 000", { { NULL, 0, RAW, HTTP("000 x", "Content-Length: 2\r\n") "{}" } }, MIGBUF_E_PROTOCOL, 0, "not HTTP", "*" },
    { "another protocol", { { NULL, 0, RAW, HTTP("101 Switching", "Upgrade: h2c\r\nConnection: Upgrade\r\n") "{}" } },
      MIGBUF_E_TIMEOUT, 0, "in time", "*", 300 },
    { "no status line", { { NULL, 0, RAW, "{\"type\":\"sync\",\"metadata\":{}}\n" } }, MIGBUF_E_PROTOCOL, 0, "not HTTP", "*" },

    /* Lengths */
    { "an endless length", { { NULL, 0, RAW, HTTP("200 OK", "Content-Length: 99999999999999\r\n") "{" } }, MIGBUF_E_TOO_BIG, 0, "bound", "*" },
    { "a length beyond numbers", { { NULL, 0, RAW, HTTP("200 OK", "Content-Length: 99999999999999999999999999\r\n") "{" } },
      MIGBUF_E_TOO_BIG, 0, "bound", "*" },
    { "a negative length", { { NULL, 0, RAW, HTTP("200 OK", "Content-Length: -5\r\n") "{}" } }, MIGBUF_E_PROTOCOL, 0, "not HTTP", "*" },
    { "a chunk without a length", { { NULL, 0, RAW, HTTP("200 OK", "Transfer-Encoding: chunked\r\n") "ZZZ\r\nx" } },
      MIGBUF_E_CLOSED, 0, "cut", "*" },
    { "headers without end", { { NULL, 0, ENDLESS, "HTTP/1.1 200 OK\r\n", "X-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" } },
      MIGBUF_E_TOO_BIG, 0, "bound", "*" },
    { "always another 100 Continue", { { NULL, 0, ENDLESS, "", "HTTP/1.1 100 Continue\r\n\r\n" } }, MIGBUF_E_TOO_BIG, 0, "bound", "*" },
    { "a byte at a time", { { NULL, 200, DRIP, SYNC("{\"a\":\"0123456789012345678901234567890123456789\"}") } },
      MIGBUF_E_TIMEOUT, 0, "in time", "*", 300 },

    /* Much from little */
    { "16 MiB of objects", { { NULL, 200, WHOLE, "{\"type\":\"sync\",\"metadata\":[", "{},", MIB_16 / 3 - 100, "{}]}" } },
      MIGBUF_E_TOO_BIG, 0, "values", NULL },
    { "16 MiB of arrays", { { NULL, 200, WHOLE, "{\"type\":\"sync\",\"metadata\":[", "[],", MIB_16 / 3 - 100, "[]]}" } },
      MIGBUF_E_TOO_BIG, 0, "values", NULL },
    { "16 MiB of numbers", { { NULL, 200, WHOLE, "{\"type\":\"sync\",\"metadata\":[", "1,", MIB_16 / 2 - 100, "1]}" } },
      MIGBUF_E_TOO_BIG, 0, "values", NULL },
    { "16 MiB of one key", { { NULL, 200, WHOLE, "{\"type\":\"sync\",\"metadata\":{", "\"\":0,", MIB_16 / 5 - 100, "\"\":0}}" } },
      MIGBUF_E_TOO_BIG, 0, "values", NULL },
    { "16 MiB of brackets in an error", { { NULL, 500, WHOLE, "{\"type\":\"error\",\"error\":[", "[],", MIB_16 / 3 - 100, "[]]}" } },
      MIGBUF_E_PEER, 500, "refused", "HTTP status 500" },
    { "16 MiB of levels", { { NULL, 200, WHOLE, "{\"type\":\"sync\",\"metadata\":", "[", MIB_16 - 100, "" } },
      MIGBUF_E_TOO_BIG, 0, "levels", NULL },
    { "as many objects as there may be", { { NULL, 200, WHOLE, "{\"type\":\"sync\",\"metadata\":[", "{},", 264000, "{}]}" } }, 0, 0, NULL, NULL },
    { "as many members as there may be", { { NULL, 200, WHOLE, "{\"type\":\"sync\",\"metadata\":[", "{\"a\":{}},", 176000, "{}]}" } },
      0, 0, NULL, NULL },
    { "16 MiB of one text", { { NULL, 200, WHOLE, "{\"type\":\"sync\",\"metadata\":\"", "[{,", MIB_16 / 3 - 100, "\"}" } }, 0, 0, NULL, NULL },
    { "a last byte that leaves no time to read", { { NULL, 200, LATE, "{\"type\":\"sync\",\"metadata\":[", "{\"a\":{}},", 176000, "{}]}" } },
      MIGBUF_E_TIMEOUT, 0, "in time", "?", 410 },

    /* Operations */
    { "an operation that is another request",
      { { NULL, 202, WHOLE, RUNNING("/1.0/operations/../instances/x HTTP/1.1\\r\\nX: 1\\r\\n\\r\\nDELETE /1.0/instances/vm1") } },
      MIGBUF_E_PROTOCOL, 0, "names no operation", NULL },
    { "an operation with a line's end", { { NULL, 202, WHOLE, RUNNING("/1.0/operations/1\\r\\nX: 1") } }, MIGBUF_E_PROTOCOL, 0, "names no operation", NULL },
    { "an operation with a blank", { { NULL, 202, WHOLE, RUNNING("/1.0/operations/1 HTTP/1.0") } }, MIGBUF_E_PROTOCOL, 0, "names no operation", NULL },
    { "an operation elsewhere", { { NULL, 202, WHOLE, RUNNING("/1.0/operations/../instances/vm1") } }, MIGBUF_E_PROTOCOL, 0, "names no operation", NULL },
    { "an operation above", { { NULL, 202, WHOLE, RUNNING("/1.0/operations/..") } }, MIGBUF_E_PROTOCOL, 0, "names no operation", NULL },
    { "an operation in disguise", { { NULL, 202, WHOLE, RUNNING("/1.0/operations/%2e%2e%2finstances") } }, MIGBUF_E_PROTOCOL, 0, "names no operation", NULL },
    { "an operation without an id", { { NULL, 202, WHOLE, RUNNING("/1.0/operations/?project=p") } }, MIGBUF_E_PROTOCOL, 0, "names no operation", NULL },
    { "an operation with a NUL", { { NULL, 202, WHOLE, RUNNING("/1.0/operations/1\\u0000/../x") } }, 0, 0, NULL, NULL }, /* no text: none */
    { "an operation that always runs", { { NULL, 202, WHOLE, RUNNING("/1.0/operations/1") }, { NULL, 200, WHOLE, SYNC("{\"status_code\":103}") } },
      MIGBUF_E_TIMEOUT, 0, "operation did not end", NULL, 3000, MAX_REQUESTS },
    { "an operation that becomes another one", { { NULL, 202, WHOLE, RUNNING("/1.0/operations/1") }, { NULL, 202, WHOLE, RUNNING("/1.0/operations/2") } },
      MIGBUF_E_TIMEOUT, 0, "operation did not end", NULL, 3000, MAX_REQUESTS },
    { "an operation nobody waits for", { { NULL, 202, WHOLE, RUNNING("/1.0/operations/1") }, { NULL, 400, WHOLE, "{\"type\":\"error\",\"error\":\"no\"}" } },
      MIGBUF_E_PEER, 400, "refused", "no", 0, 3 },
    { "an operation that is gone", { { NULL, 202, WHOLE, RUNNING("/1.0/operations/1") }, { NULL, 404, WHOLE, "" } },
      MIGBUF_E_NOTFOUND, 404, "no such thing", "HTTP status 404", 0, 2 },
    { "an operation without a status", { { NULL, 202, WHOLE, RUNNING("/1.0/operations/1") }, { NULL, 200, WHOLE, SYNC("{}") } },
      MIGBUF_E_PROTOCOL, 0, "without a status", NULL, 0, 2 },

    /* Words */
    { "words that move a cursor", { { NULL, 400, WHOLE, "{\"type\":\"error\",\"error\":\"a\\n\\u001b[2Jb\"}" } },
      MIGBUF_E_PEER, 400, "refused", "a\\x0a\\x1b[2Jb" },
    { "words with a NUL", { { NULL, 400, WHOLE, "{\"type\":\"error\",\"error\":\"a\\u0000b\"}" } }, MIGBUF_E_PEER, 400, "refused", "HTTP status 400" },
    { "words that are no UTF-8", { { NULL, 400, WHOLE, "{\"type\":\"error\",\"error\":\"a\xff\"}" } }, MIGBUF_E_PEER, 400, "refused", "HTTP status 400" },
    { "no words but a success that is no UTF-8", { { NULL, 200, WHOLE, SYNC("\"\xff\"") } }, MIGBUF_E_PROTOCOL, 0, "no JSON", NULL },
    { "more words than fit", { { NULL, 400, WHOLE, "{\"type\":\"error\",\"error\":\"x", "\xc3\xa9", 4000, "\"}" } }, MIGBUF_E_PEER, 400, "refused", "*" },
};

static void tell_lie(const struct lie *lie)
{
    struct migbuf_allocator counted = { .resize = counted_resize };
    struct answer script[64] = { HELLO(LXD_6) };
    size_t kinds = lie->answers[1].body ? 2 : 1, bound = (lie->code == MIGBUF_E_TIMEOUT ? lie->timeout_ms : 0) + PATIENCE_MS;
    uint32_t timeout_ms = lie->timeout_ms ? lie->timeout_ms : lie->answers->status == 202 ? 20000 : 300000;
    struct migbuf_lxd *lxd = NULL;
    const char *text = "untouched", *said;
    uint64_t before;
    struct server s;
    int rc;

    for (size_t k = 0; k < 62; k++)
        script[k + 1] = lie->answers[k < kinds ? k : kinds - 1];
    for (size_t k = 1; k < 63; k++)
        script[k].expect = k == 1 ? "POST /1.0/x HTTP/1.1\r\n" : "GET /1.0/operations/1";
    start(&s, script);
    ck_assert_msg(!migbuf_lxd_open(s.path, NULL, &counted, 20000, &lxd, &e), "%s: %s", lie->name, e.text);
    note_use();
    most_bytes = 0;
    before = now_ms();
    e = (struct migbuf_error){ .text = "" };
    rc = migbuf_lxd_call(lxd, "POST", "/1.0/x", "{}", timeout_ms, &text, NULL, &e);
    note_use();
    ck_assert_msg(now_ms() - before < bound, "%s takes %llu ms", lie->name, (unsigned long long)(now_ms() - before));
    ck_assert_msg(most_bytes <= 8 * MIB_16 + MIB, "%s takes %zu bytes", lie->name, most_bytes);
    said = migbuf_lxd_said(lxd);
    ck_assert_msg(rc == lie->code, "%s gives %d, not %d: %s (%s)", lie->name, rc, lie->code, e.text, said);
    ck_assert(rc == 0 || !strcmp(text, "untouched"));
    ck_assert_msg(e.need == lie->need, "%s: %llu", lie->name, (unsigned long long)e.need);
    ck_assert_msg(strstr(e.text, lie->words ? lie->words : ""), "%s: %s", lie->name, e.text);
    ck_assert_msg(migbuf_printable(said, NULL, 0) == strlen(said) && strlen(said) < 512, "%s: %s", lie->name, said);
    if (!lie->said || *lie->said != '?')
        ck_assert_msg(!lie->said ? !*said : !strcmp(lie->said, "*") ? *said : !strcmp(said, lie->said), "%s says %s", lie->name, said);
    ck_assert_msg(s.requests <= 1 + (lie->requests ? lie->requests : 1), "%s is asked %zu times, last %s", lie->name,
                  s.requests - 1, s.asked[s.requests - 1]);
    end(&s, lxd);
    ck_assert_msg(!in_use_bytes, "%s leaves %zu bytes", lie->name, in_use_bytes);
}

START_TEST(a_server_that_lies)
{
    json_set_alloc_funcs(counted_malloc, counted_free);
    for (size_t k = 0; k < sizeof lies / sizeof *lies; k++)
        tell_lie(&lies[k]);
}
END_TEST

/* Parsing ends when it is too late, at whatever piece that is, and leaves nothing behind. */
static size_t pieces_left, pieces_asked;

static bool late_after(void *context)
{
    (void)context;
    pieces_asked++;
    return !pieces_left || !--pieces_left;
}

START_TEST(reading_ends_in_time)
{
    const struct migbuf__json_bounds b = { .max_values = 100000, .late = late_after };
    char text[20000] = "[";
    struct migbuf__json *document = NULL;
    size_t all;

    for (size_t k = 1; k + 4 < sizeof text; k += 3)
        memcpy(text + k, "{},", 4);
    strcpy(text + strlen(text) - 1, "]");
    json_set_alloc_funcs(counted_malloc, counted_free);
    pieces_left = SIZE_MAX;
    ck_assert_int_eq(migbuf__json_decode_within(text, strlen(text), &b, &document), 0);
    ck_assert(migbuf__json_count(document) == 6665 && pieces_asked >= strlen(text) / 1024);
    migbuf__json_free(document);
    all = pieces_asked;
    for (size_t n = 1; n < all; n++) {
        document = NULL;
        pieces_left = n;
        ck_assert_int_eq(migbuf__json_decode_within(text, strlen(text), &b, &document), MIGBUF_E_TIMEOUT);
        ck_assert(!document && !in_use_bytes);
    }
}
END_TEST

START_TEST(values_are_counted_before_they_are_parsed)
{
    static const struct {
        const char *text;
        size_t values;
    } given[] = { { "[]", 2 },       { "[1]", 2 },           { "[1,2]", 3 },       { "{\"a\":1,\"b\":[]}", 4 },
                  { "[\",{[\"]", 2 }, { "[\"\\\",{[\"]", 2 }, { "{\"[\":\"{\"}", 2 }, { "[[[]]]", 4 } };
    struct migbuf__json_bounds b = { .late = late_after };

    for (size_t k = 0; k < sizeof given / sizeof *given; k++) {
        struct migbuf__json *document = NULL;

        pieces_left = SIZE_MAX;
        b.max_values = given[k].values - 1;
        ck_assert_int_eq(migbuf__json_decode_within(given[k].text, strlen(given[k].text), &b, &document), MIGBUF_E_TOO_BIG);
        ck_assert_ptr_null(document);
        b.max_values++;
        ck_assert_msg(!migbuf__json_decode_within(given[k].text, strlen(given[k].text), &b, &document), "%s", given[k].text);
        migbuf__json_free(document);
    }
}
END_TEST

/* What a caller puts into a request stays one request, or is none. */
START_TEST(nothing_becomes_another_request)
{
    static const struct {
        const char *method, *path;
    } given[] = { { "GET", "/1.0/x HTTP/1.1\r\nHost: lxd\r\n\r\nDELETE /1.0/instances/vm1" },
                  { "GET", "/1.0/x\r\nX: 1" },
                  { "GET", "/1.0/x\n" },
                  { "GET", "/1.0/a b" },
                  { "GET", "/1.0/\t" },
                  { "GET", "/1.0/\x7f" },
                  { "GET", "/1.0/\xc3\xa9" },
                  { "GET", "1.0" },
                  { "GET", "" },
                  { "GET /z HTTP/1.1\r\nA: b\r\n\r\nPUT", "/1.0/x" },
                  { "GET\r\n", "/1.0/x" },
                  { "HEAD", "/1.0/x" },
                  { "get", "/1.0/x" },
                  { "", "/1.0/x" } };
    const struct answer script[] = { HELLO(LXD_6),
                                     { "GET /1.0/instances/a%0D%0AX%3A%201?project=p%0D%0A%26q HTTP/1.1\r\n", 200, WHOLE, SYNC("{}") },
                                     { "DELETE /1.0/operations/x%2F..%2Fy%3Fz HTTP/1.1\r\n", 200, WHOLE, SYNC("{}") },
                                     { "PATCH /1.0 HTTP/1.1\r\n", 200, WHOLE, SYNC("{}") },
                                     { "GET /1.0/x?a=%C3%A9#b HTTP/1.1\r\n", 200, WHOLE, SYNC("{}") },
                                     ENDS };
    struct server s;
    struct migbuf_lxd *lxd = open_with(&s, script, NULL), *other = NULL;
    struct migbuf_lxd_pool pool;
    struct migbuf_lxd_vm vm;

    for (size_t k = 0; k < sizeof given / sizeof *given; k++) {
        ck_assert_msg(migbuf_lxd_call(lxd, given[k].method, given[k].path, NULL, 5000, NULL, NULL, &e) == MIGBUF_E_INVALID,
                      "%s %s", given[k].method, given[k].path);
        ck_assert_uint_eq(s.requests, 1);
    }
    ck_assert_int_eq(migbuf_lxd_vm(lxd, "p\r\n&q", "a\r\nX: 1", 5000, &vm, &e), MIGBUF_E_NOTFOUND);
    ck_assert_int_eq(migbuf_lxd_cancel(lxd, "x/../y?z", 5000, &e), 0);
    ck_assert_int_eq(migbuf_lxd_set_key(lxd, "user.\"\r\n", "v\\\n\x01", 5000, &e), 0);
    ck_assert_ptr_nonnull(strstr(s.asked[3], "{\"config\":{\"user.\\\"\\u000d\\u000a\":\"v\\\\\\u000a\\u0001\"}}"));
    ck_assert_int_eq(migbuf_lxd_call(lxd, "GET", "/1.0/x?a=%C3%A9#b", NULL, 5000, NULL, NULL, &e), 0);
    ck_assert_uint_eq(s.requests, 5);

    /* The servers would make something else of what is no UTF-8, and say nothing. */
    ck_assert_int_eq(migbuf_lxd_set_key(lxd, "user.\xff", "v", 5000, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_lxd_set_key(lxd, "user.k", "v\xc3", 5000, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_lxd_volume_create(lxd, "p", "v\xff", MIB, 5000, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_lxd_pool(lxd, "\xed\xa0\x80", 5000, &pool, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_lxd_open("https://h/\r\nX: 1", NULL, NULL, 1000, &other, &e), MIGBUF_E_INVALID);
    ck_assert_uint_eq(s.requests, 5);
    end(&s, lxd);
}
END_TEST

/* ---- names in QEMU ---- */

/* Computed by another program: hashlib.sha256 and base64 of Python. */
START_TEST(names_in_qemu)
{
    static const struct {
        int32_t kind;
        const char *device, *node, *overlay, *target, *id;
    } given[] = {
        { MIGBUF_LXD_LXD, "root", "lxd_root", "lxd_root_snapshot", "lxd_root_nbd", "dev-lxd_root" },
        { MIGBUF_LXD_LXD, "root-disk", "lxd_root--disk", "", "", "dev-lxd_root--disk" },
        { MIGBUF_LXD_LXD, "a/b", "lxd_a-b", "", "", "dev-lxd_a-b" },
        { MIGBUF_LXD_LXD, "/", "lxd_-", "", "", "dev-lxd_-" },
        { MIGBUF_LXD_LXD, "-", "lxd_--", "", "", "dev-lxd_--" },
        { MIGBUF_LXD_LXD, "bbbbbbbbbbbbbbbbbbbbbbbbbbb", "lxd_bbbbbbbbbbbbbbbbbbbbbbbbbbb", "", "", "dev-lxd_bbbbbbbbbbbbbbbbbbbbbbbbbbb" },
        { MIGBUF_LXD_LXD, "bbbbbbbbbbbbbbbbbbbbbbbbbbbb", "lxd_3D6kcL4uSJcf4GC2o1DJMUUwKtV", "", "", "dev-lxd_bbbbbbbbbbbbbbbbbbbbbbbbbbbb" },
        { MIGBUF_LXD_LXD, "--------------", "lxd_JLOzg61_Kkm-hunB2N42LVs0-2k", "", "", "dev-lxd_----------------------------" },
        { MIGBUF_LXD_LXD, "system-disk-of-the-mail-host", "lxd_fV-B812K5Nhy2sSel0qpoxdoY6Y", "", "", "dev-lxd_system--disk--of--the--mail--host" },
        { MIGBUF_LXD_LXD, "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn", "lxd_c9z5lkFyCexeMhRGqy_rDYuNoA5", "", "", NULL },
        { MIGBUF_LXD_INCUS, "root", "incus_root", "incus_root_snap", "incus_root_nbd", "dev-incus_root" },
        { MIGBUF_LXD_INCUS, "root-disk", "incus_root--disk", "incus_root--disk_snap", "incus_root--disk_nbd", "dev-incus_root--disk" },
        { MIGBUF_LXD_INCUS, "data.1:x", "incus_data.1:x", "incus_data.1:x_snap", "incus_data.1:x_nbd", "dev-incus_data.1:x" },
        { MIGBUF_LXD_INCUS, "bbbbbbbbbbbbbbbbbbbbbbbbb", "incus_bbbbbbbbbbbbbbbbbbbbbbbbb", "incus_bbbbbbbbbbbbbbbbbbbbbbbbb_snap",
          "incus_bbbbbbbbbbbbbbbbbbbbbbbbb_nbd", "dev-incus_bbbbbbbbbbbbbbbbbbbbbbbbb" },
        { MIGBUF_LXD_INCUS, "bbbbbbbbbbbbbbbbbbbbbbbbbb", "incus_ycphZN15I09t0YB1IFx2O7WTD", "incus_ycphZN15I09t0YB1IFx2O7WTD_snap",
          "incus_ycphZN15I09t0YB1IFx2O7WTD_nbd", "dev-incus_bbbbbbbbbbbbbbbbbbbbbbbbbb" },
        { MIGBUF_LXD_INCUS, "system-disk-of-the-mail-host", "incus_fV-B812K5Nhy2sSel0qpoxdoY", "incus_fV-B812K5Nhy2sSel0qpoxdoY_snap",
          "incus_fV-B812K5Nhy2sSel0qpoxdoY_nbd", "dev-incus_system--disk--of--the--mail--host" },
    };
    struct migbuf_lxd_names n;
    char longest[129], backend[400];

    for (size_t k = 0; k < sizeof given / sizeof *given; k++) {
        ck_assert_int_eq(migbuf_lxd_names(given[k].kind, given[k].device, &n), 0);
        ck_assert_str_eq(n.node, given[k].node);
        ck_assert_str_eq(n.overlay, given[k].overlay);
        ck_assert_str_eq(n.target, given[k].target);
        ck_assert(strlen(n.node) <= 31 && (!given[k].id || !strcmp(n.device, given[k].id)));
        snprintf(backend, sizeof backend, "/machine/peripheral/%s/virtio-backend", n.device);
        ck_assert_str_eq(n.backend, backend);
    }
    memset(longest, '-', sizeof longest);
    longest[127] = 0;
    ck_assert_int_eq(migbuf_lxd_names(MIGBUF_LXD_LXD, longest, &n), 0);
    ck_assert_str_eq(n.node, "lxd_jFmfmfvhW8qO5m08Ipo01VuloeZ");
    ck_assert(strlen(n.device) == 8 + 254 && strlen(n.backend) == 20 + 8 + 254 + 15);
    longest[127] = '-';
    longest[128] = 0;
    ck_assert_int_eq(migbuf_lxd_names(MIGBUF_LXD_LXD, longest, &n), MIGBUF_E_TOO_BIG);
    ck_assert_int_eq(migbuf_lxd_names(MIGBUF_LXD_LXD, "", &n), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_lxd_names(3, "root", &n), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_lxd_names(0, "root", &n), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_lxd_names(MIGBUF_LXD_LXD, NULL, &n), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_lxd_names(MIGBUF_LXD_LXD, "root", NULL), MIGBUF_E_INVALID);
    ck_assert_str_eq(n.node, "lxd_jFmfmfvhW8qO5m08Ipo01VuloeZ"); /* as it was */
}
END_TEST

/* ---- progress as texts ---- */

START_TEST(progress_texts)
{
    static const struct {
        const char *metadata;
        int has;
        uint64_t processed, speed;
        int32_t percent;
        const char *stage;
    } given[] = {
        { "\"block_progress\":\"vm1: 1.20GB (110.00MB/s)\"", 1, 1200000000, 110000000, -1, "block" },
        { "\"block_progress\":\"1.20GB (110.00MB/s)\"", 1, 1200000000, 110000000, -1, "block" },
        { "\"fs_progress\":\"p_vm 1: x: 512B (0B/s)\"", 1, 512, 0, -1, "fs" },
        { "\"fs_progress\":\"vm (1): 3.00kB (2.50kB/s)\"", 1, 3000, 2500, -1, "fs" },
        { "\"fs_progress\":\"vm1: 45% (110.00MB/s)\"", 0, 0, 110000000, 45, "fs" },
        { "\"fs_progress\":\"45% (110.00MB/s)\"", 0, 0, 110000000, 45, "fs" },
        { "\"fs_progress\":\"vm1: 45%\"", 0, 0, 0, 45, "fs" },
        { "\"fs_progress\":\"vm1: 110.00MB/s\"", 0, 0, 110000000, -1, "fs" }, /* a speed alone is no size */
        { "\"fs_progress\":\"110.00MB/s\"", 0, 0, 110000000, -1, "fs" },
        { "\"fs_progress\":\"Exporting\"", 0, 0, 0, -1, "fs" },
        { "\"fs_progress\":\"vm1: 101%\"", 0, 0, 0, -1, "fs" },
        { "\"fs_progress\":\"vm1: -4%\"", 0, 0, 0, -1, "fs" },
        { "\"fs_progress\":\"vm1: 4e1% (x/s)\"", 0, 0, 0, -1, "fs" },
        { "\"fs_progress\":\": \"", 0, 0, 0, -1, "fs" },
        { "\"fs_progress\":\"(\"", 0, 0, 0, -1, "fs" },
        { "\"fs_progress\":\"1.2GB (\"", 1, 1200000000, 0, -1, "fs" },
        { "\"live_migrate_instance_progress\":\"Live migration: 3.00MB remaining (10.00MB/s) (2% CPU throttle)\"", 0, 0, 10000000, -1,
          "live_migrate_instance" }, /* what is left is not what was sent */
        { "\"block_progress\":\"vm1: 30MB (2MB/s)\",\"fs_progress\":\"vm1: 5MB (1MB/s)\"", 1, 35000000, 2000000, -1, "block" },
        { "\"fs_progress\":\"vm1: 5MB (1MB/s)\",\"block_progress\":\"vm1: 30MB (2MB/s)\"", 1, 35000000, 2000000, -1, "block" },
        { "\"progress\":{\"stage\":\"fs\",\"processed\":\"7\",\"speed\":\"8\",\"percent\":\"9\"},\"fs_progress\":\"9kB\"", 1, 7, 8, 9, "fs" },
        { "\"progress\":{\"stage\":\"fs\",\"speed\":\"8\"}", 0, 0, 8, -1, "fs" },
        { "\"progress\":{\"stage\":\"fs\",\"processed\":\"7x\",\"speed\":\"-8\",\"percent\":\"9%\"}", 0, 0, 0, -1, "fs" },
        { "\"progress\":{\"stage\":\"fs\",\"processed\":\"99999999999999999999\",\"percent\":\"\"}", 0, 0, 0, -1, "fs" },
        { "\"progress\":{\"stage\":\"a\\u0000b\",\"processed\":7}", 0, 0, 0, -1, "" },
    };
    static char list[8192];
    struct answer script[] = { HELLO(LXD_6), { "GET /1.0/operations?", 200, WHOLE, list }, ENDS };
    struct migbuf_lxd_migration m[sizeof given / sizeof *given];
    size_t count = sizeof given / sizeof *given, length;
    struct server s;
    struct migbuf_lxd *lxd;

    length = (size_t)snprintf(list, sizeof list, "{\"type\":\"sync\",\"metadata\":{\"running\":[");
    for (size_t k = 0; k < count; k++)
        length += (size_t)snprintf(list + length, sizeof list - length,
                                   "%s{\"id\":\"%zu\",\"description\":\"Migrating instance\",\"resources\":{\"instances\":[\"/1.0/instances/a\"]},"
                                   "\"metadata\":{%s}}",
                                   k ? "," : "", k, given[k].metadata);
    length += (size_t)snprintf(list + length, sizeof list - length, "]}}");
    ck_assert(length < sizeof list);
    lxd = open_with(&s, script, NULL);
    ck_assert_int_eq(migbuf_lxd_migrations(lxd, 5000, m, count, &e), (int)count);
    for (size_t k = 0; k < count; k++) {
        ck_assert_msg(!!(m[k].flags & MIGBUF_LXD_HAS_PROCESSED) == given[k].has && m[k].processed_bytes == given[k].processed &&
                          m[k].speed_bytes_per_s == given[k].speed && m[k].percent == given[k].percent,
                      "%s: %u %llu %llu %d", given[k].metadata, m[k].flags, (unsigned long long)m[k].processed_bytes,
                      (unsigned long long)m[k].speed_bytes_per_s, m[k].percent);
        ck_assert_str_eq(m[k].stage, given[k].stage);
    }
    end(&s, lxd);
}
END_TEST

START_TEST(processed_texts)
{
    static const struct {
        const char *text;
        int rc;
        uint64_t bytes;
    } given[] = {
        { "1234", 0, 1234 },
        { "0", 0, 0 },
        { "1.2GB (110MB/s)", 0, 1200000000 },
        { "110.5MiB", 0, 115867648 },
        { "vm1: 1.20GB (110.00MB/s)", 0, 1200000000 },
        { "vm1: 7B", 0, 7 },
        { "a: b (c): 1.00kB (0B/s)", 0, 1000 },
        { "vm1: 45% (110.00MB/s)", MIGBUF_E_PROTOCOL, 0 },
        { "vm1: 110.00MB/s", MIGBUF_E_PROTOCOL, 0 },
        { "Live migration: 3.00MB remaining (110.00MB/s)", MIGBUF_E_PROTOCOL, 0 },
        { "3.00MB remaining", MIGBUF_E_PROTOCOL, 0 },
        { "3.00MB ", MIGBUF_E_PROTOCOL, 0 },
        { "vm1: ", MIGBUF_E_PROTOCOL, 0 },
        { "vm1:7B", MIGBUF_E_PROTOCOL, 0 },
        { "1.1kB", 0, 1100 },
        { "1.1KB", 0, 1100 },
        { "7B", 0, 7 },
        { "4611686018427387904", 0, UINT64_C(1) << 62 },
        { "", MIGBUF_E_PROTOCOL, 0 },
        { ".", MIGBUF_E_PROTOCOL, 0 },
        { "GB", MIGBUF_E_PROTOCOL, 0 },
        { "-1", MIGBUF_E_PROTOCOL, 0 },
        { "1.2.3", MIGBUF_E_PROTOCOL, 0 },
        { "1Gi", MIGBUF_E_PROTOCOL, 0 },
        { "1XB", MIGBUF_E_PROTOCOL, 0 },
        { "5EB", MIGBUF_E_RANGE, 0 },
        { "1e9", MIGBUF_E_PROTOCOL, 0 },
        { ": 7", 0, 7 },
    };

    for (size_t k = 0; k < sizeof given / sizeof *given; k++) {
        uint64_t bytes = 42;

        ck_assert_msg(migbuf_lxd_processed(given[k].text, strlen(given[k].text), &bytes) == given[k].rc, "%s",
                      given[k].text);
        ck_assert_msg(bytes == (given[k].rc ? 42 : given[k].bytes), "%s is %llu", given[k].text,
                      (unsigned long long)bytes);
    }
    ck_assert_int_eq(migbuf_lxd_processed(NULL, 0, &(uint64_t){ 0 }), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_lxd_processed("7", 1, NULL), MIGBUF_E_INVALID);
}
END_TEST

/* Texts that would be another name than the server's. */
START_TEST(names_that_are_cut)
{
    const struct answer script[] = {
        HELLO(LXD_6),
        { "GET /1.0/operations?", 200, WHOLE,
          SYNC("{\"running\":[{\"id\":\"1\",\"description\":\"Migrating instance\",\"resources\":{\"instances\":[\"/1.0/instances/vm1%00x\"]}}]}") },
        { "GET /1.0/instances/v", 200, WHOLE,
          "{\"type\":\"sync\",\"metadata\":{\"name\":\"v\",\"type\":\"virtual-machine\",\"expanded_devices\":{\"d\":{\"type\":\"disk\",\"size\":\"x: 1GiB\",\"source\":\"/a",
          "\xc3\xa9", 200, "\"},\"z\":{\"type\":\"disk\",\"path\":\"/\\u0000\",\"pool\":\"p\\u0000q\"}}}}" },
        ENDS
    };
    struct migbuf_lxd_migration m[2];
    struct migbuf_lxd_disk d[2];
    struct server s;
    struct migbuf_lxd *lxd = open_with(&s, script, NULL);
    int k;

    ck_assert_int_eq(migbuf_lxd_migrations(lxd, 5000, m, 2, &e), MIGBUF_E_PROTOCOL);
    ck_assert_int_eq(migbuf_lxd_disks(lxd, NULL, "v", 5000, d, 2, &e), 2);
    k = !strcmp(d[0].device, "d") ? 0 : 1;
    ck_assert_uint_eq(strlen(d[k].source), 254); /* two, and 126 characters of two bytes: half of one is none */
    ck_assert_uint_eq(migbuf_printable(d[k].source, NULL, 0), 254);
    ck_assert_uint_eq(d[k].size_bytes, 0);
    ck_assert(!d[!k].root && !*d[!k].pool);
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
        { "GET /1.0 HTTP", 200, WHOLE,
          SYNC("{\"auth\":\"trusted\",\"api_extensions\":[\"migration_vm_live\",\"metrics\"]," CLUSTER "}") },
        { "GET /1.0/storage-pools/zz HTTP", 200, WHOLE,
          SYNC("{\"name\":\"zz\",\"driver\":\"zfs\",\"config\":{\"volume.zfs.block_mode\":\"true\"},\"status\":\"Created\"}") },
        { "GET /1.0/storage-pools/zz/resources?target=m%202 HTTP", 200, WHOLE, SYNC("{\"space\":{\"used\":300,\"total\":100}}") },
        { "GET /1.0/storage-pools/zz/volumes/custom/v?target=m%202 HTTP", 200, WHOLE,
          SYNC("{\"config\":{\"size\":\"1GB\"},\"location\":\"m 2\",\"content_type\":\"filesystem\",\"used_by\":[\"/1.0/instances/a\"]}") },
        { "GET /1.0/storage-pools/zz/volumes/custom/v/state?target=m%202 HTTP", 200, WHOLE, SYNC("{\"usage\":{\"total\":5}}") },
        { "GET /1.0/metrics?target=m%202 HTTP", 200, WHOLE,
          "incus_disk_written_bytes_total{device=\"dev-incus_root\",name=\"a\",project=\"default\",type=\"virtual-machine\"} 7\n# EOF\n" },
        ENDS
    };
    struct migbuf_lxd_options o;
    struct migbuf_lxd_written written;
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
    ck_assert_int_eq(migbuf_lxd_written(lxd, PATIENCE_MS, &written, 1, &e), 1);
    ck_assert(written.bytes == 7 && !strcmp(written.instance, "a"));
    end(&s, lxd);
}
END_TEST

/* A server that is not told whom would look for a volume on all members. */
START_TEST(a_cluster_without_a_target)
{
    const struct answer script[] = {
        HELLO(CLUSTER),
        { "GET /1.0/storage-pools/zz/volumes/custom/v?target=m1 HTTP", 404, WHOLE, "{\"type\":\"error\",\"error\":\"not found\",\"error_code\":404}" },
        { "DELETE /1.0/storage-pools/zz/volumes/custom/v?target=m1 HTTP", 404, WHOLE, "{\"type\":\"error\",\"error\":\"not found\",\"error_code\":404}" },
        ENDS
    };
    struct migbuf_lxd_volume v;
    struct migbuf_lxd *lxd;
    struct server s;

    lxd = open_with(&s, script, NULL);
    ck_assert_int_eq(migbuf_lxd_volume(lxd, "zz", "v", PATIENCE_MS, &v, &e), MIGBUF_E_NOTFOUND);
    ck_assert_int_eq(migbuf_lxd_volume_delete(lxd, "zz", "v", PATIENCE_MS, &e), MIGBUF_E_NOTFOUND);
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
                           "\"d\":{\"type\":\"disk\",\"pool\":\"q\",\"source\":\"v\",\"dependent\":\"true\",\"io.bus\":\"nvme\",\"limits.read\":\"5MiB/s\"}")) },
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
    ck_assert(d[!r].dependent == 1 && !d[r].dependent);
    end(&s, lxd);
}
END_TEST

#define METRICS_HELLO                                                                                                   \
    {                                                                                                                  \
        "GET /1.0 HTTP", 200, WHOLE, SYNC("{\"auth\":\"trusted\",\"api_extensions\":[\"metrics\"]," LXD_6 "}")            \
    }
#define VM_LABELS(device, name) "{device=\"" device "\",name=\"" name "\",project=\"p\",type=\"virtual-machine\"}"
#define WRITTEN(device, name, value) "incus_disk_written_bytes_total" VM_LABELS(device, name) " " value "\n"

static int written_by(const char *body, struct migbuf_lxd_written *list, size_t capacity)
{
    const struct answer script[] = { METRICS_HELLO, { "GET /1.0/metrics HTTP", 200, WHOLE, body }, ENDS };
    struct server s;
    struct migbuf_lxd *lxd = open_with(&s, script, NULL);
    int rc = migbuf_lxd_written(lxd, PATIENCE_MS, list, capacity, &e);

    end(&s, lxd);
    return rc;
}

START_TEST(what_vms_have_written)
{
    static const char text[] = "# HELP incus_disk_written_bytes_total The total number of bytes written.\n"
                               "# TYPE incus_disk_written_bytes_total counter\n"
                               "incus_disk_writes_completed_total" VM_LABELS("dev-incus_root", "vm1") " 17\n"
                               "incus_disk_writes_completed_total" VM_LABELS("other", "vm2") " 5\n"
                               "incus_disk_written_bytes_total{device=\"sda\",name=\"c\",project=\"p\",type=\"container\"} 1\n"
                               WRITTEN("dev-incus_root", "vm1", "1.5e+06 1700000000")
                               "lxd_disk_written_bytes_total" VM_LABELS("s\\\"d\\\\a\\n", "vm 2") " 4096\n"
                               "incus_disk_written_bytes_total_x 1\nincus_disk_read_bytes_total garbage\n" WRITTEN("z", "vm3", "0") "# EOF\n";
    static const char *const wrong[] = { WRITTEN("a", "b", "x"), WRITTEN("a", "b", "-1"), WRITTEN("a", "b", "NaN"), WRITTEN("a", "b", "+Inf"),
                                         WRITTEN("a", "b", "1e400"), WRITTEN("a", "b", "5e18"), WRITTEN("a", "b", "1e"), WRITTEN("a", "b", ""),
                                         WRITTEN("a", "b", "1x"), WRITTEN("a", "", "1"), WRITTEN("", "b", "1"),
                                         "incus_disk_written_bytes_total 7\n", "incus_disk_written_bytes_total{device=\"a",
                                         "incus_disk_written_bytes_total{device=\"a\\", "incus_disk_written_bytes_total{device",
                                         "incus_disk_written_bytes_total{device=a} 1", "incus_disk_written_bytes_total{name=\"a\",type=\"virtual-machine\"} 1",
                                         "incus_disk_writes_completed_total" VM_LABELS("a", "b") " y\n" };
    const struct answer refuses[] = { METRICS_HELLO, { "GET /1.0/metrics HTTP", 403, WHOLE, "{\"error\":\"not yours\"}" }, ENDS };
    const struct answer old[] = { HELLO(LXD_6), ENDS };
    struct migbuf_lxd_written w[4];
    struct server s;
    struct migbuf_lxd *lxd;
    char name[400];

    ck_assert_int_eq(written_by(text, w, 4), 3);
    ck_assert(!strcmp(w[0].project, "p") && !strcmp(w[0].instance, "vm1") && !strcmp(w[0].device, "dev-incus_root"));
    ck_assert(w[0].bytes == 1500000 && w[0].writes == 17);
    ck_assert_str_eq(w[1].device, "s\"d\\a\n");
    ck_assert(!strcmp(w[1].instance, "vm 2") && w[1].bytes == 4096 && !w[1].writes); /* the second of the other is not its own */
    ck_assert(w[2].bytes == 0 && !w[2].writes);
    ck_assert_int_eq(written_by("", w, 4), 0);

    memset(w, 1, sizeof w);
    ck_assert_int_eq(written_by(text, w, 2), MIGBUF_E_TOO_BIG);
    ck_assert(e.need == 3 && e.have == 2);
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++)
        ck_assert_msg(written_by(wrong[k], w, 4) == MIGBUF_E_PROTOCOL, "%s", wrong[k]);
    memset(name, 0, sizeof name);
    snprintf(name, sizeof name, "incus_disk_written_bytes_total{name=\"%0200d\",type=\"virtual-machine\"} 1", 0);
    ck_assert_int_eq(written_by(name, w, 4), MIGBUF_E_TOO_BIG);
    snprintf(name, sizeof name, "incus_disk_written_bytes_total{name=\"%0200d\",type=\"container\"} 1", 0); /* nobody asked for it */
    ck_assert_int_eq(written_by(name, w, 4), 0);
    ck_assert(w[0].bytes == UINT64_C(0x0101010101010101) && w[0].project[0] == 1); /* untouched */

    lxd = open_with(&s, refuses, NULL);
    ck_assert_int_eq(migbuf_lxd_written(lxd, PATIENCE_MS, w, 4, &e), MIGBUF_E_PEER);
    ck_assert_str_eq(migbuf_lxd_said(lxd), "not yours");
    ck_assert_int_eq(migbuf_lxd_written(lxd, PATIENCE_MS, NULL, 4, &e), MIGBUF_E_INVALID);
    end(&s, lxd);
    lxd = open_with(&s, old, NULL);
    ck_assert_int_eq(migbuf_lxd_written(lxd, PATIENCE_MS, w, 4, &e), MIGBUF_E_UNSUPPORTED);
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
                                   a_cluster_without_a_target,
                                   memory_cpus_and_limits_as_they_are_written,
                                   what_vms_have_written,
                                   a_request_as_it_stands,
                                   a_server_that_lies,
                                   reading_ends_in_time,
                                   values_are_counted_before_they_are_parsed,
                                   nothing_becomes_another_request,
                                   names_in_qemu,
                                   progress_texts,
                                   processed_texts,
                                   names_that_are_cut,
                                   wrong_arguments,
                                   no_memory,
                                   NULL };
    int status;

    curl_global_init(CURL_GLOBAL_DEFAULT);
    status = unit_run("lxd", tests, WATCHDOG_S);
    curl_global_cleanup();
    return status;
}
