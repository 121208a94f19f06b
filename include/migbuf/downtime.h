/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_DOWNTIME_H
#define MIGBUF_DOWNTIME_H
/**
 * @file downtime.h
 * Everybody else's rules for the end of a memory migration: to compare with convergence.h, and for hosts that want what
 * they had. Nothing else in migbuf uses them.
 *
 * | whose | rule | read in |
 * |---|---|---|
 * | Nova | downtime raised in steps; a time-out, then abort or force | nova/virt/libvirt/migration.py, driver.py, 00a0304 |
 * | CloudStack | downtime set once; pause; abort | LibvirtMigrateCommandWrapper.java, agent.properties of 4.20 |
 * | KubeVirt | abort or force once rounds no longer get shorter | live-migration-source.go, stall-detector.go, d923fdb |
 * | Proxmox | downtime doubled after six rises | PVE/QemuMigrate.pm, phase2, e6352be |
 * | Xen | five rounds, or fewer than 50 pages | tools/libs/guest/xg_sr_save.c of 4.19; 3.x: xc_domain_save.c |
 * | QEMU | switch over when it fits; auto-converge | migration/migration.c, ram.c of 7.2 and 10.0 |
 *
 * "Downtime" is how long the guest may stand at the end (QEMU's downtime-limit). States are records. They are all 0 at
 * first unless a line says otherwise.
 *
 * | error | when; nothing has changed then |
 * |---|---|
 * | MIGBUF_E_INVALID | a pointer is NULL, a number is NaN |
 * | MIGBUF_E_RANGE | a number is outside its range |
 *
 * Pure: no memory, no clock. Any thread.
 *
 * Link with -lmigbuf-ram. Experimental (MIGBUF_RAM_EXPERIMENTAL_0): it may change with any release.
 */
#include "migbuf/convergence.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Nova */

/**
 * How large Nova takes a VM for, in GB, not rounded.
 *
 *   GB = max(2, ram_mib / 1024) + sum of max(2, disk_bytes / 2^30)
 *
 * Disks are those that are copied. disk_bytes may be NULL with 0 disks.
 *
 * Example: 4096 MiB -> 4; 512 -> 2; 4096 with disks of 1 GiB and 20 GiB -> 26. Errors: MIGBUF_E_INVALID.
 * Test: test_downtime, nova_gives_up_after_so_long
 */
MIGBUF_API int migbuf_downtime_nova_gb(uint64_t ram_mib, const uint64_t *disk_bytes, size_t disks, double *gb);

/**
 * The downtime that is in force elapsed_s after the start. 0: none was set yet, so it is QEMU's own.
 *
 *   d = floor(delay * GB), base = max / steps
 *   step i of 0 .. steps: floor(base + i (max - base) / steps) ms,
 *   in force once elapsed > i d
 *
 * | argument | Nova's option | its default |
 * |---|---|---|
 * | max_ms | live_migration_downtime | 500 |
 * | steps | live_migration_downtime_steps | 10 |
 * | delay_s | live_migration_downtime_delay | 75 |
 * | gb | – | migbuf_downtime_nova_gb |
 *
 * Example: 500, 10, 75, 4 GB: at 0 s 0, at 300 s 50, at 300.5 s 95, at 1500.5 s 275, from 3000.5 s on 500.
 * Errors: MIGBUF_E_RANGE for 0 steps, for a size or a time below 0 or infinite; MIGBUF_E_INVALID.
 * Test: test_downtime, nova_raises_in_steps; test_downtime, nova_refuses_what_makes_no_sense
 */
MIGBUF_API int migbuf_downtime_nova(uint32_t max_ms, uint32_t steps, uint32_t delay_s, double gb, double elapsed_s,
                                    uint32_t *ms);

/**
 * How long Nova lets a migration take: live_migration_completion_timeout (800 s) times GB, rounded down. 0: for ever.
 *
 * Example: 800, 2.5 -> 2000. Errors: MIGBUF_E_RANGE, MIGBUF_E_INVALID.
 * Test: test_downtime, nova_gives_up_after_so_long; test_downtime, nova_refuses_what_makes_no_sense
 */
MIGBUF_API int migbuf_downtime_nova_timeout(uint32_t per_gb_s, double gb, uint64_t *seconds);

/**
 * What Nova does when elapsed_s is more than that time-out. `phase` is MIGBUF_RAM_PHASE_…; `force` is
 * live_migration_timeout_action force_complete.
 *
 * | case | returns |
 * |---|---|
 * | not later than the time-out, or the time-out is 0 | 0, nothing |
 * | in post-copy | 0, nothing |
 * | without `force` | MIGBUF_RAM_ABORT |
 * | with `force`, post-copy is usable | MIGBUF_RAM_POSTCOPY |
 * | with `force`, it is not | MIGBUF_RAM_STOP |
 *
 * Example: timeout 1600, elapsed 1600 -> 0; 3200, 3201, no force -> ABORT; 2000, 2001, force, no post-copy -> STOP.
 *
 * Nova's progress time-out is not here (no new lowest `remaining` for 150 s). `remaining` is a saw-tooth, and the
 * time-out ended migrations whose rounds shrank well. Nova dropped it.
 * Errors: MIGBUF_E_RANGE, MIGBUF_E_INVALID.
 * Test: test_downtime, nova_gives_up_after_so_long; test_downtime, nova_refuses_what_makes_no_sense
 */
MIGBUF_API int migbuf_downtime_nova_action(uint64_t timeout_s, double elapsed_s, int32_t force, int32_t postcopy_usable,
                                           int32_t phase);

/* CloudStack */

/** agent.properties. A record; 0 switches each of them off. */
struct migbuf_downtime_cloudstack {
    uint32_t downtime_ms;   /**< vm.migrate.downtime */
    uint32_t pauseafter_ms; /**< vm.migrate.pauseafter */
    uint32_t wait_s;        /**< vm.migrate.wait; the server's migratewait, 3600 */
    uint32_t reserved;      /**< 0 */
};

/**
 * One turn of CloudStack's loop, every 100 ms. `running`: the guest runs. limit_set: DOWNTIME was returned before.
 *
 * | returns | when |
 * |---|---|
 * | MIGBUF_RAM_DOWNTIME | once, from 1 s on |
 * | MIGBUF_RAM_ABORT | after wait_s; never while the guest stands |
 * | MIGBUF_RAM_STOP | after pauseafter_ms |
 * | 0 | else: nothing |
 *
 * Example: downtime 250: at 900 ms -> 0, at 1000 ms -> DOWNTIME. pauseafter 120'000, wait 3600: at 120'100 ms -> STOP.
 * Once the guest stands -> 0, at 3'600'100 ms, too. Errors: MIGBUF_E_INVALID.
 * Test: test_downtime, cloudstack_sets_once_pauses_and_aborts
 */
MIGBUF_API int migbuf_downtime_cloudstack(const struct migbuf_downtime_cloudstack *c, uint64_t at_ms, int32_t running,
                                          int32_t limit_set);

/* KubeVirt */

/**
 * How long KubeVirt lets a migration of so many bytes take: per_gb_s (150) for each 10^9 bytes begun. Bytes are memory,
 * and volumes that are copied.
 *
 * Example: 150, 2^30 -> 300; 4 GiB -> 750; 10^9 -> 150. Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE beyond 64 bits.
 * Test: test_downtime, kubevirt_has_a_time_and_steps
 */
MIGBUF_API int migbuf_downtime_kubevirt_time(uint32_t per_gb_s, uint64_t bytes, uint64_t *seconds);

/**
 * The downtime after `ms`: 150 at first, then 107 more every 10 s from round 3 on, at most 900.
 *
 * Example: 0 -> 150, 150 -> 257, 899 -> 900.
 * Test: test_downtime, kubevirt_has_a_time_and_steps
 */
MIGBUF_API uint32_t migbuf_downtime_kubevirt_next(uint32_t ms);

/** How many candidates are kept; beyond it the oldest is taken for older than 40 s. */
#define MIGBUF_DOWNTIME_CANDIDATES 64

/** Rounds that were shorter than all before them. A record. */
struct migbuf_downtime_stall {
    uint64_t at_ms[MIGBUF_DOWNTIME_CANDIDATES]; /**< of the last 40 s, oldest first */
    uint64_t bytes[MIGBUF_DOWNTIME_CANDIDATES]; /**< what remained then */
    uint64_t outside_bytes;                     /**< the least of those that are older */
    uint32_t count;                             /**< of the last 40 s */
    uint32_t has_outside;                       /**< 1: outside_bytes is there */
};

/**
 * At each MIGRATION_PASS: takes what remains then. Returns 1 when the migration has stalled, else 0. It has stalled when
 * that is not at least 4 % less than the least of all rounds older than 40 s.
 *
 * Example (s, bytes): (0, 1000) (20, 800) (41, 700) (62, 690) (84, 695) -> stalled at 84. (0, 100) (41, 97) -> at 41.
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_CLOCK when time goes back.
 * Test: test_downtime, kubevirt_sees_a_stall; test_downtime, kubevirt_with_more_rounds_than_are_kept
 */
MIGBUF_API int migbuf_downtime_kubevirt(struct migbuf_downtime_stall *s, uint64_t at_ms, uint64_t remaining_bytes);

/**
 * What KubeVirt does when it has stalled and a low point is reached. 60 s later it aborts whatever still runs.
 *
 * | disruption | case | returns |
 * |---|---|---|
 * | allowed | post-copy is usable | MIGBUF_RAM_POSTCOPY |
 * | allowed | it is not | MIGBUF_RAM_FORCE |
 * | not | remaining / rate is at most 1350 ms | MIGBUF_RAM_DOWNTIME, to 900 ms |
 * | not | it is more | MIGBUF_RAM_ABORT |
 *
 * Example: 100e6 left, 117e6 bytes/s, no disruption -> DOWNTIME; 200e6 -> ABORT.
 * Errors: MIGBUF_E_RANGE for a rate of 0 or below, MIGBUF_E_INVALID.
 * Test: test_downtime, kubevirt_acts_on_a_stall
 */
MIGBUF_API int migbuf_downtime_kubevirt_action(uint64_t remaining_bytes, double bytes_per_s, int32_t disruption,
                                               int32_t postcopy_usable);

/* Proxmox */

/**
 * Where Proxmox's rule stands. A record.
 */
struct migbuf_downtime_doubling {
    uint64_t last_bytes; /**< what remained at the last poll */
    uint32_t risen;      /**< rises counted */
    uint32_t limit_ms;   /**< in force; 0 begins with 100 */
};

/**
 * At each poll (every second) that brought new bytes: *ms is the limit from now on. When `remaining` rose six times, or was
 * 0, the limit is doubled, up to 2'000'000. Proxmox never gives up.
 *
 * Example: 9 5 7 4 6 3 6 2 6 1 6 1 6 -> 200 with the sixth rise; 0 six times -> 200. Errors: MIGBUF_E_INVALID.
 * Test: test_downtime, proxmox_doubles
 */
MIGBUF_API int migbuf_downtime_proxmox(struct migbuf_downtime_doubling *s, uint64_t remaining_bytes, uint32_t *ms);

/* Xen */

/**
 * Xen since 4.6. Returns 1 to stop and copy: after 5 rounds, or with fewer than 50 dirty pages. Else 0.
 *
 * Example: 4, 50 -> 0; 4, 49 -> 1; 5, 1000 -> 1.
 * Test: test_downtime, xen_stops_and_copies
 */
MIGBUF_API int migbuf_downtime_xen(uint32_t rounds, uint64_t dirty_pages);

/**
 * Xen 3.x to 4.5. Returns 1 to stop and copy, in each of these cases, else 0:
 *
 * - after 29 rounds,
 * - when fewer than 50 pages were sent or skipped in the last,
 * - when more than three times the memory was sent,
 * - when a round at the highest rate sent more than the one before.
 *
 * Example: 29 rounds -> 1. 3 rounds, 5000 pages after 6000, 100'000 sent of 50'000 -> 0; 151'000 sent -> 1.
 * Test: test_downtime, xen_stops_and_copies
 */
MIGBUF_API int migbuf_downtime_xen_3(uint32_t rounds, uint64_t round_pages, uint64_t last_round_pages, uint64_t sent_pages,
                                     uint64_t total_pages, int32_t at_highest_rate);

/**
 * The rate of the next round in Mbit/s, after Clark and others (NSDI 2005, section 3.2). It is what was dirtied in the last
 * round's time, and 50 more, between `least` and `most`. Returns 1 when that is more than `most`: stop and copy. Else 0.
 *
 * Example (100 .. 500): 0 -> 100; 120 -> 170; 449 -> 499; 460 -> 500, and stop.
 * Errors: MIGBUF_E_INVALID for least above most, MIGBUF_E_RANGE.
 * Test: test_downtime, clark_raises_the_rate
 */
MIGBUF_API int migbuf_downtime_clark(double dirty_mbit_per_s, double least, double most, double *mbit_per_s);

/* QEMU */

/**
 * How little must be left after a sync for QEMU to switch over: less than *threshold_bytes.
 *
 * | avail-switchover-bandwidth | threshold |
 * |---|---|
 * | 0: not set | floor(bandwidth * limit), the bandwidth in bytes/ms |
 * | set | floor(avail / 1000) bytes/ms in the place of the bandwidth |
 *
 * Example: 134'217'728 bytes/s, 300 ms -> 40'265'318; 16'777'216, 300, avail 1.25e9 -> 375'000'000.
 * Errors: MIGBUF_E_RANGE, MIGBUF_E_INVALID.
 * Test: test_downtime, qemu_switches_over_below_a_threshold
 */
MIGBUF_API int migbuf_downtime_qemu(double bytes_per_s, uint32_t limit_ms, uint64_t avail_bytes_per_s,
                                    uint64_t *threshold_bytes);

/** auto-converge: QEMU's parameters, and where it stands. A record; the first four are the host's to fill. */
struct migbuf_downtime_trigger {
    uint32_t threshold;        /**< throttle-trigger-threshold, 1 .. 100 */
    uint32_t initial;          /**< cpu-throttle-initial, 1 .. 99 */
    uint32_t increment;        /**< cpu-throttle-increment, 1 .. 99 */
    uint32_t most;             /**< max-cpu-throttle, initial .. 99 */
    uint32_t counted;          /**< syncs that were too dirty, 0 or 1 */
    uint32_t throttle_percent; /**< in force */
};

/**
 * At each sync at least 1 s after the last: takes the bytes dirtied and sent since. A sync counts when dirty is more than
 * threshold % of what was sent. Every second count raises the throttle. Returns the throttle, in percent.
 *
 * Example (50, 20, 10, 99): (60, 100) four times -> 0 20 20 30. (60, 100) (10, 100) (60, 100) -> 0 0 20: a good sync does
 * not start the count again.
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE for parameters QEMU does not take.
 * Test: test_downtime, qemu_throttles_every_second_time
 */
MIGBUF_API int migbuf_downtime_trigger(struct migbuf_downtime_trigger *s, uint64_t dirty_bytes, uint64_t sent_bytes);

/**
 * By how much the throttle is raised then with cpu-throttle-tailslow:
 *
 *   min(increment, cpu - floor(cpu * allowed / dirty))
 *     cpu      100 - throttle
 *     allowed  threshold % of what was sent
 *
 * Example (throttle, dirty, allowed, increment): 20, 100, 50, 10 -> 10; 90, 100, 95, 10 -> 1.
 * Errors: MIGBUF_E_RANGE for a throttle above 99 or 0 dirty bytes.
 * Test: test_downtime, qemu_throttles_slowly_at_the_end
 */
MIGBUF_API int migbuf_downtime_tailslow(uint32_t throttle_percent, uint64_t dirty_bytes, uint64_t allowed_bytes,
                                        uint32_t increment);

#ifdef __cplusplus
}
#endif
#endif
