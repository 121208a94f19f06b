/* SPDX-License-Identifier: MIT */
/* Reads sizes and counts strictly, and writes numbers in three digits. See numbers.h. */
#include "numbers.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Digits alone, in tens. */
static bool read_digits(const char **text, uint64_t *value)
{
    const char *at = *text;

    *value = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        uint64_t digit = (uint64_t)(*at - '0');

        if (*value > (UINT64_MAX - digit) / 10)
            return false;
        *value = *value * 10 + digit;
    }
    if (at == *text)
        return false;
    *text = at;
    return true;
}

/* A prefix and B, and what they stand for. "16K" alone means KiB for sizes, as everywhere. */
static uint64_t read_unit(const char **text, uint64_t unit_step)
{
    static const char prefixes[] = "KMGT";
    const char *end = *text;
    uint64_t scale = 1;

    for (const char *prefix = prefixes; *end && *prefix; prefix++)
        if (*end == *prefix || *end == *prefix + 32) {
            uint64_t step = end[1] == 'i' ? 1024 : end[1] == 'B' ? 1000 : unit_step;

            for (const char *p = prefixes; p <= prefix; p++)
                scale *= step;
            end += end[1] == 'i' ? 2 : 1;
            break;
        }
    *text = end + (*end == 'B');
    return scale;
}

bool read_size(const char *text, uint64_t unit_step, uint64_t least, uint64_t most, uint64_t *value)
{
    uint64_t whole, part = 0, of = 1, scale, number;

    if (!read_digits(&text, &whole))
        return false;
    if (*text == '.') {
        const char *point = text++;

        if (!read_digits(&text, &part) || text - point > 10)
            return false;
        for (const char *digit = point + 1; digit < text; digit++)
            of *= 10;
    }
    scale = read_unit(&text, unit_step);
    if (!strcmp(text, "/s"))
        text += 2;
    number = scale / of * part + scale % of * part / of; /* below `scale` */
    if (*text || whole > (UINT64_MAX - number) / scale)
        return false;
    number += whole * scale;
    if (number < least || number > most)
        return false;
    *value = number;
    return true;
}

bool read_count(const char *text, uint64_t least, uint64_t most, uint64_t *value)
{
    uint64_t number;

    if (!read_digits(&text, &number) || *text || number < least || number > most)
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
    size_t length;

    if (bytes_per_s == UINT64_MAX) {
        snprintf(text, HUMAN_SIZE, "none");
        return text;
    }
    length = strlen(human_bytes(bytes_per_s, text));
    snprintf(text + length, HUMAN_SIZE - length, "/s");
    return text;
}

const char *human_time(int64_t ms, char text[HUMAN_SIZE])
{
    int64_t s = ms / 1000 + (ms % 1000 >= 500);

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

void put_number(const char *before, double value, int decimals, FILE *out)
{
    if (isfinite(value))
        fprintf(out, "%s%.*f", before, decimals, value);
    else
        fprintf(out, "%snull", before);
}
