/* SPDX-License-Identifier: MIT */
/* The loop around the library, examples/evacuate/control.h, without a QEMU: who may start after a restart. */
#include "control.h"
#include "unit.h"
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static char error[FAIL_SIZE];

static struct throttle throttle_of(uint64_t id)
{
    struct throttle t = { .id = id, .disks = 1, .overlay_fd = { -1, -1 } };

    t.geometry[0] = (struct migbuf_geometry){ .virtual_bytes = 64 * MIB, .cluster_bytes = 65536,
                                              .subcluster_bytes = 65536, .request_bytes = 65536,
                                              .queue_bytes = MIB, .flags = MIGBUF_GEOMETRY_ALIGNED };
    return t;
}

static void new_control(struct control *c, enum policy policy)
{
    static struct link *const links[1] = { NULL };

    ck_assert_int_eq(control_new(c, policy, 0, 1024 * MIB, 100, 3, links, 1, error), 0);
    control_admit(c, MIGBUF_ADMISSION_FIFO);
}

/* Nothing is known of the link: one after the other, before a restart and after it. The one that runs is found by
 * state.c at once, but what is asked of its QEMU may take until long after others are ready to start. */
START_TEST(who_ran_before_a_restart_is_in_the_way)
{
    static const enum policy policies[] = { POLICY_NONE, POLICY_MIRROR };

    for (size_t k = 0; k < sizeof policies / sizeof *policies; k++) {
        struct throttle ran = throttle_of(1), next = throttle_of(2);
        struct control c;

        new_control(&c, policies[k]);
        control_join(&c, &ran);
        ck_assert_int_eq(control_add(&c, &next, 0, error), 0);
        ck_assert_int_eq(control_found(&c, &ran, 0, error), 0); /* it has answered: still the only one */
        ck_assert_int_eq(control_add(&c, &next, 0, error), 0);
        control_remove(&c, &ran);
        ck_assert_int_eq(control_add(&c, &next, 0, error), 1);
        control_free(&c);
    }
}
END_TEST

/* Its guest is at the target already: nobody will find it at the source, it only has to be cleaned up. */
START_TEST(who_is_at_the_target_is_in_the_way_until_it_is_removed)
{
    struct throttle moved = throttle_of(1), next = throttle_of(2), last = throttle_of(3);
    struct control c;

    new_control(&c, POLICY_NONE);
    control_join(&c, &moved);
    ck_assert_int_eq(control_add(&c, &next, 0, error), 0);
    control_remove(&c, &moved);
    ck_assert_int_eq(control_add(&c, &next, 0, error), 1);
    ck_assert_int_eq(control_add(&c, &last, 0, error), 0);
    control_remove(&c, &next);
    ck_assert_int_eq(control_add(&c, &last, 0, error), 1);
    control_free(&c);
}
END_TEST

START_TEST(an_error_names_who_made_it)
{
    struct throttle t = throttle_of(7);
    struct control c;

    new_control(&c, POLICY_NONE);
    t.geometry[0].cluster_bytes = 3;
    ck_assert_int_eq(control_add(&c, &t, 0, error), -1);
    ck_assert_msg(strstr(error, "migbuf_admission_waiting: VM 7: ") == error, "%s", error);
    control_free(&c);
}
END_TEST

/* Whose overlay frees most of the buffer in the time its memory takes is first; on another link there is another turn. */
START_TEST(memory_goes_one_at_a_time)
{
    static struct link *const links[2] = { NULL, NULL };
    struct throttle large = throttle_of(1), small = throttle_of(2), other = throttle_of(3), *all[] = { &large, &small, &other };
    char page[4096] = "x";
    struct control c;

    ck_assert_int_eq(control_new(&c, POLICY_NONE, 0, 1024 * MIB, 100, 3, links, 2, error), 0);
    other.route = 1;
    large.ram_s = 256, small.ram_s = other.ram_s = 16;
    for (size_t k = 0; k < 3; k++) {
        all[k]->overlay_fd[0] = memfd_create("overlay", MFD_CLOEXEC);
        ck_assert_int_eq(pwrite(all[k]->overlay_fd[0], page, sizeof page, 0), sizeof page);
        all[k]->ram_until_ns = UINT64_MAX;
        control_join(&c, all[k]);
    }
    large.ram_waits = true; /* it asked before */
    ck_assert(control_ram_turn(&c, &small, 0));
    ck_assert(control_ram_turn(&c, &small, 0)); /* asked again: it still has it */
    ck_assert(!control_ram_turn(&c, &large, 0));
    ck_assert(control_ram_turn(&c, &other, 0));
    control_ram_over(&small);
    ck_assert(control_ram_turn(&c, &large, 0));
    control_ram_over(&large);
    small.ram_waits = true;
    ck_assert(!control_ram_turn(&c, &large, 0)); /* both wait: the other frees as much sooner */
    large.ram_until_ns = UINT64_C(271999999999); /* it would come too late: 16 s and then its own 256 */
    ck_assert(!control_ram_turn(&c, &small, 0));
    ck_assert(control_ram_turn(&c, &large, 0));
    control_ram_over(&large);
    large.ram_waits = small.ram_waits = true;
    large.ram_until_ns = UINT64_C(272000000000); /* just in time */
    ck_assert(!control_ram_turn(&c, &large, 0));
    ck_assert(control_ram_turn(&c, &small, 0));
    control_remove(&c, &small);               /* who has left is in nobody's way */
    ck_assert(control_ram_turn(&c, &large, 0));
    for (size_t k = 0; k < 3; k++)
        close(all[k]->overlay_fd[0]);
    control_free(&c);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { who_ran_before_a_restart_is_in_the_way,
                                   who_is_at_the_target_is_in_the_way_until_it_is_removed, an_error_names_who_made_it,
                                   memory_goes_one_at_a_time, NULL };

    return unit_run("evacuate's control", tests, 60);
}
