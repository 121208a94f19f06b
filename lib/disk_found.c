/* SPDX-License-Identifier: MIT */
/* disk_found: what a query found QEMU to have, and whose that is: ours, the host's, or another hand's. Sends nothing, and
 * says nothing of what is wanted.
 *
 * What must stay true: `host` of a node is never something we sent. So whatever is found is looked for among what was sent
 * before it is taken for the host's (was_sent, could_be_ours). */
#include "disk.h"
#include "text.h"
#include <string.h>

static int was_sent(const struct migbuf_disk *d, const struct migbuf_throttle_config *config)
{
    for (uint32_t k = 0; k < MIGBUF__SENT && k < d->sent_count; k++)
        if (migbuf__config_same(&d->sent[k], config))
            return 1;
    return 0;
}

/* At the first look after a load there is no record of what was sent. The text tells whether ours count in units: LXD's
 * and Incus' own do not. Where ours do not either, nobody can tell, and what is found is taken for ours. */
static int could_be_ours(const struct migbuf_disk *d, const struct migbuf_throttle_config *config)
{
    return d->loaded && !d->learnt && (!d->unit_bytes || config->iops_size == d->unit_bytes);
}

static int same_record(const struct migbuf_throttle_config *a, const struct migbuf_throttle_config *b)
{
    return migbuf__config_same(a, b) && !strcmp(a->group, b->group);
}

static void take_for_hosts(struct migbuf_disk *d, struct node *n, const struct migbuf_throttle_config *config)
{
    if (same_record(&n->host, config))
        return;
    n->host = *config;
    d->text_revision++;
}

/* A group of the host's may hold more disks than ours: what was set on it meanwhile is what a disk that goes back gets. */
static void look_at_shared_group(struct migbuf_disk *d, const struct migbuf_throttle_config *config)
{
    if (!config->group[0] || d->six_rates || !strcmp(config->group, d->group))
        return;
    for (uint32_t k = 0; k < d->nodes; k++) {
        struct node *n = &d->node[k];

        if ((n->found && !n->joined) || strcmp(n->host.group, config->group) || same_record(&n->home, config))
            continue; /* one that is not found yet may be away: if it is at home, it tells itself */
        n->home = *config;
        take_for_hosts(d, n, config);
    }
}

/* Whoever names no group sets the one the disk is in, ours: these are the limits the host wants now. */
static void take_from_our_group(struct migbuf_disk *d, struct node *n, const struct migbuf_throttle_config *config)
{
    struct migbuf_throttle_config now = *config;

    d->taken_over++;
    if (migbuf__disk_there(d) > 1) { /* of several disks in it nobody can tell whose */
        d->unclear++;
        return;
    }
    memcpy(now.group, n->host.group, sizeof now.group);
    if (!now.group[0] && strlen(n->qdev) < sizeof now.group) /* QEMU's own name for the group of one disk */
        memcpy(now.group, n->qdev, strlen(n->qdev) + 1);
    take_for_hosts(d, n, &now);
}

static void compare_in_our_group(struct migbuf_disk *d, struct node *n, const struct migbuf_throttle_config *config)
{
    struct migbuf_throttle_config before = d->in_force;
    int first = !migbuf__disk_joined(d), seen = !first || (d->loaded && !d->learnt);
    int known = seen && migbuf__config_same(config, &before);

    if (!n->joined) /* by an earlier process of ours, or by a command of unknown outcome */
        n->joined = d->object = d->doubtful = 1;
    if (known)
        return;
    d->in_force = *config;
    if (!was_sent(d, config) && !could_be_ours(d, config)) {
        take_from_our_group(d, n, config);
        return;
    }
    if (!first && !migbuf__config_is_lower(config, &before)) /* raised, and not everybody may have been told */
        for (uint32_t k = 0; k < d->nodes; k++)
            d->node[k].waits = d->node[k].joined;
}

static void compare_outside(struct migbuf_disk *d, struct node *n, const struct migbuf_throttle_config *config)
{
    struct migbuf_throttle_config open = migbuf__disk_open_group();

    if (n->host.group[0] && !strcmp(config->group, n->host.group) && migbuf__config_is_none(&n->host) &&
        (was_sent(d, &open) || d->loaded) && migbuf__config_same(config, &open)) {
        n->joined = 0; /* it was on its way back, as we sent it */
        n->held_open = 1;
        return;
    }
    if (n->held_open) {
        n->held_open = 0;
        if (same_record(config, &n->host))
            return;
    }
    d->taken_over += n->joined && !(d->restoring && same_record(config, &n->host));
    n->joined = n->waits = 0;
    n->home = *config;
    take_for_hosts(d, n, config);
    look_at_shared_group(d, config);
}

static void compare_six_rates(struct migbuf_disk *d, struct node *n, const struct migbuf_throttle_config *config)
{
    if (n->joined && migbuf__config_same(config, &n->set))
        return;
    if (migbuf__config_same(config, &n->host)) {
        d->taken_over += n->joined && !d->restoring;
        n->joined = n->waits = 0;
        return;
    }
    if (was_sent(d, config) || (n->unsure && !d->learnt)) {
        n->waits |= n->joined && !migbuf__config_is_lower(config, &n->set);
        n->set = *config;
        n->joined = 1;
        return;
    }
    d->taken_over += n->joined;
    n->joined = n->waits = 0;
    take_for_hosts(d, n, config);
}

/* The device once known identifies the disk: a snapshot puts another node on top. A device that was unplugged and comes
 * again may have another disk in it: then the node's name has to be the one that was asked for. */
static int is_it(const struct node *n, const char *node_name, const char *qdev)
{
    if (n->qdev[0] && !n->gone)
        return !strcmp(n->qdev, qdev);
    return !strcmp(n->name, node_name);
}

int migbuf_disk_found(struct migbuf_disk *d, const char *node_name, const char *qdev,
                      const struct migbuf_throttle_config *config)
{
    struct node *n = NULL;
    int rc;

    if (!d || !node_name || !qdev || !*qdev || !config)
        return MIGBUF_E_INVALID;
    if (d->under_way != MIGBUF_DISK_QUERY)
        return MIGBUF_E_STATE;
    for (uint32_t k = 0; k < d->nodes && !n; k++)
        if (is_it(&d->node[k], node_name, qdev))
            n = &d->node[k];
        else if (d->node[k].found && !d->learnt && !strcmp(d->node[k].name, node_name))
            return MIGBUF_E_UNSUPPORTED; /* the other device's writes would go around the limit */
    rc = migbuf__config_check(config);
    if (!n) {
        if (!rc)
            look_at_shared_group(d, config);
        return 0;
    }
    if (strlen(qdev) >= MIGBUF__QDEV_BYTES)
        return MIGBUF_E_TOO_BIG;
    if (!migbuf__is_utf8(qdev)) /* no JSON */
        return MIGBUF_E_INVALID;
    if (rc)
        return rc;
    if (!n->qdev[0])
        d->text_revision++;
    memcpy(n->qdev, qdev, strlen(qdev) + 1);
    n->found = 1;
    if (n->gone) /* plugged in again: nothing of ours came back with it */
        n->gone = n->joined = n->waits = n->unsure = n->held_open = 0;
    if (d->six_rates)
        compare_six_rates(d, n, config);
    else if (!strcmp(config->group, d->group))
        compare_in_our_group(d, n, config);
    else
        compare_outside(d, n, config);
    return 1;
}

int migbuf_disk_status(struct migbuf_disk *d, const char *status, int32_t running)
{
    if (!d || !status)
        return MIGBUF_E_INVALID;
    if (d->under_way != MIGBUF_DISK_STATUS)
        return MIGBUF_E_STATE;
    d->running = running != 0;
    d->paused = !running && !strcmp(status, "paused");
    return 0;
}
