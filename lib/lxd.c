/* SPDX-License-Identifier: MIT */
/*
 * lxd: the handle, requests with their deadline, the envelope every answer comes in, operations, and the server itself.
 * What the answers mean is read in lxd_calls.c.
 */
#include "lxd.h"
#include "memory.h"
#include <stdio.h>
#include <string.h>

#define OPTIONS_FIRST MIGBUF__FIRST(struct migbuf_lxd_options, server_certificate)
#define SERVER_FIRST MIGBUF__FIRST(struct migbuf_lxd_server, name)

/* An operation that the server would not wait for any longer is asked about again after this, then after twice as long. */
#define ASK_AGAIN_MS 50
#define ASK_AGAIN_MOST_MS 1000

/* A reply may have so many values and one more for so many bytes of its bound: LXD's own have one for about 30. */
#define LEAST_VALUES 4096
#define BYTES_PER_VALUE 32

/* ---- paths ---- */

void migbuf__lxd_path(struct migbuf__lxd_path *p, const char *path)
{
    p->w = (struct migbuf__writer){ .text = p->text, .capacity = sizeof p->text };
    migbuf__write(&p->w, "/1.0%s", path);
}

static void escape(struct migbuf__writer *w, const char *s)
{
    for (; *s; s++) {
        int plain = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || strchr("-._~", *s);

        migbuf__write(w, plain ? "%c" : "%%%02X", (unsigned char)*s);
    }
}

void migbuf__lxd_path_name(struct migbuf__lxd_path *p, const char *name)
{
    migbuf__write(&p->w, "/");
    escape(&p->w, name);
}

void migbuf__lxd_path_query(struct migbuf__lxd_path *p, const char *key, const char *value)
{
    if (!value || !*value)
        return;
    migbuf__write(&p->w, "%c%s=", strchr(p->text, '?') ? '&' : '?', key);
    escape(&p->w, value);
}

int migbuf__lxd_name(const char *name, struct migbuf_error *error)
{
    if (!name || !*name || strlen(name) >= MIGBUF_LXD_NAME || !strcmp(name, ".") || !strcmp(name, ".."))
        return migbuf__fail(error, MIGBUF_E_INVALID, "a name is missing, or longer than 127 bytes");
    return migbuf__lxd_value(name, error);
}

int migbuf__lxd_value(const char *text, struct migbuf_error *error)
{
    return migbuf__is_utf8(text) ? 0 : migbuf__fail(error, MIGBUF_E_INVALID, "a text is no UTF-8");
}

/* ---- reading ---- */

const char *migbuf__lxd_text(const struct migbuf__json *object, const char *key)
{
    const char *text = "";
    size_t bytes;

    return migbuf__json_string(migbuf__json_member(object, key), &text, &bytes) && strlen(text) == bytes ? text : "";
}

int migbuf__lxd_copy(char *out, size_t size, const char *text, struct migbuf_error *error)
{
    size_t bytes = strlen(text) + 1;

    if (bytes > size)
        return migbuf__fail_numbers(error, MIGBUF_E_TOO_BIG, "a text of the server's does not fit", bytes, size);
    memcpy(out, text, bytes);
    return 0;
}

uint64_t migbuf__lxd_number(const struct migbuf__json *object, const char *key)
{
    int64_t number = 0;

    migbuf__json_integer(migbuf__json_member(object, key), &number);
    return number > 0 ? (uint64_t)number : 0;
}

uint64_t migbuf__lxd_size(const char *text)
{
    uint64_t bytes = 0;

    if (strchr(text, ' ') || migbuf_lxd_processed(text, strlen(text), &bytes))
        return 0;
    return bytes;
}

/* ---- requests ---- */

const char *migbuf_lxd_said(const struct migbuf_lxd *lxd)
{
    return lxd ? lxd->said : "";
}

static void say(struct migbuf_lxd *lxd, const char *text)
{
    migbuf_printable(text, lxd->said, sizeof lxd->said);
}

int migbuf__lxd_begin(struct migbuf_lxd *lxd, uint32_t timeout_ms, struct migbuf_error *error)
{
    if (!lxd)
        return migbuf__fail(error, MIGBUF_E_INVALID, "a pointer is NULL");
    if (!timeout_ms)
        return migbuf__fail(error, MIGBUF_E_RANGE, "a deadline of 0 ms");
    lxd->deadline_ms = migbuf__http_now_ms() + timeout_ms;
    lxd->said[0] = 0;
    return 0;
}

static uint64_t left_ms(const struct migbuf_lxd *lxd)
{
    uint64_t now = migbuf__http_now_ms();

    return now < lxd->deadline_ms ? lxd->deadline_ms - now : 0;
}

static void forget_reply(struct migbuf_lxd *lxd)
{
    migbuf__json_free(lxd->reply);
    lxd->reply = NULL;
    lxd->metadata = NULL;
}

/* The error of a failed request: the code by its HTTP status. Where nobody has words for it the status is said. */
static int refused(struct migbuf_lxd *lxd, uint64_t status, const char *words, struct migbuf_error *error)
{
    static const struct {
        uint64_t first, last;
        int code;
        const char *text;
    } known[] = {
        { 300, 399, MIGBUF_E_PEER, "the server points to another place, which is not followed" },
        { 401, 401, MIGBUF_E_PEER, "the server does not trust this client" },
        { 403, 403, MIGBUF_E_PEER, "the server does not trust this client" },
        { 404, 404, MIGBUF_E_NOTFOUND, "the server has no such thing" },
        { 409, 409, MIGBUF_E_EXISTS, "the server has one of that name already" },
        { 502, 502, MIGBUF_E_PEER, "what stands before the server does not reach it" },
        { 503, 503, MIGBUF_E_PEER, "the server is starting or ending" },
        { 504, 504, MIGBUF_E_PEER, "what stands before the server does not reach it" },
    };
    char number[64];

    snprintf(number, sizeof number, "HTTP status %llu", (unsigned long long)status);
    say(lxd, *words || !status ? words : number);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (status >= known[i].first && status <= known[i].last)
            return migbuf__fail_numbers(error, known[i].code, known[i].text, status, 0);
    return migbuf__fail_numbers(error, MIGBUF_E_PEER, "the server refused", status, 0);
}

static bool is_late(void *context)
{
    return !left_ms(context);
}

static int parse(struct migbuf_lxd *lxd, struct migbuf_error *error)
{
    const struct migbuf__json_bounds bounds = { .max_values = LEAST_VALUES + (size_t)(lxd->http.max_reply_bytes / BYTES_PER_VALUE),
                                                .late = is_late,
                                                .context = lxd };
    int rc = migbuf__json_clean(lxd->http.reply, lxd->http.reply_bytes);

    if (rc >= 0)
        rc = migbuf__json_decode_within(lxd->http.reply, lxd->http.reply_bytes, &bounds, &lxd->reply);
    switch (rc) {
    case MIGBUF_E_NOMEM:
        return migbuf__fail(error, rc, "no memory for the server's reply");
    case MIGBUF_E_TIMEOUT:
        return migbuf__fail(error, rc, "the server's reply could not be read in time");
    case MIGBUF_E_TOO_BIG:
        return migbuf__fail(error, rc, "the server's reply has more values, or more levels, than the bound");
    default:
        if (rc < 0 || !migbuf__json_is_object(lxd->reply))
            return migbuf__fail(error, MIGBUF_E_PROTOCOL, "the server's reply is no JSON object");
        return 0;
    }
}

/* What the HTTP status says, with the reply parsed or (parsed < 0) not: the servers and whatever stands before them send
 * errors without JSON, too. */
static int check_status(struct migbuf_lxd *lxd, long status, int parsed, struct migbuf_error *error)
{
    if (status >= 400)
        return refused(lxd, (uint64_t)status, parsed < 0 ? "" : migbuf__lxd_text(lxd->reply, "error"), error);
    if (status >= 300)
        return refused(lxd, (uint64_t)status, lxd->http.words, error);
    if (status < 200)
        return migbuf__fail(error, MIGBUF_E_PROTOCOL, "the reply has no HTTP status that ends a request");
    return parsed;
}

/* One exchange; the answer's envelope is checked and lxd->metadata set. Fills *operation with the URL of what was started,
 * or "". */
static int exchange(struct migbuf_lxd *lxd, const char *method, const char *path, const char *body, char *operation,
                    struct migbuf_error *error)
{
    const char *type;
    long status = 0;
    int rc;

    forget_reply(lxd);
    rc = migbuf__http_request(&lxd->http, method, path, body, left_ms(lxd), &status, error);
    if (rc < 0) {
        say(lxd, lxd->http.words);
        return rc;
    }
    rc = check_status(lxd, status, parse(lxd, error), error);
    if (rc < 0)
        return rc;
    type = migbuf__lxd_text(lxd->reply, "type");
    if (!strcmp(type, "error")) /* an error found after the status was sent: a wait for an operation */
        return refused(lxd, migbuf__lxd_number(lxd->reply, "error_code"), migbuf__lxd_text(lxd->reply, "error"), error);
    if (strcmp(type, "sync") && strcmp(type, "async"))
        return migbuf__fail(error, MIGBUF_E_PROTOCOL, "the reply has no type this interface knows");
    lxd->metadata = migbuf__json_member(lxd->reply, "metadata");
    operation[0] = 0;
    return strcmp(type, "async") ? 0
                                 : migbuf__lxd_copy(operation, MIGBUF_LXD_NAME,
                                                    migbuf__lxd_text(lxd->reply, "operation"), error);
}

/* lxd->metadata is an operation: 1 it is over, 0 it runs, or how it failed. */
static int look_at(struct migbuf_lxd *lxd, struct migbuf_error *error)
{
    uint64_t code = migbuf__lxd_number(lxd->metadata, "status_code");

    if (!code)
        return migbuf__fail(error, MIGBUF_E_PROTOCOL, "an operation without a status");
    if (code < 200)
        return 0;
    if (code == 200)
        return 1;
    say(lxd, migbuf__lxd_text(lxd->metadata, "err"));
    return migbuf__fail_numbers(error, MIGBUF_E_PEER,
                                code == 401 ? "the server's operation was cancelled" : "the server's operation failed",
                                code, 0);
}

/* The paths of an operation, and of a wait for it, from what the server calls it: "/1.0/operations/ID?project=P". It is the
 * server's word, so that no more than its id goes into a request. */
static int operation_path(const char *operation, struct migbuf__lxd_path *path, struct migbuf_error *error)
{
    static const char before[] = "/1.0/operations/";
    size_t length = strcspn(operation, "?"), first = sizeof before - 1;
    char id[MIGBUF_LXD_NAME];

    if (length <= first || strncmp(operation, before, first) ||
        strspn(operation + first, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != length - first)
        return migbuf__fail(error, MIGBUF_E_PROTOCOL, "the reply names no operation");
    snprintf(id, sizeof id, "%.*s", (int)(length - first), operation + first);
    migbuf__lxd_path(path, "/operations");
    migbuf__lxd_path_name(path, id);
    return 0;
}

/* Asks once, with the server waiting for as long as we have. lxd->metadata is the operation then. */
static int ask_operation(struct migbuf_lxd *lxd, const struct migbuf__lxd_path *operation, struct migbuf_error *error)
{
    struct migbuf__lxd_path wait = *operation;
    char none[MIGBUF_LXD_NAME];
    int rc;

    /* The server counts whole seconds and then answers that it still runs (LXD), or with an error (Incus). */
    wait.w.text = wait.text;
    migbuf__write(&wait.w, "/wait?timeout=%llu", (unsigned long long)(left_ms(lxd) / 1000));
    rc = exchange(lxd, "GET", wait.text, NULL, none, error);
    if (rc == MIGBUF_E_PEER) {
        lxd->said[0] = 0;
        rc = exchange(lxd, "GET", operation->text, NULL, none, error);
    }
    return rc;
}

/* A server that does not wait, although asked to, is asked less and less often. */
static int await(struct migbuf_lxd *lxd, const char *operation, struct migbuf_error *error)
{
    struct migbuf__lxd_path path;
    uint64_t pause_ms = ASK_AGAIN_MS;
    int rc = operation_path(operation, &path, error);

    if (rc < 0)
        return rc;
    rc = look_at(lxd, error);
    while (rc == 0) {
        uint64_t left;

        if (!left_ms(lxd))
            return migbuf__fail(error, MIGBUF_E_TIMEOUT, "the server's operation did not end in time");
        rc = ask_operation(lxd, &path, error);
        if (rc == 0)
            rc = look_at(lxd, error);
        left = left_ms(lxd);
        if (rc == 0)
            migbuf__http_sleep_ms((uint32_t)(pause_ms < left ? pause_ms : left));
        pause_ms = 2 * pause_ms < ASK_AGAIN_MOST_MS ? 2 * pause_ms : ASK_AGAIN_MOST_MS;
    }
    return rc < 0 ? rc : 0;
}

static int ask(struct migbuf_lxd *lxd, const char *method, const char *path, const char *body,
               struct migbuf_error *error)
{
    char operation[MIGBUF_LXD_NAME];
    int rc = exchange(lxd, method, path, body, operation, error);

    return rc == 0 && operation[0] ? await(lxd, operation, error) : rc;
}

int migbuf__lxd_ask(struct migbuf_lxd *lxd, const char *method, const struct migbuf__lxd_path *path, const char *body,
                    struct migbuf_error *error)
{
    if (path->w.length >= sizeof path->text)
        return migbuf__fail(error, MIGBUF_E_TOO_BIG, "a path too long for this interface");
    return ask(lxd, method, path->text, body, error);
}

int migbuf__lxd_ask_text(struct migbuf_lxd *lxd, const struct migbuf__lxd_path *path, const char **text, size_t *length,
                         struct migbuf_error *error)
{
    long status = 0;
    int rc;

    if (path->w.length >= sizeof path->text)
        return migbuf__fail(error, MIGBUF_E_TOO_BIG, "a path too long for this interface");
    forget_reply(lxd);
    rc = migbuf__http_request(&lxd->http, "GET", path->text, NULL, left_ms(lxd), &status, error);
    if (rc < 0) {
        say(lxd, lxd->http.words);
        return rc;
    }
    if (status < 200 || status >= 300) {
        rc = check_status(lxd, status, parse(lxd, error), error);
        return rc < 0 ? rc : MIGBUF_E_PROTOCOL;
    }
    *text = lxd->http.reply;
    *length = lxd->http.reply_bytes;
    return 0;
}

int migbuf_lxd_call(struct migbuf_lxd *lxd, const char *method, const char *path, const char *body,
                    uint32_t timeout_ms, const char **text, uint64_t *text_bytes, struct migbuf_error *error)
{
    struct migbuf__json_span span = { 0 };
    int rc;

    if (!method || !path || strlen(path) >= MIGBUF__LXD_PATH)
        return migbuf__fail(error, MIGBUF_E_INVALID, "a request is a method and a path that begins with a slash");
    rc = migbuf__lxd_begin(lxd, timeout_ms, error);
    if (rc == 0)
        rc = ask(lxd, method, path, body, error);
    if (rc < 0)
        return rc;
    migbuf__json_find(lxd->http.reply, lxd->http.reply_bytes, "metadata", &span);
    lxd->http.reply[span.at + span.bytes] = 0;
    if (text)
        *text = lxd->http.reply + span.at;
    if (text_bytes)
        *text_bytes = span.bytes;
    return 0;
}

/* ---- the handle ---- */

static const struct migbuf_lxd_options default_options = { .max_reply_bytes = 16777216 };

int migbuf_lxd_options_init(struct migbuf_lxd_options *options, uint64_t size)
{
    return migbuf__struct_init(options, size, &default_options, sizeof default_options, OPTIONS_FIRST);
}

static int check_options(struct migbuf_lxd_options *o, const struct migbuf_lxd_options *given,
                         struct migbuf_error *error)
{
    *o = default_options;
    if (given && migbuf__struct_take(o, sizeof *o, given, OPTIONS_FIRST))
        return migbuf__fail(error, MIGBUF_E_STRUCT, "struct migbuf_lxd_options is of another version");
    if (o->max_reply_bytes < 1024 || o->max_reply_bytes > UINT64_C(1) << 30)
        return migbuf__fail(error, MIGBUF_E_RANGE, "max_reply_bytes is not within 1024 and 2^30");
    if ((o->project && strlen(o->project) >= MIGBUF_LXD_NAME) || (o->target && strlen(o->target) >= MIGBUF_LXD_NAME))
        return migbuf__fail(error, MIGBUF_E_INVALID, "a name is longer than 127 bytes");
    return 0;
}

/* GET /1.0, kept. */
static int learn(struct migbuf_lxd *lxd, struct migbuf_error *error)
{
    struct migbuf__lxd_path path;
    int rc;

    migbuf__lxd_path(&path, "");
    rc = migbuf__lxd_ask(lxd, "GET", &path, NULL, error);
    if (rc < 0)
        return rc;
    if (strcmp(migbuf__lxd_text(lxd->metadata, "auth"), "trusted"))
        return migbuf__fail_numbers(error, MIGBUF_E_PEER, "the server does not trust this client", 403, 0);
    if (!migbuf__json_is_array(migbuf__json_member(lxd->metadata, "api_extensions")) ||
        !migbuf__json_is_object(migbuf__json_member(lxd->metadata, "environment")))
        return migbuf__fail(error, MIGBUF_E_PROTOCOL, "what answers there is neither LXD nor Incus");
    migbuf__json_free(lxd->root);
    lxd->root = lxd->reply;
    lxd->reply = NULL;
    lxd->extensions = migbuf__json_member(lxd->metadata, "api_extensions");
    return 0;
}

int migbuf_lxd_open(const char *where, const struct migbuf_lxd_options *options,
                    const struct migbuf_allocator *allocator, uint32_t timeout_ms, struct migbuf_lxd **out,
                    struct migbuf_error *error)
{
    struct migbuf_allocator a = migbuf__allocator(allocator);
    struct migbuf_lxd_options o;
    struct migbuf_lxd *lxd;
    int rc;

    if (!where || !out || strlen(where) >= MIGBUF__LXD_PATH)
        return migbuf__fail(error, MIGBUF_E_INVALID, "a server's place is needed");
    rc = check_options(&o, options, error);
    if (rc < 0)
        return rc;
    lxd = migbuf__resize(&a, NULL, 0, 1, sizeof *lxd);
    if (!lxd)
        return migbuf__fail(error, MIGBUF_E_NOMEM, "no memory for a handle");
    memset(lxd, 0, sizeof *lxd);
    lxd->allocator = a;
    snprintf(lxd->project, sizeof lxd->project, "%s", o.project ? o.project : "");
    snprintf(lxd->target, sizeof lxd->target, "%s", o.target ? o.target : "");
    rc = migbuf__http_new(&lxd->http, where, &o, &a, error);
    if (rc == 0)
        rc = migbuf__lxd_begin(lxd, timeout_ms, error);
    if (rc == 0)
        rc = learn(lxd, error);
    if (rc < 0) {
        migbuf_lxd_free(lxd);
        return rc;
    }
    *out = lxd;
    return 0;
}

void migbuf_lxd_free(struct migbuf_lxd *lxd)
{
    struct migbuf_allocator a;

    if (!lxd)
        return;
    a = lxd->allocator;
    forget_reply(lxd);
    migbuf__json_free(lxd->root);
    migbuf__http_free(&lxd->http);
    migbuf__free(&a, lxd, sizeof *lxd);
}

/* ---- the server ---- */

int migbuf_lxd_has(const struct migbuf_lxd *lxd, const char *extension)
{
    const char *text;
    size_t bytes;

    if (!lxd || !extension)
        return 0;
    for (size_t i = 0; i < migbuf__json_count(lxd->extensions); i++)
        if (migbuf__json_string(migbuf__json_item(lxd->extensions, i), &text, &bytes) && !strcmp(text, extension))
            return 1;
    return 0;
}

const struct migbuf__json *migbuf__lxd_environment(const struct migbuf_lxd *lxd)
{
    return migbuf__json_member(migbuf__json_member(lxd->root, "metadata"), "environment");
}

static int32_t kind(const struct migbuf_lxd *lxd)
{
    return strcmp(migbuf__lxd_text(migbuf__lxd_environment(lxd), "server"), "incus") ? MIGBUF_LXD_LXD : MIGBUF_LXD_INCUS;
}

static uint32_t features(const struct migbuf_lxd *lxd)
{
    uint32_t flags = migbuf_lxd_has(lxd, "migration_vm_live") ? MIGBUF_LXD_LIVE_MIGRATION : 0;

    if (kind(lxd) == MIGBUF_LXD_INCUS || migbuf_lxd_has(lxd, "vm_disk_io_limits"))
        flags |= MIGBUF_LXD_DISK_LIMITS;
    return flags;
}

int migbuf_lxd_need(const struct migbuf_lxd *lxd, uint32_t wanted, struct migbuf_error *error)
{
    uint32_t missing;

    if (!lxd || wanted & ~(MIGBUF_LXD_LIVE_MIGRATION | MIGBUF_LXD_DISK_LIMITS))
        return migbuf__fail(error, MIGBUF_E_INVALID, "an unknown feature");
    missing = wanted & ~features(lxd);
    if (missing & MIGBUF_LXD_LIVE_MIGRATION)
        return migbuf__fail(error, MIGBUF_E_UNSUPPORTED,
                            "not supported: this server cannot move running VMs without shared storage (API extension "
                            "migration_vm_live)");
    if (missing)
        return migbuf__fail(error, MIGBUF_E_UNSUPPORTED,
                            "not supported: this server cannot limit the disks of VMs (API extension "
                            "vm_disk_io_limits)");
    return 0;
}

int migbuf_lxd_server(struct migbuf_lxd *lxd, uint32_t timeout_ms, struct migbuf_lxd_server *server,
                      struct migbuf_error *error)
{
    const struct migbuf__json *e;
    struct migbuf_lxd_server s = { 0 };
    bool clustered = false;
    int rc;

    if (!server)
        return migbuf__fail(error, MIGBUF_E_INVALID, "a pointer is NULL");
    rc = migbuf__lxd_begin(lxd, timeout_ms, error);
    if (rc == 0)
        rc = learn(lxd, error);
    if (rc < 0)
        return rc;
    e = migbuf__lxd_environment(lxd);
    migbuf__json_boolean(migbuf__json_member(e, "server_clustered"), &clustered);
    s.kind = kind(lxd);
    s.features = features(lxd);
    s.clustered = clustered;
    s.extensions = (uint32_t)migbuf__json_count(lxd->extensions);
    if ((rc = migbuf__lxd_copy(s.version, sizeof s.version, migbuf__lxd_text(e, "server_version"), error)) < 0 ||
        (rc = migbuf__lxd_copy(s.name, sizeof s.name, migbuf__lxd_text(e, "server_name"), error)) < 0)
        return rc;
    if (migbuf__struct_give(server, &s, sizeof s, SERVER_FIRST))
        return migbuf__fail(error, MIGBUF_E_STRUCT, "struct migbuf_lxd_server is of another version");
    return 0;
}

/* ---- its keys ---- */

int migbuf_lxd_key(struct migbuf_lxd *lxd, const char *key, uint32_t timeout_ms, char *value, size_t value_bytes,
                   struct migbuf_error *error)
{
    struct migbuf__lxd_path path;
    int rc;

    if (!key || !*key || !value)
        return migbuf__fail(error, MIGBUF_E_INVALID, "a pointer is NULL");
    rc = migbuf__lxd_begin(lxd, timeout_ms, error);
    if (rc < 0)
        return rc;
    migbuf__lxd_path(&path, "");
    rc = migbuf__lxd_ask(lxd, "GET", &path, NULL, error);
    if (rc < 0)
        return rc;
    return migbuf__lxd_copy(value, value_bytes, migbuf__lxd_text(migbuf__json_member(lxd->metadata, "config"), key),
                            error);
}

int migbuf_lxd_set_key(struct migbuf_lxd *lxd, const char *key, const char *value, uint32_t timeout_ms,
                       struct migbuf_error *error)
{
    char body[MIGBUF__LXD_BODY];
    struct migbuf__writer w = { .text = body, .capacity = sizeof body };
    struct migbuf__lxd_path path;
    int rc;

    if (!key || !*key)
        return migbuf__fail(error, MIGBUF_E_INVALID, "a pointer is NULL");
    if ((rc = migbuf__lxd_value(key, error)) < 0 || (rc = migbuf__lxd_value(value ? value : "", error)) < 0 ||
        (rc = migbuf__lxd_begin(lxd, timeout_ms, error)) < 0)
        return rc;
    migbuf__write(&w, "{\"config\":{");
    migbuf__write_json_string(&w, key);
    migbuf__write(&w, ":");
    migbuf__write_json_string(&w, value ? value : "");
    migbuf__write(&w, "}}");
    if (w.length >= w.capacity)
        return migbuf__fail(error, MIGBUF_E_TOO_BIG, "key and value are too long");
    migbuf__lxd_path(&path, "");
    return migbuf__lxd_ask(lxd, "PATCH", &path, body, error);
}
