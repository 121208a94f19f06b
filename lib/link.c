/* SPDX-License-Identifier: MIT */
/* link: what a link carries, from counters. No system calls here: they are in link_linux.c. Shares nothing out: planner.c and
 * admission_queue.c do. */
#include "migbuf/link.h"
#include "migbuf/bins.h"
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

/* "", "B", "kB", "MiB", …: the factor, 0 for anything else. */
static double unit_of(const char *text, size_t length)
{
    static const char letters[] = "kMGTPE";
    const char *letter;
    double factor = 1;

    if (length == 0 || (length == 1 && *text == 'B'))
        return 1;
    letter = memchr(letters, *text == 'K' ? 'k' : *text, sizeof letters - 1);
    if (!letter || !((length == 2 && text[1] == 'B') || (length == 3 && text[1] == 'i' && text[2] == 'B')))
        return 0;
    for (const char *k = letters; k <= letter; k++)
        factor *= length == 3 ? 1024 : 1000;
    return factor;
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

/* Where what a description is of begins: behind the last ": ". */
static size_t skip_description(const char *text, size_t length)
{
    size_t at = 0;

    for (size_t i = 2; i <= length; i++)
        if (text[i - 2] == ':' && text[i - 1] == ' ')
            at = i;
    return at;
}

int migbuf_link_processed(const char *text, size_t length, uint64_t *bytes)
{
    size_t at, digits = 0, end;
    double value = 0, place = 1, factor;

    if (!text || !bytes)
        return MIGBUF_E_INVALID;
    end = at = skip_description(text, length);
    while (end < length && text[end] != ' ')
        end++;
    if (end < length && (length - end < 2 || text[end + 1] != '(')) /* "3MB remaining" is no counter */
        return MIGBUF_E_PROTOCOL;
    for (; at < end && text[at] >= '0' && text[at] <= '9'; at++, digits++)
        value = 10 * value + (text[at] - '0');
    if (at < end && text[at] == '.')
        for (at++; at < end && text[at] >= '0' && text[at] <= '9'; at++, digits++)
            value += (text[at] - '0') * (place /= 10);
    factor = unit_of(text + at, end - at);
    if (!digits || !(factor > 0))
        return MIGBUF_E_PROTOCOL;
    value = floor(value * factor + 1e-3); /* 1.1 kB is 1100, not 1099.99… */
    if (value > (double)MIGBUF_BYTES_MAX)
        return MIGBUF_E_RANGE;
    *bytes = (uint64_t)value;
    return 0;
}
