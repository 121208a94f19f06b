/* SPDX-License-Identifier: MIT */
/* Random numbers that are functions of their place: what a guest does at second 17 does not depend on who asked before.
 */
#ifndef SIMULATE_RANDOM_H
#define SIMULATE_RANDOM_H
#include <math.h>
#include <stdint.h>

/* splitmix64 */
static inline uint64_t scramble(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* The n-th of a stream, 0 .. 1, never either. */
static inline double random_at(uint64_t stream, uint64_t n)
{
    return ((double)(scramble(stream ^ scramble(n)) >> 11) + 0.5) / 9007199254740992.0;
}

/* A stream that is drawn from. */
struct stream {
    uint64_t id, n;
};

static inline double draw(struct stream *s)
{
    return random_at(s->id, s->n++);
}

static inline double draw_between(struct stream *s, double low, double high)
{
    return low + (high - low) * draw(s);
}

static inline double draw_log(struct stream *s, double low, double high)
{
    return low * pow(high / low, draw(s));
}

static inline double draw_exponential(struct stream *s, double mean)
{
    return -mean * log(draw(s));
}
#endif
