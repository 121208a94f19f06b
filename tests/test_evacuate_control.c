/* SPDX-License-Identifier: MIT */
/* The loop around the library, examples/evacuate/control.h, without a QEMU: who may start after a restart, and who is
 * mirrored. */
#include "control.h"
#include "hybrid.h"
#include "monitor.h"
#include "process.h"
#include "unit.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
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

/* A guest that writes in 64 KiB, on a QEMU that cannot change a mirror. */
static struct throttle writer(uint64_t id, double bytes_per_s)
{
    static struct monitor monitor;
    struct throttle t = throttle_of(id);

    monitor = (struct monitor){ .lost = true };
    t.monitor = &monitor;
    t.geometry[0].virtual_bytes = 256 * MIB;
    t.seen_bytes_per_s = bytes_per_s;
    t.seen_writes_per_s = bytes_per_s / 65536;
    return t;
}

static void hybrid_control(struct control *c, uint64_t omega_bytes, uint64_t link_bytes_per_s)
{
    static struct link *const links[1] = { NULL };

    ck_assert_int_eq(control_new(c, POLICY_HYBRID, 0, omega_bytes, 100, 3, links, 1, error), 0);
    control_admit(c, MIGBUF_ADMISSION_SHORTEST);
    c->route[0].bytes_per_s = link_bytes_per_s;
}

START_TEST(who_would_not_fit_is_mirrored)
{
    static const struct {
        double w;
        uint64_t omega_bytes, link_bytes_per_s;
        int mirrored;
    } c[] = {
        { 20e6, 64 * MIB, 24000000, 1 }, /* 11 s of 20 MB/s do not fit 64 MiB; the link carries them in the background */
        { 1e6, 64 * MIB, 24000000, 0 },
        { 20e6, 1024 * MIB, 24000000, 0 },
        { 30e6, 64 * MIB, 24000000, 1 }, /* paced: nine tenths of the link are its own */
        { 0, 64 * MIB, 24000000, 0 },    /* nobody has seen it */
        { 20e6, 64 * MIB, 0, 0 },        /* nobody knows the link */
    };

    for (size_t k = 0; k < sizeof c / sizeof *c; k++) {
        struct throttle t = writer(1, c[k].w);
        struct control control;

        hybrid_control(&control, c[k].omega_bytes, c[k].link_bytes_per_s);
        ck_assert_msg(hybrid_mirrors(&control, &t, error) == c[k].mirrored, "%zu", k);
        control_free(&control);
    }
}
END_TEST

/* One alone would have room for what it writes; with two others beside it, it would not. */
START_TEST(who_begins_with_others_reckons_with_them)
{
    struct throttle t[3] = { writer(1, 5e6), writer(2, 5e6), writer(3, 5e6) };
    struct throttle *waiting[3] = { &t[0], &t[1], &t[2] };
    struct control c;

    hybrid_control(&c, 96 * MIB, 24000000);
    control_admit(&c, 0);
    memcpy(c.waiting, waiting, sizeof *waiting);
    c.waits = 1;
    ck_assert_int_eq(hybrid_mirrors(&c, &t[0], error), 0);
    memcpy(c.waiting, waiting, sizeof waiting);
    c.waits = 3;
    ck_assert_int_eq(hybrid_mirrors(&c, &t[0], error), 1);
    t[1].mirrored = t[2].mirrored = true; /* they need no room */
    ck_assert_int_eq(hybrid_mirrors(&c, &t[0], error), 0);
    control_free(&c);
}
END_TEST

/* It is known to its link, and to nobody else. */
START_TEST(a_mirrored_one_takes_no_room)
{
    struct migbuf_buffer_view view = { .size = sizeof view };
    struct throttle large = writer(1, 5e6), mirrored = writer(2, 5e6);
    struct control c;

    hybrid_control(&c, 4 * MIB, 24000000);
    large.geometry[0].queue_bytes = 4 * MIB;
    mirrored.geometry[0].queue_bytes = 4 * MIB;
    mirrored.mirrored = true;
    ck_assert_int_eq(control_join_trial(c.buffer, &large), 0);
    ck_assert_int_eq(migbuf_buffer_view(c.buffer, 1, &view), MIGBUF_E_NOTFOUND);
    ck_assert_int_eq(control_join_trial(c.buffer, &mirrored), 0);
    ck_assert_int_eq(migbuf_buffer_view(c.buffer, 2, &view), 0);
    ck_assert_uint_eq(view.reserve_bytes, 0);
    ck_assert_int_eq(migbuf_buffer_link(c.buffer, CONTROL_LINK(0), 24000000), 0);
    ck_assert_uint_eq(throttle_queue_bytes(&mirrored), 0);
    ck_assert_uint_eq(throttle_queue_bytes(&large), 4 * MIB);
    control_free(&c);
}
END_TEST

/* Whoever stood for the buffer's sake and is let run by a way back: the buffer counts on that before it runs. */
START_TEST(who_is_let_run_is_counted_as_running)
{
    struct migbuf_buffer_view view = { .size = sizeof view };
    struct throttle t = writer(1, 5e6);
    struct control c;

    hybrid_control(&c, 1024 * MIB, 24000000);
    ck_assert_int_eq(control_join_trial(c.buffer, &t), 0);
    ck_assert_int_eq(migbuf_disk_new("migbuf-vm1", NULL, &t.disk), 0);
    ck_assert_int_eq(migbuf_buffer_resync(c.buffer, 1, NULL, 0), 0);
    ck_assert(!control_runs(&c, &t)); /* nobody has started it: nothing is told of it */
    t.added = true;
    ck_assert(!control_runs(&c, &t)); /* nobody wanted it to stop */
    ck_assert_int_eq(migbuf_buffer_view(c.buffer, 1, &view), 0);
    ck_assert_int_eq(view.paused, 1);
    t.stop_wanted = true;
    ck_assert(control_runs(&c, &t));
    ck_assert_int_eq(migbuf_buffer_view(c.buffer, 1, &view), 0);
    ck_assert_int_eq(view.paused, 0);
    ck_assert(!t.stop_wanted);
    migbuf_disk_free(t.disk);
    control_free(&c);
}
END_TEST

/* What QEMU 7.2 and 10.0 answer to query-commands, shortened; and what is no such answer. */
START_TEST(which_qemu_can_change_a_mirror)
{
    static const struct {
        const char *text;
        bool can;
    } c[] = { { "[{\"name\": \"block-job-cancel\"}, {\"name\": \"block-job-complete\"}]", false },
              { "[{\"name\": \"block-job-change\"}, {\"name\": \"block-job-cancel\"}]", true },
              { "[{\"name\": \"block-job-cancel\"}, {\"name\": \"block-job-change\"}]", true },
              { "[\"block-job-change\", {\"nome\": \"block-job-change\"}, {\"name\": 1}, {\"name\": \"x-block-job-change\"}]", false },
              { "{\"name\": \"block-job-change\"}", false }, { "[]", false }, { "block-job-change", false }, { "", false } };

    for (size_t k = 0; k < sizeof c / sizeof *c; k++)
        ck_assert_msg(hybrid_can_change(c[k].text, strlen(c[k].text)) == c[k].can, "%s", c[k].text);
    ck_assert(!hybrid_can_change(NULL, 0));
}
END_TEST

/* What was written between two counts a second apart or more; a counter that begins anew tells nothing. */
START_TEST(what_a_guest_writes_is_counted)
{
    struct throttle t = throttle_of(1);

    t.watch = (struct watch){ .disks = 1, .taken_ns = 5000000000, .disk = { { .writes = 100, .written_bytes = 1000000 } } };
    throttle_count(&t);
    ck_assert(t.seen_bytes_per_s == 0 && t.seen_writes_per_s == 0);
    t.watch.disk[0].writes = 200;
    t.watch.taken_ns = 5900000000;
    throttle_count(&t);
    ck_assert(t.seen_writes_per_s == 0); /* too soon */
    t.watch.disk[0].writes = 300;
    t.watch.disk[0].written_bytes = 5000000;
    t.watch.taken_ns = 7000000000;
    throttle_count(&t);
    ck_near(t.seen_writes_per_s, 100);
    ck_near(t.seen_bytes_per_s, 2e6);
    t.watch.disk[0].writes = 10;
    t.watch.taken_ns = 9000000000;
    throttle_count(&t);
    ck_near(t.seen_writes_per_s, 100);
}
END_TEST

/* Nobody looked for half an hour: a peer that says nothing has its minute all the same, and no more than that. */
START_TEST(no_deadline_passes_while_nobody_looks)
{
    const uint64_t minute = MONITOR_ANSWER_MS * UINT64_C(1000000), slept = 30 * minute;
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    char directory[] = "/tmp/control-XXXXXX";
    struct process process = { .pidfd = -1 };
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(address.sun_path, sizeof address.sun_path, "%s/qmp", directory);
    ck_assert(!bind(listener, (struct sockaddr *)&address, sizeof address) && !listen(listener, 1));
    for (int call = 0; call < 2; call++) {
        struct monitor m;

        monitor_open(&m, address.sun_path, 0);
        monitor_step(&m, 0);
        ck_assert_ptr_nonnull(m.socket);
        if (call) {
            m.connect_by_ns = 0;
            m.call[CALL_STEP] = (struct call){ .state = CALL_WAITING, .deadline_ns = minute };
        }
        monitor_slept(&m, slept);
        monitor_step(&m, slept + minute - 1);
        ck_assert_msg(!m.lost, "%s", m.error);
        monitor_step(&m, slept + minute);
        ck_assert(m.lost);
        monitor_close(&m);
    }
    close(listener);
    unlink(address.sun_path);
    rmdir(directory);

    process_slept(&process, slept); /* nobody wants it to end */
    ck_assert_uint_eq(process.kill_at_ns, 0);
    process.kill_at_ns = 1000;
    process_slept(&process, slept);
    ck_assert_uint_eq(process.kill_at_ns, slept + 1000);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { who_ran_before_a_restart_is_in_the_way,
                                   who_is_at_the_target_is_in_the_way_until_it_is_removed, an_error_names_who_made_it,
                                   memory_goes_one_at_a_time, who_would_not_fit_is_mirrored,
                                   who_begins_with_others_reckons_with_them, a_mirrored_one_takes_no_room,
                                   who_is_let_run_is_counted_as_running, which_qemu_can_change_a_mirror, what_a_guest_writes_is_counted,
                                   no_deadline_passes_while_nobody_looks, NULL };

    return unit_run("evacuate's control", tests, 60);
}
