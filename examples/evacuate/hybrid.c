/* SPDX-License-Identifier: MIT */
/* How it would be mirrored says the room mirror; what that would deliver, and what a plan would, says outlook. */
#include "hybrid.h"
#include <jansson.h>
#include <string.h>

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

bool hybrid_can_change(const char *text, size_t text_bytes)
{
    json_t *commands = text ? json_loadb(text, text_bytes, 0, NULL) : NULL, *command;
    bool can = false;
    size_t k;

    json_array_foreach(commands, k, command) {
        const char *name = json_string_value(json_object_get(command, "name"));

        can |= name && !strcmp(name, "block-job-change");
    }
    json_decref(commands);
    return can;
}

/* Nobody runs yet, and all that wait begin at once: each must reckon with the others. One for which there is no room takes
 * none from this one either. NULL in *out: the real buffer tells. */
static int buffer_to_ask(const struct control *c, const struct throttle *t, struct migbuf_buffer **out)
{
    struct migbuf_buffer_stats stats = { .size = sizeof stats };
    struct migbuf_buffer_options options;
    int rc;

    *out = NULL;
    if (c->admission)
        return 0;
    rc = migbuf_buffer_stats(c->queue, &stats);
    migbuf_buffer_options_init(&options, sizeof options);
    options.policy = MIGBUF_POLICY_PLANNER;
    if (!rc)
        rc = migbuf_buffer_new(stats.capacity_bytes, &options, NULL, out);
    for (size_t k = 0; k < c->waits && !rc; k++)
        if (c->waiting[k] != t)
            rc = control_join_trial(*out, c->waiting[k]);
    for (size_t k = 0; k < c->members && !rc; k++)
        rc = control_join_trial(*out, c->member[k]);
    for (uint32_t k = 0; k < c->routes && !rc; k++) {
        rc = c->route[k].bytes_per_s ? migbuf_buffer_link(*out, CONTROL_LINK(k), c->route[k].bytes_per_s) : 0;
        rc = rc == MIGBUF_E_NOTFOUND ? 0 : rc; /* nobody is on it */
    }
    return rc;
}

/* As it would be set: its share of the link is the outlook's affair. */
static int mirror_of(const struct control *c, const struct throttle *t, struct migbuf_outlook_mirror *mirror)
{
    const struct migbuf_mirror_load load = hybrid_load(c, t, 1);
    struct migbuf_mirror_setting setting;
    int rc = migbuf_mirror_choose(&load, t->can_change, 0, &setting);

    if (!rc)
        *mirror = (struct migbuf_outlook_mirror){
            .size = sizeof *mirror,
            .buffer_bytes = (double)setting.buf_bytes,
            .granularity_bytes = (double)setting.granularity_bytes,
            .speed_bytes_per_s = (double)setting.speed_bytes_per_s,
            .request_bytes = load.request_bytes,
            .link_bytes_per_s = load.link_bytes_per_s,
            .background = setting.mode == MIGBUF_MIRROR_BACKGROUND,
        };
    return rc;
}

int hybrid_mirrors(const struct control *c, const struct throttle *t, char error[FAIL_SIZE])
{
    struct migbuf_outlook o = { .size = sizeof o };
    struct migbuf_outlook_mirror mirror;
    struct migbuf_buffer *trial = NULL;
    struct migbuf_waiting w;
    int rc;

    if (!(t->seen_bytes_per_s > 0) || !c->route[t->route].bytes_per_s)
        return 0;
    rc = control_describe(c, t, &w);
    if (!rc)
        rc = mirror_of(c, t, &mirror);
    if (!rc)
        rc = buffer_to_ask(c, t, &trial);
    if (!rc)
        rc = migbuf_outlook_mirrored(trial ? trial : c->queue, &w, 0, &mirror, &o);
    migbuf_buffer_free(trial);
    return rc ? fail(error, "VM %llu: what it is to expect: %s", (unsigned long long)t->id, migbuf_strerror(rc)) : o.mirror;
}
