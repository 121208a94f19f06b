/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_DISK_H
#define MIGBUF_DISK_H
/**
 * @file disk.h
 * The throttle of one VM, without I/O. It says which QMP command comes next. The host sends that command by whatever
 * monitor it has, and says what came back. One handle serves all disks of the VM that migrate.
 *
 *   disk = new("migbuf-vm1"); watch(disk, "lxd_root"); learn(disk);     then pump
 *   apply(disk, decision)                                                then pump, then migbuf_buffer_outcome
 *   restore(disk)                                                        then pump, when the overlay is gone
 *
 *   pump: while (migbuf_disk_next(disk, &command) == 1) {
 *             rc = send(command.name, command.arguments, &reply);
 *             migbuf_report_to_disk(disk, command.kind, rc, reply, length, &error);
 *         }
 *         outcome = migbuf_disk_outcome(disk);
 *
 * migbuf_report_to_disk (report.h) is for hosts that hold replies as JSON text. Others call migbuf_disk_found or
 * migbuf_disk_status with what the reply says, and then migbuf_disk_answered.
 *
 * ## Three outcomes
 *
 * A command was carried out, or QEMU refused it, or nobody knows. Nobody knows when its answer did not come in time,
 * when the connection was lost, when the call was cancelled. QEMU may carry out such a command later.
 *
 * | after | info tells | next command after the next call |
 * |---|---|---|
 * | done | as before | what is still to be done |
 * | refused | `failed` if there was no other way | the same once more |
 * | unknown | `unknown` | query-block or query-status, then what is still to be done |
 *
 * After an unknown outcome the machine sends nothing more until learn, set, apply, rearm or restore is called. Then it
 * asks QEMU what is in force, before it believes anything. Whatever it ever sent it recognises as its own: none of our
 * limits can become the host's.
 * Test: test_disk, a_late_answer_makes_nothing_of_ours_the_hosts; test_disk_qemu, what_came_too_late_is_still_ours
 *
 * ## How a limit is changed so that it holds
 *
 * block_set_io_throttle empties the leaky bucket and wakes one queued request each time. Sent once a second, 10 kB/s
 * with 1 MiB writes become 1 MB/s (measured on QEMU 7.2; util/throttle.c, throttle_config). So:
 *
 * | what | how | why |
 * |---|---|---|
 * | all disks of the VM | join one throttle-group object of our own | They share one bucket and one budget. |
 * | a lower limit | is set on the object (qom-set) | The bucket is emptied, but nobody is woken. |
 * | a higher limit | is set with block_set_io_throttle | A request that waits for the old rate would not notice qom-set. |
 * | the same | on every disk | A group has one timer, and nobody knows whose request it is for (block/throttle-groups.c). Each of these empties the bucket and wakes one request of that disk. |
 * | a limit in force already | is never sent again | Each set empties the bucket. |
 *
 * Where the object cannot be made or set, block_set_io_throttle does both (`plain` in migbuf_disk_info). A host that
 * can only call block_set_io_throttle with its six rates (LXD's SetBlockThrottle) says so: migbuf_disk_six_rates.
 * Test: test_growth_qemu, a_rate_decided_again_each_second_is_the_same_rate; test_growth_qemu, a_raise_is_felt_at_once
 * Test: test_drain_qemu, two_disks_are_one_bucket_and_both_feel_a_raise
 *
 * ## Whose limits are whose
 *
 * - The device is found by node name in query-block, never built from a name. With virtio-blk the id that works is
 *   "/machine/peripheral/NAME/virtio-backend".
 * - The host's own limits, group and bursts included, are saved then, and come back by restore.
 * - Ours are laid over them (migbuf_limits_merge). Where several disks differ, the strictest of all holds for the group
 *   while the migration lasts.
 *
 * What the host sets meanwhile is what comes back:
 *
 * | where it sets it | how that is seen |
 * |---|---|
 * | on our only disk | by the next learn |
 * | on one of several disks in our group | Nobody can tell whose limits these are (`unclear`). The host says it itself: migbuf_disk_tell_host_limits. |
 * | on a group of its own that also holds a disk we do not watch | restore looks at that disk first |
 *
 * A disk that is unplugged is `gone`: the others are served as before.
 *
 * ## Stopping the guest
 *
 * A budget below one unit per second is a pause (buffer.h). The machine asks query-status before it sends `stop` or
 * `cont`. What apply or restore last decided for the guest holds: learn, set and rearm look again, and make it true
 * again. Before the first of them, and after load, the guest stays as it is. One that another hand has stopped is not
 * let run. One that the machine has stopped runs again after restore. A host that stops guests by itself calls set
 * instead of apply, and never sees these commands.
 * Test: test_disk, decisions_are_carried_out; test_disk, a_loaded_guest_stays_as_it_is
 * Test: test_disk_qemu, a_loaded_guest_stands_until_somebody_decides
 *
 * Beside an LXD or Incus another hand lets it run: the server does when the migration has failed. Until the next learn
 * the guest then has the limits that were in force before the pause, or none. So set the least ones before the apply of
 * a pause: iops_wr 1, iops_size one cluster.
 *
 * ## The way back
 *
 * A migration that fails is undone by committing the overlay into its base (block-commit):
 *
 * 1. Keep our limits until that job has ended: the overlay grows until then.
 * 2. Stop the guest before block-job-complete, and let it run afterwards. Completing the commit of a running guest
 *    pours its queue again and again (limits.h, migbuf_limits_drain).
 * 3. Then restore.
 *
 * One thread at a time per handle. Strings given are copied. Those returned live until the next call on the handle.
 *
 * Link with -lmigbuf.
 */
#include "migbuf/buffer.h"

#ifdef __cplusplus
extern "C" {
#endif

struct migbuf_disk;

#define MIGBUF_DISK_QUERY 1    /**< query-block: give every entry to migbuf_disk_found, then say the outcome */
#define MIGBUF_DISK_ADD 2      /**< object-add throttle-group */
#define MIGBUF_DISK_THROTTLE 3 /**< block_set_io_throttle */
#define MIGBUF_DISK_LIMITS 4   /**< qom-set on a group */
#define MIGBUF_DISK_DELETE 5   /**< object-del */
#define MIGBUF_DISK_STATUS 6   /**< query-status: give it to migbuf_disk_status, then say the outcome */
#define MIGBUF_DISK_STOP 7     /**< stop: pours the throttle's queue into the file (limits.h, migbuf_limits_drain) */
#define MIGBUF_DISK_CONT 8     /**< cont */

/** One command to send. A record; the strings live until the next call on the handle. */
struct migbuf_disk_command {
    int32_t kind;          /**< MIGBUF_DISK_… */
    int32_t reserved;      /**< 0 */
    const char *name;      /**< as in {"execute": name} */
    const char *arguments; /**< a JSON object, or NULL for none */
};

/** Where a VM's throttle stands. The caller sets `size` (sizeof). */
struct migbuf_disk_info {
    uint64_t size;               /**< sizeof, set by the caller */
    uint64_t commands_sent;      /**< that changed something in QEMU: each costs at most one request and avg / 10 */
    uint64_t text_revision;      /**< changes with the text of migbuf_disk_save: save it before the next command */
    struct migbuf_limits limits; /**< ours in force, 0: none. After load: as found, the host's own where stricter */
    int32_t learnt;              /**< every watched node was found */
    int32_t throttled;           /**< our limits are in force on every disk that is there */
    int32_t restored;            /**< the host's limits are in force again, and the guest is not left stopped by us */
    int32_t plain;               /**< no group object: lowering wakes one request too */
    int32_t taken_over;          /**< how often another hand changed the limits and was seen doing so */
    int32_t unclear;             /**< how often nobody could tell on which of several disks: see
                                      migbuf_disk_tell_host_limits */
    int32_t failed;              /**< QEMU refused what there is no other way for; the next call tries again */
    int32_t unknown;             /**< something was sent, and nobody knows whether it was carried out */
    int32_t gone;                /**< watched disks that are unplugged */
    int32_t stopped;             /**< the guest stands because of us, or may do so */
};

/**
 * A throttle for the disks of one VM. `group` names the throttle-group object, unique in that QEMU: 1 .. 64 characters
 * of A-Z a-z 0-9 - . _, a letter first. The caller owns *out. Errors: MIGBUF_E_INVALID, MIGBUF_E_NOMEM.
 * Test: test_disk, names_are_escaped_and_bounded
 */
MIGBUF_API int migbuf_disk_new(const char *group, const struct migbuf_allocator *allocator, struct migbuf_disk **out);

/** Ends the handle. NULL is fine. Sends nothing: restore first. */
MIGBUF_API void migbuf_disk_free(struct migbuf_disk *d);

/**
 * Adds a disk by the node name of what the device sees now (the top node): 1 .. 31 bytes, as QEMU allows. At most 16
 * disks. The device stays known when a snapshot puts another node on top.
 *
 * Errors: MIGBUF_E_INVALID, _EXISTS, _NOMEM, _TOO_BIG for a 17th, MIGBUF_E_STATE after the first limit was set and
 * while a command is under way.
 * Test: test_disk, two_disks_share_one_group
 */
MIGBUF_API int migbuf_disk_watch(struct migbuf_disk *d, const char *node_name);

/**
 * For hosts whose monitor has no other call: only block_set_io_throttle will be sent, with bps_rd, bps_wr, iops_rd and
 * iops_wr, and with bps and iops 0. Say so before learning.
 *
 * - No group is made. Each disk has a bucket of its own and an equal part of the limits, rounded down.
 * - Nothing in QEMU tells these limits from another hand's. So restore after a load always sends the host's own limits,
 *   whatever is found.
 * - Add MIGBUF_GEOMETRY_NO_IOPS_SIZE to the disks' geometry.
 *
 * Errors: MIGBUF_E_INVALID, _STATE.
 * Test: test_disk, typed_calls_alone
 */
MIGBUF_API int migbuf_disk_six_rates(struct migbuf_disk *d);

/**
 * Asks QEMU what is in force: the first time to learn devices and host limits, later to verify.
 *
 * - Another hand's change is seen then. What was found becomes what restore brings back, and ours is set again.
 * - Whoever has waited since, for room say, asks again before the first limit: to set it overwrites unseen what another hand
 *   has set meanwhile.
 * - QEMU leaves a disk in our group when limits are set without naming one. Such a disk goes back to the group it had
 *   before, or to one of its device's name, which is what QEMU would have made.
 * - Where a guest is to stand, its status is asked for too.
 *
 * Errors: MIGBUF_E_STATE when no disk is watched.
 * Test: test_disk, another_hand_is_noticed
 */
MIGBUF_API int migbuf_disk_learn(struct migbuf_disk *d);

/**
 * Wants what a decision of migbuf_buffer_tick says. After the pump tell the buffer what became of it:
 * migbuf_buffer_outcome(buffer, id, migbuf_disk_outcome(disk)).
 *
 * | action | does |
 * |---|---|
 * | LOWER, RAISE, RESUME | sets its limits and lets the guest run |
 * | PAUSE, CANNOT_FIT | stops the guest |
 * | REARM | sets the same limits once more |
 * | KEEP, WAIT | nothing |
 *
 * With six rates, limits of less than 1 a disk stop the guest. Errors: those of migbuf_disk_set and migbuf_disk_rearm,
 * MIGBUF_E_INVALID for another action.
 * Test: test_disk, decisions_are_carried_out
 */
MIGBUF_API int migbuf_disk_apply(struct migbuf_disk *d, const struct migbuf_decision *decision);

/**
 * Wants these limits, and leaves stopping and running to the host.
 *
 * Errors: MIGBUF_E_STATE before everything is learnt, and while a restore is under way (a late decision must not undo
 * it). MIGBUF_E_RANGE for iops_wr and bps_wr both 0, and for more than QEMU takes (10^15). With six rates also
 * MIGBUF_E_RANGE for less than 1 a disk (pause the guest); and MIGBUF_E_UNSUPPORTED for an iops_size, or where the
 * host's own limits have more than six rates can say: a total, a burst, an iops_size.
 * Test: test_disk, a_life_with_a_throttle; test_disk, typed_calls_cannot_say_everything
 */
MIGBUF_API int migbuf_disk_set(struct migbuf_disk *d, const struct migbuf_limits *limits);

/**
 * Sets the limits in force once more, although unchanged. QEMU's bucket is emptied, and a request that waits for what
 * it owes goes on. Costs what every set costs (migbuf_limits_worst_growth). Errors: MIGBUF_E_STATE when no limits of
 * ours are in force or while a restore is under way.
 * Test: test_disk, the_same_once_more_empties_the_bucket
 */
MIGBUF_API int migbuf_disk_rearm(struct migbuf_disk *d);

/**
 * Wants the host's own limits back, the group gone, and the guest running if it stands because of us. It asks what is
 * in force first. Fine when nothing was ever set. Errors: MIGBUF_E_STATE before everything is learnt.
 * Test: test_disk_model, the_hosts_limits_always_come_back; test_drain_qemu, limits_changed_by_another_hand_come_back
 */
MIGBUF_API int migbuf_disk_restore(struct migbuf_disk *d);

/**
 * The next command: 1 and *command, or 0 when there is nothing to do. The same one until its outcome is said. Errors:
 * MIGBUF_E_INVALID.
 * Test: test_report, answers_reach_a_disk
 */
MIGBUF_API int migbuf_disk_next(struct migbuf_disk *d, struct migbuf_disk_command *command);

/**
 * Part of the answer to MIGBUF_DISK_QUERY: one entry of query-block. `node_name` is that of the entry's top node,
 * `qdev` its device, `config` its limits. Give all entries, also those of disks that do not migrate: they may share a
 * group with one that does.
 *
 * Returns 1 for a watched disk, else 0. Errors: MIGBUF_E_STATE when no query is under way, MIGBUF_E_TOO_BIG for a qdev
 * of 512 bytes or more, MIGBUF_E_INVALID for a qdev or group that is no UTF-8 (no JSON could name it), MIGBUF_E_RANGE for
 * a rate above 10^15, which QEMU does not take, MIGBUF_E_UNSUPPORTED when two devices write to one watched node.
 * Test: test_disk, two_devices_of_one_node_are_refused; test_disk, numbers_that_qemu_cannot_have
 */
MIGBUF_API int migbuf_disk_found(struct migbuf_disk *d, const char *node_name, const char *qdev,
                                 const struct migbuf_throttle_config *config);

/**
 * The answer to MIGBUF_DISK_STATUS: `status` and `running` as query-status has them. Errors: MIGBUF_E_STATE when no
 * such query is under way, MIGBUF_E_INVALID.
 * Test: test_disk, a_guest_of_unknown_state_is_asked_for
 */
MIGBUF_API int migbuf_disk_status(struct migbuf_disk *d, const char *status, int32_t running);

/**
 * What became of the command under way. Who does not know says unknown.
 *
 * | outcome | when |
 * |---|---|
 * | MIGBUF_OUTCOME_DONE | QEMU answered that it was carried out |
 * | MIGBUF_OUTCOME_REFUSED | QEMU answered with an error |
 * | MIGBUF_OUTCOME_UNKNOWN | in every other case |
 *
 * | returns | means |
 * |---|---|
 * | 0 | the pump goes on |
 * | MIGBUF_E_PEER | QEMU refused it and there is no other way |
 * | MIGBUF_E_UNKNOWN | after an unknown outcome |
 * | MIGBUF_E_NOTFOUND | a watched node has never been among what was found |
 * | MIGBUF_E_STATE | no command was under way |
 * | MIGBUF_E_INVALID | another outcome |
 * Test: test_disk, refusals_have_another_way_or_an_end
 */
MIGBUF_API int migbuf_disk_answered(struct migbuf_disk *d, int32_t outcome);

/**
 * What became of the last apply, set, rearm or restore, for migbuf_buffer_outcome. Ask after every pump: a disk that
 * QEMU refuses is left out while the others are served, and only this tells of it.
 *
 * | returns | when |
 * |---|---|
 * | MIGBUF_OUTCOME_DONE | it was carried out |
 * | MIGBUF_OUTCOME_REFUSED | nothing of it is in force; also where a question got no answer before anything was sent |
 * | MIGBUF_OUTCOME_UNKNOWN | otherwise, also when a part of it is in force |
 * | 0 | commands are left to send |
 *
 * A learn that finds everything as it should be leaves the outcome as it is. NULL gives MIGBUF_E_INVALID.
 * Test: test_disk, a_refused_disk_keeps_no_other_throttled; test_disk, refusals_have_another_way_or_an_end
 */
MIGBUF_API int migbuf_disk_outcome(const struct migbuf_disk *d);

/**
 * The host's own limits of one watched disk are these from now on. Restore brings these back. Set nothing in QEMU then.
 * For a host that changes limits itself while ours are in force (LXD's and Incus' device updates), and so knows what
 * query-block cannot tell.
 *
 * Errors: MIGBUF_E_NOTFOUND, MIGBUF_E_INVALID, MIGBUF_E_RANGE for a rate above 10^15, MIGBUF_E_STATE before everything
 * is learnt and while a command is under way.
 * Test: test_disk, the_host_tells_whose_limits_it_changed
 */
MIGBUF_API int migbuf_disk_tell_host_limits(struct migbuf_disk *d, const char *node_name,
                                     const struct migbuf_throttle_config *config);

/**
 * The host's own limits of every disk as text, and whether the guest stands because of us. Keep it where a restarted
 * host finds it: without it nobody could tell the host's limits from ours.
 *
 * - Save after learning, before the first limit is set. Save again whenever `text_revision` has changed, before the
 *   next command is sent.
 * - Printable ASCII, at most 8 KiB a disk, with version and checksum.
 * - *length is the length of the text, the NUL not counted, also when `capacity` was too small for text and NUL. Then
 *   the error is MIGBUF_E_TOO_BIG, so that capacity 0 asks.
 * - After a load, before QEMU is asked, it is the text that was loaded.
 *
 * Errors: also MIGBUF_E_STATE before every disk is found.
 * Test: test_disk, a_restarted_host_finds_what_to_restore
 */
MIGBUF_API int migbuf_disk_save(const struct migbuf_disk *d, char *text, size_t capacity, size_t *length);

/**
 * A throttle from a saved text. The first command asks QEMU what is in force:
 *
 * | a disk is found | it counts as |
 * |---|---|
 * | in our group | ours, unless its limits are none that we can have set |
 * | outside | one that has lost or never got our limit; what it has is the host's |
 *
 * - Until the first set, info tells the limits found in force, and whether the guest stands because of us: both are for
 *   migbuf_buffer_resync. Then apply, set or restore as usual.
 * - A guest that the text says stands because of us stays so until the buffer decides (apply) or restore. The pump asks
 *   for its status, for the earlier process may have died before its stop was sent.
 * - Restore also deletes the group where the earlier process died between giving back the limits and deleting it.
 *
 * Errors: MIGBUF_E_PROTOCOL (cut, edited, another version), _TOO_BIG, _NOMEM, _INVALID.
 * Test: test_disk, a_guest_we_stopped_runs_again_after_a_restart; test_disk, a_damaged_record_is_refused
 */
MIGBUF_API int migbuf_disk_load(const char *text, size_t length, const struct migbuf_allocator *allocator,
                                struct migbuf_disk **out);

/**
 * Where the throttle stands. Errors: MIGBUF_E_STRUCT, MIGBUF_E_INVALID.
 * Test: test_report, answers_reach_a_disk
 */
MIGBUF_API int migbuf_disk_info(const struct migbuf_disk *d, struct migbuf_disk_info *info);

/**
 * The host's own limits of one watched disk, as restore would set them. Errors: MIGBUF_E_NOTFOUND, MIGBUF_E_STATE.
 * Test: test_disk, another_hand_is_noticed
 */
MIGBUF_API int migbuf_disk_host_limits(const struct migbuf_disk *d, const char *node_name,
                                struct migbuf_throttle_config *config);

/**
 * The device of one watched disk, or NULL before it is known and when it is gone.
 * Test: test_disk, an_unplugged_disk_is_left_out
 */
MIGBUF_API const char *migbuf_disk_qdev(const struct migbuf_disk *d, const char *node_name);

#ifdef __cplusplus
}
#endif
#endif
