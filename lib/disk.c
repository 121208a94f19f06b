/* SPDX-License-Identifier: MIT */
/* disk: the throttle of one VM's disks: what a caller asks of it, and where it stands. Decides no command and takes no
 * answer: disk_next.c and disk_answer.c. No I/O. Why lowering and raising differ stands in the header.
 *
 * What must stay true in all of them:
 *  - `host` of a node is never something we sent (disk_answer.c looks for it before anything is taken for the host's);
 *  - after an unknown outcome nothing is sent before a query was answered;
 *  - a disk that is refused or gone keeps no other disk from being served. */
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

/* Asking for something */

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

/* Something of ours is in QEMU, or may be. */
static int has_anything(const struct migbuf_disk *d)
{
    for (uint32_t k = 0; k < d->nodes; k++)
        if (migbuf__disk_is_out(&d->node[k]))
            return 1;
    return d->object || d->doubtful || d->loaded || d->stopped || d->unknown_limits || d->unknown_guest;
}

static int is_restored(const struct migbuf_disk *d)
{
    return d->restoring && !has_anything(d) && !d->under_way;
}

/* What the last try came to is no reason to leave out the next one. */
static void begin(struct migbuf_disk *d)
{
    d->halted = d->failed = d->looked = d->idle = 0;
    for (uint32_t k = 0; k < d->nodes; k++)
        d->node[k].suspect = d->node[k].refused = 0;
}

int migbuf_disk_learn(struct migbuf_disk *d)
{
    if (!d)
        return MIGBUF_E_INVALID;
    if (!d->nodes)
        return MIGBUF_E_STATE;
    begin(d);
    d->query = d->changed = 1; /* what was asked for before has been in force: it is not undone by a refusal now */
    return 0;
}

/* Each disk has a bucket of its own then, and its part of the budget. */
static int check_typed(const struct migbuf_disk *d, const struct migbuf_limits *limits)
{
    for (uint32_t k = 0; k < d->nodes; k++)
        if (!migbuf__config_is_six_rates(&d->node[k].host))
            return MIGBUF_E_UNSUPPORTED;
    if (limits->iops_size)
        return MIGBUF_E_UNSUPPORTED;
    if ((limits->iops_wr && limits->iops_wr < d->nodes) || (limits->bps_wr && limits->bps_wr < d->nodes))
        return MIGBUF_E_RANGE;
    return 0;
}

static int may_change(const struct migbuf_disk *d)
{
    return d->learnt && !(d->restoring && !is_restored(d)) ? 0 : MIGBUF_E_STATE;
}

int migbuf_disk_set(struct migbuf_disk *d, const struct migbuf_limits *limits)
{
    uint64_t unit_bytes;
    int rc;

    if (!d || !limits)
        return MIGBUF_E_INVALID;
    rc = may_change(d);
    if (!rc && ((!limits->iops_wr && !limits->bps_wr) || limits->iops_wr > MIGBUF__THROTTLE_VALUE_MAX ||
                limits->bps_wr > MIGBUF__THROTTLE_VALUE_MAX || limits->iops_size > MIGBUF__THROTTLE_VALUE_MAX))
        rc = MIGBUF_E_RANGE;
    if (!rc && d->six_rates)
        rc = check_typed(d, limits);
    if (rc)
        return rc;
    d->before = d->now;
    d->now.limits = *limits;
    d->now.limited = 1;
    d->restoring = d->changed = 0;
    unit_bytes = limits->iops_wr ? limits->iops_size : 0;
    if (d->set_once && unit_bytes != d->unit_bytes)
        unit_bytes = 0; /* both may be found after a crash: neither tells ours from others' */
    d->text_revision += unit_bytes != d->unit_bytes;
    d->unit_bytes = unit_bytes;
    d->set_once = 1;
    begin(d);
    return 0;
}

int migbuf_disk_rearm(struct migbuf_disk *d)
{
    if (!d)
        return MIGBUF_E_INVALID;
    if (!d->now.limited || !migbuf__disk_joined(d) || d->restoring)
        return MIGBUF_E_STATE;
    for (uint32_t k = 0; k < d->nodes; k++)
        d->node[k].waits = d->node[k].joined;
    d->before = d->now;
    d->changed = 0;
    begin(d);
    return 0;
}

static int stop_guest(struct migbuf_disk *d)
{
    int rc = may_change(d);

    if (rc)
        return rc;
    d->before = d->now;
    d->now.stands = 1;
    d->changed = 0;
    begin(d);
    return 0;
}

int migbuf_disk_apply(struct migbuf_disk *d, const struct migbuf_decision *decision)
{
    int rc;

    if (!d || !decision)
        return MIGBUF_E_INVALID;
    switch (decision->action) {
    case MIGBUF_ACTION_KEEP:
    case MIGBUF_ACTION_WAIT:
        return 0;
    case MIGBUF_ACTION_PAUSE:
    case MIGBUF_ACTION_CANNOT_FIT:
        return stop_guest(d);
    case MIGBUF_ACTION_REARM:
        rc = migbuf_disk_rearm(d);
        break;
    case MIGBUF_ACTION_LOWER:
    case MIGBUF_ACTION_RAISE:
    case MIGBUF_ACTION_RESUME:
        rc = migbuf_disk_set(d, &decision->limits);
        if (rc == MIGBUF_E_RANGE && d->six_rates && (decision->limits.iops_wr || decision->limits.bps_wr))
            return stop_guest(d);
        break;
    default:
        return MIGBUF_E_INVALID;
    }
    if (!rc)
        d->now.stands = 0;
    return rc;
}

int migbuf_disk_restore(struct migbuf_disk *d)
{
    if (!d)
        return MIGBUF_E_INVALID;
    if (!d->learnt)
        return MIGBUF_E_STATE;
    d->now.stands = 0;
    d->now.limited = d->changed = 0;
    d->before = d->now;
    d->restoring = 1;
    begin(d);
    if (has_anything(d))
        d->query = 1; /* what another hand set meanwhile is to stand */
    return 0;
}

int migbuf_disk_tell_host_limits(struct migbuf_disk *d, const char *node_name, const struct migbuf_throttle_config *config)
{
    struct node *n;
    int rc;

    if (!d || !node_name || !config)
        return MIGBUF_E_INVALID;
    rc = migbuf__config_check(config);
    if (rc)
        return rc;
    n = migbuf__disk_node(d, node_name);
    if (!n)
        return MIGBUF_E_NOTFOUND;
    if (!d->learnt || d->under_way)
        return MIGBUF_E_STATE;
    n->host = *config;
    d->text_revision++;
    return 0;
}

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

/* Looking */

/* Typed: all disks as if they were one. */
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

    if (!d->nodes || d->restoring || d->unknown_limits || !migbuf__disk_joined(d) || migbuf__disk_joined(d) != migbuf__disk_there(d))
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
        .restored = is_restored(d),
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
