/* SPDX-License-Identifier: MIT */
/* disk_text: what a restarted host needs of the disk machine, as text, and back. Nothing is decided here. */
#include "disk.h"
#include "memory.h"
#include "text.h"
#include <string.h>

/* Found, or loaded: then it can be saved before QEMU is asked, or a second death in a row would lose it. */
static int knows_all(const struct migbuf_disk *d)
{
    for (uint32_t k = 0; k < d->nodes; k++)
        if (!d->node[k].qdev[0])
            return 0;
    return d->nodes > 0;
}

static void write_config(struct migbuf__writer *w, const char *keyword, const struct migbuf_throttle_config *c)
{
    migbuf__write(w, "%s", keyword);
    for (size_t f = 0; f < MIGBUF__CONFIG_FIELDS; f++)
        migbuf__write(w, " %llu", (unsigned long long)migbuf__config_value(c, &migbuf__config_field[f]));
    migbuf__write(w, " ");
    migbuf__write_name(w, c->group);
    migbuf__write(w, "\n");
}

MIGBUF__SELDOM int migbuf_disk_save(const struct migbuf_disk *d, char *text, size_t capacity, size_t *length)
{
    struct migbuf__writer w = { text, capacity, 0 };

    if (!d || !length || (capacity && !text))
        return MIGBUF_E_INVALID;
    if (!knows_all(d))
        return MIGBUF_E_STATE;
    migbuf__write(&w, "migbuf-disk 2 ");
    migbuf__write_name(&w, d->group);
    migbuf__write(&w, " %s unit %llu guest %s nodes %u\n", d->six_rates ? "typed" : "group", (unsigned long long)d->unit_bytes,
                  d->stopped ? "stands" : "runs", d->nodes);
    write_config(&w, "seen", &d->in_force);
    for (uint32_t k = 0; k < d->nodes; k++) {
        const struct node *n = &d->node[k];

        migbuf__write(&w, "node ");
        migbuf__write_name(&w, n->name);
        migbuf__write(&w, " ");
        migbuf__write_name(&w, n->qdev);
        migbuf__write(&w, "\n");
        write_config(&w, "host", &n->host);
        write_config(&w, "home", &n->home);
    }
    migbuf__write_end(&w, "end");
    *length = w.length;
    return w.length < capacity ? 0 : MIGBUF_E_TOO_BIG;
}

/* One of two words: is it the second? */
static int read_choice(struct migbuf__reader *r, const char *no, const char *yes)
{
    int is_second = migbuf__next_is(r, yes);

    migbuf__read_word(r, is_second ? yes : no);
    return is_second;
}

static void read_config(struct migbuf__reader *r, const char *keyword, struct migbuf_throttle_config *c)
{
    migbuf__read_word(r, keyword);
    for (size_t f = 0; f < MIGBUF__CONFIG_FIELDS; f++)
        migbuf__config_put(c, &migbuf__config_field[f], migbuf__read_number(r, 0, MIGBUF__THROTTLE_VALUE_MAX));
    migbuf__read_name(r, c->group, sizeof c->group);
    if (r->bad || migbuf__config_check(c))
        r->bad = 1;
}

static void read_node(struct migbuf__reader *r, struct node *n)
{
    *n = (struct node){ 0 };
    migbuf__read_word(r, "node");
    migbuf__read_name(r, n->name, sizeof n->name);
    migbuf__read_name(r, n->qdev, sizeof n->qdev);
    read_config(r, "host", &n->host);
    read_config(r, "home", &n->home);
    if (r->bad || !n->name[0] || !n->qdev[0] || !migbuf__is_utf8(n->qdev))
        r->bad = 1;
}

static int read_disk(struct migbuf__reader *r, const struct migbuf_allocator *allocator, struct migbuf_disk **out)
{
    struct migbuf_throttle_config seen;
    char group[72];
    uint64_t nodes, unit_bytes;
    int rc, six_rates, stands;

    migbuf__read_word(r, "migbuf-disk");
    migbuf__read_word(r, "2");
    migbuf__read_name(r, group, sizeof group);
    six_rates = read_choice(r, "group", "typed");
    migbuf__read_word(r, "unit");
    unit_bytes = migbuf__read_number(r, 0, MIGBUF__THROTTLE_VALUE_MAX);
    migbuf__read_word(r, "guest");
    stands = read_choice(r, "runs", "stands");
    migbuf__read_word(r, "nodes");
    nodes = migbuf__read_number(r, 1, MIGBUF__MAX_NODES);
    read_config(r, "seen", &seen);
    if (r->bad)
        return MIGBUF_E_PROTOCOL;
    rc = migbuf_disk_new(group, allocator, out);
    if (!rc && six_rates)
        rc = migbuf_disk_six_rates(*out);
    for (uint64_t k = 0; k < nodes && !rc; k++) {
        struct node n;

        read_node(r, &n);
        n.unsure = (uint8_t)six_rates;
        rc = r->bad ? MIGBUF_E_PROTOCOL : migbuf_disk_watch(*out, n.name);
        if (!rc)
            (*out)->node[k] = n;
    }
    if (rc || r->at != r->end)
        return rc ? rc : MIGBUF_E_PROTOCOL;
    (*out)->unit_bytes = unit_bytes;
    (*out)->in_force = seen;
    (*out)->stopped = (uint8_t)stands;
    return 0;
}

MIGBUF__SELDOM int migbuf_disk_load(const char *text, size_t length, const struct migbuf_allocator *allocator, struct migbuf_disk **out)
{
    struct migbuf_disk *d = NULL; /* freed below even if it was never made */
    struct migbuf__reader r;
    int rc;

    if (!text || !out)
        return MIGBUF_E_INVALID;
    if (length > MIGBUF__MAX_NODES * 8192)
        return MIGBUF_E_TOO_BIG;
    r = migbuf__reader(text, length, "end");
    rc = read_disk(&r, allocator, &d);
    if (rc) {
        migbuf_disk_free(d);
        return rc == MIGBUF_E_NOMEM ? rc : MIGBUF_E_PROTOCOL;
    }
    d->query = 1; /* what is in force has to be seen first */
    d->loaded = 1;
    *out = d;
    return 0;
}
