/* SPDX-License-Identifier: MIT */
/* A VM's history: texts that other hosts wrote. Merging has no order and says all; what comes out is bounded, and is taken
 * again as it is.
 *
 * An input is up to three texts with the byte 0x01 between them. The checksum of each line is repaired here, or nothing would
 * get behind it; a line that begins with '!' (which is taken off) keeps the one it has. */
#include "fuzz.h"
#include "migbuf/history.h"

#define TEXT_BYTES (4 * MIGBUF_HISTORY_BYTES)

struct text {
    char *bytes;
    size_t length;
};

static uint32_t crc32_of(const char *text, size_t length)
{
    uint32_t crc = UINT32_MAX;

    while (length--) {
        crc ^= (unsigned char)*text++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0xEDB88320) : 0);
    }
    return ~crc;
}

static struct text repaired(const uint8_t *data, size_t size)
{
    static char out[TEXT_BYTES];
    size_t used = 0;

    for (size_t begin = 0, end; begin < size && used + 600 < sizeof out; begin = end + 1) {
        const char *line = (const char *)data + begin;
        size_t length;

        for (end = begin; end < size && data[end] != '\n'; end++)
            ;
        length = end - begin > 560 ? 560 : end - begin;
        if (length && line[0] == '!') {
            memcpy(out + used, line + 1, length - 1);
            used += length - 1;
        } else {
            if (length >= 13 && !memcmp(line + length - 13, " crc=", 5))
                length -= 13;
            memcpy(out + used, line, length);
            used += length;
            used += (size_t)snprintf(out + used, 14, " crc=%08x", (unsigned)crc32_of(line, length));
        }
        if (end < size)
            out[used++] = '\n';
    }
    return (struct text){ exact_copy(out, used), used };
}

static struct text merged(struct text a, struct text b)
{
    static char out[MIGBUF_HISTORY_BYTES + 1];
    size_t length = 0, asked = 0;
    int rc = migbuf_history_merge(a.bytes, a.length, b.bytes, b.length, out, sizeof out, &length);

    fuzz_check(rc >= 0, "merge: %d", rc);
    fuzz_check(length <= MIGBUF_HISTORY_BYTES, "%zu bytes", length);
    fuzz_check(migbuf_history_merge(a.bytes, a.length, b.bytes, b.length, NULL, 0, &asked) == MIGBUF_E_TOO_BIG && asked == length,
               "asked for the length: %zu, not %zu", asked, length);
    for (size_t k = 0; k < length; k++)
        fuzz_check(out[k] == '\n' || (out[k] >= 0x20 && out[k] < 0x7f), "byte %02x", (unsigned char)out[k]);
    return (struct text){ exact_copy(out, length), length };
}

static void same(const char *law, struct text a, struct text b)
{
    fuzz_check(a.length == b.length && !memcmp(a.bytes, b.bytes, a.length), "%s:\n%.*s\nand\n%.*s", law, (int)a.length, a.bytes,
               (int)b.length, b.bytes);
}

static void read_it(struct text t)
{
    static char out[MIGBUF_HISTORY_BYTES + 1];
    struct migbuf_attempt a, last;
    struct migbuf_prior p, beliefs = { .size = sizeof beliefs };
    size_t length, count = 0;
    int rc;

    for (; (rc = migbuf_history_read(t.bytes, t.length, count, &a)) == 1; count++) {
        fuzz_check(a.id[0] && memchr(a.id, 0, sizeof a.id) && memchr(a.from, 0, sizeof a.from) && memchr(a.to, 0, sizeof a.to) &&
                   memchr(a.qemu, 0, sizeof a.qemu), "a name");
        fuzz_check(a.outcome >= 1 && a.outcome <= 5 && a.phase >= 1 && a.phase <= 6 && a.why >= 1 && a.why <= 10, "%d %d %d",
                   a.outcome, a.phase, a.why);
        fuzz_check(count < MIGBUF_HISTORY_LINES, "more than there may be");
    }
    fuzz_check(rc == 0, "read: %d", rc);
    p.size = sizeof p;
    rc = migbuf_history_prior(t.bytes, t.length, 1800000000, NULL, &p);
    fuzz_check(rc >= 0, "prior: %d", rc);
    fuzz_check(p.success > 0 && p.success < 1 && p.write_bytes_per_s > 0 && p.write_most >= p.write_bytes_per_s &&
               p.write_most < 1e300 && p.growth_ratio > 0 && p.growth_ratio <= 1 && p.growth_most <= 1 && p.dirty_bytes_per_s > 0 &&
               p.dirty_most < 1e300 && p.set_bytes > 0 && p.set_most < 1e300 && p.encoding > 0 && p.encoding_most < 1e300,
               "success %g, writes %g < %g, growth %g < %g, r %g < %g, W %g < %g, e %g < %g", p.success, p.write_bytes_per_s,
               p.write_most, p.growth_ratio, p.growth_most, p.dirty_bytes_per_s, p.dirty_most, p.set_bytes, p.set_most, p.encoding,
               p.encoding_most);
    beliefs = p;
    fuzz_check(migbuf_history_prior(t.bytes, t.length, 0, &beliefs, &p) >= 0, "what was believed is believed again");
    rc = migbuf_history_describe(t.bytes, t.length, "vm", out, sizeof out, &length);
    fuzz_check(rc >= 0 && (rc > 0) == (count > 0), "describe: %d of %zu", rc, count);
    if (migbuf_history_read(t.bytes, t.length, 0, &last) == 1) {
        last.at_s = 1;
        rc = migbuf_history_append(t.bytes, t.length, &last, out, sizeof out, &length);
        fuzz_check(rc >= 0, "append: %d", rc);
        fuzz_check(length <= MIGBUF_HISTORY_BYTES, "%zu bytes", length);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text t[3], m[6];
    size_t begin = 0;

    for (int k = 0; k < 3; k++) {
        size_t end = begin;

        while (end < size && (data[end] != 1 || k == 2))
            end++;
        t[k] = repaired(data + begin, end - begin);
        begin = end < size ? end + 1 : size;
    }
    m[0] = merged(t[0], t[1]);
    m[1] = merged(t[1], t[0]);
    same("a, b is not b, a", m[0], m[1]);
    m[2] = merged(m[0], t[0]);
    same("what was merged is merged again", m[0], m[2]);
    m[3] = merged(m[0], t[2]);
    m[4] = merged(t[1], t[2]);
    m[5] = merged(t[0], m[4]);
    same("(a, b), c is not a, (b, c)", m[3], m[5]);
    read_it(t[0]);
    read_it(m[3]);
    for (int k = 0; k < 3; k++)
        free(t[k].bytes);
    for (int k = 0; k < 6; k++)
        free(m[k].bytes);
    return 0;
}
