/* SPDX-License-Identifier: MIT */
/* The outlook says what a plan would deliver to a guest with an overlay, the law of one queue what a mirror would. */
#include "hybrid.h"
#include <stdio.h>

#define BETTER_BY 0.1 /* of what it wants to write; below that the forecasts do not tell one from the other */

size_t hybrid_flows(const struct control *c, uint32_t route)
{
    size_t n = 0;

    for (size_t k = 0; k < c->members; k++)
        n += c->member[k]->route == route;
    return n;
}

struct migbuf_mirror_load hybrid_load(const struct control *c, const struct throttle *t, size_t flows)
{
    return (struct migbuf_mirror_load){
        .link_bytes_per_s = (double)c->route[t->route].bytes_per_s / (double)(flows ? flows : 1),
        .write_bytes_per_s = t->seen_bytes_per_s,
        .request_bytes = t->seen_writes_per_s > 0 ? t->seen_bytes_per_s / t->seen_writes_per_s : 0,
    };
}

bool hybrid_can_change(const struct monitor *monitor)
{
    int major, minor;

    return sscanf(monitor->facts.version, "%d.%d", &major, &minor) == 2 && (major > 8 || (major == 8 && minor >= 2));
}

/* That begin with it. */
static size_t others_that_wait(const struct control *c, const struct throttle *t)
{
    size_t n = 0;

    for (size_t k = 0; k < c->waits && !c->admission; k++)
        n += c->waiting[k] != t && c->waiting[k]->route == t->route;
    return n;
}

/* In the background a guest gets all it wants, if the copy ends then; else nine tenths of the link at most. */
static double by_mirror(const struct control *c, const struct throttle *t)
{
    const struct migbuf_mirror_load load = hybrid_load(c, t, hybrid_flows(c, t->route) + others_that_wait(c, t) + 1);
    struct migbuf_mirror_setting setting;
    struct migbuf_mirror_rates rates;
    double most;

    if (migbuf_mirror_choose(&load, hybrid_can_change(t->monitor), 0, &setting) || migbuf_mirror_rates(&load, &setting, &rates))
        return 0;
    most = 0.9 * load.link_bytes_per_s;
    return rates.copy_bytes_per_s > 0 || load.write_bytes_per_s <= most ? 1 : most / load.write_bytes_per_s;
}

/* One that sends nothing keeps a link known, which a buffer forgets when nobody is on it: a hundredth of a weight. */
static int add_nobody(struct migbuf_buffer *b, const struct control *c, const struct throttle *t)
{
    struct migbuf_geometry none = t->geometry[0];
    struct migbuf_migration nobody;
    int rc;

    migbuf_migration_init(&nobody, sizeof nobody);
    nobody.id = ~t->id;
    nobody.link = CONTROL_LINK(t->route);
    nobody.flow_bytes_per_s = nobody.weight = 1;
    nobody.drains_ahead = 0;
    none.virtual_bytes = none.cluster_bytes;
    none.request_bytes = none.queue_bytes = MIGBUF_NONE;
    rc = migbuf_buffer_add(b, &nobody, &none, 1, NULL);
    return rc ? rc : migbuf_buffer_link(b, nobody.link, c->route[t->route].bytes_per_s);
}

/* Nobody runs yet, and all that wait begin at once: each must reckon with the others. One for which there is no room takes
 * none from this one either. */
static int add_others(struct migbuf_buffer *b, const struct control *c, const struct throttle *t)
{
    int rc = 0;

    for (size_t k = 0; k < c->waits && !rc; k++)
        if (c->waiting[k] != t)
            rc = control_join_trial(b, c->waiting[k]);
    for (size_t k = 0; k < c->members && !rc; k++)
        rc = control_join_trial(b, c->member[k]);
    return rc;
}

/* A buffer as it will be when this one runs, where the real one does not tell: NULL in *out: it does. */
static int buffer_to_ask(const struct control *c, const struct throttle *t, struct migbuf_buffer **out)
{
    struct migbuf_buffer_stats stats = { .size = sizeof stats };
    struct migbuf_buffer_options options;
    int rc = migbuf_buffer_stats(c->queue, &stats);

    *out = NULL;
    if (rc || (c->admission && hybrid_flows(c, t->route)))
        return rc;
    migbuf_buffer_options_init(&options, sizeof options);
    options.policy = MIGBUF_POLICY_PLANNER;
    rc = migbuf_buffer_new(stats.capacity_bytes, &options, NULL, out);
    if (!rc)
        rc = add_nobody(*out, c, t);
    return rc || c->admission ? rc : add_others(*out, c, t);
}

int hybrid_mirrors(const struct control *c, const struct throttle *t, char error[FAIL_SIZE])
{
    struct migbuf_outlook o = { .size = sizeof o };
    struct migbuf_buffer *trial = NULL;
    struct migbuf_waiting w;
    int rc;

    if (!(t->seen_bytes_per_s > 0) || !c->route[t->route].bytes_per_s)
        return 0;
    rc = control_describe(c, t, &w);
    if (!rc)
        rc = buffer_to_ask(c, t, &trial);
    if (!rc)
        rc = migbuf_outlook_waiting(trial ? trial : c->queue, &w, 0, &o);
    migbuf_buffer_free(trial);
    if (rc)
        return fail(error, "VM %llu: what it is to expect: %s", (unsigned long long)t->id, migbuf_strerror(rc));
    return by_mirror(c, t) >= o.delivered + BETTER_BY;
}
