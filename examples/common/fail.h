/* SPDX-License-Identifier: MIT */
/*
 * How the parts of these programs report a failure: they return -1 and leave one readable sentence in the caller's
 * `char error[FAIL_SIZE]`, which must not be NULL and is written on failure only.
 */
#ifndef COMMON_FAIL_H
#define COMMON_FAIL_H
#include <stddef.h>
#include <stdint.h>

#define FAIL_SIZE 1024

/* Writes the sentence (cut to FAIL_SIZE) and returns -1, so that `return fail(error, ...)` is one line. */
__attribute__((format(printf, 2, 3))) int fail(char error[FAIL_SIZE], const char *format, ...);

/* CLOCK_MONOTONIC. */
uint64_t now_ns(void);
#endif
