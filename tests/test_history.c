/* SPDX-License-Identifier: MIT */
/* A VM's earlier attempts: counted, bounded, merged in any order, and what is believed of the next. */
#include "unit.h"
#include "migbuf/history.h"
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define ROOM (MIGBUF_HISTORY_BYTES + 1)
#define DAY UINT64_C(86400)

struct text {
    char bytes[ROOM];
    size_t length;
};

static struct migbuf_attempt attempt(int32_t outcome, uint64_t at_s)
{
    struct migbuf_attempt a;

    ck_assert_int_eq(migbuf_attempt_init(&a), 0);
    strcpy(a.id, "vm1");
    strcpy(a.from, "h1");
    strcpy(a.to, "h2");
    strcpy(a.qemu, "10.0.2");
    a.outcome = outcome;
    a.phase = outcome == MIGBUF_ATTEMPT_MOVED ? MIGBUF_ATTEMPT_SWITCH : MIGBUF_ATTEMPT_RAM;
    a.why = outcome == MIGBUF_ATTEMPT_MOVED ? MIGBUF_ATTEMPT_DONE : MIGBUF_ATTEMPT_NO_CONVERGENCE;
    a.at_s = at_s;
    return a;
}

static int append(struct text *t, const struct migbuf_attempt *a)
{
    struct text out;
    int rc = migbuf_history_append(t->bytes, t->length, a, out.bytes, sizeof out.bytes, &out.length);

    ck_assert_int_ge(rc, 0);
    ck_assert_uint_eq(strlen(out.bytes), out.length);
    *t = out;
    return rc;
}

static int merge(const struct text *a, const struct text *b, struct text *out)
{
    int rc = migbuf_history_merge(a->bytes, a->length, b->bytes, b->length, out->bytes, sizeof out->bytes, &out->length);

    ck_assert_int_ge(rc, 0);
    ck_assert_uint_le(out->length, MIGBUF_HISTORY_BYTES);
    return rc;
}

static struct migbuf_attempt nth(const struct text *t, size_t index)
{
    struct migbuf_attempt a;

    ck_assert_int_eq(migbuf_history_read(t->bytes, t->length, index, &a), 1);
    return a;
}

static size_t lines_of(const struct text *t)
{
    size_t n = 0;

    for (size_t i = 0; i < t->length; i++)
        n += t->bytes[i] == '\n';
    return n;
}

static void says(const struct text *t, const char *expected)
{
    char out[200];
    size_t length;

    ck_assert_int_ge(migbuf_history_describe(t->bytes, t->length, "vm1", out, sizeof out, &length), 0);
    ck_assert_str_eq(out, expected);
    ck_assert_uint_eq(length, strlen(expected));
}

START_TEST(the_24th_knows_that_it_is_the_24th)
{
    struct text t = { "", 0 };
    struct migbuf_attempt a;

    says(&t, "no attempt of vm1 is known");
    for (uint64_t k = 1; k <= 23; k++) {
        a = attempt(MIGBUF_ATTEMPT_MOVED, k * DAY);
        a.number = 77; /* not looked at */
        ck_assert_int_eq(append(&t, &a), 0);
        ck_assert_uint_eq(nth(&t, 0).number, k);
        ck_assert_uint_eq(nth(&t, 0).earlier_moved, k - 1);
    }
    says(&t, "attempt 23 of vm1: 22 moved, the last moved");
    a = attempt(MIGBUF_ATTEMPT_FAILED, 24 * DAY);
    append(&t, &a);
    says(&t, "attempt 24 of vm1: 23 moved, the last failed in ram, no convergence");
    a.outcome = MIGBUF_ATTEMPT_BACK;
    a.why = MIGBUF_ATTEMPT_CANCELLED;
    a.phase = MIGBUF_ATTEMPT_BASE;
    a.at_s++;
    append(&t, &a);
    says(&t, "attempt 25 of vm1: 23 moved, 1 failed, the last back in base, cancelled");
}
END_TEST

START_TEST(every_field_comes_back)
{
    struct text t = { "", 0 };
    struct migbuf_attempt a = attempt(MIGBUF_ATTEMPT_LOST, 1795897656), b;

    strcpy(a.id, "6c84fb90-12c4-11e1-840d-7b25c5ee775a");
    strcpy(a.from, "a b=c\n%");
    memset(a.to, 0, sizeof a.to);
    a.phase = MIGBUF_ATTEMPT_TARGET;
    a.why = MIGBUF_ATTEMPT_NOBODY_KNOWS;
    a.post_copy = 1;
    a.disk_ms = 1;
    a.mirror_ms = 2;
    a.ram_ms = 3;
    a.downtime_ms = 0;
    a.disk_bytes = UINT64_MAX - 1;
    a.sent_bytes = 5;
    a.peak_bytes = 6;
    a.rounds = 7;
    a.growth_ppm = 412000;
    a.write_bytes_per_s = 8;
    a.dirty_bytes_per_s = 9;
    a.set_bytes = 10;
    a.encoding_ppm = 1000000;
    a.link_bytes_per_s = 11;
    a.throttle_percent = 80;
    a.limit_ms = 500;
    append(&t, &a);
    b = nth(&t, 0);
    a.number = 1;
    a.earlier_moved = a.earlier_back = a.earlier_failed = a.earlier_lost = a.earlier_refused = 0;
    ck_assert_mem_eq(&a, &b, sizeof a);
    ck_assert_ptr_nonnull(strstr(t.bytes, "migbuf-history 1 id=6c84fb90-12c4-11e1-840d-7b25c5ee775a n=1 at=1795897656 out=lost "));
    ck_assert_ptr_nonnull(strstr(t.bytes, " post=1 from=a%20b%3Dc%0A%25 ram_ms=3 down_ms=0 set_b=10 "));
    ck_assert_ptr_null(strstr(t.bytes, "ram_b="));
    for (size_t i = 0; i + 1 < t.length; i++)
        ck_assert(t.bytes[i] >= ' ' && t.bytes[i] <= '~');
    ck_assert_int_eq(migbuf_history_read(t.bytes, t.length, 1, &b), 0);
    ck_assert_mem_eq(&a, &b, sizeof a);
}
END_TEST

START_TEST(the_checksum_is_the_one_everybody_has)
{
    struct text t = { "", 0 };
    struct migbuf_attempt a = attempt(MIGBUF_ATTEMPT_MOVED, 1);

    append(&t, &a);
    /* of all before it, by another program: zlib.crc32 of python */
    ck_assert_str_eq(t.bytes, "migbuf-history 1 id=vm1 n=1 at=1 out=moved phase=switch why=done from=h1 to=h2 qemu=10.0.2 crc=910bbbec\n");
}
END_TEST

START_TEST(what_makes_no_sense_is_not_written)
{
    struct text t = { "", 0 };
    struct migbuf_attempt good = attempt(MIGBUF_ATTEMPT_MOVED, 1), a;
    char out[10] = "untouched";
    size_t length = 77;

#define REFUSED(change)                                                                                                 \
    a = good;                                                                                                           \
    change;                                                                                                             \
    ck_assert_int_eq(migbuf_history_append(t.bytes, 0, &a, out, sizeof out, &length), MIGBUF_E_INVALID)
    REFUSED(a.id[0] = 0);
    REFUSED(a.at_s = MIGBUF_ATTEMPT_UNKNOWN);
    REFUSED(a.outcome = 0);
    REFUSED(a.outcome = 6);
    REFUSED(a.phase = 0);
    REFUSED(a.phase = 7);
    REFUSED(a.why = -1);
    REFUSED(a.why = 11);
    REFUSED(memset(a.id, 'x', sizeof a.id));
    REFUSED(memset(a.from, 'x', sizeof a.from));
    REFUSED(memset(a.to, 'x', sizeof a.to));
    REFUSED(memset(a.qemu, 'x', sizeof a.qemu));
    ck_assert_int_eq(migbuf_history_append(NULL, 1, &good, out, sizeof out, &length), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_history_append(NULL, 0, NULL, out, sizeof out, &length), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_history_append(NULL, 0, &good, NULL, 1, &length), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_history_append(NULL, 0, &good, out, sizeof out, NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_attempt_init(NULL), MIGBUF_E_INVALID);
    ck_assert_uint_eq(length, 77);
    ck_assert_int_eq(migbuf_history_append(NULL, 0, &good, out, sizeof out, &length), MIGBUF_E_TOO_BIG);
    ck_assert_str_eq(out, "untouched");
    ck_assert_uint_gt(length, 90);
    ck_assert_int_eq(migbuf_history_append(NULL, 0, &good, NULL, 0, &length), MIGBUF_E_TOO_BIG); /* asks how much */
    ck_assert_int_eq(migbuf_history_append(NULL, 0, &good, t.bytes, length, &length), MIGBUF_E_TOO_BIG);
    ck_assert_int_eq(migbuf_history_append(NULL, 0, &good, t.bytes, length + 1, &length), 0);
}
END_TEST

START_TEST(the_oldest_go_and_are_still_counted)
{
    struct text t = { "", 0 };

    for (uint64_t k = 1; k <= 100; k++) {
        struct migbuf_attempt a = attempt(k % 4 ? MIGBUF_ATTEMPT_MOVED : MIGBUF_ATTEMPT_FAILED, k * DAY);

        append(&t, &a);
        ck_assert_uint_eq(lines_of(&t), k < MIGBUF_HISTORY_LINES ? k : MIGBUF_HISTORY_LINES);
        ck_assert_uint_le(t.length, MIGBUF_HISTORY_BYTES);
    }
    ck_assert_uint_eq(nth(&t, 0).number, 100);
    ck_assert_uint_eq(nth(&t, MIGBUF_HISTORY_LINES - 1).number, 69);
    says(&t, "attempt 100 of vm1: 75 moved, 24 failed, the last failed in ram, no convergence");
}
END_TEST

/* The longest lines there are: what no longer fits is left out, the figures that count most last of all. */
START_TEST(a_line_is_never_longer_than_promised)
{
    for (int names = 0; names < 2; names++) {
        struct text t = { "", 0 };
        struct migbuf_attempt a, b;

        for (uint64_t k = 1; k <= 40; k++) {
            a = attempt(MIGBUF_ATTEMPT_MOVED, UINT64_MAX - 100 + k);
            memset(a.id, names ? '%' : 'i', 64);
            memset(a.from, names ? ' ' : 'f', 64);
            memset(a.to, names ? '\n' : 't', 64);
            memset(a.qemu, names ? '\xff' : 'q', 32);
            a.disk_ms = a.mirror_ms = a.ram_ms = a.downtime_ms = a.disk_bytes = a.ram_bytes = a.sent_bytes = a.peak_bytes = a.rounds =
                a.growth_ppm = a.write_bytes_per_s = a.dirty_bytes_per_s = a.set_bytes = a.encoding_ppm = a.link_bytes_per_s =
                    a.throttle_percent = a.limit_ms = UINT64_MAX - 1;
            append(&t, &a);
            b = nth(&t, 0);
            ck_assert_uint_eq(b.number, k);
            ck_assert_uint_eq(b.earlier_moved, k - 1);
            ck_assert_str_eq(b.id, a.id);
            if (!names)
                ck_assert(!strcmp(b.from, a.from) && !strcmp(b.to, a.to) && b.set_bytes == a.set_bytes);
        }
        ck_assert_uint_eq(lines_of(&t), MIGBUF_HISTORY_LINES);
        ck_assert_uint_gt(t.length, MIGBUF_HISTORY_BYTES / 2);
        ck_assert_uint_le(t.length, MIGBUF_HISTORY_BYTES);
    }
}
END_TEST

START_TEST(a_broken_line_spoils_no_other)
{
    struct text t = { "", 0 }, cut, out;
    struct migbuf_attempt a = attempt(MIGBUF_ATTEMPT_MOVED, 1);
    size_t first;

    append(&t, &a);
    first = t.length;
    a.at_s = 2;
    append(&t, &a);
    for (size_t k = 0; k < first - 1; k++) { /* any byte of it */
        cut = t;
        cut.bytes[k] ^= 1;
        if (cut.bytes[k] == '\n')
            continue;
        ck_assert_int_eq(merge(&cut, &cut, &out), 2);
        ck_assert_uint_eq(lines_of(&out), 1);
        ck_assert_uint_eq(nth(&out, 0).number, 2);
    }
    for (size_t k = 1; k < t.length; k++) { /* cut anywhere */
        cut = t;
        cut.length = k;
        merge(&cut, &cut, &out);
        ck_assert_uint_eq(lines_of(&out), k >= t.length - 1 ? 2 : k >= first - 1 ? 1 : 0);
    }
    strcpy(cut.bytes, "hello\n\nmigbuf-history 2 id=vm1 n=1\n\x80\n");
    cut.length = strlen(cut.bytes);
    ck_assert_int_eq(merge(&cut, &t, &out), 4);
    ck_assert_mem_eq(&out.bytes, &t.bytes, t.length);
    a.at_s = 3;
    ck_assert_int_eq(append(&cut, &a), 4);
    ck_assert_uint_eq(nth(&cut, 0).number, 1);
}
END_TEST

/* As another program would write it: crc over all before " crc=". */
static void add_line(struct text *t, const char *line)
{
    uint32_t crc = UINT32_MAX;
    int n;

    for (const char *p = line; *p; p++) {
        crc ^= (unsigned char)*p;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ UINT32_C(0xEDB88320) : crc >> 1;
    }
    n = snprintf(t->bytes + t->length, sizeof t->bytes - t->length, "%s crc=%08x\n", line, (unsigned)~crc);
    t->length += (size_t)n;
}

#define REST "moved=4 failed=2 refused=- post=0 rounds=- set_b=12"

/* Attempts are counted from 1: a line that says 0 is broken, in every call. */
START_TEST(no_attempt_is_the_0th)
{
    struct text t = { "", 0 }, out;
    struct migbuf_attempt a;

    add_line(&t, "migbuf-history 1 id=vm1 n=0 at=1 out=failed phase=ram why=deadline");
    ck_assert_int_eq(merge(&t, &t, &out), 2);
    ck_assert_uint_eq(out.length, 0);
    ck_assert_int_eq(migbuf_history_read(t.bytes, t.length, 0, &a), 0);
    ck_assert_int_eq(migbuf_history_describe(t.bytes, t.length, "vm1", out.bytes, sizeof out.bytes, &out.length), 0);
}
END_TEST

START_TEST(unknown_keys_are_kept)
{
    struct text t = { "", 0 }, out;
    struct migbuf_attempt a = attempt(MIGBUF_ATTEMPT_MOVED, 9);
    char line[600];

    add_line(&t, "migbuf-history 1 id=vm1 n=7 at=5 from=h1 to=h2 out=moved phase=ram why=done colour=blue " REST " zeal=12");
    ck_assert_int_eq(append(&t, &a), 0);
    ck_assert_ptr_nonnull(strstr(t.bytes, "colour=blue"));
    ck_assert_ptr_nonnull(strstr(t.bytes, "zeal=12"));
    ck_assert_uint_eq(nth(&t, 0).number, 8);
    ck_assert_uint_eq(nth(&t, 0).earlier_moved, 5);
    ck_assert_uint_eq(nth(&t, 0).earlier_failed, 2);
    ck_assert_uint_eq(nth(&t, 1).earlier_back, 0);
    ck_assert_uint_eq(nth(&t, 1).set_bytes, 12);
    ck_assert_uint_eq(nth(&t, 1).rounds, MIGBUF_ATTEMPT_UNKNOWN);
    ck_assert_uint_eq(nth(&t, 1).ram_ms, MIGBUF_ATTEMPT_UNKNOWN);
    /* a checksum that fits does not make a line of what is none */
    add_line(&t, "migbuf-history 1 id=vm1 n=x at=5 from=h1 to=h2 out=moved phase=ram why=done " REST);
    add_line(&t, "migbuf-history 1 id=vm1 n=9 at=- from=h1 to=h2 out=moved phase=ram why=done " REST);
    add_line(&t, "migbuf-history 1 id=vm1 n=9 at=5 from=h1 to=h2 out=flown phase=ram why=done " REST);
    add_line(&t, "migbuf-history 1 id=vm1 n=9 at=5 from=h1 to=h2 phase=ram why=done " REST);
    add_line(&t, "migbuf-history 1 id=%0 n=9 at=5 from=h1 to=h2 out=moved phase=ram why=done " REST);
    add_line(&t, "migbuf-history 1 id=vm1 n=99999999999999999999 at=5 from=h1 to=h2 out=moved phase=ram why=done " REST);
    snprintf(line, sizeof line, "migbuf-history 1 id=vm1 n=9 at=5 out=moved phase=ram why=done pad=%0*d", 460, 0);
    add_line(&t, line); /* too long */
    ck_assert_int_eq(merge(&t, &(struct text){ "", 0 }, &out), 7);
    ck_assert_uint_eq(lines_of(&out), 2);
}
END_TEST

START_TEST(of_two_lines_of_one_attempt_the_one_that_says_more)
{
    struct text a = { "", 0 }, b = { "", 0 }, c = { "", 0 }, ab, ba, abc;

    add_line(&a, "migbuf-history 1 id=vm1 n=7 at=5 from=h1 to=h2 out=moved phase=ram why=done " REST);
    add_line(&b, "migbuf-history 1 id=vm1 n=7 at=5 from=h1 to=h2 out=moved phase=ram why=done " REST " more=1");
    add_line(&c, "migbuf-history 1 id=vm1 n=7 at=5 from=h1 to=h2 out=moved phase=ram why=done " REST " more=2");
    merge(&a, &b, &ab);
    merge(&b, &a, &ba);
    ck_assert_str_eq(ab.bytes, b.bytes);
    ck_assert_str_eq(ba.bytes, b.bytes);
    merge(&c, &ab, &abc);
    ck_assert_str_eq(abc.bytes, c.bytes);
    merge(&ab, &c, &abc);
    ck_assert_str_eq(abc.bytes, c.bytes);
}
END_TEST

START_TEST(attempts_that_are_not_the_same_all_stay)
{
    static const char *const lines[] = { "id=vm1 n=7 at=5 from=h1", "id=vm2 n=7 at=5 from=h1", "id=vm1 n=7 at=5 from=h2",
                                         "id=vm1 n=8 at=5 from=h1", "id=vm1 n=7 at=6 from=h1", "id=vm1 n=7 at=5" };
    struct text a = { "", 0 }, b = { "", 0 }, out;
    char line[200];

    for (int k = 0; k < 6; k++) {
        snprintf(line, sizeof line, "migbuf-history 1 %s out=moved phase=ram why=done", lines[k]);
        add_line(k % 2 ? &a : &b, line);
    }
    ck_assert_int_eq(merge(&a, &b, &out), 0);
    ck_assert_uint_eq(lines_of(&out), 6);
    ck_assert_uint_eq(nth(&out, 0).at_s, 6);
    says(&out, "attempt 8 of vm1: 5 moved, the last moved");
}
END_TEST

static uint64_t state;

static uint64_t draw(uint64_t below)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (state >> 33) % below;
}

/* A text as some host may have it: of a few VMs' lines and hosts, some broken, longer than kept. */
static void draw_text(struct text *t)
{
    uint64_t n = draw(5) ? draw(45) : 0;
    char line[1500], pad[380] = "";

    t->length = 0;
    t->bytes[0] = 0;
    memset(pad, 'y', draw(3) ? 0 : draw(sizeof pad - 1));
    for (uint64_t k = 0; k < n && t->length + sizeof line < sizeof t->bytes; k++) {
        snprintf(line, sizeof line, "migbuf-history 1 id=vm%llu n=%llu at=%llu%s%.*s out=moved phase=ram why=done " REST "%s%s%s",
                 (unsigned long long)draw(2), (unsigned long long)draw(30), (unsigned long long)draw(30), draw(4) ? " from=h" : "",
                 (int)draw(3), "12", draw(4) ? "" : " x=1", *pad ? " pad=" : "", pad);
        if (!draw(20))
            line[draw(60)] = '!';
        add_line(t, line);
        if (!draw(20))
            t->bytes[t->length - 2] ^= 1;
    }
}

START_TEST(merging_has_no_order)
{
    static struct text a, b, c, ab, ba, ab_c, bc, a_bc, aa, again;
    const char *seed = getenv("MIGBUF_TEST_SEED");
    uint64_t first = seed ? strtoull(seed, NULL, 10) : 1;

    for (uint64_t k = first; k < first + (uint64_t)unit_rounds(1500); k++) {
        state = k * 7919;
        draw_text(&a);
        draw_text(&b);
        draw_text(&c);
        merge(&a, &b, &ab);
        merge(&b, &a, &ba);
        ck_assert_msg(ab.length == ba.length && !memcmp(ab.bytes, ba.bytes, ab.length), "seed %d: not commutative", (int)k);
        merge(&ab, &c, &ab_c);
        merge(&b, &c, &bc);
        merge(&a, &bc, &a_bc);
        ck_assert_msg(ab_c.length == a_bc.length && !memcmp(ab_c.bytes, a_bc.bytes, ab_c.length), "seed %d: not associative", (int)k);
        merge(&a, &a, &aa);
        ck_assert_int_eq(merge(&aa, &aa, &again), 0);
        ck_assert_msg(aa.length == again.length && !memcmp(aa.bytes, again.bytes, aa.length), "seed %d: not idempotent", (int)k);
        merge(&ab, &a, &again);
        ck_assert_msg(ab.length == again.length && !memcmp(ab.bytes, again.bytes, ab.length), "seed %d: told again", (int)k);
        ck_assert_uint_le(lines_of(&ab), MIGBUF_HISTORY_LINES);
    }
}
END_TEST

/* Belief */

static struct migbuf_prior prior(const struct text *t, uint64_t now_s)
{
    struct migbuf_prior p = { .size = sizeof p };

    ck_assert_int_ge(migbuf_history_prior(t->bytes, t->length, now_s, NULL, &p), 0);
    return p;
}

START_TEST(what_is_believed_of_the_next)
{
    static const struct {
        int n;
        uint64_t rate[2], age_days[2];
        int times;
        double value, most;
    } table[] = {
        { 0, { 0 }, { 0 }, 1, 20000000, 65338333 },
        { 1, { 80000000 }, { 0 }, 1, 28284271, 97843925 },
        { 1, { 80000000 }, { 0 }, 3, 40000000, 112725394 },
        { 1, { 80000000 }, { 0 }, 23, 68174432, 102280442 },
        { 2, { 80000000, 80000000 }, { 30, 60 }, 1, 26390158, 92640891 },
        { 2, { 40000000, 160000000 }, { 0, 0 }, 1, 34822023, 127329286 },
    };
    const uint64_t now = 1000 * DAY;

    for (size_t k = 0; k < sizeof table / sizeof *table; k++) {
        struct text t = { "", 0 };
        struct migbuf_prior p;

        for (int i = 0; i < table[k].n * table[k].times; i++) {
            struct migbuf_attempt a = attempt(MIGBUF_ATTEMPT_MOVED, now - table[k].age_days[i % table[k].n] * DAY);

            a.write_bytes_per_s = table[k].rate[i % table[k].n];
            append(&t, &a);
        }
        p = prior(&t, now);
        ck_assert_double_eq_tol(p.write_bytes_per_s, table[k].value, 1);
        ck_assert_double_eq_tol(p.write_most, table[k].most, 1);
        ck_assert_uint_eq(p.attempts, (uint64_t)(table[k].n * table[k].times));
    }
}
END_TEST

START_TEST(how_likely_it_moves)
{
    static const struct {
        int moved, failed;
        double success;
        uint32_t same;
    } table[] = { { 0, 0, 0.9, 0 }, { 23, 0, 0.9697, 0 }, { 23, 1, 0.9412, 1 }, { 0, 3, 0.6923, 3 }, { 1, 4, 0.6667, 4 } };

    for (size_t k = 0; k < sizeof table / sizeof *table; k++) {
        struct text t = { "", 0 };
        struct migbuf_attempt a;
        uint64_t at = 1;

        for (int i = 0; i < table[k].moved; i++) {
            a = attempt(MIGBUF_ATTEMPT_MOVED, at++);
            append(&t, &a);
        }
        for (int i = 0; i < table[k].failed; i++) {
            a = attempt(MIGBUF_ATTEMPT_FAILED, at++);
            append(&t, &a);
        }
        ck_assert_double_eq_tol(prior(&t, 1000).success, table[k].success, 5e-5);
        ck_assert_uint_eq(prior(&t, 1000).same, table[k].same);
        a = attempt(MIGBUF_ATTEMPT_REFUSED, at++); /* it never began: that tells nothing of how it would have ended */
        append(&t, &a);
        ck_assert_double_eq_tol(prior(&t, 1000).success, table[k].success, 5e-5);
        ck_assert_uint_eq(prior(&t, 1000).same, 0);
    }
}
END_TEST

START_TEST(failures_in_a_row_are_of_one_kind)
{
    struct text t = { "", 0 };
    struct migbuf_attempt a = attempt(MIGBUF_ATTEMPT_FAILED, 1);

    append(&t, &a);
    a.at_s = 2;
    a.outcome = MIGBUF_ATTEMPT_BACK;
    append(&t, &a);
    ck_assert_uint_eq(prior(&t, 9).same, 2);
    a.at_s = 3;
    a.why = MIGBUF_ATTEMPT_LINK_DOWN;
    append(&t, &a);
    ck_assert_uint_eq(prior(&t, 9).same, 1);
    a.at_s = 4;
    a.phase = MIGBUF_ATTEMPT_SWITCH;
    append(&t, &a);
    ck_assert_uint_eq(prior(&t, 9).same, 1);
    a = attempt(MIGBUF_ATTEMPT_MOVED, 5);
    append(&t, &a);
    ck_assert_uint_eq(prior(&t, 9).same, 0);
}
END_TEST

START_TEST(beliefs_have_a_beginning)
{
    struct text t = { "", 0 };
    struct migbuf_attempt a = attempt(MIGBUF_ATTEMPT_MOVED, 2000); /* its host's clock is ahead of ours */
    struct migbuf_prior p, q = { .size = sizeof q }, before;

    ck_assert_int_eq(migbuf_prior_init(&p, sizeof p, UINT64_C(4000000000)), 0);
    ck_near(p.write_bytes_per_s, 20e6);
    ck_assert_double_eq_tol(p.write_most, 65338333, 1);
    ck_near(p.dirty_bytes_per_s, 40e6);
    ck_near(p.set_bytes, 200e6);
    ck_near(p.growth_ratio, 1);
    ck_near(p.growth_most, 1);
    ck_near(p.encoding, 1);
    ck_near(p.success, 0.9);
    a.growth_ppm = 125000;
    a.encoding_ppm = 0; /* as good as nothing was sent */
    a.set_bytes = 12500000;
    a.dirty_bytes_per_s = 640000000;
    append(&t, &a);
    ck_assert_int_eq(migbuf_history_prior(t.bytes, t.length, 1000, &p, &q), 0);
    ck_near(q.write_bytes_per_s, 20e6); /* not measured */
    ck_near(q.growth_ratio, pow(0.125, 0.25));
    ck_near(q.growth_most, 1);
    ck_near(q.set_bytes, 100e6);
    ck_near(q.dirty_bytes_per_s, 80e6);
    ck_assert(q.encoding > 0 && q.encoding < 1);
    before = q;
    p.set_bytes = 0;
    ck_assert_int_eq(migbuf_history_prior(t.bytes, t.length, 1000, &p, &q), MIGBUF_E_RANGE);
    p.set_bytes = NAN;
    ck_assert_int_eq(migbuf_history_prior(t.bytes, t.length, 1000, &p, &q), MIGBUF_E_INVALID);
    p.size = 8;
    ck_assert_int_eq(migbuf_history_prior(t.bytes, t.length, 1000, &p, &q), MIGBUF_E_STRUCT);
    ck_assert_int_eq(migbuf_history_prior(NULL, 1, 1000, NULL, &q), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_history_prior(NULL, 0, 1000, NULL, NULL), MIGBUF_E_INVALID);
    ck_assert_mem_eq(&q, &before, sizeof q);
    ck_assert_int_eq(migbuf_history_prior(NULL, 0, 1000, NULL, &q), 0); /* 1 GiB */
    ck_near(q.set_bytes, 0.05 * 1073741824);
    ck_assert_int_eq(migbuf_prior_init(NULL, sizeof p, 1), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_prior_init(&p, 8, 1), MIGBUF_E_STRUCT);
}
END_TEST

START_TEST(names_of_all_constants)
{
    const char *why[] = { "unknown", "done", "deadline", "no-convergence", "no-space", "link-down", "peer-gone", "cancelled",
                          "refused-by-qemu", "blocked", "unknown", "unknown" };

    for (int k = 0; k < 12; k++)
        ck_assert_str_eq(migbuf_attempt_why_text(k), why[k]);
    ck_assert_str_eq(migbuf_attempt_outcome_text(MIGBUF_ATTEMPT_MOVED), "moved");
    ck_assert_str_eq(migbuf_attempt_outcome_text(MIGBUF_ATTEMPT_REFUSED), "refused");
    ck_assert_str_eq(migbuf_attempt_outcome_text(-1), "unknown");
    ck_assert_str_eq(migbuf_attempt_phase_text(MIGBUF_ATTEMPT_ADMISSION), "admission");
    ck_assert_str_eq(migbuf_attempt_phase_text(MIGBUF_ATTEMPT_TARGET), "target");
    ck_assert_str_eq(migbuf_attempt_phase_text(7), "unknown");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        the_24th_knows_that_it_is_the_24th, every_field_comes_back, the_checksum_is_the_one_everybody_has,
        what_makes_no_sense_is_not_written, the_oldest_go_and_are_still_counted, a_line_is_never_longer_than_promised,
        a_broken_line_spoils_no_other, no_attempt_is_the_0th, unknown_keys_are_kept, of_two_lines_of_one_attempt_the_one_that_says_more,
        attempts_that_are_not_the_same_all_stay, merging_has_no_order, what_is_believed_of_the_next, how_likely_it_moves, failures_in_a_row_are_of_one_kind,
        beliefs_have_a_beginning, names_of_all_constants, NULL };

    return unit_run("history", tests, 0);
}
