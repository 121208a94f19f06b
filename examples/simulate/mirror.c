/* SPDX-License-Identifier: MIT */
/* A mirrored disk, step by step. See mirror.h. */
#include "mirror.h"
#include <math.h>

#define GRANULE 65536.0
#define SMALL_GRANULE 4096.0
#define QEMU_BUFFER 16777216.0
#define HOLD 0.5    /* of the link: what a guest may make dirty while its mirror catches up */
#define WATCH_S 5.0 /* a mirror that gains less than a twentieth of the link meanwhile is stuck */
#define GAIN 0.05
#define SEEN_S 1.0
#define PACE_S 0.5
#define PACE_LEAST 0.1 /* of the link: where the copy's pace begins, and what stays free for the guest to show its demand */
#define PACE_STEP 0.05
#define PROMISE 2.0 /* times what an idle link needs: when a paced copy is to end */

const char *const mirror_names[MIRROR_WAYS] = { "background", "blocking", "paced" };

double mirror_granule(enum mirror_way way, double request)
{
    return way == MIRROR_BACKGROUND && request < GRANULE ? SMALL_GRANULE : GRANULE;
}

double mirror_buffer(enum mirror_way way)
{
    return way == MIRROR_PACED ? GRANULE : QEMU_BUFFER;
}

void mirror_begin(struct mirror *m, double now_s, double share)
{
    m->speed = m->way == MIRROR_PACED ? PACE_LEAST * share : INFINITY;
    m->begun_s = m->paced_s = now_s;
    m->watched_bytes = INFINITY;
}

double mirror_left(const struct mirror *m)
{
    return m->all - m->passed + m->dirty[0] + m->dirty[1];
}

/* Of its writes, what crosses the link: on ground that was not sent yet a small one does not. */
static double part_sent(const struct mirror *m)
{
    return m->request < GRANULE && m->all > 0 ? m->passed / m->all : 1;
}

double mirror_lets(const struct mirror *m, double share, double latency_s)
{
    double queue = m->depth * m->request, buffer = mirror_left(m) > 0 ? mirror_buffer(m->way) : 0, turn;

    if (m->way == MIRROR_BACKGROUND || m->way == MIRROR_SWITCHED)
        return m->holds ? m->hold * share : INFINITY;
    turn = fmin(share, queue / ((queue + buffer) / share + latency_s));
    return fmax(turn, share - m->speed) / fmax(part_sent(m), 1e-9);
}

double mirror_write(struct mirror *m, double requests)
{
    double granule = mirror_granule(m->way, m->request), f = m->all > 0 ? m->passed / m->all : 1;

    m->written += requests * m->request;
    if (m->way != MIRROR_BACKGROUND && m->way != MIRROR_SWITCHED) {
        m->passed = fmin(m->all, m->passed + requests * m->request * (1 - f) * (m->request < GRANULE ? 0 : 1));
        return requests * m->request * part_sent(m);
    }
    for (int k = 0; k < MIRROR_CLASSES; k++) {
        double behind = m->set[k] * f, bytes = requests * m->part[k] * fmax(m->request, granule), more = 0;

        if (behind > 0)
            more = (behind - fmin(behind, m->dirty[k])) * -expm1(-bytes / m->set[k]);
        m->dirty[k] += more;
        m->dirtied += more;
    }
    m->wrote += requests * m->request;
    return 0;
}

/* What the guest leaves, and what the promise needs. */
static void pace(struct mirror *m, double now_s, double share)
{
    double interval_s = now_s - m->paced_s, promised_s = m->begun_s + PROMISE * m->all / share - now_s;
    double least = fmax(PACE_LEAST * share, promised_s > 0 ? mirror_left(m) / promised_s : share);

    if (m->way != MIRROR_PACED || interval_s < PACE_S)
        return;
    m->speed = fmin(share, fmax(least, fmin(m->speed + PACE_STEP * share, (1 - PACE_LEAST) * share - m->written / interval_s)));
    m->written = 0;
    m->paced_s = now_s;
}

static void watch(struct mirror *m, double now_s, double share)
{
    double left = mirror_left(m);

    if (m->way != MIRROR_BACKGROUND || m->passed < m->all || m->holds || (now_s - m->watched_s < WATCH_S && isfinite(m->watched_bytes)))
        return;
    m->holds = m->watched_bytes - left < GAIN * fmin(m->watched_bytes, share * WATCH_S);
    m->watched_bytes = left;
    m->watched_s = now_s;
}

/* QEMU's job tells what was made dirty: its length grows by that. */
static void hold(struct mirror *m, double now_s)
{
    double least = HOLD * fmin(1, m->request / mirror_granule(m->way, m->request));

    if (now_s - m->seen_s < SEEN_S)
        return;
    m->hold = m->dirtied > 0 ? fmax(least, HOLD * m->wrote / m->dirtied) : least;
    m->dirtied = m->wrote = 0;
    m->seen_s = now_s;
}

double mirror_copy(struct mirror *m, double now_s, double step_s, double share, double budget)
{
    double most = fmin(budget, m->speed * step_s), pass = fmin(most, m->all - m->passed), dirty = m->dirty[0] + m->dirty[1];
    double again = fmin(most - pass, dirty);

    m->passed += pass;
    for (int k = 0; k < MIRROR_CLASSES && dirty > 0; k++)
        m->dirty[k] -= fmin(m->dirty[k], again * (m->dirty[k] / dirty));
    if (m->way == MIRROR_SWITCHED && mirror_left(m) <= share * step_s) /* ready: less than the eye of this model sees */
        m->way = MIRROR_BLOCKING;
    pace(m, now_s, share);
    watch(m, now_s, share);
    hold(m, now_s);
    return pass + again;
}
