/* SPDX-License-Identifier: MIT */
/* Which commands the disk machine sends, and when it sends none. That QEMU takes them is tested on QEMU. */
#include "unit.h"
#include "migbuf/disk.h"
#include <string.h>

static const struct migbuf_throttle_config nothing;
static const struct migbuf_limits slow = { .iops_wr = 5, .iops_size = 65536 }, fast = { .iops_wr = 50, .iops_size = 65536 };

static int next(struct migbuf_disk *d, struct migbuf_disk_command *c)
{
    int rc = migbuf_disk_next(d, c);

    ck_assert(rc == 0 || rc == 1);
    return rc;
}

/* Takes the next command, which must be of this kind and, where given, hold this text; it succeeds. */
static void expect(struct migbuf_disk *d, int32_t kind, const char *part)
{
    struct migbuf_disk_command c, again;

    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(next(d, &again), 1);
    ck_assert(c.kind == again.kind && c.arguments == again.arguments);
    ck_assert_int_eq(c.kind, kind);
    if (part)
        ck_assert_msg(strstr(c.arguments, part) != NULL, "%s is not in %s", part, c.arguments);
    ck_assert_int_eq(migbuf_disk_done(d), 0);
}

static void expect_nothing(struct migbuf_disk *d)
{
    struct migbuf_disk_command c;

    ck_assert_int_eq(next(d, &c), 0);
}

/* Answers a query for one disk. */
static void answer(struct migbuf_disk *d, const struct migbuf_throttle_config *config)
{
    struct migbuf_disk_command c;

    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(c.kind, MIGBUF_DISK_QUERY);
    ck_assert_str_eq(c.name, "query-block");
    ck_assert_ptr_null(c.arguments);
    ck_assert_int_eq(migbuf_disk_found(d, "other", "dev-other", &nothing), 0);
    ck_assert_int_eq(migbuf_disk_found(d, "lxd_root", "/machine/peripheral/dev-lxd_root/virtio-backend", config), 1);
    ck_assert_int_eq(migbuf_disk_done(d), 0);
}

static struct migbuf_disk *learnt(const struct migbuf_throttle_config *host)
{
    struct migbuf_disk *d;

    ck_assert_int_eq(migbuf_disk_new("migbuf-vm1", NULL, &d), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "lxd_root"), 0);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    answer(d, host);
    return d;
}

static struct migbuf_disk_info info_of(const struct migbuf_disk *d)
{
    struct migbuf_disk_info info = { .size = sizeof info };

    ck_assert_int_eq(migbuf_disk_info(d, &info), 0);
    return info;
}

START_TEST(a_life_with_a_throttle)
{
    struct migbuf_throttle_config host = { .bps_rd = 7000, .iops_wr = 400, .iops_wr_max = 900, .iops_wr_max_length = 3 };
    struct migbuf_disk *d;

    strcpy(host.group, "dev-lxd_root");
    d = learnt(&host);
    expect_nothing(d);
    ck_assert_int_eq(migbuf_disk_set(d, &fast), 0);
    expect(d, MIGBUF_DISK_ADD, "\"id\":\"migbuf-vm1\",\"limits\":{\"bps-total\":0,\"bps-read\":7000,");
    expect(d, MIGBUF_DISK_THROTTLE,
           "{\"id\":\"/machine/peripheral/dev-lxd_root/virtio-backend\",\"bps\":0,\"bps_rd\":7000,\"bps_wr\":0,"
           "\"iops\":0,\"iops_rd\":0,\"iops_wr\":50,\"iops_size\":65536,\"group\":\"migbuf-vm1\"}");
    expect_nothing(d);
    ck_assert(info_of(d).throttled && info_of(d).limits.iops_wr == 50);

    ck_assert_int_eq(migbuf_disk_set(d, &fast), 0); /* unchanged: not again */
    expect_nothing(d);
    ck_assert_int_eq(migbuf_disk_set(d, &slow), 0); /* lower: on the object, which wakes nobody */
    expect(d, MIGBUF_DISK_LIMITS, "{\"path\":\"/objects/migbuf-vm1\",\"property\":\"limits\",\"value\":{\"bps-total\":0,");
    ck_assert_int_eq(migbuf_disk_set(d, &fast), 0); /* higher: on the device, whose waiting write must notice */
    expect(d, MIGBUF_DISK_THROTTLE, "\"iops_wr\":50");
    expect_nothing(d);

    ck_assert_int_eq(migbuf_disk_restore(d), 0);
    ck_assert(!info_of(d).restored);
    ck_assert_int_eq(migbuf_disk_set(d, &slow), MIGBUF_E_STATE); /* too late */
    expect(d, MIGBUF_DISK_THROTTLE,
           "\"bps\":0,\"bps_rd\":7000,\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":400,\"iops_wr_max\":900,"
           "\"iops_wr_max_length\":3,\"group\":\"dev-lxd_root\"}");
    expect(d, MIGBUF_DISK_DELETE, "{\"id\":\"migbuf-vm1\"}");
    expect_nothing(d);
    ck_assert(info_of(d).restored && info_of(d).commands_sent == 6);
    ck_assert_int_eq(migbuf_disk_restore(d), 0);
    expect_nothing(d);
    migbuf_disk_free(d);
}
END_TEST

START_TEST(two_disks_share_one_group)
{
    struct migbuf_throttle_config a = { .bps_rd = 100 }, b = { .bps_rd = 50, .bps_wr = 9 };
    struct migbuf_disk *d;
    struct migbuf_disk_command c;

    ck_assert_int_eq(migbuf_disk_new("g", NULL, &d), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "one"), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "two"), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "two"), MIGBUF_E_EXISTS);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "one", "dev-one", &a), 1);
    ck_assert_int_eq(migbuf_disk_done(d), MIGBUF_E_NOTFOUND);
    ck_assert_int_eq(migbuf_disk_set(d, &slow), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "one", "dev-one", &a), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "two", "dev-two", &b), 1);
    ck_assert_int_eq(migbuf_disk_done(d), 0);
    ck_assert_int_eq(migbuf_disk_set(d, &slow), 0);
    expect(d, MIGBUF_DISK_ADD, "\"bps-read\":50,\"bps-write\":9,"); /* the strictest of both */
    expect(d, MIGBUF_DISK_THROTTLE, "\"id\":\"dev-one\"");
    expect(d, MIGBUF_DISK_THROTTLE, "\"id\":\"dev-two\"");
    expect_nothing(d);
    ck_assert_int_eq(migbuf_disk_set(d, &fast), 0); /* higher: any of them may have the group's timer */
    expect(d, MIGBUF_DISK_THROTTLE, "\"id\":\"dev-one\"");
    expect(d, MIGBUF_DISK_THROTTLE, "\"id\":\"dev-two\"");
    expect_nothing(d);
    ck_assert_int_eq(migbuf_disk_set(d, &slow), 0); /* lower: once for all */
    expect(d, MIGBUF_DISK_LIMITS, "\"iops-write\":5,");
    expect_nothing(d);
    ck_assert_int_eq(migbuf_disk_restore(d), 0);
    expect(d, MIGBUF_DISK_THROTTLE, "\"bps_rd\":100,\"bps_wr\":0");
    expect(d, MIGBUF_DISK_THROTTLE, "\"bps_rd\":50,\"bps_wr\":9");
    expect(d, MIGBUF_DISK_DELETE, NULL);
    expect_nothing(d);
    migbuf_disk_free(d);
}
END_TEST

START_TEST(another_hand_is_noticed)
{
    struct migbuf_throttle_config theirs = { .bps_wr = 123 }, ours = { .iops_wr = 5, .iops_size = 65536 }, host;
    struct migbuf_disk *d = learnt(&nothing);

    ck_assert_int_eq(migbuf_disk_set(d, &slow), 0);
    expect(d, MIGBUF_DISK_ADD, NULL);
    expect(d, MIGBUF_DISK_THROTTLE, NULL);
    strcpy(ours.group, "migbuf-vm1");
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    answer(d, &ours);
    expect_nothing(d);
    ck_assert_int_eq(info_of(d).taken_over, 0);

    strcpy(theirs.group, "dev-lxd_root");
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    answer(d, &theirs);
    ck_assert_int_eq(info_of(d).taken_over, 1);
    expect(d, MIGBUF_DISK_THROTTLE, "\"bps_wr\":123,\"iops\":0,\"iops_rd\":0,\"iops_wr\":5,");
    expect_nothing(d);
    ck_assert_int_eq(migbuf_disk_host(d, "lxd_root", &host), 0);
    ck_assert(host.bps_wr == 123);

    ours.iops_wr = 999; /* somebody changed our group itself */
    ours.bps_wr = 123;
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    answer(d, &ours);
    expect(d, MIGBUF_DISK_LIMITS, "\"iops-write\":5,");
    ck_assert_int_eq(info_of(d).taken_over, 2);
    ck_assert_int_eq(migbuf_disk_host(d, "lxd_root", &host), 0);
    ck_assert(host.iops_wr == 999 && host.bps_wr == 123 && !strcmp(host.group, "dev-lxd_root"));
    migbuf_disk_free(d);

    d = learnt(&nothing); /* the host had no group: QEMU would have made one with the device's name */
    ck_assert_int_eq(migbuf_disk_set(d, &slow), 0);
    expect(d, MIGBUF_DISK_ADD, NULL);
    expect(d, MIGBUF_DISK_THROTTLE, NULL);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    answer(d, &ours);
    ck_assert_int_eq(migbuf_disk_restore(d), 0);
    expect(d, MIGBUF_DISK_THROTTLE, "\"iops_wr\":999,\"iops_size\":65536,\"group\":\"/machine/peripheral/dev-lxd_root/virtio-backend\"}");
    expect(d, MIGBUF_DISK_DELETE, NULL);
    migbuf_disk_free(d);
}
END_TEST

/* Says that the next command failed. */
static int refuse(struct migbuf_disk *d, int32_t kind)
{
    struct migbuf_disk_command c;

    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(c.kind, kind);
    return migbuf_disk_failed(d);
}

START_TEST(refusals_have_another_way_or_an_end)
{
    struct migbuf_disk *d = learnt(&nothing);

    ck_assert_int_eq(migbuf_disk_set(d, &fast), 0);
    ck_assert_int_eq(refuse(d, MIGBUF_DISK_ADD), 0);
    ck_assert_int_eq(refuse(d, MIGBUF_DISK_THROTTLE), MIGBUF_E_PEER);
    ck_assert(info_of(d).failed && !info_of(d).throttled);
    expect_nothing(d);
    ck_assert_int_eq(migbuf_disk_set(d, &fast), 0);
    expect(d, MIGBUF_DISK_THROTTLE, NULL);
    ck_assert_int_eq(migbuf_disk_set(d, &slow), 0);
    ck_assert_int_eq(refuse(d, MIGBUF_DISK_LIMITS), 0);
    expect(d, MIGBUF_DISK_THROTTLE, "\"iops_wr\":5");
    ck_assert(info_of(d).plain && info_of(d).throttled && info_of(d).limits.iops_wr == 5);
    ck_assert_int_eq(migbuf_disk_restore(d), 0);
    expect(d, MIGBUF_DISK_THROTTLE, "\"iops_wr\":0");
    ck_assert_int_eq(refuse(d, MIGBUF_DISK_DELETE), 0); /* it may never have been there */
    expect_nothing(d);
    ck_assert(info_of(d).restored);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(refuse(d, MIGBUF_DISK_QUERY), MIGBUF_E_PEER);
    expect_nothing(d);
    migbuf_disk_free(d);
}
END_TEST

START_TEST(names_are_escaped_and_bounded)
{
    struct migbuf_disk *d;
    struct migbuf_disk_command c;
    char longest[600];

    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    ck_assert_int_eq(migbuf_disk_new("1a", NULL, &d), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_disk_new("", NULL, &d), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_disk_new("a\"b", NULL, &d), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_disk_new("a", NULL, &d), 0);
    ck_assert_int_eq(migbuf_disk_learn(d), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_disk_watch(d, longest), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_disk_watch(d, "n"), 0);
    ck_assert_int_eq(migbuf_disk_found(d, "n", "q", &nothing), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_disk_done(d), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_disk_failed(d), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "n", longest, &nothing), MIGBUF_E_TOO_BIG);
    ck_assert_ptr_null(migbuf_disk_qdev(d, "n"));
    ck_assert_int_eq(migbuf_disk_found(d, "n", "a\"b\\c\n", &nothing), 1);
    ck_assert_int_eq(migbuf_disk_done(d), 0);
    ck_assert_str_eq(migbuf_disk_qdev(d, "n"), "a\"b\\c\n");
    ck_assert_int_eq(migbuf_disk_set(d, &(struct migbuf_limits){ 0 }), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_disk_set(d, &slow), 0);
    expect(d, MIGBUF_DISK_ADD, NULL);
    expect(d, MIGBUF_DISK_THROTTLE, "{\"id\":\"a\\\"b\\\\c\\u000a\",");
    ck_assert_int_eq(migbuf_disk_watch(d, "m"), MIGBUF_E_STATE);
    migbuf_disk_free(d);
    migbuf_disk_free(NULL);
}
END_TEST

/* A saved text and the machine it makes. */
START_TEST(the_same_once_more_empties_the_bucket)
{
    struct migbuf_disk *d = learnt(&nothing);

    ck_assert_int_eq(migbuf_disk_again(d), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_disk_again(NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_disk_set(d, &slow), 0);
    ck_assert_int_eq(migbuf_disk_again(d), MIGBUF_E_STATE);
    expect(d, MIGBUF_DISK_ADD, NULL);
    expect(d, MIGBUF_DISK_THROTTLE, NULL);
    expect_nothing(d);
    ck_assert_int_eq(migbuf_disk_set(d, &slow), 0);
    expect_nothing(d);
    ck_assert_int_eq(migbuf_disk_again(d), 0);
    expect(d, MIGBUF_DISK_THROTTLE, "\"iops_wr\":5,\"iops_size\":65536,\"group\":\"migbuf-vm1\"");
    expect_nothing(d);
    ck_assert_int_eq(migbuf_disk_restore(d), 0);
    ck_assert_int_eq(migbuf_disk_again(d), MIGBUF_E_STATE);
    migbuf_disk_free(d);
}
END_TEST

static struct migbuf_disk *saved_and_loaded(const struct migbuf_disk *d, char *text, size_t size)
{
    struct migbuf_disk *again;
    size_t length = 0, same_length = 0;
    char same[4096];

    ck_assert_int_eq(migbuf_disk_save(d, NULL, 0, &length), MIGBUF_E_TOO_BIG);
    ck_assert(length > 0 && length < size);
    ck_assert_int_eq(migbuf_disk_save(d, text, length, &length), MIGBUF_E_TOO_BIG);
    ck_assert_int_eq(migbuf_disk_save(d, text, length + 1, &length), 0);
    ck_assert(strlen(text) == length);
    ck_assert_int_eq(migbuf_disk_load(text, length, NULL, &again), 0);
    /* Before it asks it can be saved as it was, for a second death in a row. */
    ck_assert_int_eq(migbuf_disk_save(again, same, sizeof same, &same_length), 0);
    ck_assert(same_length == length && !strcmp(same, text));
    return again;
}

START_TEST(a_restarted_host_finds_what_to_restore)
{
    struct migbuf_throttle_config host = { .bps_rd = 7000, .bps_rd_max = 8000 }, ours = { .iops_wr = 5, .iops_size = 65536 };
    struct migbuf_disk *d, *again;
    char text[4096];

    strcpy(host.group, "of \"theirs\"\n");
    strcpy(ours.group, "migbuf-vm1");
    d = learnt(&host);
    again = saved_and_loaded(d, text, sizeof text);
    migbuf_disk_free(d);
    ck_assert_int_eq(migbuf_disk_set(again, &slow), MIGBUF_E_STATE); /* first it asks */
    ck_assert(!info_of(again).throttled);
    answer(again, &ours);
    ck_assert(info_of(again).throttled && info_of(again).limits.iops_wr == 5 &&
              info_of(again).limits.iops_size == 65536 && !info_of(again).limits.bps_wr);
    expect_nothing(again); /* what was found may go on */
    ours.bps_rd = 7000;
    ck_assert_int_eq(migbuf_disk_set(again, &slow), 0);
    expect(again, MIGBUF_DISK_LIMITS, "\"bps-read\":7000"); /* the host's read limit was missing, and its burst */
    expect_nothing(again);
    ck_assert_int_eq(migbuf_disk_restore(again), 0);
    expect(again, MIGBUF_DISK_THROTTLE, "\"bps_rd\":7000,\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":0,"
                                        "\"bps_rd_max\":8000,\"group\":\"of \\\"theirs\\\"\\u000a\"}");
    expect(again, MIGBUF_DISK_DELETE, NULL);
    expect_nothing(again);
    migbuf_disk_free(again);

    d = learnt(&host); /* died before its first limit: what is found is the host's, not what was saved */
    again = saved_and_loaded(d, text, sizeof text);
    migbuf_disk_free(d);
    host.bps_rd = 6000;
    answer(again, &host);
    ck_assert(!info_of(again).throttled);
    ck_assert_int_eq(migbuf_disk_restore(again), 0);
    ck_assert_int_eq(refuse(again, MIGBUF_DISK_DELETE), 0); /* there is no group, but there might be */
    expect_nothing(again);
    ck_assert_int_eq(migbuf_disk_host(again, "lxd_root", &host), 0);
    ck_assert(host.bps_rd == 6000 && info_of(again).restored);
    migbuf_disk_free(again);

    d = learnt(&host); /* died between the host's limits and the group's end */
    again = saved_and_loaded(d, text, sizeof text);
    migbuf_disk_free(d);
    answer(again, &host);
    ck_assert_int_eq(migbuf_disk_restore(again), 0);
    ck_assert(!info_of(again).restored);
    expect(again, MIGBUF_DISK_DELETE, "migbuf-vm1");
    expect_nothing(again);
    ck_assert(info_of(again).restored);
    migbuf_disk_free(again);
}
END_TEST

START_TEST(a_damaged_record_is_refused)
{
    struct migbuf_disk *d = learnt(&nothing), *out = NULL;
    char text[4096], bad[4096];
    size_t n;

    ck_assert_int_eq(migbuf_disk_save(d, text, sizeof text, &n), 0);
    for (size_t cut = 0; cut < n; cut++)
        ck_assert_int_eq(migbuf_disk_load(text, cut, NULL, &out), MIGBUF_E_PROTOCOL);
    for (size_t at = 0; at < n; at++) {
        memcpy(bad, text, n);
        bad[at] ^= 1;
        ck_assert_int_eq(migbuf_disk_load(bad, n, NULL, &out), MIGBUF_E_PROTOCOL);
    }
    ck_assert_int_eq(migbuf_disk_load(text, 1 << 20, NULL, &out), MIGBUF_E_TOO_BIG);
    ck_assert_int_eq(migbuf_disk_load(NULL, 5, NULL, &out), MIGBUF_E_INVALID);
    ck_assert_ptr_null(out);
    migbuf_disk_free(d);
}
END_TEST

START_TEST(typed_calls_alone)
{
    struct migbuf_throttle_config a = { .bps_rd = 7000, .iops_wr = 400 }, b = { .bps_wr = 9000 }, seen, host;
    const struct migbuf_limits ten = { .iops_wr = 10, .bps_wr = 655360 }, four = { .iops_wr = 4, .bps_wr = 100000 };
    struct migbuf_disk_command c;
    struct migbuf_disk *d, *again;
    char text[4096];
    size_t length;

    strcpy(a.group, "dev-one");
    strcpy(b.group, "dev-two");
    ck_assert_int_eq(migbuf_disk_typed(NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_disk_new("g", NULL, &d), 0);
    ck_assert_int_eq(migbuf_disk_typed(d), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "one"), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "two"), 0);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "one", "dev-one", &a), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "two", "dev-two", &b), 1);
    ck_assert_int_eq(migbuf_disk_done(d), 0);
    ck_assert_int_eq(migbuf_disk_typed(d), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_disk_set(d, &slow), MIGBUF_E_UNSUPPORTED); /* iops_size */
    ck_assert_int_eq(migbuf_disk_set(d, &(struct migbuf_limits){ .iops_wr = 1, .bps_wr = 65536 }), MIGBUF_E_RANGE);
    expect_nothing(d);
    ck_assert_int_eq(migbuf_disk_set(d, &ten), 0);
    expect(d, MIGBUF_DISK_THROTTLE,
           "{\"id\":\"dev-one\",\"bps\":0,\"bps_rd\":7000,\"bps_wr\":327680,\"iops\":0,\"iops_rd\":0,\"iops_wr\":5}");
    ck_assert(!info_of(d).throttled);
    expect(d, MIGBUF_DISK_THROTTLE, "{\"id\":\"dev-two\",\"bps\":0,\"bps_rd\":0,\"bps_wr\":9000,\"iops\":0,\"iops_rd\":0,\"iops_wr\":5}");
    expect_nothing(d);
    ck_assert(info_of(d).throttled && info_of(d).plain && info_of(d).limits.iops_wr == 10);
    ck_assert_int_eq(migbuf_disk_set(d, &ten), 0); /* unchanged: not again */
    expect_nothing(d);
    ck_assert_int_eq(migbuf_disk_set(d, &four), 0); /* lower: there is only the one call */
    expect(d, MIGBUF_DISK_THROTTLE, "\"bps_wr\":50000,\"iops\":0,\"iops_rd\":0,\"iops_wr\":2}");
    expect(d, MIGBUF_DISK_THROTTLE, "\"bps_wr\":9000,\"iops\":0,\"iops_rd\":0,\"iops_wr\":2}");
    ck_assert(info_of(d).commands_sent == 4);
    ck_assert_int_eq(migbuf_disk_again(d), 0);
    expect(d, MIGBUF_DISK_THROTTLE, "\"id\":\"dev-one\"");
    expect(d, MIGBUF_DISK_THROTTLE, "\"id\":\"dev-two\"");
    expect_nothing(d);

    /* Another hand at the second disk. */
    seen = (struct migbuf_throttle_config){ .bps_rd = 7000, .bps_wr = 50000, .iops_wr = 2 };
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "one", "dev-one", &seen), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "two", "dev-two", &nothing), 1);
    ck_assert_int_eq(migbuf_disk_done(d), 0);
    ck_assert_int_eq(info_of(d).taken_over, 1);
    expect(d, MIGBUF_DISK_THROTTLE, "{\"id\":\"dev-two\",\"bps\":0,\"bps_rd\":0,\"bps_wr\":50000,");
    expect_nothing(d);

    /* The next process finds one disk as we left it, and the other as it was: died in between. */
    ck_assert_int_eq(migbuf_disk_save(d, text, sizeof text, &length), 0);
    ck_assert_int_eq(migbuf_disk_load(text, length, NULL, &again), 0);
    ck_assert_int_eq(next(again, &c), 1);
    ck_assert_int_eq(migbuf_disk_found(again, "one", "dev-one", &seen), 1);
    ck_assert_int_eq(migbuf_disk_found(again, "two", "dev-two", &nothing), 1);
    ck_assert_int_eq(migbuf_disk_done(again), 0);
    ck_assert_int_eq(migbuf_disk_restore(again), 0);
    expect(again, MIGBUF_DISK_THROTTLE, "{\"id\":\"dev-one\",\"bps\":0,\"bps_rd\":7000,\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":400}");
    expect_nothing(again);
    ck_assert(info_of(again).restored);
    migbuf_disk_free(again);

    ck_assert_int_eq(migbuf_disk_restore(d), 0);
    expect(d, MIGBUF_DISK_THROTTLE, "\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":400}");
    expect(d, MIGBUF_DISK_THROTTLE, "\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":0}");
    expect_nothing(d);
    ck_assert(info_of(d).restored);
    ck_assert_int_eq(migbuf_disk_host(d, "two", &host), 0);
    ck_assert(host.bps_wr == 0);
    migbuf_disk_free(d);
}
END_TEST

START_TEST(typed_calls_cannot_say_everything)
{
    const struct migbuf_throttle_config host[] = { { .bps = 5000 }, { .iops = 70 }, { .iops_wr = 5, .iops_wr_max = 9 },
                                                   { .iops_rd = 5, .iops_size = 4096 } };

    for (size_t k = 0; k < sizeof host / sizeof *host; k++) {
        struct migbuf_disk *d;

        ck_assert_int_eq(migbuf_disk_new("g", NULL, &d), 0);
        ck_assert_int_eq(migbuf_disk_typed(d), 0);
        ck_assert_int_eq(migbuf_disk_watch(d, "lxd_root"), 0);
        ck_assert_int_eq(migbuf_disk_learn(d), 0);
        answer(d, &host[k]);
        ck_assert_int_eq(migbuf_disk_set(d, &(struct migbuf_limits){ .iops_wr = 5, .bps_wr = 9 }), MIGBUF_E_UNSUPPORTED);
        expect_nothing(d);
        migbuf_disk_free(d);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { a_life_with_a_throttle, the_same_once_more_empties_the_bucket, two_disks_share_one_group, another_hand_is_noticed,
                                   refusals_have_another_way_or_an_end, names_are_escaped_and_bounded,
                                   a_restarted_host_finds_what_to_restore, a_damaged_record_is_refused, typed_calls_alone,
                                   typed_calls_cannot_say_everything, NULL };

    return unit_run("disk", tests, 10);
}
