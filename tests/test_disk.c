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
    ck_assert_int_eq(migbuf_disk_answered(d, MIGBUF_OUTCOME_DONE), 0);
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
    ck_assert_int_eq(migbuf_disk_answered(d, MIGBUF_OUTCOME_DONE), 0);
}

/* The same for two disks, "one" and "two"; NULL for one that is not there. */
static int answer_two(struct migbuf_disk *d, const struct migbuf_throttle_config *one,
                      const struct migbuf_throttle_config *two)
{
    struct migbuf_disk_command c;

    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(c.kind, MIGBUF_DISK_QUERY);
    if (one)
        ck_assert_int_eq(migbuf_disk_found(d, "one", "dev-one", one), 1);
    if (two)
        ck_assert_int_eq(migbuf_disk_found(d, "two", "dev-two", two), 1);
    return migbuf_disk_answered(d, MIGBUF_OUTCOME_DONE);
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
    struct migbuf_throttle_config host = { .bps_rd = 7000, .iops_wr = 400, .iops_wr_max = 900, .iops_wr_max_length = 3 }, ours;
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
    ours = (struct migbuf_throttle_config){ .bps_rd = 7000, .iops_wr = 50, .iops_size = 65536, .group = "migbuf-vm1" };
    answer(d, &ours); /* it looks first */
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
    struct migbuf_throttle_config a = { .bps_rd = 100 }, b = { .bps_rd = 50, .bps_wr = 9 }, ours;
    struct migbuf_disk *d;
    struct migbuf_disk_command c;

    ck_assert_int_eq(migbuf_disk_new("g", NULL, &d), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "one"), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "two"), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "two"), MIGBUF_E_EXISTS);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "one", "dev-one", &a), 1);
    ck_assert_int_eq(migbuf_disk_answered(d, MIGBUF_OUTCOME_DONE), MIGBUF_E_NOTFOUND);
    ck_assert_int_eq(migbuf_disk_set(d, &slow), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "one", "dev-one", &a), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "two", "dev-two", &b), 1);
    ck_assert_int_eq(migbuf_disk_answered(d, MIGBUF_OUTCOME_DONE), 0);
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
    ours = (struct migbuf_throttle_config){ .bps_rd = 50, .bps_wr = 9, .iops_wr = 5, .iops_size = 65536, .group = "g" };
    answer_two(d, &ours, &ours);
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
    ck_assert_int_eq(migbuf_disk_host_limits(d, "lxd_root", &host), 0);
    ck_assert(host.bps_wr == 123);

    ours.iops_wr = 999; /* somebody changed our group itself */
    ours.bps_wr = 123;
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    answer(d, &ours);
    expect(d, MIGBUF_DISK_LIMITS, "\"iops-write\":5,");
    ck_assert_int_eq(info_of(d).taken_over, 2);
    ck_assert_int_eq(migbuf_disk_host_limits(d, "lxd_root", &host), 0);
    ck_assert(host.iops_wr == 999 && host.bps_wr == 123 && !strcmp(host.group, "dev-lxd_root"));
    migbuf_disk_free(d);

    d = learnt(&nothing); /* the host had no group: QEMU would have made one with the device's name */
    ck_assert_int_eq(migbuf_disk_set(d, &slow), 0);
    expect(d, MIGBUF_DISK_ADD, NULL);
    expect(d, MIGBUF_DISK_THROTTLE, NULL);
    ck_assert_int_eq(migbuf_disk_restore(d), 0);
    answer(d, &ours);
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
    return migbuf_disk_answered(d, MIGBUF_OUTCOME_REFUSED);
}

START_TEST(refusals_have_another_way_or_an_end)
{
    struct migbuf_throttle_config ours = { .iops_wr = 50, .iops_size = 65536, .group = "migbuf-vm1" };
    struct migbuf_disk *d = learnt(&nothing);

    ck_assert_int_eq(migbuf_disk_outcome(d), 0);
    ck_assert_int_eq(migbuf_disk_set(d, &fast), 0);
    ck_assert_int_eq(refuse(d, MIGBUF_DISK_ADD), 0);
    ck_assert_int_eq(refuse(d, MIGBUF_DISK_THROTTLE), 0); /* is the disk there? */
    answer(d, &nothing);
    ck_assert_int_eq(refuse(d, MIGBUF_DISK_THROTTLE), MIGBUF_E_PEER);
    ck_assert(info_of(d).failed && !info_of(d).throttled);
    ck_assert_int_eq(migbuf_disk_outcome(d), MIGBUF_OUTCOME_REFUSED);
    expect_nothing(d);
    ck_assert_int_eq(migbuf_disk_learn(d), 0); /* what was refused is not wanted any more */
    answer(d, &nothing);
    expect_nothing(d);
    ck_assert_int_eq(migbuf_disk_set(d, &fast), 0);
    expect(d, MIGBUF_DISK_THROTTLE, NULL);
    expect_nothing(d);
    ck_assert_int_eq(migbuf_disk_outcome(d), MIGBUF_OUTCOME_DONE);
    ck_assert_int_eq(migbuf_disk_set(d, &slow), 0);
    ck_assert_int_eq(migbuf_disk_outcome(d), 0);
    ck_assert_int_eq(refuse(d, MIGBUF_DISK_LIMITS), 0);
    expect(d, MIGBUF_DISK_THROTTLE, "\"iops_wr\":5");
    ck_assert(info_of(d).plain && info_of(d).throttled && info_of(d).limits.iops_wr == 5);
    ck_assert_int_eq(migbuf_disk_set(d, &fast), 0);
    ck_assert_int_eq(refuse(d, MIGBUF_DISK_THROTTLE), 0);
    ours.iops_wr = 5;
    answer(d, &ours);
    ck_assert_int_eq(refuse(d, MIGBUF_DISK_THROTTLE), MIGBUF_E_PEER);
    ck_assert(info_of(d).failed && info_of(d).throttled && info_of(d).limits.iops_wr == 5);
    ck_assert_int_eq(migbuf_disk_restore(d), 0);
    answer(d, &ours);
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

/* Says that nobody knows what became of the next command. */
static int lose(struct migbuf_disk *d, int32_t kind)
{
    struct migbuf_disk_command c;

    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(c.kind, kind);
    return migbuf_disk_answered(d, MIGBUF_OUTCOME_UNKNOWN);
}

/* QEMU hangs while a limit is lowered, and carries it out when nobody waits any more: it is ours all the same. */
START_TEST(a_late_answer_makes_nothing_of_ours_the_hosts)
{
    struct migbuf_throttle_config ours = { .iops_wr = 5, .iops_size = 65536, .group = "migbuf-vm1" }, host;

    for (int carried_out = 0; carried_out < 2; carried_out++) {
        struct migbuf_disk *d = learnt(&nothing);

        ck_assert_int_eq(migbuf_disk_set(d, &fast), 0);
        expect(d, MIGBUF_DISK_ADD, NULL);
        expect(d, MIGBUF_DISK_THROTTLE, NULL);
        ck_assert_int_eq(migbuf_disk_set(d, &slow), 0);
        ck_assert_int_eq(lose(d, MIGBUF_DISK_LIMITS), MIGBUF_E_UNKNOWN);
        ck_assert_int_eq(migbuf_disk_outcome(d), MIGBUF_OUTCOME_UNKNOWN);
        ck_assert(info_of(d).unknown && !info_of(d).failed && !info_of(d).throttled && !info_of(d).limits.iops_wr);
        expect_nothing(d); /* the connection may be gone: the host asks when there is one */
        ck_assert_int_eq(migbuf_disk_learn(d), 0);
        ours.iops_wr = carried_out ? 5 : 50;
        answer(d, &ours);
        ck_assert(!info_of(d).unknown && !info_of(d).taken_over);
        if (!carried_out)
            expect(d, MIGBUF_DISK_LIMITS, "\"iops-write\":5,"); /* it is still wanted */
        expect_nothing(d);
        ck_assert_int_eq(migbuf_disk_outcome(d), MIGBUF_OUTCOME_DONE);
        ck_assert(info_of(d).throttled && info_of(d).limits.iops_wr == 5);
        ck_assert_int_eq(migbuf_disk_host_limits(d, "lxd_root", &host), 0);
        ck_assert(!host.iops_wr && !host.iops_size);
        ck_assert_int_eq(migbuf_disk_restore(d), 0);
        ours.iops_wr = 5;
        answer(d, &ours);
        ck_assert_int_eq(lose(d, MIGBUF_DISK_THROTTLE), MIGBUF_E_UNKNOWN);
        ck_assert(!info_of(d).restored);
        ck_assert_int_eq(migbuf_disk_restore(d), 0);
        answer(d, carried_out ? &nothing : &ours);
        if (!carried_out)
            expect(d, MIGBUF_DISK_THROTTLE, "\"iops_wr\":0");
        ck_assert_int_eq(lose(d, MIGBUF_DISK_DELETE), MIGBUF_E_UNKNOWN);
        ck_assert_int_eq(migbuf_disk_restore(d), 0);
        answer(d, &nothing);
        ck_assert_int_eq(refuse(d, MIGBUF_DISK_DELETE), 0); /* it is gone already */
        expect_nothing(d);
        ck_assert(info_of(d).restored && !info_of(d).taken_over);
        migbuf_disk_free(d);
    }
}
END_TEST

START_TEST(a_raise_of_unknown_outcome_is_told_to_every_disk)
{
    struct migbuf_throttle_config ours = { .iops_wr = 50, .iops_size = 65536, .group = "g" };
    struct migbuf_disk *d;

    ck_assert_int_eq(migbuf_disk_new("g", NULL, &d), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "one"), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "two"), 0);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(answer_two(d, &nothing, &nothing), 0);
    ck_assert_int_eq(migbuf_disk_set(d, &slow), 0);
    expect(d, MIGBUF_DISK_ADD, NULL);
    expect(d, MIGBUF_DISK_THROTTLE, "dev-one");
    expect(d, MIGBUF_DISK_THROTTLE, "dev-two");
    ck_assert_int_eq(migbuf_disk_set(d, &fast), 0);
    ck_assert_int_eq(lose(d, MIGBUF_DISK_THROTTLE), MIGBUF_E_UNKNOWN);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(answer_two(d, &ours, &ours), 0); /* it is in force, but whose timer has noticed? */
    expect(d, MIGBUF_DISK_THROTTLE, "dev-one");
    expect(d, MIGBUF_DISK_THROTTLE, "dev-two");
    expect_nothing(d);
    migbuf_disk_free(d);
}
END_TEST

/* One of two disks is unplugged while they migrate: the other is served as before. */
START_TEST(an_unplugged_disk_is_left_out)
{
    struct migbuf_throttle_config ours = { .bps_wr = 900, .iops_wr = 5, .iops_size = 65536, .group = "g" };
    struct migbuf_throttle_config a = { .bps_wr = 900, .group = "dev-one" }, b = { .bps_rd = 7000, .group = "dev-two" };
    struct migbuf_disk *d;

    ck_assert_int_eq(migbuf_disk_new("g", NULL, &d), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "one"), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "two"), 0);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(answer_two(d, &a, &b), 0);
    ck_assert_int_eq(migbuf_disk_set(d, &slow), 0);
    expect(d, MIGBUF_DISK_ADD, NULL);
    expect(d, MIGBUF_DISK_THROTTLE, "dev-one");
    expect(d, MIGBUF_DISK_THROTTLE, "dev-two");

    /* noticed by a refusal */
    ck_assert_int_eq(migbuf_disk_set(d, &fast), 0);
    ck_assert_int_eq(refuse(d, MIGBUF_DISK_THROTTLE), 0);
    ours.bps_rd = 7000;
    ck_assert_int_eq(answer_two(d, NULL, &ours), 0);
    ck_assert(info_of(d).gone == 1 && !info_of(d).failed);
    ck_assert_ptr_null(migbuf_disk_qdev(d, "one"));
    expect(d, MIGBUF_DISK_THROTTLE, "\"id\":\"dev-two\",\"bps\":0,\"bps_rd\":7000,\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,"
                                    "\"iops_wr\":50,"); /* nor does what limited it bind the others */
    expect_nothing(d);
    ck_assert(info_of(d).throttled && info_of(d).limits.iops_wr == 50);
    ck_assert_int_eq(migbuf_disk_outcome(d), MIGBUF_OUTCOME_DONE);

    /* another disk in the same slot is none of ours, the same one is */
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ours = (struct migbuf_throttle_config){ .bps_rd = 7000, .iops_wr = 50, .iops_size = 65536, .group = "g" };
    {
        struct migbuf_disk_command c;

        ck_assert_int_eq(next(d, &c), 1);
        ck_assert_int_eq(migbuf_disk_found(d, "another", "dev-one", &nothing), 0);
        ck_assert_int_eq(migbuf_disk_found(d, "two", "dev-two", &ours), 1);
        ck_assert_int_eq(migbuf_disk_answered(d, MIGBUF_OUTCOME_DONE), 0);
    }
    expect_nothing(d);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(answer_two(d, &a, &ours), 0);
    ck_assert(info_of(d).gone == 0 && !info_of(d).throttled);
    expect(d, MIGBUF_DISK_THROTTLE, "dev-one");

    /* and noticed by looking, at the end */
    ck_assert_int_eq(migbuf_disk_restore(d), 0);
    ours.bps_wr = 900;
    ck_assert_int_eq(answer_two(d, NULL, &ours), 0);
    expect(d, MIGBUF_DISK_THROTTLE, "\"id\":\"dev-two\",\"bps\":0,\"bps_rd\":7000,");
    expect(d, MIGBUF_DISK_DELETE, NULL);
    expect_nothing(d);
    ck_assert(info_of(d).restored);
    migbuf_disk_free(d);
}
END_TEST

/* QEMU refuses to give back one of two disks: the other gets its limits, and the next restore tries again. */
START_TEST(a_refused_disk_keeps_no_other_throttled)
{
    struct migbuf_throttle_config ours = { .iops_wr = 5, .iops_size = 65536, .group = "g" };
    struct migbuf_disk *d;

    ck_assert_int_eq(migbuf_disk_new("g", NULL, &d), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "one"), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "two"), 0);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(answer_two(d, &nothing, &nothing), 0);
    ck_assert_int_eq(migbuf_disk_set(d, &slow), 0);
    expect(d, MIGBUF_DISK_ADD, NULL);
    expect(d, MIGBUF_DISK_THROTTLE, "dev-one");
    expect(d, MIGBUF_DISK_THROTTLE, "dev-two");
    ck_assert_int_eq(migbuf_disk_restore(d), 0);
    ck_assert_int_eq(answer_two(d, &ours, &ours), 0);
    ck_assert_int_eq(refuse(d, MIGBUF_DISK_THROTTLE), 0);
    ck_assert_int_eq(answer_two(d, &ours, &ours), 0);
    ck_assert_int_eq(refuse(d, MIGBUF_DISK_THROTTLE), 0);
    expect(d, MIGBUF_DISK_THROTTLE, "dev-two");
    expect_nothing(d);
    ck_assert(info_of(d).failed && !info_of(d).restored);
    ck_assert_int_eq(migbuf_disk_restore(d), 0);
    ck_assert_int_eq(answer_two(d, &ours, &nothing), 0);
    expect(d, MIGBUF_DISK_THROTTLE, "dev-one");
    expect(d, MIGBUF_DISK_DELETE, NULL);
    expect_nothing(d);
    ck_assert(info_of(d).restored && !info_of(d).failed);
    migbuf_disk_free(d);
}
END_TEST

/* The host's own group also holds a disk that does not migrate, and the host raises it meanwhile. */
START_TEST(a_group_shared_with_another_disk_keeps_what_was_set_meanwhile)
{
    struct migbuf_throttle_config host = { .bps_wr = 5000000, .group = "host" }, raised = { .bps_wr = 50000000, .group = "host" };
    struct migbuf_throttle_config ours = { .bps_wr = 5000000, .iops_wr = 5, .iops_size = 65536, .group = "migbuf-vm1" };
    struct migbuf_disk *d = learnt(&host);
    struct migbuf_disk_command c;
    uint64_t revision;

    ck_assert_int_eq(migbuf_disk_set(d, &slow), 0);
    expect(d, MIGBUF_DISK_ADD, NULL);
    expect(d, MIGBUF_DISK_THROTTLE, NULL);
    revision = info_of(d).text_revision;
    ck_assert_int_eq(migbuf_disk_restore(d), 0);
    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "neighbour", "dev-neighbour", &raised), 0);
    ck_assert_int_eq(migbuf_disk_found(d, "lxd_root", "/machine/peripheral/dev-lxd_root/virtio-backend", &ours), 1);
    ck_assert_int_eq(migbuf_disk_answered(d, MIGBUF_OUTCOME_DONE), 0);
    ck_assert(info_of(d).text_revision != revision); /* worth keeping */
    expect(d, MIGBUF_DISK_THROTTLE, "\"bps_wr\":50000000,\"iops\":0,\"iops_rd\":0,\"iops_wr\":0,\"group\":\"host\"}");
    expect(d, MIGBUF_DISK_DELETE, NULL);
    migbuf_disk_free(d);
}
END_TEST

/* An object of the host's without limits, and a disk in it: QEMU takes no disk into a group without a limit. */
START_TEST(a_disk_goes_back_into_a_group_without_limits)
{
    struct migbuf_throttle_config host = { .group = "open" }, ours = { .iops_wr = 5, .iops_size = 65536, .group = "migbuf-vm1" };
    struct migbuf_throttle_config half = { .iops = UINT64_C(1000000000000000), .group = "open" };

    for (int lost = 0; lost < 3; lost++) {
        struct migbuf_disk *d = learnt(&host);

        ck_assert_int_eq(migbuf_disk_set(d, &slow), 0);
        expect(d, MIGBUF_DISK_ADD, NULL);
        expect(d, MIGBUF_DISK_THROTTLE, NULL);
        ck_assert_int_eq(migbuf_disk_restore(d), 0);
        answer(d, &ours);
        if (lost == 1) {
            ck_assert_int_eq(lose(d, MIGBUF_DISK_THROTTLE), MIGBUF_E_UNKNOWN);
            ck_assert_int_eq(migbuf_disk_restore(d), 0);
            answer(d, &half);
        } else {
            expect(d, MIGBUF_DISK_THROTTLE, "\"iops\":1000000000000000,\"iops_rd\":0,\"iops_wr\":0,\"group\":\"open\"}");
        }
        if (lost == 2) {
            ck_assert_int_eq(lose(d, MIGBUF_DISK_LIMITS), MIGBUF_E_UNKNOWN);
            ck_assert_int_eq(migbuf_disk_restore(d), 0);
            answer(d, &host);
        } else {
            expect(d, MIGBUF_DISK_LIMITS, "{\"path\":\"/objects/open\",\"property\":\"limits\",\"value\":{\"bps-total\":0,\"bps-read\":0,"
                                          "\"bps-write\":0,\"iops-total\":0,\"iops-read\":0,\"iops-write\":0,");
        }
        expect(d, MIGBUF_DISK_DELETE, "migbuf-vm1");
        expect_nothing(d);
        ck_assert(info_of(d).restored && !info_of(d).taken_over);
        migbuf_disk_free(d);
    }
}
END_TEST

/* Several disks in our group: nobody can tell whose limits another hand has set, but the host that did can say so. */
START_TEST(the_host_tells_whose_limits_it_changed)
{
    struct migbuf_throttle_config theirs = { .bps_rd = 7000000, .bps_wr = 7000000, .group = "g" }, host;
    struct migbuf_disk *d;

    ck_assert_int_eq(migbuf_disk_new("g", NULL, &d), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "one"), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "two"), 0);
    ck_assert_int_eq(migbuf_disk_tell_host_limits(d, "one", &theirs), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(answer_two(d, &nothing, &nothing), 0);
    ck_assert_int_eq(migbuf_disk_set(d, &slow), 0);
    expect(d, MIGBUF_DISK_ADD, NULL);
    expect(d, MIGBUF_DISK_THROTTLE, "dev-one");
    expect(d, MIGBUF_DISK_THROTTLE, "dev-two");
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(answer_two(d, &theirs, &theirs), 0);
    ck_assert(info_of(d).taken_over == 1 && info_of(d).unclear == 1);
    expect(d, MIGBUF_DISK_THROTTLE, "dev-one");
    expect(d, MIGBUF_DISK_THROTTLE, "dev-two");
    expect_nothing(d);
    strcpy(theirs.group, "dev-one");
    ck_assert_int_eq(migbuf_disk_tell_host_limits(d, "three", &theirs), MIGBUF_E_NOTFOUND);
    ck_assert_int_eq(migbuf_disk_tell_host_limits(d, "one", NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_disk_tell_host_limits(d, "one", &theirs), 0);
    theirs.bps = UINT64_C(1000000000000001);
    ck_assert_int_eq(migbuf_disk_tell_host_limits(d, "one", &theirs), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_disk_host_limits(d, "one", &host), 0);
    ck_assert(host.bps_wr == 7000000 && !host.bps && !strcmp(host.group, "dev-one"));
    ck_assert_int_eq(migbuf_disk_host_limits(d, "two", &host), 0);
    ck_assert(!host.bps_wr);
    expect(d, MIGBUF_DISK_LIMITS, "\"bps-write\":7000000,"); /* which now holds for both */
    expect_nothing(d);
    migbuf_disk_free(d);
}
END_TEST

START_TEST(two_devices_of_one_node_are_refused)
{
    struct migbuf_disk_command c;
    struct migbuf_disk *d;

    ck_assert_int_eq(migbuf_disk_new("g", NULL, &d), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "one"), 0);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "one", "dev-one", &nothing), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "one", "dev-other", &nothing), MIGBUF_E_UNSUPPORTED);
    migbuf_disk_free(d);
}
END_TEST

/* What QEMU cannot have is no limit: kept as it is, it could be saved and not be loaded again. */
START_TEST(numbers_that_qemu_cannot_have)
{
    struct migbuf_throttle_config host = { .bps = UINT64_C(1000000000000001) };
    struct migbuf_limits most = { .iops_wr = UINT64_C(1000000000000001), .iops_size = 65536 };
    struct migbuf_disk_command c;
    struct migbuf_disk *d;

    ck_assert_int_eq(migbuf_disk_new("g", NULL, &d), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "one"), 0);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "one", "dev-one", &host), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_disk_found(d, "foreign", "dev-two", &host), 0); /* that one is not asked for */
    host.bps = UINT64_C(1000000000000000);
    ck_assert_int_eq(migbuf_disk_found(d, "one", "dev-one", &host), 1);
    ck_assert_int_eq(migbuf_disk_answered(d, 0), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_disk_answered(d, MIGBUF_OUTCOME_DONE), 0);
    ck_assert_int_eq(migbuf_disk_set(d, &most), MIGBUF_E_RANGE);
    expect_nothing(d);
    migbuf_disk_free(d);
}
END_TEST

static int status(struct migbuf_disk *d, const char *text, int running)
{
    struct migbuf_disk_command c;

    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(c.kind, MIGBUF_DISK_STATUS);
    ck_assert_str_eq(c.name, "query-status");
    ck_assert_int_eq(migbuf_disk_status(d, text, running), 0);
    return migbuf_disk_answered(d, MIGBUF_OUTCOME_DONE);
}

static int apply(struct migbuf_disk *d, int32_t action, const struct migbuf_limits *limits)
{
    struct migbuf_decision decision = { .action = action };

    if (limits)
        decision.limits = *limits;
    return migbuf_disk_apply(d, &decision);
}

START_TEST(decisions_are_carried_out)
{
    struct migbuf_throttle_config ours = { .iops_wr = 50, .iops_size = 65536, .group = "migbuf-vm1" };
    struct migbuf_disk *d = learnt(&nothing);

    ck_assert_int_eq(apply(d, MIGBUF_ACTION_KEEP, NULL), 0);
    ck_assert_int_eq(apply(d, MIGBUF_ACTION_WAIT, NULL), 0);
    expect_nothing(d);
    ck_assert_int_eq(apply(d, 99, NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_disk_apply(d, NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(apply(d, MIGBUF_ACTION_LOWER, &slow), 0);
    expect(d, MIGBUF_DISK_ADD, NULL);
    expect(d, MIGBUF_DISK_THROTTLE, NULL);
    expect_nothing(d);
    ck_assert_int_eq(apply(d, MIGBUF_ACTION_REARM, NULL), 0);
    expect(d, MIGBUF_DISK_THROTTLE, "\"iops_wr\":5,");
    expect_nothing(d);

    ck_assert_int_eq(apply(d, MIGBUF_ACTION_PAUSE, NULL), 0);
    ck_assert_int_eq(status(d, "running", 1), 0);
    expect(d, MIGBUF_DISK_STOP, NULL);
    expect_nothing(d);
    ck_assert(info_of(d).stopped && migbuf_disk_outcome(d) == MIGBUF_OUTCOME_DONE);
    ck_assert_int_eq(apply(d, MIGBUF_ACTION_CANNOT_FIT, NULL), 0);
    ck_assert_int_eq(status(d, "paused", 0), 0);
    expect_nothing(d);
    ck_assert_int_eq(apply(d, MIGBUF_ACTION_RESUME, &fast), 0); /* first the limits, then the guest */
    expect(d, MIGBUF_DISK_THROTTLE, "\"iops_wr\":50,");
    ck_assert_int_eq(status(d, "paused", 0), 0);
    expect(d, MIGBUF_DISK_CONT, NULL);
    expect_nothing(d);
    ck_assert(!info_of(d).stopped);

    /* an administrator stopped it: it is not ours to let it run */
    ck_assert_int_eq(apply(d, MIGBUF_ACTION_PAUSE, NULL), 0);
    ck_assert_int_eq(status(d, "paused", 0), 0);
    expect_nothing(d);
    ck_assert(!info_of(d).stopped && migbuf_disk_outcome(d) == MIGBUF_OUTCOME_DONE);
    ck_assert_int_eq(apply(d, MIGBUF_ACTION_RESUME, &fast), 0);
    expect_nothing(d);

    /* he lets it run although it is to stand: seen at the next look */
    ck_assert_int_eq(apply(d, MIGBUF_ACTION_PAUSE, NULL), 0);
    ck_assert_int_eq(status(d, "running", 1), 0);
    expect(d, MIGBUF_DISK_STOP, NULL);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    answer(d, &ours);
    ck_assert_int_eq(status(d, "running", 1), 0);
    expect(d, MIGBUF_DISK_STOP, NULL);
    expect_nothing(d);

    /* the migration took it to its end: no cont */
    ck_assert_int_eq(migbuf_disk_restore(d), 0);
    answer(d, &ours);
    expect(d, MIGBUF_DISK_THROTTLE, "\"iops_wr\":0");
    ck_assert_int_eq(status(d, "postmigrate", 0), 0);
    expect(d, MIGBUF_DISK_DELETE, NULL);
    expect_nothing(d);
    ck_assert(info_of(d).restored);
    migbuf_disk_free(d);
}
END_TEST

/* `stop` was answered too late. It may stand or run: whatever is wanted next is made true. */
START_TEST(a_guest_of_unknown_state_is_asked_for)
{
    for (int stands = 0; stands < 2; stands++) {
        struct migbuf_throttle_config ours = { .iops_wr = 5, .iops_size = 65536, .group = "migbuf-vm1" };
        struct migbuf_disk *d = learnt(&nothing);

        ck_assert_int_eq(apply(d, MIGBUF_ACTION_LOWER, &slow), 0);
        expect(d, MIGBUF_DISK_ADD, NULL);
        expect(d, MIGBUF_DISK_THROTTLE, NULL);
        ck_assert_int_eq(apply(d, MIGBUF_ACTION_PAUSE, NULL), 0);
        ck_assert_int_eq(status(d, "running", 1), 0);
        ck_assert_int_eq(lose(d, MIGBUF_DISK_STOP), MIGBUF_E_UNKNOWN);
        ck_assert(info_of(d).unknown && info_of(d).stopped);
        ck_assert_int_eq(migbuf_disk_outcome(d), MIGBUF_OUTCOME_UNKNOWN);
        expect_nothing(d);
        ck_assert_int_eq(apply(d, MIGBUF_ACTION_RESUME, &slow), 0);
        ck_assert_int_eq(status(d, stands ? "paused" : "running", !stands), 0);
        if (stands) {
            ck_assert_int_eq(lose(d, MIGBUF_DISK_CONT), MIGBUF_E_UNKNOWN);
            ck_assert_int_eq(migbuf_disk_restore(d), 0);
            answer(d, &ours);
            ck_assert_int_eq(status(d, "paused", 0), 0);
            expect(d, MIGBUF_DISK_THROTTLE, "\"iops_wr\":0");
            expect(d, MIGBUF_DISK_CONT, NULL);
        } else {
            ck_assert_int_eq(migbuf_disk_restore(d), 0);
            answer(d, &ours);
            expect(d, MIGBUF_DISK_THROTTLE, "\"iops_wr\":0");
        }
        expect(d, MIGBUF_DISK_DELETE, NULL);
        expect_nothing(d);
        ck_assert(info_of(d).restored && !info_of(d).stopped);
        migbuf_disk_free(d);
    }
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
    ck_assert_int_eq(migbuf_disk_answered(d, MIGBUF_OUTCOME_DONE), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_disk_answered(d, MIGBUF_OUTCOME_REFUSED), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "n", longest, &nothing), MIGBUF_E_TOO_BIG);
    ck_assert_int_eq(migbuf_disk_found(d, "n", "q\xff", &nothing), MIGBUF_E_INVALID); /* no JSON could name it */
    ck_assert_int_eq(migbuf_disk_found(d, "n", "q", &(struct migbuf_throttle_config){ .bps = 1, .group = "\xe4" }), MIGBUF_E_INVALID);
    ck_assert_ptr_null(migbuf_disk_qdev(d, "n"));
    ck_assert_int_eq(migbuf_disk_found(d, "n", "a\"b\\c\n", &nothing), 1);
    ck_assert_int_eq(migbuf_disk_answered(d, MIGBUF_OUTCOME_DONE), 0);
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

    ck_assert_int_eq(migbuf_disk_rearm(d), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_disk_rearm(NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_disk_set(d, &slow), 0);
    ck_assert_int_eq(migbuf_disk_rearm(d), MIGBUF_E_STATE);
    expect(d, MIGBUF_DISK_ADD, NULL);
    expect(d, MIGBUF_DISK_THROTTLE, NULL);
    expect_nothing(d);
    ck_assert_int_eq(migbuf_disk_set(d, &slow), 0);
    expect_nothing(d);
    ck_assert_int_eq(migbuf_disk_rearm(d), 0);
    expect(d, MIGBUF_DISK_THROTTLE, "\"iops_wr\":5,\"iops_size\":65536,\"group\":\"migbuf-vm1\"");
    expect_nothing(d);
    ck_assert_int_eq(migbuf_disk_restore(d), 0);
    ck_assert_int_eq(migbuf_disk_rearm(d), MIGBUF_E_STATE);
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

/* The host dies between stop and its next word: what is on its disk by then lets the guest run again, when somebody says so. */
START_TEST(a_guest_we_stopped_runs_again_after_a_restart)
{
    struct migbuf_throttle_config ours = { .iops_wr = 5, .iops_size = 65536, .group = "migbuf-vm1" };
    struct migbuf_disk *d = learnt(&nothing), *again;
    uint64_t revision;
    char text[4096];

    ck_assert_int_eq(apply(d, MIGBUF_ACTION_LOWER, &slow), 0);
    expect(d, MIGBUF_DISK_ADD, NULL);
    expect(d, MIGBUF_DISK_THROTTLE, NULL);
    ck_assert_int_eq(apply(d, MIGBUF_ACTION_PAUSE, NULL), 0);
    revision = info_of(d).text_revision;
    ck_assert_int_eq(status(d, "running", 1), 0);
    ck_assert(info_of(d).text_revision != revision); /* before the stop is sent */
    again = saved_and_loaded(d, text, sizeof text);
    migbuf_disk_free(d);
    answer(again, &ours);
    ck_assert_int_eq(status(again, "paused", 0), 0);
    expect_nothing(again);
    ck_assert_int_eq(migbuf_disk_restore(again), 0);
    answer(again, &ours);
    expect(again, MIGBUF_DISK_THROTTLE, "\"iops_wr\":0");
    ck_assert_int_eq(status(again, "paused", 0), 0);
    expect(again, MIGBUF_DISK_CONT, NULL);
    expect(again, MIGBUF_DISK_DELETE, NULL);
    expect_nothing(again);
    ck_assert(info_of(again).restored && !info_of(again).stopped);
    migbuf_disk_free(again);
}
END_TEST

/* To ask what is in force, or to set limits, is no word on the guest: it stands, or runs, until somebody decides. */
START_TEST(a_loaded_guest_stays_as_it_is)
{
    static const struct {
        const char *status;
        int32_t action, kind; /* what is decided, and the command that comes of it; 0: none */
    } cases[] = {
        { "paused", MIGBUF_ACTION_RESUME, MIGBUF_DISK_CONT }, { "paused", MIGBUF_ACTION_RAISE, MIGBUF_DISK_CONT },
        { "paused", MIGBUF_ACTION_PAUSE, 0 },                 { "running", MIGBUF_ACTION_PAUSE, MIGBUF_DISK_STOP },
        { "running", MIGBUF_ACTION_RESUME, 0 },               { "io-error", MIGBUF_ACTION_RESUME, 0 },
    };

    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct migbuf_throttle_config ours = { .iops_wr = 5, .iops_size = 65536, .group = "migbuf-vm1" };
        struct migbuf_disk *d = learnt(&nothing), *again;
        int paused = !strcmp(cases[k].status, "paused"), running = !strcmp(cases[k].status, "running");
        char text[4096];

        ck_assert_int_eq(apply(d, MIGBUF_ACTION_LOWER, &slow), 0);
        expect(d, MIGBUF_DISK_ADD, NULL);
        expect(d, MIGBUF_DISK_THROTTLE, NULL);
        ck_assert_int_eq(apply(d, MIGBUF_ACTION_PAUSE, NULL), 0);
        ck_assert_int_eq(status(d, "running", 1), 0);
        again = saved_and_loaded(d, text, sizeof text);
        migbuf_disk_free(d);
        answer(again, &ours);
        ck_assert_int_eq(status(again, cases[k].status, running), 0);
        expect_nothing(again);
        ck_assert_int_eq(info_of(again).stopped, paused); /* what the buffer is told: migbuf_buffer_resync */
        ck_assert_int_eq(migbuf_disk_learn(again), 0);
        answer(again, &ours);
        if (paused)
            ck_assert_int_eq(status(again, "paused", 0), 0);
        expect_nothing(again);
        ck_assert_int_eq(migbuf_disk_set(again, &slow), 0);
        if (paused)
            ck_assert_int_eq(status(again, "paused", 0), 0);
        expect_nothing(again);
        ck_assert_int_eq(info_of(again).stopped, paused);
        ck_assert_int_eq(apply(again, cases[k].action, &slow), 0);
        if (paused || cases[k].action == MIGBUF_ACTION_PAUSE)
            ck_assert_int_eq(status(again, cases[k].status, running), 0);
        if (cases[k].kind)
            expect(again, cases[k].kind, NULL);
        expect_nothing(again);
        ck_assert_int_eq(migbuf_disk_outcome(again), MIGBUF_OUTCOME_DONE);
        ck_assert_int_eq(info_of(again).stopped, cases[k].action == MIGBUF_ACTION_PAUSE);
        migbuf_disk_free(again);
    }
}
END_TEST

/* Our stop was refused, and then another hand stopped the guest: that is not ours to undo. */
START_TEST(a_refused_stop_is_not_ours)
{
    struct migbuf_throttle_config ours = { .iops_wr = 5, .iops_size = 65536, .group = "migbuf-vm1" };
    struct migbuf_disk *d = learnt(&nothing);

    ck_assert_int_eq(apply(d, MIGBUF_ACTION_LOWER, &slow), 0);
    expect(d, MIGBUF_DISK_ADD, NULL);
    expect(d, MIGBUF_DISK_THROTTLE, NULL);
    ck_assert_int_eq(apply(d, MIGBUF_ACTION_PAUSE, NULL), 0);
    ck_assert_int_eq(status(d, "running", 1), 0);
    ck_assert(info_of(d).stopped);
    ck_assert_int_eq(refuse(d, MIGBUF_DISK_STOP), MIGBUF_E_PEER);
    ck_assert_int_eq(migbuf_disk_outcome(d), MIGBUF_OUTCOME_REFUSED);
    ck_assert(!info_of(d).stopped);
    ck_assert_int_eq(migbuf_disk_restore(d), 0);
    answer(d, &ours);
    expect(d, MIGBUF_DISK_THROTTLE, "\"iops_wr\":0");
    expect(d, MIGBUF_DISK_DELETE, NULL);
    expect_nothing(d);
    migbuf_disk_free(d);
}
END_TEST

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
    ours.bps_rd_max = 8000;
    answer(again, &ours);
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
    answer(again, &host);
    ck_assert_int_eq(refuse(again, MIGBUF_DISK_DELETE), 0); /* there is no group, but there might be */
    expect_nothing(again);
    ck_assert_int_eq(migbuf_disk_host_limits(again, "lxd_root", &host), 0);
    ck_assert(host.bps_rd == 6000 && info_of(again).restored);
    migbuf_disk_free(again);

    d = learnt(&host); /* died between the host's limits and the group's end */
    again = saved_and_loaded(d, text, sizeof text);
    migbuf_disk_free(d);
    answer(again, &host);
    ck_assert_int_eq(migbuf_disk_restore(again), 0);
    ck_assert(!info_of(again).restored);
    answer(again, &host);
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
    ck_assert_int_eq(migbuf_disk_six_rates(NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_disk_new("g", NULL, &d), 0);
    ck_assert_int_eq(migbuf_disk_six_rates(d), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "one"), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "two"), 0);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "one", "dev-one", &a), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "two", "dev-two", &b), 1);
    ck_assert_int_eq(migbuf_disk_answered(d, MIGBUF_OUTCOME_DONE), 0);
    ck_assert_int_eq(migbuf_disk_six_rates(d), MIGBUF_E_STATE);
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
    ck_assert_int_eq(migbuf_disk_rearm(d), 0);
    expect(d, MIGBUF_DISK_THROTTLE, "\"id\":\"dev-one\"");
    expect(d, MIGBUF_DISK_THROTTLE, "\"id\":\"dev-two\"");
    expect_nothing(d);

    /* Another hand at the second disk. */
    seen = (struct migbuf_throttle_config){ .bps_rd = 7000, .bps_wr = 50000, .iops_wr = 2 };
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "one", "dev-one", &seen), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "two", "dev-two", &nothing), 1);
    ck_assert_int_eq(migbuf_disk_answered(d, MIGBUF_OUTCOME_DONE), 0);
    ck_assert_int_eq(info_of(d).taken_over, 1);
    expect(d, MIGBUF_DISK_THROTTLE, "{\"id\":\"dev-two\",\"bps\":0,\"bps_rd\":0,\"bps_wr\":50000,");
    expect_nothing(d);

    /* The next process finds one disk as we left it, and the other as it was: died in between. Or its monitor tells what the
     * configuration says, not what QEMU has: so both are given back, whatever is found. */
    ck_assert_int_eq(migbuf_disk_save(d, text, sizeof text, &length), 0);
    ck_assert_int_eq(migbuf_disk_load(text, length, NULL, &again), 0);
    ck_assert_int_eq(next(again, &c), 1);
    ck_assert_int_eq(migbuf_disk_found(again, "one", "dev-one", &seen), 1);
    ck_assert_int_eq(migbuf_disk_found(again, "two", "dev-two", &nothing), 1);
    ck_assert_int_eq(migbuf_disk_answered(again, MIGBUF_OUTCOME_DONE), 0);
    ck_assert_int_eq(migbuf_disk_restore(again), 0);
    ck_assert_int_eq(answer_two(again, &seen, &nothing), 0);
    expect(again, MIGBUF_DISK_THROTTLE, "{\"id\":\"dev-one\",\"bps\":0,\"bps_rd\":7000,\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":400}");
    expect(again, MIGBUF_DISK_THROTTLE, "{\"id\":\"dev-two\",\"bps\":0,\"bps_rd\":0,\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":0}");
    expect_nothing(again);
    ck_assert(info_of(again).restored);
    migbuf_disk_free(again);

    ck_assert_int_eq(migbuf_disk_restore(d), 0);
    b = (struct migbuf_throttle_config){ .bps_wr = 50000, .iops_wr = 2 };
    ck_assert_int_eq(answer_two(d, &seen, &b), 0);
    expect(d, MIGBUF_DISK_THROTTLE, "\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":400}");
    expect(d, MIGBUF_DISK_THROTTLE, "\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":0}");
    expect_nothing(d);
    ck_assert(info_of(d).restored);
    ck_assert_int_eq(migbuf_disk_host_limits(d, "two", &host), 0);
    ck_assert(host.bps_wr == 0);
    migbuf_disk_free(d);
}
END_TEST

/* A typed monitor may answer the query from memory only. After an unknown outcome that says nothing: the limit is set again. */
START_TEST(typed_and_unknown_is_set_whatever_is_found)
{
    const struct migbuf_limits high = { .iops_wr = 100, .bps_wr = 6553600 }, low = { .iops_wr = 4, .bps_wr = 262144 };
    struct migbuf_throttle_config of_high = { .bps_wr = 6553600, .iops_wr = 100 };
    struct migbuf_disk_command c;
    struct migbuf_disk *d;

    ck_assert_int_eq(migbuf_disk_new("g", NULL, &d), 0);
    ck_assert_int_eq(migbuf_disk_six_rates(d), 0);
    ck_assert_int_eq(migbuf_disk_watch(d, "one"), 0);
    ck_assert_int_eq(migbuf_disk_learn(d), 0);
    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "one", "dev-one", &nothing), 1);
    ck_assert_int_eq(migbuf_disk_answered(d, MIGBUF_OUTCOME_DONE), 0);
    ck_assert_int_eq(migbuf_disk_set(d, &high), 0);
    expect(d, MIGBUF_DISK_THROTTLE, "\"iops_wr\":100}");
    ck_assert_int_eq(migbuf_disk_set(d, &low), 0);
    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(migbuf_disk_answered(d, MIGBUF_OUTCOME_UNKNOWN), MIGBUF_E_UNKNOWN);

    ck_assert_int_eq(migbuf_disk_set(d, &high), 0); /* what the memory says is in force, and QEMU may have the low one */
    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "one", "dev-one", &of_high), 1);
    ck_assert_int_eq(migbuf_disk_answered(d, MIGBUF_OUTCOME_DONE), 0);
    expect(d, MIGBUF_DISK_THROTTLE, "\"iops_wr\":100}");
    expect_nothing(d);
    ck_assert_int_eq(migbuf_disk_outcome(d), MIGBUF_OUTCOME_DONE);

    ck_assert_int_eq(migbuf_disk_set(d, &low), 0);
    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(migbuf_disk_answered(d, MIGBUF_OUTCOME_UNKNOWN), MIGBUF_E_UNKNOWN);
    ck_assert_int_eq(migbuf_disk_restore(d), 0);
    ck_assert_int_eq(next(d, &c), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "one", "dev-one", &nothing), 1); /* the host's own, says the memory */
    ck_assert_int_eq(migbuf_disk_answered(d, MIGBUF_OUTCOME_DONE), 0);
    expect(d, MIGBUF_DISK_THROTTLE, "\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":0}");
    expect_nothing(d);
    ck_assert(info_of(d).restored);
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
        ck_assert_int_eq(migbuf_disk_six_rates(d), 0);
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
    const TTest *const tests[] = { a_life_with_a_throttle, a_late_answer_makes_nothing_of_ours_the_hosts,
                                   a_raise_of_unknown_outcome_is_told_to_every_disk, an_unplugged_disk_is_left_out,
                                   a_refused_disk_keeps_no_other_throttled,
                                   a_group_shared_with_another_disk_keeps_what_was_set_meanwhile,
                                   a_disk_goes_back_into_a_group_without_limits, the_host_tells_whose_limits_it_changed,
                                   two_devices_of_one_node_are_refused, numbers_that_qemu_cannot_have,
                                   decisions_are_carried_out, a_guest_of_unknown_state_is_asked_for,
                                   a_guest_we_stopped_runs_again_after_a_restart, a_loaded_guest_stays_as_it_is,
                                   a_refused_stop_is_not_ours, the_same_once_more_empties_the_bucket, two_disks_share_one_group, another_hand_is_noticed,
                                   refusals_have_another_way_or_an_end, names_are_escaped_and_bounded,
                                   a_restarted_host_finds_what_to_restore, a_damaged_record_is_refused, typed_calls_alone,
                                   typed_and_unknown_is_set_whatever_is_found,
                                   typed_calls_cannot_say_everything, NULL };

    return unit_run("disk", tests, 10);
}
