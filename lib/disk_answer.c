/* SPDX-License-Identifier: MIT */
/* disk_answer: what became of a command: done, refused, or nobody knows. Sends nothing. After an unknown outcome a query is
 * asked for before anything else; what QEMU refused is wanted no more. */
#include "disk.h"

static int query_done(struct migbuf_disk *d)
{
    int missing = 0;

    d->query = 0;
    for (uint32_t k = 0; k < d->nodes; k++) {
        struct node *n = &d->node[k];

        if (n->found)
            continue;
        missing |= !n->qdev[0];
        if (n->qdev[0]) {
            n->gone = 1;
            n->joined = n->waits = n->unsure = n->held_open = 0;
        }
    }
    if (missing) {
        d->halted = 1;
        return MIGBUF_E_NOTFOUND;
    }
    d->learnt = 1;
    d->unknown_limits = 0;
    if (d->six_rates)
        d->loaded = 0; /* there is no group to look for */
    return 0;
}

/* Who is about to stop it says so beforehand: the text that is saved now is all that is left if the host dies with the
 * guest stopped. */
static int status_done(struct migbuf_disk *d)
{
    /* Else it stands for another reason. */
    uint8_t stopped = d->running ? d->now.guest == MIGBUF__GUEST_STANDS : d->stopped && d->paused;

    d->looked = 1;
    d->unknown_guest = 0;
    d->text_revision += d->stopped != stopped;
    d->stopped = stopped;
    return 0;
}

/* The group has one timer, which belongs to whichever disk's request is next: told of a raise are therefore all. */
static void throttle_done(struct migbuf_disk *d)
{
    struct node *n = &d->node[d->at];
    int in_open_group = d->gives_back && n->host.group[0] && migbuf__config_is_none(&n->host) && !d->six_rates;

    n->set = d->sending;
    if (!d->gives_back && !d->six_rates) {
        uint8_t raised = migbuf__disk_joined(d) && !migbuf__config_same(&d->sending, &d->in_force) &&
                         !migbuf__config_is_lower(&d->sending, &d->in_force);

        for (uint32_t k = 0; k < d->nodes && raised; k++)
            d->node[k].waits = d->node[k].joined;
        d->in_force = d->sending;
    }
    n->joined = !d->gives_back;
    n->held_open = (uint8_t)in_open_group;
    n->waits = n->suspect = n->unsure = 0;
}

static int done(struct migbuf_disk *d, int32_t kind)
{
    d->changed |= !migbuf__disk_only_looks(kind);
    switch (kind) {
    case MIGBUF_DISK_QUERY:
        return query_done(d);
    case MIGBUF_DISK_STATUS:
        return status_done(d);
    case MIGBUF_DISK_ADD:
        d->object = 1;
        d->loaded = d->doubtful = 0;
        break;
    case MIGBUF_DISK_THROTTLE:
        throttle_done(d);
        break;
    case MIGBUF_DISK_LIMITS:
        if (d->empties)
            d->node[d->at].held_open = 0;
        else
            d->in_force = d->sending;
        break;
    case MIGBUF_DISK_STOP:
    case MIGBUF_DISK_CONT:
        d->text_revision += d->stopped != (kind == MIGBUF_DISK_STOP);
        d->stopped = d->paused = kind == MIGBUF_DISK_STOP;
        d->running = !d->stopped;
        break;
    default:
        d->object = d->doubtful = d->loaded = 0;
        break;
    }
    return 0;
}

/* What QEMU refused is not sent by a later learn: the buffer takes it that what was in force before still is. */
static int halt(struct migbuf_disk *d, int rc)
{
    d->halted = 1;
    d->failed = rc == MIGBUF_E_PEER;
    if (migbuf_disk_outcome(d) == MIGBUF_OUTCOME_REFUSED) {
        d->now = d->before;
    }
    return rc;
}

/* The disk may have been unplugged: look, then try once more. Refused again it is left out, and the others go on. */
static int throttle_refused(struct migbuf_disk *d)
{
    struct node *n = &d->node[d->at];

    if (!n->suspect) {
        n->suspect = d->query = 1;
        return 0;
    }
    n->refused = 1;
    d->under_way = migbuf__disk_choose(d);
    if (!d->under_way)
        return halt(d, MIGBUF_E_PEER);
    d->under_way = 0;
    return 0;
}

static int refused(struct migbuf_disk *d, int32_t kind)
{
    switch (kind) {
    case MIGBUF_DISK_ADD: /* there from an earlier process, or no objects can be made: then a group of that name will do */
        d->object = d->doubtful = 1;
        return 0;
    case MIGBUF_DISK_LIMITS:
        if (d->empties) { /* no object: a group of the host's that has no limit is no group */
            d->node[d->at].held_open = 0;
            d->node[d->at].joined = 1;
            d->node[d->at].host.group[0] = 0;
            d->text_revision++;
            return 0;
        }
        if (!d->plain) {
            d->plain = 1;
            return 0;
        }
        break;
    case MIGBUF_DISK_THROTTLE:
        return throttle_refused(d);
    case MIGBUF_DISK_DELETE:
        if (d->doubtful || d->loaded) { /* it may never have been there */
            d->object = d->doubtful = d->loaded = 0;
            return 0;
        }
        break;
    case MIGBUF_DISK_STOP: /* it ran a moment ago: if it stands now, another hand has stopped it */
        d->stopped = 0;
        d->text_revision++;
        break;
    default: /* a query stays to be made: nothing is sent before it is answered */
        break;
    }
    return halt(d, MIGBUF_E_PEER);
}

static int unknown(struct migbuf_disk *d, int32_t kind)
{
    switch (kind) {
    case MIGBUF_DISK_QUERY:
    case MIGBUF_DISK_STATUS:
        break;
    case MIGBUF_DISK_STOP:
    case MIGBUF_DISK_CONT:
        d->unknown_guest = 1;
        d->text_revision += !d->stopped;
        d->stopped = 1;
        d->looked = 0;
        break;
    default:
        if (d->six_rates) /* who has six rates calls only may have no other answer to the query than from memory */
            d->node[d->at].unsure = 1;
        d->doubtful |= kind == MIGBUF_DISK_ADD || kind == MIGBUF_DISK_DELETE;
        d->unknown_limits = d->query = 1;
        break;
    }
    return halt(d, MIGBUF_E_UNKNOWN);
}

int migbuf_disk_answered(struct migbuf_disk *d, int32_t outcome)
{
    int32_t kind;

    if (!d || outcome < MIGBUF_OUTCOME_DONE || outcome > MIGBUF_OUTCOME_UNKNOWN)
        return MIGBUF_E_INVALID;
    kind = d->under_way;
    if (!kind)
        return MIGBUF_E_STATE;
    d->under_way = 0;
    if (outcome == MIGBUF_OUTCOME_DONE)
        return done(d, kind);
    return outcome == MIGBUF_OUTCOME_REFUSED ? refused(d, kind) : unknown(d, kind);
}
