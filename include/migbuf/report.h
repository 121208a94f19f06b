/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_REPORT_H
#define MIGBUF_REPORT_H
/**
 * @file report.h
 * What QEMU's answers and events say, as plain records.
 *
 * - Every reader takes the JSON text of a "return" value or of an event's "data", and fills one record. The text is a
 *   migbuf_qmp_message's, or what the host's own monitor code holds; it need not end in NUL.
 * - Members that QEMU may leave out are 0, "" or marked by a has_ field. Members it must send are checked.
 * - Integers beyond INT64_MAX read as INT64_MAX. Strings are NUL-terminated UTF-8; one with a NUL inside counts as
 *   mistyped.
 *
 * Shared errors, with *out untouched and the member's name in the error's text:
 *
 * | error | when |
 * |---|---|
 * | MIGBUF_E_INVALID | a pointer is NULL |
 * | MIGBUF_E_PROTOCOL | not JSON, not the expected shape, a member is missing or of the wrong type |
 * | MIGBUF_E_RANGE | a number is negative where none can be, or beyond double |
 * | MIGBUF_E_TOO_BIG | a string does not fit its field; or the text is nested deeper than 256 levels, or holds more values than 16384 and one for each 16 bytes |
 * | MIGBUF_E_NOTFOUND | no such node, device or job in it |
 * | MIGBUF_E_NOMEM | from malloc or jansson |
 *
 * - The bound on values: no text takes more memory than 10 MB and 40 times its length while it is read. QEMU's densest
 *   answer, query-qmp-schema, has 13 bytes for each value.
 * - Memory: a reader has no handle, so it takes a copy of the text from malloc. jansson uses its own process-wide
 *   allocator, which is the host's to set, not ours. Both are given back before the reader returns.
 *
 * No state, nothing kept, nothing to free. Any thread. Source: qapi of QEMU, and answers of QEMU 7.2.22.
 *
 * Link with -lmigbuf-qmp.
 */
#include "migbuf/disk.h"
#include "migbuf/limits.h"
#include "migbuf/mirror.h"
#include "migbuf/ram.h"

#ifdef __cplusplus
extern "C" {
#endif

/** One guest disk as query-block shows it. */
struct migbuf_block_report {
    char node_name[64];                     /**< the top node, inserted.node-name */
    char qdev[512];                         /**< what block_set_io_throttle takes as "id"; never build it from a name */
    struct migbuf_throttle_config throttle; /**< what is in force; all 0 and group "" when nothing is */
    int32_t nospace;                        /**< 1: io-status is nospace, the guest waits for room */
    int32_t failed;                         /**< 1: io-status is failed */
};

/**
 * The disk whose top node is `node_name`, out of what query-block returned.
 *
 * Example: [{"qdev": "dev-x", "inserted": {"node-name": "n0", "bps_wr": 1000000, "group": "g1", …}}] and "n0" ->
 * qdev "dev-x", throttle.bps_wr 1000000, throttle.group "g1".
 * Must be there: qdev, inserted.bps, .bps_rd, .bps_wr, .iops, .iops_rd, .iops_wr.
 * Test: test_report, a_disk_by_its_node
 */
MIGBUF_API int migbuf_report_block(const char *text, uint64_t text_bytes, const char *node_name,
                                   struct migbuf_block_report *out, struct migbuf_error *error);

/**
 * Carries what became of a command of migbuf_disk_next() to its disk. `result` is what the call that sent it returned,
 * for instance migbuf_qmp_socket_call():
 *
 * | result | means | `text` | the disk is told |
 * |---|---|---|---|
 * | 0 or more | QEMU carried it out | the value under "return" | what it says, then MIGBUF_OUTCOME_DONE |
 * | MIGBUF_E_PEER | QEMU refused it | not looked at | MIGBUF_OUTCOME_REFUSED |
 * | anything else | nobody knows: a time-out, a lost connection | not looked at | MIGBUF_OUTCOME_UNKNOWN |
 *
 * What it says: for MIGBUF_DISK_QUERY every entry of query-block that is a guest's disk goes to migbuf_disk_found().
 * For MIGBUF_DISK_STATUS the status goes to migbuf_disk_status(). An answer that cannot be read is an unknown outcome.
 * After MIGBUF_E_NOMEM the disk waits for it as before: say it again, or send the command again.
 *
 * Example: while (migbuf_disk_next(disk, &command) == 1) {
 *     rc = migbuf_qmp_socket_call(socket, command.name, command.arguments, 5000, &answer, NULL);
 *     rc = migbuf_report_to_disk(disk, command.kind, rc, answer.text, answer.text_bytes, &error); }
 * Returns what migbuf_disk_answered() says, or the error of reading the answer.
 * Test: test_report, answers_reach_a_disk
 */
MIGBUF_API int migbuf_report_to_disk(struct migbuf_disk *disk, int32_t command_kind, int result, const char *text,
                                     uint64_t text_bytes, struct migbuf_error *error);

/**
 * What a guest wrote, by query-blockstats. Its file is the last of the children: below the format (qcow2), and below
 * every filter on top of that (throttle, copy-on-read, a mirror with a filter-node-name), where offsets are still the
 * guest's.
 *
 * An overlay with an external data file (data_file) has that for its file. The guest's bytes lie there where the guest
 * wrote them: then only migbuf_report_node() tells what both files take.
 */
struct migbuf_write_report {
    char node_name[64];           /**< the disk's top node, "" when unnamed */
    char parent_node_name[64];    /**< its file: what block-set-write-threshold wants; "" when there is none */
    uint64_t write_bytes;         /**< stats.wr_bytes: written by the guest since start, zero-writes at full length */
    uint64_t write_operations;    /**< stats.wr_operations */
    uint64_t file_highest_offset; /**< its file's stats.wr_highest_offset: bytes of it ever written or tried */
    int32_t has_parent;           /**< 0: no child (a raw top node), and the two fields above are empty */
    int32_t reserved; /**< 0 */
};

/**
 * One guest disk out of what query-blockstats returned, by `qdev` or by `node_name`. Either may be NULL; with both
 * given both must fit. A node under filters counts as its disk's: an overlay is found by its own name while a mirror
 * with a filter-node-name runs.
 *
 * Example: [{"qdev": "dev-x", "node-name": "n0", "stats": {"wr_bytes": 4096, "wr_operations": 1, …}}] and "dev-x", NULL
 * -> write_bytes 4096, write_operations 1, has_parent 0.
 * Test: test_report, what_a_guest_wrote; test_report, a_file_under_filters
 */
MIGBUF_API int migbuf_report_writes(const char *text, uint64_t text_bytes, const char *qdev, const char *node_name,
                                    struct migbuf_write_report *out, struct migbuf_error *error);

/** A node's file by query-named-block-nodes; its limits there are always 0, so they are not read. */
struct migbuf_node_report {
    char node_name[64]; /**< the node */
    uint64_t actual_bytes;  /**< image.actual-size: st_blocks * 512; 0 where QEMU cannot tell, as over NBD */
    uint64_t virtual_bytes; /**< image.virtual-size */
};

/**
 * One node out of what query-named-block-nodes returned (ask with "flat": true: the answer is shorter).
 * Test: test_report, the_size_of_a_file
 */
MIGBUF_API int migbuf_report_node(const char *text, uint64_t text_bytes, const char *node_name,
                                  struct migbuf_node_report *out, struct migbuf_error *error);

/**
 * All nodes that are looked for, out of one answer of query-named-block-nodes and in one pass: the names stand in
 * nodes[].node_name. A node that is not there gets 0 in all other fields. Returns how many are there.
 * Test: test_report, many_nodes_in_one_pass
 */
MIGBUF_API int migbuf_report_nodes(const char *text, uint64_t text_bytes, struct migbuf_node_report *nodes,
                                   size_t count, struct migbuf_error *error);

/**
 * The same for guests' disks out of one answer of query-blockstats, by the name of their top node in
 * writes[].node_name. file_highest_offset is an overlay's size where its file is a block device, which allocates
 * nothing.
 * Test: test_report, many_nodes_in_one_pass
 */
MIGBUF_API int migbuf_report_all_writes(const char *text, uint64_t text_bytes, struct migbuf_write_report *writes,
                                        size_t count, struct migbuf_error *error);

/** A block job by query-block-jobs. */
struct migbuf_job_report {
    char device[256]; /**< the job's id */
    char status[32];  /**< "running", "ready", … */
    char type[32];    /**< "mirror", "commit", … */
    uint64_t length;  /**< len; for mirror and commit in bytes, and it rises with the guest's writes */
    uint64_t offset;  /**< done so far, in the same unit */
    int32_t ready;    /**< 1: may be completed */
    int32_t stopped;  /**< 1: a failed read or write has stopped it (io-status is not "ok"); it does not end */
};

/**
 * One job out of what query-block-jobs returned. MIGBUF_E_NOTFOUND: it has ended, or never was.
 * Test: test_report, a_block_job
 */
MIGBUF_API int migbuf_report_job(const char *text, uint64_t text_bytes, const char *device,
                                 struct migbuf_job_report *out, struct migbuf_error *error);

/**
 * The same of a mirror, as mirror.h wants it. A job that is not there is an answer: `there` is 0 then, and all else is 0.
 * MIGBUF_E_PROTOCOL also for a job of this id that is no mirror.
 *
 * Example: [{"device": "j", "type": "mirror", "len": 8, "offset": 6, "ready": false, …}] -> there 1, length_bytes 8,
 * offset_bytes 6. [] -> there 0.
 * Experimental (MIGBUF_QMP_EXPERIMENTAL_0).
 * Test: test_report, a_mirror_job
 */
MIGBUF_API int migbuf_report_mirror(const char *text, uint64_t text_bytes, const char *device,
                                    struct migbuf_mirror_report *out, struct migbuf_error *error);

/** query-status. */
struct migbuf_status_report {
    char status[32]; /**< "running", "paused", "io-error", "prelaunch", … */
    int32_t running; /**< 1: its CPUs run */
    int32_t reserved; /**< 0 */
};

/**
 * What query-status returned.
 *
 * Example: {"status": "prelaunch", "singlestep": false, "running": false} -> status "prelaunch", running 0.
 * Test: test_report, a_status
 */
MIGBUF_API int migbuf_report_status(const char *text, uint64_t text_bytes, struct migbuf_status_report *out,
                                    struct migbuf_error *error);

/** query-migrate. All but `status` are 0 where QEMU leaves them out, which it does by status. */
struct migbuf_migrate_report {
    char status[32]; /**< "active", "pre-switchover", "completed", "failed", …; "" before any migration */
    uint64_t ram_transferred_bytes; /**< ram.transferred */
    uint64_t ram_remaining_bytes; /**< ram.remaining */
    uint64_t ram_total_bytes; /**< ram.total */
    uint64_t page_bytes; /**< ram.page-size */
    uint64_t dirty_pages_per_s; /**< ram.dirty-pages-rate */
    uint64_t expected_downtime_ms; /**< expected-downtime */
    uint64_t cpu_throttle_percent; /**< cpu-throttle-percentage, of auto-converge */
    double mbps;     /**< megabits per second; 0 also where QEMU says -1, for none */
    int32_t has_ram; /**< 0: no ram statistics in this answer */
    int32_t reserved; /**< 0 */
};

/**
 * What query-migrate returned. Example: {} -> status "", has_ram 0.
 * Test: test_report, a_migration
 */
MIGBUF_API int migbuf_report_migrate(const char *text, uint64_t text_bytes, struct migbuf_migrate_report *out,
                                     struct migbuf_error *error);

/**
 * Why this VM cannot be migrated, by query-migrate before any migration. Returns 1 and QEMU's reasons with "; " between
 * them, cut where they do not fit `reasons_bytes` (2 or more). Returns 0 and "" when there is none.
 *
 * Example: {"blocked-reasons": ["non-migratable device: 0000:00:01.0/nvme"]} -> 1, {} -> 0. Source: QEMU 6.0 and newer.
 * Test: test_report, reasons_against_a_migration
 */
MIGBUF_API int migbuf_report_blocked(const char *text, uint64_t text_bytes, char *reasons, size_t reasons_bytes,
                                     struct migbuf_error *error);

/** add-fd. */
struct migbuf_fdset_report {
    uint64_t fdset_id; /**< the file name is then /dev/fdset/ID */
    uint64_t fd;       /**< its number inside QEMU */
};

/**
 * What add-fd returned. Example: {"fd": 20, "fdset-id": 0} -> fdset_id 0, fd 20.
 * Test: test_report, a_descriptor_set
 */
MIGBUF_API int migbuf_report_fdset(const char *text, uint64_t text_bytes, struct migbuf_fdset_report *out,
                                   struct migbuf_error *error);

/** Event BLOCK_IO_ERROR. */
struct migbuf_io_error_report {
    char node_name[64]; /**< whose; match by this, the device is "" for disks added with -blockdev */
    char operation[16]; /**< "read" or "write" */
    char action[16];    /**< "stop": the guest waits, "report": it saw the error, "ignore" */
    int32_t nospace;    /**< 1: no room; after making some, cont repeats the write */
    int32_t reserved; /**< 0 */
};

/**
 * The data of BLOCK_IO_ERROR.
 *
 * Example: {"device": "", "nospace": true, "node-name": "o", "operation": "write", "action": "stop", …} -> nospace 1.
 * Test: test_report, events
 */
MIGBUF_API int migbuf_report_io_error(const char *text, uint64_t text_bytes, struct migbuf_io_error_report *out,
                                      struct migbuf_error *error);

/**
 * The data of event MIGRATION: the new status, into a buffer of `status_bytes` (32 are enough). Example: {"status":
 * "active"} -> "active".
 * Test: test_report, events
 */
MIGBUF_API int migbuf_report_migration_status(const char *text, uint64_t text_bytes, char *status,
                                              size_t status_bytes, struct migbuf_error *error);

/** Events BLOCK_JOB_READY, BLOCK_JOB_COMPLETED and BLOCK_JOB_CANCELLED. */
struct migbuf_job_event_report {
    char device[256]; /**< the job's id */
    char type[32]; /**< "mirror", "commit", … */
    char error[256]; /**< BLOCK_JOB_COMPLETED only: why it failed, cut at 255 bytes; "" when it did not */
    uint64_t length; /**< len */
    uint64_t offset; /**< equal to length when everything was done */
};

/**
 * The data of a job's event. Example: {"device": "j", "len": 8, "offset": 4, "speed": 0, "type": "mirror"} -> length 8,
 * offset 4, error "".
 * Test: test_report, events
 */
MIGBUF_API int migbuf_report_job_event(const char *text, uint64_t text_bytes, struct migbuf_job_event_report *out,
                                       struct migbuf_error *error);

/** Event BLOCK_JOB_ERROR. */
struct migbuf_job_error_report {
    char device[256];   /**< the job's id */
    char operation[16]; /**< "read" or "write" */
    char action[16];    /**< "stop": the job waits; "report": it ends with an error; "ignore": it goes on */
};

/**
 * The data of BLOCK_JOB_ERROR. Example: {"device": "j", "operation": "write", "action": "stop"} -> operation "write",
 * action "stop".
 *
 * Start a mirror with copy-mode write-blocking with on-target-error "stop". With "report", the default, QEMU ends it by
 * itself. If a write of the guest is then on its way to the target, the mirror frees memory that this write still uses,
 * and QEMU may crash with its guest (mirror_run() against active_write_settle() in block/mirror.c). Stopped, it is
 * cancelled once the guest stands still.
 * Test: test_report, events
 */
MIGBUF_API int migbuf_report_job_error(const char *text, uint64_t text_bytes, struct migbuf_job_error_report *out,
                                       struct migbuf_error *error);

/** Event BLOCK_WRITE_THRESHOLD; it comes once, then the threshold is off. */
struct migbuf_threshold_report {
    char node_name[64]; /**< the node */
    uint64_t threshold_bytes; /**< what had been set */
    uint64_t exceeded_bytes;  /**< how far the write went past it */
};

/**
 * The data of BLOCK_WRITE_THRESHOLD.
 *
 * Example: {"node-name": "f", "amount-exceeded": 512, "write-threshold": 4096} -> threshold 4096, exceeded 512.
 * Test: test_report, events
 */
MIGBUF_API int migbuf_report_threshold(const char *text, uint64_t text_bytes, struct migbuf_threshold_report *out,
                                       struct migbuf_error *error);

/**
 * query-migrate in full, for the room `ram`: all that QEMU 7.2 to 11.1 say of memory. An unknown status is phase
 * MIGBUF_RAM_PHASE_OTHER, no error. Errors as above.
 *
 * Example: {"status": "active", "expected-downtime": 300, "total-time": 205, "ram": {"dirty-sync-count": 1, "remaining":
 * 4096, …}} -> phase MIGBUF_RAM_PHASE_ACTIVE, total_ms 205, sync_count 1, expected_downtime_ms 0 (not known yet). {} ->
 * phase MIGBUF_RAM_PHASE_NONE.
 * Experimental (MIGBUF_QMP_EXPERIMENTAL_0).
 * Test: test_report, a_migration_in_full; test_ram_replay, replay_of_10_0
 */
MIGBUF_API int migbuf_report_ram(const char *text, uint64_t text_bytes, struct migbuf_ram_report *out,
                                 struct migbuf_error *error);

/**
 * Carries what became of a command of migbuf_ram_next() to its machine. `result` is as in migbuf_report_to_disk(). An
 * answer that cannot be read is an unknown outcome. After MIGBUF_E_NOMEM say it again, or send the command again.
 *
 * Example: while (migbuf_ram_next(ram, &command) == 1) {
 *     rc = migbuf_qmp_socket_call(socket[command.side], command.name, command.arguments, 5000, &answer, NULL);
 *     rc = migbuf_report_to_ram(ram, command.kind, rc, answer.text, answer.text_bytes, &error); }
 * Returns what migbuf_ram_answered() says, or the error of reading the answer.
 * Experimental (MIGBUF_QMP_EXPERIMENTAL_0).
 * Test: test_ram_replay, replay_of_7_2; test_ram_qemu, a_guest_moves_with_the_defaults
 */
MIGBUF_API int migbuf_report_to_ram(struct migbuf_ram *ram, int32_t command_kind, int result, const char *text,
                                    uint64_t text_bytes, struct migbuf_error *error);

/**
 * Carries an event of one side to its machine: MIGRATION, MIGRATION_PASS, STOP, RESUME. All others are not for it. `name` is
 * as QEMU says it, `text` its "data" or NULL without any. Returns 1 when it was for the machine, else 0.
 *
 * Example: "MIGRATION", {"status": "active"} -> 1; "SHUTDOWN", {…} -> 0.
 * Experimental (MIGBUF_QMP_EXPERIMENTAL_0).
 * Test: test_report, events_reach_a_machine; test_ram_replay, replay_of_7_2
 */
MIGBUF_API int migbuf_report_event_to_ram(struct migbuf_ram *ram, int32_t side, const char *name, const char *text,
                                          uint64_t text_bytes, uint64_t now_ms, struct migbuf_error *error);

#ifdef __cplusplus
}
#endif
#endif
