/* SPDX-License-Identifier: MIT */
/* fuzz: what every target here shares. A target is LLVMFuzzerTestOneInput, driven by libFuzzer or by corpus.c; what it says
 * must hold is said with fuzz_check, which ends the process. */
#ifndef MIGBUF_TESTS_FUZZ_H
#define MIGBUF_TESTS_FUZZ_H
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define fuzz_check(condition, ...)                                                                                     \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "# %s:%d: %s: ", __FILE__, __LINE__, #condition);                                          \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fprintf(stderr, "\n");                                                                                     \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* The bytes of an input, taken one choice after the other. What is beyond the end is 0. */
struct choices {
    const uint8_t *at, *end;
};

static inline uint8_t take_byte(struct choices *c)
{
    return c->at < c->end ? *c->at++ : 0;
}

static inline uint64_t take_bytes(struct choices *c, int count)
{
    uint64_t x = 0;

    while (count--)
        x = x << 8 | take_byte(c);
    return x;
}

/* 0 … below - 1, of as few bytes as it takes. */
static inline uint32_t take_below(struct choices *c, uint32_t below)
{
    return (uint32_t)(take_bytes(c, below <= 0x100 ? 1 : below <= 0x10000 ? 2 : 4) % below);
}

/* Any number, mostly one near which something changes. */
static inline uint64_t take_number(struct choices *c)
{
    uint8_t kind = take_byte(c);

    switch (kind >> 6) {
    case 0:
        return kind & 0x3f;
    case 1: /* about a power of two */
        return (UINT64_C(1) << (kind & 0x3f)) + (uint64_t)(int8_t)take_byte(c);
    case 2:
        return take_bytes(c, (kind & 7) + 1);
    default:
        return UINT64_MAX - (kind & 0x3f);
    }
}

/* Any double, mostly one that is likely. */
static inline double take_double(struct choices *c)
{
    static const double likely[] = { 0,    -0.0, 1,    -1,     0.5,     0.999999, 1e-300, 1e300, 5e-324, 1.7976931348623157e308,
                                     1e50, 1e-9, 1e18, 1e15, 1.0 / 0.0, -1.0 / 0.0 };
    uint8_t kind = take_byte(c);
    uint64_t bits;
    double x;

    switch (kind >> 6) {
    case 0:
        return likely[kind & 15];
    case 1:
        return (double)take_number(c);
    case 2: /* three digits and a power of ten */
        x = (double)take_bytes(c, 2) / 64;
        for (int k = 0; k < (kind & 15); k++)
            x *= 10;
        return x;
    default:
        bits = take_bytes(c, 8);
        memcpy(&x, &bits, sizeof x);
        return x;
    }
}

/* An allocator of which every so manieth call fails, `left` of them; `held` is what was not given back. */
struct failing {
    uint32_t every, left, asked;
    int64_t held;
};

static inline void *failing_resize(void *context, void *pointer, size_t old_bytes, size_t new_bytes)
{
    struct failing *f = context;

    if (new_bytes && f->left && ++f->asked % f->every == 0) {
        f->left--;
        return NULL;
    }
    f->held += (int64_t)new_bytes - (int64_t)old_bytes;
    if (new_bytes)
        return realloc(pointer, new_bytes);
    free(pointer);
    return NULL;
}

/* A copy that ends where the text ends, so that a byte beyond it is noticed. Never NULL. */
static inline char *exact_copy(const void *text, size_t bytes)
{
    char *copy = malloc(bytes ? bytes : 1);

    if (!copy)
        abort();
    if (bytes)
        memcpy(copy, text, bytes);
    return copy;
}
#endif
