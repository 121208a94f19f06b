/* SPDX-License-Identifier: MIT */
/* disk: the throttle of one VM's disks: the handle, what all its files ask of it, and what a caller may look at. Changes
 * nothing but which disks are watched. No I/O. Why lowering and raising differ stands in the public header.
 *
 * What must stay true in all of its files:
 *  - `host` of a node is never something we sent (disk_found.c looks for it before anything is taken for the host's);
 *  - after an unknown outcome nothing is sent before a query was answered (disk_answer.c asks for it, disk_next.c sends it);
 *  - a disk that is refused or gone keeps no other disk from being served (disk_next.c). */
#include "disk.h"
#include "memory.h"
#include <string.h>

static int is_group_name(const char *s)
{
    static const char allowed[] = "0123456789-._abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t n = strlen(s);

    return n >= 1 && n <= 64 && strspn(s, allowed) == n && !strspn(s, "0123456789-._");
}

int migbuf_disk_new(const char *group, const struct migbuf_allocator *allocator, struct migbuf_disk **out)
{
    struct migbuf_allocator a = migbuf__allocator(allocator);
    struct migbuf_disk *d;

    if (!group || !out || !is_group_name(group))
        return MIGBUF_E_INVALID;
    d = migbuf__resize(&a, NULL, 0, 1, sizeof *d);
    if (!d)
        return MIGBUF_E_NOMEM;
    *d = (struct migbuf_disk){ .allocator = a };
    memcpy(d->group, group, strlen(group) + 1);
    *out = d;
    return 0;
}

void migbuf_disk_free(struct migbuf_disk *d)
{
    struct migbuf_allocator a;

    if (!d)
        return;
    a = d->allocator;
    migbuf__free(&a, d->node, d->nodes * sizeof *d->node);
    migbuf__free(&a, d, sizeof *d);
}

struct node *migbuf__disk_node(const struct migbuf_disk *d, const char *name)
{
    for (uint32_t k = 0; k < d->nodes; k++)
        if (!strcmp(d->node[k].name, name))
            return &d->node[k];
    return NULL;
}

int migbuf_disk_watch(struct migbuf_disk *d, const char *node_name)
{
    struct node *n;

    if (!d || !node_name || !*node_name || strlen(node_name) >= MIGBUF__NODE_BYTES)
        return MIGBUF_E_INVALID;
    if (d->set_once || d->under_way)
        return MIGBUF_E_STATE;
    if (migbuf__disk_node(d, node_name))
        return MIGBUF_E_EXISTS;
    if (d->nodes == MIGBUF__MAX_NODES)
        return MIGBUF_E_TOO_BIG;
    n = migbuf__resize(&d->allocator, d->node, d->nodes, d->nodes + 1, sizeof *n);
    if (!n)
        return MIGBUF_E_NOMEM;
    d->node = n;
    n = &d->node[d->nodes++];
    *n = (struct node){ 0 };
    memcpy(n->name, node_name, strlen(node_name) + 1);
    d->learnt = 0;
    return 0;
}

int migbuf_disk_six_rates(struct migbuf_disk *d)
{
    if (!d)
        return MIGBUF_E_INVALID;
    if (d->set_once || d->under_way || d->learnt)
        return MIGBUF_E_STATE;
    d->six_rates = d->plain = 1;
    return 0;
}

/* What is in QEMU */

uint32_t migbuf__disk_joined(const struct migbuf_disk *d)
{
    uint32_t joined = 0;

    for (uint32_t k = 0; k < d->nodes; k++)
        joined += d->node[k].joined && !d->node[k].gone;
    return joined;
}

uint32_t migbuf__disk_there(const struct migbuf_disk *d)
{
    uint32_t there = 0;

    for (uint32_t k = 0; k < d->nodes; k++)
        there += !d->node[k].gone;
    return there;
}

int migbuf__disk_is_out(const struct node *n)
{
    return !n->gone && (n->joined || n->unsure || n->held_open);
}

int migbuf__disk_has_anything(const struct migbuf_disk *d)
{
    for (uint32_t k = 0; k < d->nodes; k++)
        if (migbuf__disk_is_out(&d->node[k]))
            return 1;
    return d->object || d->doubtful || d->loaded || d->stopped || d->unknown_limits || d->unknown_guest;
}

int migbuf__disk_is_restored(const struct migbuf_disk *d)
{
    return d->restoring && !migbuf__disk_has_anything(d) && !d->under_way;
}

/* What is wanted there */

struct migbuf_throttle_config migbuf__disk_merged(const struct migbuf_disk *d, const struct migbuf_limits *ours)
{
    struct migbuf_throttle_config host[MIGBUF__MAX_NODES];
    size_t count = 0;

    for (uint32_t k = 0; k < d->nodes; k++)
        if (!d->node[k].gone)
            host[count++] = d->node[k].host;
    if (!count)
        host[count++] = (struct migbuf_throttle_config){ 0 };
    migbuf_limits_merge(host, count, ours, &host[0]);
    return host[0];
}

struct migbuf_throttle_config migbuf__disk_part(const struct migbuf_disk *d, const struct node *n)
{
    struct migbuf_limits part = { .iops_wr = d->now.limits.iops_wr / d->nodes, .bps_wr = d->now.limits.bps_wr / d->nodes };
    struct migbuf_throttle_config config;

    migbuf_limits_merge(&n->host, 1, &part, &config);
    return config;
}

/* QEMU cannot be told to put a disk into a group without a limit: it gets the largest there is, which is then taken away. */
struct migbuf_throttle_config migbuf__disk_open_group(void)
{
    return (struct migbuf_throttle_config){ .iops = MIGBUF__THROTTLE_VALUE_MAX };
}

/* Looking */

int migbuf_disk_outcome(const struct migbuf_disk *d)
{
    if (!d)
        return MIGBUF_E_INVALID;
    if (d->unknown_limits || d->unknown_guest)
        return MIGBUF_OUTCOME_UNKNOWN;
    if (d->halted)
        return d->changed ? MIGBUF_OUTCOME_UNKNOWN : MIGBUF_OUTCOME_REFUSED;
    return d->idle && !d->under_way ? MIGBUF_OUTCOME_DONE : 0;
}

/* Six rates: all disks as if they were one. */
static struct migbuf_throttle_config sum_of_parts(const struct migbuf_disk *d)
{
    struct migbuf_throttle_config sum = { 0 };

    for (uint32_t k = 0; k < d->nodes; k++)
        if (!d->node[k].gone) {
            sum.iops_wr += d->node[k].set.iops_wr;
            sum.bps_wr += d->node[k].set.bps_wr;
        }
    return sum;
}

static int is_as_wanted(const struct migbuf_disk *d)
{
    struct migbuf_throttle_config want = migbuf__disk_merged(d, &d->now.limits);

    if (!d->six_rates)
        return migbuf__config_same(&want, &d->in_force);
    for (uint32_t k = 0; k < d->nodes; k++) {
        want = migbuf__disk_part(d, &d->node[k]);
        if (!d->node[k].gone && !migbuf__config_same(&want, &d->node[k].set))
            return 0;
    }
    return 1;
}

/* Ours in force, or none. Loaded: nobody has asked for anything yet, and what an earlier process set is there. */
static void look_at_limits(const struct migbuf_disk *d, struct migbuf_disk_info *i)
{
    struct migbuf_throttle_config in_force;

    if (!d->nodes || d->restoring || d->unknown_limits || !migbuf__disk_joined(d) ||
        migbuf__disk_joined(d) != migbuf__disk_there(d))
        return;
    in_force = d->six_rates ? sum_of_parts(d) : d->in_force;
    i->throttled = !d->now.limited || is_as_wanted(d);
    if (!d->now.limited)
        i->limits = (struct migbuf_limits){ .iops_wr = in_force.iops_wr, .iops_size = in_force.iops_size,
                                            .bps_wr = in_force.bps_wr };
    else if (i->throttled)
        i->limits = d->now.limits;
}

int migbuf_disk_info(const struct migbuf_disk *d, struct migbuf_disk_info *info)
{
    struct migbuf_disk_info i;

    if (!d || !info)
        return MIGBUF_E_INVALID;
    i = (struct migbuf_disk_info){
        .commands_sent = d->commands_sent,
        .text_revision = d->text_revision,
        .learnt = d->learnt,
        .restored = migbuf__disk_is_restored(d),
        .plain = d->plain,
        .taken_over = d->taken_over,
        .unclear = d->unclear,
        .failed = d->failed,
        .unknown = d->unknown_limits || d->unknown_guest,
        .gone = (int32_t)(d->nodes - migbuf__disk_there(d)),
        .stopped = d->stopped,
    };
    look_at_limits(d, &i);
    return migbuf__struct_give(info, &i, sizeof i, MIGBUF__FIRST(struct migbuf_disk_info, stopped));
}

int migbuf_disk_host_limits(const struct migbuf_disk *d, const char *node_name, struct migbuf_throttle_config *config)
{
    const struct node *n;

    if (!d || !node_name || !config)
        return MIGBUF_E_INVALID;
    n = migbuf__disk_node(d, node_name);
    if (!n)
        return MIGBUF_E_NOTFOUND;
    if (!d->learnt)
        return MIGBUF_E_STATE;
    *config = n->host;
    return 0;
}

const char *migbuf_disk_qdev(const struct migbuf_disk *d, const char *node_name)
{
    const struct node *n = d && node_name ? migbuf__disk_node(d, node_name) : NULL;

    return n && n->qdev[0] && !n->gone ? n->qdev : NULL;
}
