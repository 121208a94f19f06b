/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_DISK_H
#define MIGBUF_DISK_H
/**
 * @file disk.h
 * The throttle of one VM's disks (mostly one), without I/O: it says which QMP command to send next, the host sends it
 * by whatever monitor it has and says what came back.
 *
 *   disk = new("migbuf-vm1"); watch(disk, "lxd_root"); learn(disk);      then pump
 *   set(disk, limits)                                                     then pump, when a decision changed something
 *   restore(disk)                                                         then pump, when the overlay is gone
 *
 *   pump: while (migbuf_disk_next(disk, &command) == 1) {
 *             reply = send(command.name, command.arguments);
 *             if (reply is an error)
 *                 migbuf_disk_failed(disk);
 *             else {
 *                 if (command.kind == MIGBUF_DISK_QUERY)
 *                     migbuf_disk_found(...) for each disk in it;
 *                 migbuf_disk_done(disk);
 *             }
 *         }
 *
 * With report.h the middle is one call: migbuf_report_to_disk.
 *
 * ## How a limit is changed so that it holds
 *
 * block_set_io_throttle empties the leaky bucket and wakes one queued request each time: sent once a second, 10 kB/s
 * with 1 MiB writes become 1 MB/s (measured on QEMU 7.2; util/throttle.c, throttle_config). So:
 *  - all disks of the VM join one throttle-group object of our own, hence share one bucket and one budget;
 *  - a lower limit is set on the object (qom-set): the bucket is emptied but nobody is woken;
 *  - a higher limit is set with block_set_io_throttle: a request that waits for the old rate would not notice qom-set;
 *    and it is set on every disk, as a group has one timer and nobody knows whose request it is for
 *    (block/throttle-groups.c). Each of these empties the bucket and wakes one request of that disk;
 *  - a limit that is in force already is never sent again.
 * Where the object cannot be made or set, block_set_io_throttle does both (`plain` in migbuf_disk_info).
 * A host that can only call block_set_io_throttle with its six rates (LXD's SetBlockThrottle) says so:
 * migbuf_disk_typed.
 *
 * What it costs in growth, with g what the limits let through a second: a limit that is kept g * T in T seconds, one
 * that is set g * (T + 0.1 s) and one whole request, for each disk it is set on. buffer.h claims the latter at every
 * tick, so a host with typed calls overflows no more than another; it is only that a lowered limit, too, wakes a
 * request.
 *
 * The device is found by node name in query-block, never built from a name: with virtio-blk the id that works is
 * "/machine/peripheral/NAME/virtio-backend". The host's own limits, group and bursts included, are saved then and come
 * back by restore. Ours are laid over them (migbuf_limits_merge); where several disks differ, the strictest of all
 * holds for the group while the migration lasts.
 *
 * One thread at a time per handle. Strings given are copied; those returned live until the next call on the handle.
 */
#include "migbuf/limits.h"

#ifdef __cplusplus
extern "C" {
#endif

struct migbuf_disk;

#define MIGBUF_DISK_QUERY 1    /**< query-block: report every watched node with migbuf_disk_found, then _done */
#define MIGBUF_DISK_ADD 2      /**< object-add throttle-group */
#define MIGBUF_DISK_THROTTLE 3 /**< block_set_io_throttle */
#define MIGBUF_DISK_LIMITS 4   /**< qom-set on the group */
#define MIGBUF_DISK_DELETE 5   /**< object-del */

/** One command to send. A record; the strings live until the next call on the handle. */
struct migbuf_disk_command {
    int32_t kind;          /**< MIGBUF_DISK_… */
    int32_t reserved; /**< 0 */
    const char *name;      /**< as in {"execute": name} */
    const char *arguments; /**< a JSON object, or NULL for none */
};

/** Where a VM's throttle stands. The caller sets `size` (sizeof). */
struct migbuf_disk_info {
    uint64_t size; /**< sizeof, set by the caller */
    uint64_t commands_sent;       /**< that changed something in QEMU: each costs at most one request and avg / 10 */
    struct migbuf_limits limits;  /**< ours in force, 0: none. After load: as found, the host's own where stricter */
    int32_t learnt;               /**< every watched node was found */
    int32_t throttled;            /**< our limits are in force on every disk */
    int32_t restored;             /**< the host's limits are in force again */
    int32_t plain;                /**< no group object: lowering wakes one request too */
    int32_t taken_over;           /**< how often another hand changed the limits and was seen doing so */
    int32_t failed;               /**< QEMU refused what there is no other way for; set, learn or restore try again */
};

/**
 * A throttle for the disks of one VM. `group` names the throttle-group object, unique in that QEMU: 1 .. 64 characters
 * of A-Z a-z 0-9 - . _, a letter first. Errors: MIGBUF_E_INVALID, MIGBUF_E_NOMEM.
 */
MIGBUF_API int migbuf_disk_new(const char *group, const struct migbuf_allocator *allocator, struct migbuf_disk **out);

/** NULL is fine. Sends nothing: restore first. */
MIGBUF_API void migbuf_disk_free(struct migbuf_disk *d);

/**
 * Adds a disk by the node name of what the device sees (the top node) now: 1 .. 31 bytes, as QEMU allows. At most 16.
 * The device stays known when a snapshot puts another node on top. Errors: MIGBUF_E_INVALID, _EXISTS, _NOMEM, _TOO_BIG
 * for a 17th, MIGBUF_E_STATE after the first limit was set and while a command is under way.
 */
MIGBUF_API int migbuf_disk_watch(struct migbuf_disk *d, const char *node_name);

/**
 * Only block_set_io_throttle will be sent, with bps_rd, bps_wr, iops_rd and iops_wr and bps and iops 0: for hosts whose
 * monitor has no other call. Say so before learning. No group is made, so each disk has a bucket of its own and an
 * equal part of the limits, rounded down. Nothing in QEMU tells these limits from another hand's: after a load, what is
 * not as it was saved is taken for ours. Add MIGBUF_GEOMETRY_NO_IOPS_SIZE to the disks' geometry. Errors:
 * MIGBUF_E_INVALID, _STATE.
 */
MIGBUF_API int migbuf_disk_typed(struct migbuf_disk *d);

/**
 * Asks QEMU what is in force: the first time to learn device and host limits, later to verify. Another hand's change is
 * seen then: what was found becomes what restore brings back, and ours is set again. (QEMU leaves a disk in our group
 * when limits are set without naming one: it goes back to the group it had before, or to one of its device's name,
 * which is what QEMU would have made. With several disks in it nobody can tell whose they are, and what was saved
 * stays.) Errors: MIGBUF_E_STATE when no disk is watched.
 */
MIGBUF_API int migbuf_disk_learn(struct migbuf_disk *d);

/**
 * Wants these limits. Errors: MIGBUF_E_STATE before everything is learnt and while a restore is under way (a late
 * decision must not undo it), MIGBUF_E_RANGE for iops_wr and bps_wr both 0. With typed calls also MIGBUF_E_RANGE for
 * less than 1 a disk (pause the guest), MIGBUF_E_UNSUPPORTED for an iops_size, or where the host's own limits have more
 * than the six rates can say: a total, a burst, an iops_size.
 */
MIGBUF_API int migbuf_disk_set(struct migbuf_disk *d, const struct migbuf_limits *limits);

/**
 * Sets the limits in force once more, although unchanged: QEMU's bucket is emptied, and a request that waits for what
 * it owes goes on. Costs what every set costs (migbuf_limits_worst_growth). Errors: MIGBUF_E_STATE when no limits of
 * ours are in force or while a restore is under way.
 */
MIGBUF_API int migbuf_disk_again(struct migbuf_disk *d);

/**
 * Wants the host's own limits back and the group gone. Fine when nothing was ever set. Errors: MIGBUF_E_STATE before
 * everything is learnt.
 */
MIGBUF_API int migbuf_disk_restore(struct migbuf_disk *d);

/**
 * The next command: 1 and *command, or 0 when there is nothing to do. The same one until done or failed is said.
 * Errors: MIGBUF_E_INVALID.
 */
MIGBUF_API int migbuf_disk_next(struct migbuf_disk *d, struct migbuf_disk_command *command);

/**
 * Part of the answer to MIGBUF_DISK_QUERY: the entry of query-block whose device we watch. `node_name` is that of its
 * top node, `qdev` its device, `config` its limits. Entries of other disks are ignored (returns 0; 1 for one of ours).
 * Errors: MIGBUF_E_STATE when no query is under way, MIGBUF_E_TOO_BIG for a qdev of 512 bytes or more.
 */
MIGBUF_API int migbuf_disk_found(struct migbuf_disk *d, const char *node_name, const char *qdev,
                                 const struct migbuf_throttle_config *config);

/**
 * The command succeeded. After MIGBUF_DISK_QUERY: MIGBUF_E_NOTFOUND when a watched node was not among what was found.
 * Errors: MIGBUF_E_STATE when none was under way.
 */
MIGBUF_API int migbuf_disk_done(struct migbuf_disk *d);

/**
 * QEMU answered with an error. Returns 0 when there is another way (next has it), or MIGBUF_E_PEER: nothing more is
 * sent until set, learn or restore is called again, and what was in force before still is. MIGBUF_E_STATE when no
 * command was under way.
 */
MIGBUF_API int migbuf_disk_failed(struct migbuf_disk *d);

/**
 * The host's own limits of every disk as text, to be kept where a restarted host finds it: without it nobody could tell
 * them from ours. Save once, after learning and before the first limit is set, and again when info tells `taken_over`.
 * *length is the length of the text (no NUL counted), also when `capacity` was too small for it and its NUL: then
 * MIGBUF_E_TOO_BIG, so that capacity 0 asks. MIGBUF_E_STATE before every disk is found; after a load, before QEMU is
 * asked, it is the text that was loaded. Printable ASCII, at most 8 KiB a disk, with version and checksum.
 */
MIGBUF_API int migbuf_disk_save(const struct migbuf_disk *d, char *text, size_t capacity, size_t *length);

/**
 * A throttle from a saved text. The first command asks QEMU what is in force: disks found in our group are taken for
 * ours, and restore brings back what was saved; a disk found outside has lost or never got our limit, and what it has
 * is the host's. Until the first set, info tells the limits found in force (for migbuf_buffer_found). Then set or
 * restore as usual; restore also deletes the group where the earlier process died between giving back the limits and
 * deleting it. Errors: MIGBUF_E_PROTOCOL (cut, edited, another version), _TOO_BIG, _NOMEM, _INVALID.
 */
MIGBUF_API int migbuf_disk_load(const char *text, size_t length, const struct migbuf_allocator *allocator,
                                struct migbuf_disk **out);

/** Where it stands. Errors: MIGBUF_E_STRUCT, MIGBUF_E_INVALID. */
MIGBUF_API int migbuf_disk_info(const struct migbuf_disk *d, struct migbuf_disk_info *info);

/** The host's own limits of one watched disk, as restore would set them. Errors: MIGBUF_E_NOTFOUND, MIGBUF_E_STATE. */
MIGBUF_API int migbuf_disk_host(const struct migbuf_disk *d, const char *node_name,
                                struct migbuf_throttle_config *config);

/** The device of one watched disk, or NULL before it is known. */
MIGBUF_API const char *migbuf_disk_qdev(const struct migbuf_disk *d, const char *node_name);

#ifdef __cplusplus
}
#endif
#endif
