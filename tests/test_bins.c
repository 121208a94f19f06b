/* SPDX-License-Identifier: MIT */
/* The ledger, case by case; the laws are checked against a second implementation elsewhere. */
#include "unit.h"
#include "migbuf/bins.h"
#include <stdio.h>
#include <string.h>

/* "0{0:100 2:5} 1{1:7}": bins in order of start, stacks from the bottom. */
static const char *drawn(const struct migbuf_bins *b)
{
    static char text[1024];
    struct migbuf_shard s[64];
    int n = migbuf_bins_shards(b, s, 64);
    size_t used = 0;

    ck_assert(n >= 0 && n <= 64);
    text[0] = 0;
    for (int k = 0; k < n; k++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%llu:%llu%s",
                                 s[k].position == 1 ? (k ? " {" : "{") : " ", (unsigned long long)s[k].id,
                                 (unsigned long long)s[k].bytes,
                                 k + 1 == n || s[k + 1].position == 1 ? "}" : "");
    return text;
}

static struct migbuf_bins *ledger(uint64_t capacity, int migrations)
{
    struct migbuf_bins *b;

    ck_assert_int_eq(migbuf_bins_new(capacity, NULL, &b), 0);
    for (int i = 0; i < migrations; i++)
        ck_assert_int_eq(migbuf_bins_start(b, (uint64_t)i, 1, 0), 0);
    return b;
}

static void set(struct migbuf_bins *b, uint64_t id, uint64_t bytes)
{
    ck_assert_int_eq(migbuf_bins_set(b, id, bytes), 0);
}

START_TEST(arrival_cuts_from_the_top)
{
    struct migbuf_bins *b = ledger(300, 2);

    set(b, 0, 130);
    set(b, 1, 40);
    ck_assert_str_eq(drawn(b), "{0:130} {1:40}");
    ck_assert_int_eq(migbuf_bins_start(b, 2, 1, 0), 0);
    ck_assert_str_eq(drawn(b), "{0:100} {1:40} {2:0 0:30}");
    migbuf_bins_free(b);
}
END_TEST

START_TEST(growth_goes_home_then_own_shards_then_pours)
{
    struct migbuf_bins *b = ledger(400, 4);

    set(b, 2, 40);
    set(b, 1, 30);
    set(b, 3, 50);
    set(b, 0, 130);
    ck_assert_str_eq(drawn(b), "{0:100} {1:30 0:30} {2:40} {3:50}");
    set(b, 0, 175);
    ck_assert_str_eq(drawn(b), "{0:100} {1:30 0:70} {2:40 0:5} {3:50}");
    set(b, 0, 180);
    ck_assert_str_eq(drawn(b), "{0:100} {1:30 0:70} {2:40 0:10} {3:50}");
    migbuf_bins_free(b);
}
END_TEST

START_TEST(shrinking_brings_others_home)
{
    struct migbuf_bins *b = ledger(300, 3);

    set(b, 0, 130);
    set(b, 1, 90);
    ck_assert_str_eq(drawn(b), "{0:100} {1:70 0:30} {2:0 1:20}");
    set(b, 0, 110);
    ck_assert_str_eq(drawn(b), "{0:100} {1:90 0:10} {2:0}");
    set(b, 2, 100);
    ck_assert_str_eq(drawn(b), "{0:100} {1:90 0:10} {2:100}");
    set(b, 1, 0);
    set(b, 0, 0);
    ck_assert_str_eq(drawn(b), "{0:0} {1:0} {2:100}");
    migbuf_bins_free(b);
}
END_TEST

START_TEST(the_end_of_one_moves_guests_home)
{
    struct migbuf_bins *b = ledger(300, 3);

    set(b, 1, 40);
    set(b, 2, 10);
    set(b, 0, 150);
    ck_assert_str_eq(drawn(b), "{0:100} {1:40} {2:10 0:50}");
    ck_assert_int_eq(migbuf_bins_end(b, 2), 0);
    ck_assert_str_eq(drawn(b), "{0:150} {1:40}");
    ck_assert_int_eq(migbuf_bins_end(b, 0), 0);
    ck_assert_int_eq(migbuf_bins_end(b, 1), 0);
    ck_assert_str_eq(drawn(b), "");
    ck_assert_int_eq(migbuf_bins_start(b, 9, 1, 300), 0);
    ck_assert_str_eq(drawn(b), "{9:300}");
    migbuf_bins_free(b);
}
END_TEST

START_TEST(files_beyond_omega_are_booked_at_home)
{
    struct migbuf_bins *b = ledger(100, 2);
    struct migbuf_bin bins[2];

    set(b, 0, 130);
    ck_assert_str_eq(drawn(b), "{0:80} {1:0 0:50}");
    ck_assert(migbuf_bins_excess(b) == 30 && migbuf_bins_used(b) == 130);
    ck_assert_int_eq(migbuf_bins_list(b, bins, 2), 2);
    ck_assert(bins[0].frozen && bins[1].frozen && bins[0].used_bytes == 80 && bins[0].share_bytes == 50);
    set(b, 0, 90);
    ck_assert_str_eq(drawn(b), "{0:50} {1:0 0:40}");
    ck_assert(migbuf_bins_excess(b) == 0);
    ck_assert_int_eq(migbuf_bins_resize(b, 89), MIGBUF_E_IN_USE);
    ck_assert_int_eq(migbuf_bins_resize(b, 90), 0);
    ck_assert_str_eq(drawn(b), "{0:45} {1:0 0:45}");
    ck_assert_int_eq(migbuf_bins_resize(b, 200), 0);
    ck_assert_str_eq(drawn(b), "{0:90} {1:0}");
    migbuf_bins_free(b);
}
END_TEST

START_TEST(view_of_the_papers_figure)
{
    struct migbuf_bins *b = ledger(400, 4);
    struct migbuf_bins_view v = { .size = sizeof v };

    /* b0{0:100} b1{1:45 2:22 0:28} b2{2:100} b3{3:10 0:22 2:17} */
    set(b, 1, 45);
    set(b, 3, 73);
    set(b, 2, 122);
    ck_assert_str_eq(drawn(b), "{0:0 2:22} {1:45} {2:100} {3:73}");
    set(b, 2, 100);
    set(b, 0, 0);
    ck_assert_int_eq(migbuf_bins_view(b, 1, &v), 0);
    ck_near(v.capacity_bytes, 100);
    ck_near(v.used_bytes, 45);
    ck_near(v.free_bytes, 55);
    ck_near(v.priority, 1);
    ck_assert(v.shards == 1 && !v.prospective && v.bytes == 45 && v.home_bytes == 45 && v.share_bytes == 100);
    ck_assert_int_eq(migbuf_bins_view(b, 2, &v), 0); /* home is full: it looks at the emptiest bin */
    ck_near(v.priority, 1.5);
    ck_near(v.free_bytes, 50);
    ck_assert(v.prospective == 1);
    v.size = 8;
    ck_assert_int_eq(migbuf_bins_view(b, 2, &v), MIGBUF_E_STRUCT);
    v.size = sizeof v;
    ck_assert_int_eq(migbuf_bins_view(b, 77, &v), MIGBUF_E_NOTFOUND);
    migbuf_bins_free(b);
}
END_TEST

START_TEST(weights_divide_omega)
{
    struct migbuf_bins *b = ledger(400, 0);
    struct migbuf_bin bins[3];

    ck_assert_int_eq(migbuf_bins_start(b, UINT64_MAX, 2, 0), 0);
    ck_assert_int_eq(migbuf_bins_start(b, 0, 1, 0), 0);
    ck_assert_int_eq(migbuf_bins_start(b, 7, 1, 0), 0);
    ck_assert_int_eq(migbuf_bins_list(b, bins, 3), 3);
    ck_assert(bins[0].id == UINT64_MAX && bins[0].share_bytes == 200 && bins[1].share_bytes == 100);
    ck_assert_int_eq(migbuf_bins_list(b, NULL, 0), 3);
    migbuf_bins_free(b);
}
END_TEST

START_TEST(what_is_refused_changes_nothing)
{
    struct migbuf_bins *b = ledger(400, 2), *none = NULL;
    char before[256];

    set(b, 0, 250);
    snprintf(before, sizeof before, "%s", drawn(b));
    ck_assert_int_eq(migbuf_bins_start(b, 0, 1, 0), MIGBUF_E_EXISTS);
    ck_assert_int_eq(migbuf_bins_start(b, 5, 0, 0), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_bins_start(b, 5, 1, UINT64_MAX), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_bins_set(b, 5, 1), MIGBUF_E_NOTFOUND);
    ck_assert_int_eq(migbuf_bins_set(b, 1, MIGBUF_BYTES_MAX + 1), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_bins_end(b, 5), MIGBUF_E_NOTFOUND);
    ck_assert_int_eq(migbuf_bins_resize(b, UINT64_MAX), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_bins_new(UINT64_MAX, NULL, &none), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_bins_new(1, NULL, NULL), MIGBUF_E_INVALID);
    ck_assert_ptr_null(none);
    ck_assert_str_eq(drawn(b), before);
    migbuf_bins_free(b);
    migbuf_bins_free(NULL);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { arrival_cuts_from_the_top,      growth_goes_home_then_own_shards_then_pours,
                                   shrinking_brings_others_home,   the_end_of_one_moves_guests_home,
                                   files_beyond_omega_are_booked_at_home, view_of_the_papers_figure,
                                   weights_divide_omega, what_is_refused_changes_nothing, NULL };

    return unit_run("bins", tests, 10);
}
