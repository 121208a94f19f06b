/* SPDX-License-Identifier: MIT */
/* disk_next: which QMP command comes next, from where the machine stands and what is wanted of it. Takes no answer, and
 * nothing that a caller asks; after an unknown outcome a question comes first, and who was refused is left out. */
#include "disk.h"
#include "text.h"
#include <stdio.h>

/* Writing commands. Everything is bounded: 512 bytes of qdev are at most 3072 when escaped. */

/* For block_set_io_throttle what is left out is reset, and a length without its burst is an error. An object keeps what is
 * left out, so there everything is said, and a length, which must not be 0, is 1 as QEMU's own default. */
static void put_config(struct migbuf__writer *t, const struct migbuf_throttle_config *c, int object)
{
    const char *comma = "";

    for (size_t k = 0; k < MIGBUF__CONFIG_FIELDS; k++) {
        const struct migbuf__config_field *f = &migbuf__config_field[k];
        uint64_t value = migbuf__config_value(c, f);

        if (!object && !f->mandatory && !value)
            continue;
        if (object && f->is_length && !value)
            value = 1;
        migbuf__write(t, "%s\"%s\":%llu", comma, object ? f->property : f->name, (unsigned long long)value);
        comma = ",";
    }
}

static int32_t write_throttle(struct migbuf_disk *d, const struct node *n, const char *group)
{
    struct migbuf__writer t = { d->text, sizeof d->text, 0 };

    d->at = (uint32_t)(n - d->node);
    migbuf__write(&t, "{\"id\":");
    migbuf__write_json_string(&t, n->qdev);
    migbuf__write(&t, ",");
    put_config(&t, &d->sending, 0);
    if (*group) {
        migbuf__write(&t, ",\"group\":");
        migbuf__write_json_string(&t, group);
    }
    migbuf__write(&t, "}");
    return MIGBUF_DISK_THROTTLE;
}

static int32_t write_group_limits(struct migbuf_disk *d, const char *group)
{
    struct migbuf__writer t = { d->text, sizeof d->text, 0 };
    char path[sizeof "/objects/" + sizeof d->node->host.group];

    snprintf(path, sizeof path, "/objects/%s", group);
    migbuf__write(&t, "{\"path\":");
    migbuf__write_json_string(&t, path);
    migbuf__write(&t, ",\"property\":\"limits\",\"value\":{");
    put_config(&t, &d->sending, 1);
    migbuf__write(&t, "}}");
    return MIGBUF_DISK_LIMITS;
}

/* What to do next */

static struct node *first_node(struct migbuf_disk *d, int joined)
{
    for (uint32_t k = 0; k < d->nodes; k++)
        if (d->node[k].joined == joined && !d->node[k].gone && !d->node[k].refused)
            return &d->node[k];
    return NULL;
}

static struct node *first_waiting(struct migbuf_disk *d)
{
    for (uint32_t k = 0; k < d->nodes; k++)
        if (d->node[k].waits && d->node[k].joined && !d->node[k].gone && !d->node[k].refused)
            return &d->node[k];
    return NULL;
}

static int32_t next_to_set_rates(struct migbuf_disk *d)
{
    for (uint32_t k = 0; k < d->nodes; k++) {
        const struct node *n = &d->node[k];

        d->sending = migbuf__disk_part(d, n);
        if (!n->gone && !n->refused && (!n->joined || n->waits || n->unsure || !migbuf__config_same(&d->sending, &n->set)))
            return write_throttle(d, n, "");
    }
    return 0;
}

static int32_t next_to_set(struct migbuf_disk *d)
{
    struct migbuf__writer t = { d->text, sizeof d->text, 0 };
    struct node *n = first_node(d, 0);
    int same;

    if (!migbuf__disk_there(d))
        return 0;
    d->sending = migbuf__disk_merged(d, &d->now.limits);
    if (!d->object) {
        migbuf__write(&t, "{\"qom-type\":\"throttle-group\",\"id\":\"%s\",\"limits\":{", d->group);
        put_config(&t, &d->sending, 1);
        migbuf__write(&t, "}}");
        return MIGBUF_DISK_ADD;
    }
    if (n) /* a disk that joins brings the limits along */
        return write_throttle(d, n, d->group);
    same = migbuf__config_same(&d->sending, &d->in_force);
    if (same || d->plain || !migbuf__config_is_lower(&d->sending, &d->in_force)) {
        n = same ? first_waiting(d) : first_node(d, 1);
        return n ? write_throttle(d, n, d->group) : 0;
    }
    return first_node(d, 1) ? write_group_limits(d, d->group) : 0;
}

static int32_t next_to_restore(struct migbuf_disk *d)
{
    for (uint32_t k = 0; k < d->nodes; k++) {
        const struct node *n = &d->node[k];
        int in_open_group = n->host.group[0] && migbuf__config_is_none(&n->host) && !d->six_rates;

        if (!migbuf__disk_is_out(n) || n->refused)
            continue;
        if (n->held_open) {
            d->at = k;
            d->empties = 1;
            d->sending = n->host;
            return write_group_limits(d, n->host.group);
        }
        d->gives_back = 1;
        d->sending = in_open_group ? migbuf__disk_open_group() : n->host;
        return write_throttle(d, n, d->six_rates ? "" : n->host.group);
    }
    return 0;
}

/* While a disk that QEMU refused to give back is in it, deleting the group would only be refused as well. */
static int32_t next_to_delete(struct migbuf_disk *d)
{
    for (uint32_t k = 0; k < d->nodes; k++)
        if (migbuf__disk_is_out(&d->node[k]))
            return 0;
    if (!d->object && !d->doubtful && !d->loaded)
        return 0;
    snprintf(d->text, sizeof d->text, "{\"id\":\"%s\"}", d->group);
    return MIGBUF_DISK_DELETE;
}

/* stop or cont; and never on a guest of which nobody has looked how it is, or decided how it is to be. */
static int32_t next_for_guest(struct migbuf_disk *d)
{
    if (d->now.guest != MIGBUF__GUEST_STANDS && !d->stopped)
        return 0;
    if (!d->looked)
        return MIGBUF_DISK_STATUS;
    if (d->now.guest == MIGBUF__GUEST_STANDS)
        return d->running ? MIGBUF_DISK_STOP : 0;
    return d->paused && d->now.guest == MIGBUF__GUEST_RUNS ? MIGBUF_DISK_CONT : 0;
}

int32_t migbuf__disk_choose(struct migbuf_disk *d)
{
    int32_t kind = 0;

    d->gives_back = d->empties = 0;
    if (d->query)
        return MIGBUF_DISK_QUERY;
    if (d->unknown_guest && !d->looked)
        return MIGBUF_DISK_STATUS;
    if (d->now.guest == MIGBUF__GUEST_STANDS)
        kind = next_for_guest(d);
    if (!kind && d->restoring)
        kind = next_to_restore(d);
    else if (!kind && d->now.limited)
        kind = d->six_rates ? next_to_set_rates(d) : next_to_set(d);
    if (!kind)
        kind = next_for_guest(d);
    return !kind && d->restoring ? next_to_delete(d) : kind;
}

static int sets_limits(int32_t kind)
{
    return kind == MIGBUF_DISK_ADD || kind == MIGBUF_DISK_THROTTLE || kind == MIGBUF_DISK_LIMITS;
}

int migbuf__disk_only_looks(int32_t kind)
{
    return kind == MIGBUF_DISK_QUERY || kind == MIGBUF_DISK_STATUS;
}

static void start_command(struct migbuf_disk *d)
{
    if (d->under_way == MIGBUF_DISK_QUERY)
        for (uint32_t k = 0; k < d->nodes; k++)
            d->node[k].found = 0;
    if (!migbuf__disk_only_looks(d->under_way))
        d->commands_sent++;
    if (sets_limits(d->under_way)) /* said before it is known what becomes of it: then it is ours, whatever that is */
        d->sent[d->sent_count++ % MIGBUF__SENT] = d->sending;
}

/* Nothing is left to send. A disk that was refused was left out: the others have been served. */
static void come_to_rest(struct migbuf_disk *d)
{
    d->idle = 1;
    for (uint32_t k = 0; k < d->nodes; k++)
        if (d->node[k].refused)
            d->halted = d->failed = 1;
}

int migbuf_disk_next(struct migbuf_disk *d, struct migbuf_disk_command *command)
{
    static const char *const name[] = { "", "query-block", "object-add", "block_set_io_throttle", "qom-set", "object-del",
                                        "query-status", "stop", "cont" };

    if (!d || !command)
        return MIGBUF_E_INVALID;
    if (!d->under_way && !d->halted) {
        d->under_way = migbuf__disk_choose(d);
        if (d->under_way)
            start_command(d);
        else
            come_to_rest(d);
    }
    if (!d->under_way)
        return 0;
    *command = (struct migbuf_disk_command){
        .kind = d->under_way,
        .name = name[d->under_way],
        .arguments = sets_limits(d->under_way) || d->under_way == MIGBUF_DISK_DELETE ? d->text : NULL,
    };
    return 1;
}
