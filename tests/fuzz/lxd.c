/* SPDX-License-Identifier: MIT */
/* The room lxd with lxd_http.c replaced: a server may answer any request with any status and body. What a call refuses leaves
 * its outputs as they were, what it takes is whole, and what it sends is a request.
 *
 * An input is a byte that says what is called, and the answers, the byte 0x01 between them. The first byte of each is its status
 * or how it fails. */
#include "fuzz.h"
#include "json.h"
#include "lxd_http.h"

#define UNTOUCHED 0x5a

static struct choices answers;
static uint64_t clock_ms;
static unsigned requests;

/* ---- in place of lxd_http.c ---- */

int migbuf__http_new(struct migbuf__http *h, const char *where, const struct migbuf_lxd_options *options,
                     const struct migbuf_allocator *allocator, struct migbuf_error *error)
{
    (void)where;
    (void)error;
    h->allocator = *allocator;
    h->max_reply_bytes = options->max_reply_bytes;
    return 0;
}

static void forget(struct migbuf__http *h)
{
    if (h->reply)
        h->allocator.resize(h->allocator.context, h->reply, h->room, 0);
    h->reply = NULL;
    h->room = h->reply_bytes = 0;
}

void migbuf__http_free(struct migbuf__http *h)
{
    forget(h);
}

uint64_t migbuf__http_now_ms(void)
{
    return ++clock_ms;
}

void migbuf__http_sleep_ms(uint32_t ms)
{
    fuzz_check(ms <= 1000, "sleeps for %u ms", ms);
    clock_ms += ms;
}

static void check_request(const char *method, const char *path, const char *body)
{
    char *copy;

    fuzz_check(!strcmp(method, "GET") || !strcmp(method, "POST") || !strcmp(method, "PUT") || !strcmp(method, "PATCH") ||
               !strcmp(method, "DELETE"), "%s", method);
    fuzz_check(path[0] == '/', "%s", path);
    for (const char *p = path; *p; p++)
        fuzz_check(*p > 0x20 && *p < 0x7f, "%s", path);
    fuzz_check(!strstr(path, "/../"), "%s", path);
    if (!body)
        return;
    copy = exact_copy(body, strlen(body));
    fuzz_check(migbuf__json_clean(copy, strlen(body)) >= 0, "no JSON: %s", body);
    free(copy);
}

int migbuf__http_request(struct migbuf__http *h, const char *method, const char *path, const char *body,
                         uint64_t timeout_ms, long *status, struct migbuf_error *error)
{
    static const long likely[] = { 200, 201, 202, 204, 301, 400, 401, 403, 404, 405, 409, 412, 423, 500, 503, 0, 999, -1 };
    static const int failures[] = { MIGBUF_E_SYSTEM, MIGBUF_E_TIMEOUT, MIGBUF_E_CLOSED, MIGBUF_E_TOO_BIG, MIGBUF_E_PROTOCOL,
                                    MIGBUF_E_NOMEM };
    const uint8_t *begin;
    uint8_t how;

    check_request(method, path, body);
    forget(h);
    h->words[0] = 0;
    h->reply = h->allocator.resize(h->allocator.context, NULL, 0, 1);
    h->room = 1;
    h->reply[0] = 0;
    if (!timeout_ms || answers.at >= answers.end || ++requests > 200) {
        if (error)
            *error = (struct migbuf_error){ .code = MIGBUF_E_TIMEOUT, .text = "no answer" };
        return MIGBUF_E_TIMEOUT;
    }
    how = take_byte(&answers);
    if (how >= 250) {
        if (error)
            *error = (struct migbuf_error){ .code = failures[how - 250], .text = "fails" };
        snprintf(h->words, sizeof h->words, "fails");
        return failures[how - 250];
    }
    *status = likely[how % (sizeof likely / sizeof *likely)];
    for (begin = answers.at; answers.at < answers.end && *answers.at != 1; answers.at++)
        ;
    forget(h);
    h->reply_bytes = (size_t)(answers.at - begin);
    h->room = h->reply_bytes + 1;
    h->reply = h->allocator.resize(h->allocator.context, NULL, 0, h->room);
    memcpy(h->reply, begin, h->reply_bytes);
    h->reply[h->reply_bytes] = 0;
    if (answers.at < answers.end)
        answers.at++;
    return 0;
}

/* ---- calls ---- */

static int is_shared_error(int rc)
{
    switch (rc) {
    case MIGBUF_E_INVALID: /* what a caller gave; here only of a second request */
    case MIGBUF_E_SYSTEM:
    case MIGBUF_E_TIMEOUT:
    case MIGBUF_E_CLOSED:
    case MIGBUF_E_TOO_BIG:
    case MIGBUF_E_PROTOCOL:
    case MIGBUF_E_NOTFOUND:
    case MIGBUF_E_EXISTS:
    case MIGBUF_E_PEER:
    case MIGBUF_E_UNSUPPORTED:
    case MIGBUF_E_NOMEM:
    case MIGBUF_E_NOSPACE:
    case MIGBUF_E_IN_USE:
        return 1;
    default:
        return 0;
    }
}

static int has_end(const char *text, size_t size)
{
    return memchr(text, 0, size) != NULL;
}

#define STRING(field) fuzz_check(has_end(field, sizeof field), "no end")

static void check_untouched(const void *out, size_t bytes)
{
    const unsigned char *u = out;

    for (size_t k = 0; k < bytes; k++)
        fuzz_check(u[k] == UNTOUCHED, "byte %zu of an output, after an error", k);
}

static struct migbuf_error e;

static void check_error(const struct migbuf_lxd *lxd, int rc)
{
    fuzz_check(rc >= 0 || is_shared_error(rc), "%d", rc);
    fuzz_check(rc >= 0 || (e.code == rc && e.text && *e.text), "%d has code %d and no reason", rc, e.code);
    for (const char *said = migbuf_lxd_said(lxd); *said; said++)
        fuzz_check((unsigned char)*said >= 0x20, "said %02x", (unsigned char)*said);
}

#define CALL(out, ...)                                                                                                 \
    memset(&out, UNTOUCHED, sizeof out);                                                                               \
    rc = __VA_ARGS__;                                                                                                  \
    check_error(lxd, rc);                                                                                              \
    if (rc < 0)                                                                                                        \
        check_untouched(&out, sizeof out);                                                                             \
    else

static void call(struct migbuf_lxd *lxd, uint8_t which)
{
    static struct migbuf_lxd_pool pools[3];
    static struct migbuf_lxd_volume volume;
    static struct migbuf_lxd_vm vms[3];
    static struct migbuf_lxd_disk disks[3];
    static struct migbuf_lxd_migration list[3];
    struct migbuf_lxd_server server = { .size = sizeof server };
    char value[40];
    const char *text = NULL;
    uint64_t bytes = 0;
    int rc;

    switch (which % 17) {
    case 0:
        rc = migbuf_lxd_server(lxd, 5000, &server, &e);
        check_error(lxd, rc);
        STRING(server.version);
        STRING(server.name);
        break;
    case 1:
        CALL(value, migbuf_lxd_key(lxd, "user.a", 5000, value, sizeof value, &e))
            STRING(value);
        break;
    case 2:
        check_error(lxd, migbuf_lxd_set_key(lxd, "user.a", "\xc3\xa4\"\n", 5000, &e));
        break;
    case 3:
        CALL(pools, migbuf_lxd_pools(lxd, 5000, pools, 3, &e)) {
            fuzz_check(rc <= 3, "%d", rc);
            for (int k = 0; k < rc; k++) {
                STRING(pools[k].name);
                STRING(pools[k].driver);
                STRING(pools[k].status);
                fuzz_check(pools[k].limit >= 1 && pools[k].limit <= 4, "%d", pools[k].limit);
            }
        }
        break;
    case 4:
        CALL(pools[0], migbuf_lxd_pool(lxd, "p/ \xc3\xa4", 5000, &pools[0], &e)) {
            STRING(pools[0].name);
            fuzz_check(pools[0].free_bytes <= pools[0].total_bytes, "more free than there is");
        }
        break;
    case 5:
        CALL(volume, migbuf_lxd_volume(lxd, "p", "v", 5000, &volume, &e)) {
            STRING(volume.pool);
            STRING(volume.name);
            STRING(volume.location);
            STRING(volume.content);
            fuzz_check(volume.has_usage || !volume.used_bytes, "used, and nobody knows");
        }
        break;
    case 6:
        check_error(lxd, migbuf_lxd_volume_create(lxd, "p", "v", UINT64_C(1) << 30, 5000, &e));
        break;
    case 7:
        check_error(lxd, migbuf_lxd_volume_resize(lxd, "p", "v", UINT64_C(1) << 30, 5000, &e));
        break;
    case 8:
        check_error(lxd, migbuf_lxd_volume_delete(lxd, "p", "v", 5000, &e));
        break;
    case 9:
        CALL(vms, migbuf_lxd_vms(lxd, 5000, vms, 3, &e)) {
            fuzz_check(rc <= 3, "%d", rc);
            for (int k = 0; k < rc; k++) {
                STRING(vms[k].project);
                STRING(vms[k].name);
                STRING(vms[k].location);
                STRING(vms[k].status);
                STRING(vms[k].root);
                STRING(vms[k].pool);
                fuzz_check(vms[k].cpus > 0, "no CPU");
            }
        }
        break;
    case 10:
        CALL(vms[0], migbuf_lxd_vm(lxd, "default", "vm1", 5000, &vms[0], &e))
            fuzz_check(vms[0].cpus > 0, "no CPU");
        break;
    case 11:
        CALL(value, migbuf_lxd_vm_key(lxd, NULL, "vm1", "raw.qemu", 5000, value, sizeof value, &e))
            STRING(value);
        break;
    case 12:
        CALL(disks, migbuf_lxd_disks(lxd, NULL, "vm1", 5000, disks, 3, &e)) {
            fuzz_check(rc <= 3, "%d", rc);
            for (int k = 0; k < rc; k++) {
                STRING(disks[k].device);
                STRING(disks[k].pool);
                STRING(disks[k].source);
                STRING(disks[k].bus);
            }
        }
        break;
    case 13:
        check_error(lxd, migbuf_lxd_vm_set_state_bytes(lxd, NULL, "vm1", which & 32 ? 0 : 1 << 20, 5000, &e));
        break;
    case 14:
        CALL(list, migbuf_lxd_migrations(lxd, 5000, list, 3, &e)) {
            fuzz_check(rc <= 3, "%d", rc);
            for (int k = 0; k < rc; k++) {
                STRING(list[k].id);
                STRING(list[k].project);
                STRING(list[k].instance);
                STRING(list[k].location);
                STRING(list[k].stage);
                fuzz_check(list[k].percent >= -1 && list[k].percent <= 100, "%d percent", list[k].percent);
            }
        }
        break;
    case 15:
        check_error(lxd, migbuf_lxd_cancel(lxd, "11-22", 5000, &e));
        break;
    default:
        rc = migbuf_lxd_call(lxd, "POST", "/1.0/x", "{}", 5000, &text, &bytes, &e);
        check_error(lxd, rc);
        fuzz_check(rc < 0 || (text && strlen(text) <= bytes), "no text");
    }
}

/* A counter that is read is below 2^62, and is read without anything beyond its end. */
static void check_processed(const uint8_t *data, size_t size)
{
    char *text = exact_copy(data, size);
    uint64_t bytes = 77;
    int rc = migbuf_lxd_processed(text, size, &bytes);

    fuzz_check(rc == 0 || rc == MIGBUF_E_PROTOCOL || rc == MIGBUF_E_RANGE, "%d", rc);
    fuzz_check(rc ? bytes == 77 : bytes <= UINT64_C(1) << 62, "%llu", (unsigned long long)bytes);
    free(text);
}

static void check_names(const uint8_t *data, size_t size)
{
    struct migbuf_lxd_names names;
    char device[260] = "";

    memcpy(device, data, size < 255 ? size : 255);
    for (int32_t kind = 0; kind < 4; kind++) {
        memset(&names, UNTOUCHED, sizeof names);
        if (migbuf_lxd_names(kind, device, &names))
            check_untouched(&names, sizeof names);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct migbuf_lxd_options o;
    struct migbuf_lxd *lxd = NULL;
    uint8_t which;
    int rc;

    if (size < 2)
        return 0;
    answers = (struct choices){ data + 1, data + size };
    which = data[0];
    clock_ms = requests = 0;
    migbuf_lxd_options_init(&o, sizeof o);
    if (which & 128)
        o.project = "p&q";
    if (which & 64)
        o.target = "m1";
    rc = migbuf_lxd_open("/nowhere", &o, NULL, 5000, &lxd, &e);
    fuzz_check(rc == 0 || (is_shared_error(rc) && !lxd), "open: %d", rc);
    for (int k = 0; rc == 0 && k < 3; k++) {
        call(lxd, (uint8_t)(which + k));
        migbuf_lxd_need(lxd, 3, NULL);
        migbuf_lxd_has(lxd, "migration_vm_live");
    }
    migbuf_lxd_free(lxd);
    check_processed(data + 1, size - 1);
    check_names(data + 1, size - 1);
    return 0;
}
