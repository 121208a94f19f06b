/* SPDX-License-Identifier: MIT */
/* disk_ask: what a caller asks of the disks: to look, limits, a stop, everything back. Only writes down what is wanted: it
 * sends no command (disk_next.c) and takes no answer (disk_answer.c). What is refused here changes nothing. */
#include "disk.h"
#include "throttle_config.h"

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
static int check_six_rates(const struct migbuf_disk *d, const struct migbuf_limits *limits)
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
    return d->learnt && !(d->restoring && !migbuf__disk_is_restored(d)) ? 0 : MIGBUF_E_STATE;
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
        rc = check_six_rates(d, limits);
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
    d->now.guest = MIGBUF__GUEST_STANDS;
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
        d->now.guest = MIGBUF__GUEST_RUNS;
    return rc;
}

int migbuf_disk_restore(struct migbuf_disk *d)
{
    if (!d)
        return MIGBUF_E_INVALID;
    if (!d->learnt)
        return MIGBUF_E_STATE;
    d->now.guest = MIGBUF__GUEST_RUNS;
    d->now.limited = d->changed = 0;
    d->before = d->now;
    d->restoring = 1;
    begin(d);
    if (migbuf__disk_has_anything(d))
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
