/* SPDX-License-Identifier: MIT */
/* lxd_metrics: what VMs have written, out of the servers' metrics (OpenMetrics text). A line that is of use and is not as it
 * should be fails the call: a counter that is left out would be taken for a VM that writes nothing. */
#include "lxd.h"
#include "memory.h"
#include <string.h>

#define MAX_VALUE 4611686018427387904.0 /* 2^62 */

enum metric { OTHER, BYTES, WRITES };

/* Which of the two counters is it, if any? */
static enum metric which(const char *at, size_t length)
{
    static const char *const prefixes[] = { "lxd_disk_", "incus_disk_" };

    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        size_t n = strlen(prefixes[i]);

        if (length < n || memcmp(at, prefixes[i], n))
            continue;
        if (length - n == strlen("written_bytes_total") && !memcmp(at + n, "written_bytes_total", length - n))
            return BYTES;
        if (length - n == strlen("writes_completed_total") && !memcmp(at + n, "writes_completed_total", length - n))
            return WRITES;
    }
    return OTHER;
}

/* One label's value, unescaped; *at is behind its quote then. */
static int take_value(const char **at, const char *end, char *out, size_t size)
{
    const char *c = *at;
    size_t n = 0;

    for (; c < end && *c != '"'; c++) {
        char sign = *c;

        if (sign == '\\' && ++c < end)
            sign = *c == 'n' ? '\n' : *c;
        if (c == end)
            return MIGBUF_E_PROTOCOL;
        if (out && n + 1 < size)
            out[n] = sign;
        n++;
    }
    if (c == end)
        return MIGBUF_E_PROTOCOL;
    if (out)
        out[n < size ? n : 0] = 0; /* what does not fit is none */
    *at = c + 1;
    return out && n >= size ? MIGBUF_E_TOO_BIG : 0;
}

/* All labels, of which four are kept. Whether they fit is told apart: it matters of a VM's alone. */
static int take_labels(const char **at, const char *end, struct migbuf_lxd_written *w, char type[32], bool *fits)
{
    const struct {
        const char *key;
        char *out;
        size_t size;
    } kept[] = { { "project", w->project, sizeof w->project },
                 { "name", w->instance, sizeof w->instance },
                 { "device", w->device, sizeof w->device },
                 { "type", type, 32 } };

    while (*at < end && **at != '}') {
        const char *key = *at, *equals = memchr(key, '=', (size_t)(end - key));
        char *out = NULL;
        size_t size = 0;
        int rc;

        if (!equals || equals + 1 >= end || equals[1] != '"')
            return MIGBUF_E_PROTOCOL;
        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
            if ((size_t)(equals - key) == strlen(kept[i].key) && !memcmp(key, kept[i].key, (size_t)(equals - key)))
                out = kept[i].out, size = kept[i].size;
        *at = equals + 2;
        rc = take_value(at, end, out, size);
        if (rc && rc != MIGBUF_E_TOO_BIG)
            return rc;
        *fits = *fits && !rc;
        *at += *at < end && **at == ',';
    }
    if (*at == end)
        return MIGBUF_E_PROTOCOL;
    ++*at;
    return 0;
}

/* "12", "1.5e+06": no strtod(), which asks the locale. Nothing may follow but a time. */
static int take_number(const char *at, const char *end, uint64_t *number)
{
    double value = 0, place = 1;
    int digits = 0, exponent = 0;

    for (; at < end && *at >= '0' && *at <= '9'; at++, digits++)
        value = 10 * value + (*at - '0');
    if (at < end && *at == '.')
        for (at++; at < end && *at >= '0' && *at <= '9'; at++, digits++)
            value += (*at - '0') * (place /= 10);
    if (digits && at < end && (*at == 'e' || *at == 'E')) {
        int minus = at + 1 < end && at[1] == '-';

        at += 1 + (at + 1 < end && (at[1] == '+' || at[1] == '-'));
        if (at == end || *at < '0' || *at > '9')
            return MIGBUF_E_PROTOCOL;
        for (; at < end && *at >= '0' && *at <= '9' && exponent < 400; at++)
            exponent = 10 * exponent + (*at - '0');
        for (; exponent > 0; exponent--)
            value = minus ? value / 10 : value * 10;
    }
    if (!digits || (at < end && *at != ' ') || !(value <= MAX_VALUE))
        return MIGBUF_E_PROTOCOL;
    *number = (uint64_t)(value + 0.5);
    return 0;
}

/* One line: NAME{label="value",...} number. 1: *w is one of that kind and a VM's, its number in ->bytes; 0: another line. */
static int read_line(const char *at, const char *end, enum metric kind, struct migbuf_lxd_written *w)
{
    size_t name = 0;
    char type[32] = "";
    bool fits = true;
    int rc;

    while (at + name < end && at[name] != '{' && at[name] != ' ')
        name++;
    if (which(at, name) != kind)
        return 0;
    at += name;
    if (at == end || *at++ != '{')
        return MIGBUF_E_PROTOCOL;
    *w = (struct migbuf_lxd_written){ .bytes = 0 };
    rc = take_labels(&at, end, w, type, &fits);
    if (rc)
        return rc;
    if (strcmp(type, "virtual-machine"))
        return 0;
    if (!fits)
        return MIGBUF_E_TOO_BIG;
    if (!*w->project || !*w->instance || !*w->device || at == end || *at != ' ')
        return MIGBUF_E_PROTOCOL;
    rc = take_number(at + 1, end, &w->bytes);
    return rc ? rc : 1;
}

static bool is_same(const struct migbuf_lxd_written *a, const struct migbuf_lxd_written *b)
{
    return !strcmp(a->device, b->device) && !strcmp(a->instance, b->instance) && !strcmp(a->project, b->project);
}

/* The servers write both counters in the same order, so that whose a line is is seen at once. In another order nobody gets a
 * number of writes: to search for each would take as long as a hostile server likes. */
static void add_writes(struct migbuf_lxd_written *list, uint64_t count, uint64_t at, const struct migbuf_lxd_written *found)
{
    if (at < count && is_same(&list[at], found))
        list[at].writes = found->bytes;
}

/* Every line of that kind; list NULL: only counts them. */
static int read_all(const char *text, size_t length, enum metric kind, struct migbuf_lxd_written *list, uint64_t count, uint64_t *found)
{
    struct migbuf_lxd_written w;

    *found = 0;
    for (const char *at = text, *end = text + length, *next; at < end; at = next) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        int rc = read_line(at, newline ? newline : end, kind, &w);

        next = newline ? newline + 1 : end;
        if (rc < 0)
            return rc;
        if (rc && list && kind == BYTES)
            list[*found] = w;
        else if (rc && list)
            add_writes(list, count, *found, &w);
        *found += (uint64_t)rc;
    }
    return 0;
}

int migbuf_lxd_written(struct migbuf_lxd *lxd, uint32_t timeout_ms, struct migbuf_lxd_written *list, size_t capacity,
                       struct migbuf_error *error)
{
    struct migbuf__lxd_path path;
    const char *text;
    uint64_t count, writes;
    size_t length;
    int rc;

    if (!lxd || (!list && capacity))
        return migbuf__fail(error, MIGBUF_E_INVALID, "a pointer is NULL");
    if (!migbuf_lxd_has(lxd, "metrics"))
        return migbuf__fail(error, MIGBUF_E_UNSUPPORTED,
                            "not supported: this server does not tell what VMs write (API extension metrics)");
    migbuf__lxd_path(&path, "/metrics");
    migbuf__lxd_path_query(&path, "project", lxd->project);
    migbuf__lxd_path_query(&path, "target", migbuf__lxd_target(lxd)); /* each member tells of its own VMs */
    if ((rc = migbuf__lxd_begin(lxd, timeout_ms, error)) < 0 ||
        (rc = migbuf__lxd_ask_text(lxd, &path, &text, &length, error)) < 0)
        return rc;
    rc = read_all(text, length, BYTES, NULL, 0, &count);
    if (!rc)
        rc = read_all(text, length, WRITES, NULL, 0, &writes);
    if (rc)
        return migbuf__fail(error, rc, rc == MIGBUF_E_TOO_BIG ? "a text of the server's does not fit"
                                                              : "a counter in the server's metrics is none");
    if (count > capacity)
        return migbuf__fail_numbers(error, MIGBUF_E_TOO_BIG, "the list is longer than the array for it", count, capacity);
    read_all(text, length, BYTES, list, count, &count);
    read_all(text, length, WRITES, list, count, &writes);
    return (int)count;
}
