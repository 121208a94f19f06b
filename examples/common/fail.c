/* SPDX-License-Identifier: MIT */
/* One readable sentence per failure, and the clock every part uses. */
#include "fail.h"
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

int fail(char error[FAIL_SIZE], const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(error, FAIL_SIZE, format, args);
    va_end(args);
    return -1;
}

uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
