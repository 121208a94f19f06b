/* SPDX-License-Identifier: MIT */
/* Reads sizes and counts strictly, and writes numbers in three digits. See numbers.h. */
#include "numbers.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Digits with an optional K, M, G, T (1000) or KiB, MiB, … (1024); "16K" alone means KiB for sizes, as everywhere. */
bool read_size(const char *text, uint64_t unit_step, uint64_t least, uint64_t most, uint64_t *value)
{
    static const char prefixes[] = "KMGT";
    char *end;
    double number;
    uint64_t scale = 1;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    number = strtod(text, &end);
    if (errno)
        return false;
    for (const char *prefix = prefixes; *end && *prefix; prefix++)
        if (*end == *prefix || *end == *prefix + 32) {
            uint64_t step = end[1] == 'i' ? 1024 : end[1] == 'B' ? 1000 : unit_step;

            for (const char *p = prefixes; p <= prefix; p++)
                scale *= step;
            end += end[1] == 'i' ? 2 : 1;
            break;
        }
    end += *end == 'B';
    if (!strcmp(end, "/s"))
        end += 2;
    number *= (double)scale;
    if (*end || number < (double)least || number > (double)most)
        return false;
    *value = (uint64_t)number;
    return true;
}

bool read_count(const char *text, uint64_t least, uint64_t most, uint64_t *value)
{
    char *end;
    unsigned long long number;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    number = strtoull(text, &end, 0);
    if (errno || *end || number < least || number > most)
        return false;
    *value = number;
    return true;
}

const char *human_bytes(uint64_t bytes, char text[HUMAN_SIZE])
{
    static const char *const unit[] = { "B", "kB", "MB", "GB", "TB", "PB", "EB" };
    double value = (double)bytes;
    size_t i = 0;

    /* 999.5 would print as 1000: the next unit then says it in three digits. */
    while (value >= (i ? 999.5 : 1000) && i < sizeof unit / sizeof *unit - 1) {
        value /= 1000;
        i++;
    }
    snprintf(text, HUMAN_SIZE, "%.*f %s", !i || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2, value, unit[i]);
    return text;
}

const char *human_rate(uint64_t bytes_per_s, char text[HUMAN_SIZE])
{
    char size[HUMAN_SIZE];

    if (bytes_per_s == UINT64_MAX)
        snprintf(text, HUMAN_SIZE, "none");
    else
        snprintf(text, HUMAN_SIZE, "%s/s", human_bytes(bytes_per_s, size));
    return text;
}

const char *human_time(int64_t ms, char text[HUMAN_SIZE])
{
    int64_t s = (ms + 500) / 1000;

    if (ms < 0)
        snprintf(text, HUMAN_SIZE, "-");
    else if (s < 3600)
        snprintf(text, HUMAN_SIZE, "%" PRId64 ":%02" PRId64, s / 60, s % 60);
    else
        snprintf(text, HUMAN_SIZE, "%" PRId64 ":%02" PRId64 ":%02" PRId64, s / 3600, s / 60 % 60, s % 60);
    return text;
}

const char *human_binary(uint64_t bytes, char text[HUMAN_SIZE])
{
    static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double value = (double)bytes;
    size_t i = 0;

    while (value >= 1023.5 && i < sizeof unit / sizeof *unit - 1) {
        value /= 1024;
        i++;
    }
    snprintf(text, HUMAN_SIZE, "%.*f %s", !i || value >= 99.95 || value == (double)(uint64_t)value ? 0 : 1, value,
             unit[i]);
    return text;
}
