/* SPDX-License-Identifier: MIT */
/* Numbers as people write and read them. */
#ifndef COMMON_NUMBERS_H
#define COMMON_NUMBERS_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/*
 * Digits, with up to nine more behind a point, and an optional K, M, G, T (unit_step each: 1000 or 1024), KB, … (1000) or
 * KiB, … (1024), and "/s". Rounded down to whole bytes, and else exact. False for anything else, and for what is not within
 * least and most. "1.5MiB": 1'572'864.
 */
bool read_size(const char *text, uint64_t unit_step, uint64_t least, uint64_t most, uint64_t *value);

/* A whole number within least and most, in tens: "010" is ten. */
bool read_count(const char *text, uint64_t least, uint64_t most, uint64_t *value);

/* A number of JSON behind `before`, which is printed as it is; null where it is none, or has no end: JSON has no such numbers. */
void put_number(const char *before, double value, int decimals, FILE *out);

#define HUMAN_SIZE 24
/* "1.25 GB", "900 B": decimal units as QEMU's limits and links are, three digits. `text` is what is returned. */
const char *human_bytes(uint64_t bytes, char text[HUMAN_SIZE]);
/* "12.5 MB/s"; "none" for UINT64_MAX. */
const char *human_rate(uint64_t bytes_per_s, char text[HUMAN_SIZE]);
/* "0:42", "1:02:03"; "-" for a negative one. */
const char *human_time(int64_t ms, char text[HUMAN_SIZE]);

/* "10 GiB", "1.5 MiB": binary units, as sizes of volumes are. Exact where it is a whole number of them. */
const char *human_binary(uint64_t bytes, char text[HUMAN_SIZE]);
#endif
