/* SPDX-License-Identifier: MIT */
/* link: what a link carries, from counters. No system calls here: they are in link_linux.c. Shares nothing out: planner.c and
 * admission_queue.c do. */
#include "migbuf/link.h"
#include "number.h"
#include <string.h>

#define MEMORY_S 60.0
#define SHORTEST_MS 50

int migbuf_link_init(struct migbuf_link *l, double nominal_bytes_per_s)
{
    int rc = l ? migbuf__finite(nominal_bytes_per_s) : MIGBUF_E_INVALID;

    if (!rc)
        *l = (struct migbuf_link){ .latest = nominal_bytes_per_s,
                                   .mean = nominal_bytes_per_s,
                                   .best = nominal_bytes_per_s };
    return rc;
}

int migbuf_link_update(struct migbuf_link *l, uint64_t now_ms, double bytes_per_s, uint32_t flags)
{
    double part;
    int rc = l && !(flags & ~MIGBUF_LINK_AT_LEAST) ? migbuf__finite(bytes_per_s) : MIGBUF_E_INVALID;

    if (rc)
        return rc;
    if (now_ms < l->at_ms)
        return MIGBUF_E_CLOCK;
    part = -expm1(-(double)(now_ms - l->at_ms) / 1000 / MEMORY_S);
    l->at_ms = now_ms;
    if (!(bytes_per_s > 0) || (flags & MIGBUF_LINK_AT_LEAST && bytes_per_s <= l->latest)) {
        l->latest += part * fmax(0, l->best - l->latest);
        l->mean += part * fmax(0, l->best - l->mean);
        return 0;
    }
    l->latest = bytes_per_s;
    l->mean = l->mean > 0 ? l->mean + part * (bytes_per_s - l->mean) : bytes_per_s;
    l->best = fmax(l->best, l->mean);
    return 1;
}

double migbuf_link_now(const struct migbuf_link *l)
{
    return l ? l->latest : 0;
}

double migbuf_link_mean(const struct migbuf_link *l)
{
    return l ? fmax(l->mean, MIGBUF_LINK_LEAST) : MIGBUF_LINK_LEAST;
}

int migbuf_link_flow_init(struct migbuf_link_flow *f)
{
    if (!f)
        return MIGBUF_E_INVALID;
    *f = (struct migbuf_link_flow){ 0 };
    return 0;
}

int migbuf_link_flow_update(struct migbuf_link_flow *f, uint64_t now_ms, uint64_t bytes, double *bytes_per_s)
{
    int counts;

    if (!f || !bytes_per_s)
        return MIGBUF_E_INVALID;
    if (f->known && now_ms < f->at_ms)
        return MIGBUF_E_CLOCK;
    *bytes_per_s = 0;
    counts = f->known && bytes >= f->bytes;
    if (counts && now_ms - f->at_ms < SHORTEST_MS)
        return 0;
    if (counts)
        *bytes_per_s = (double)(bytes - f->bytes) * 1000 / (double)(now_ms - f->at_ms);
    *f = (struct migbuf_link_flow){ .at_ms = now_ms, .bytes = bytes, .known = 1 };
    return counts;
}

int migbuf_link_tcp_flow_init(struct migbuf_link_tcp_flow *f)
{
    if (!f)
        return MIGBUF_E_INVALID;
    *f = (struct migbuf_link_tcp_flow){ .busy_us = 0 };
    return migbuf_link_flow_init(&f->flow);
}

int migbuf_link_tcp_update(struct migbuf_link_tcp_flow *f, uint64_t now_ms, const struct migbuf_link_tcp *tcp,
                           double *bytes_per_s, uint32_t *flags)
{
    struct migbuf_link_flow before;
    uint64_t busy_us;
    int rc;

    if (!f || !tcp || !bytes_per_s || !flags)
        return MIGBUF_E_INVALID;
    before = f->flow;
    rc = migbuf_link_flow_update(&f->flow, now_ms, tcp->acked_bytes, bytes_per_s);
    if (rc < 0)
        return rc;
    *flags = 0;
    if (rc == 0 && !memcmp(&before, &f->flow, sizeof before)) /* too soon: what came since is looked at later */
        return 0;
    busy_us = tcp->busy_us > f->busy_us ? tcp->busy_us - f->busy_us : 0;
    f->busy_us = tcp->busy_us;
    if (rc == 1)
        *flags = tcp->flags & MIGBUF_LINK_AT_LEAST;
    if (rc == 1 && (double)busy_us < 0.9 * 1000 * (double)(now_ms - before.at_ms))
        *flags |= MIGBUF_LINK_AT_LEAST;
    return rc;
}
