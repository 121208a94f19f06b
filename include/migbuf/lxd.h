/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_LXD_H
#define MIGBUF_LXD_H
/**
 * @file lxd.h
 * The REST interface of LXD and Incus, as far as a host manager needs it for live migration: the server and its keys,
 * pools, the custom volume that holds all overlays (Ω), VMs with their disks and memory, migrations under way.
 *
 *     migbuf_lxd_open("/var/lib/lxd/unix.socket", NULL, NULL, 5000, &lxd, &error);
 *     migbuf_lxd_volume_create(lxd, "default", "migration-cow-buffer", 10737418240, 30000, &error);
 *     n = migbuf_lxd_migrations(lxd, 5000, list, 64, &error);
 *     migbuf_lxd_free(lxd);
 *
 * ## The process belongs to the host
 *
 * - It calls curl_global_init() once before the first handle is opened, as libcurl asks.
 * - libcurl and jansson take their memory from their own process-wide allocators (curl_global_init_mem(),
 *   json_set_alloc_funcs()), which a handle's cannot stand in for. The handle and the bytes of replies come from its
 *   own.
 * - No signals are used and no environment is read: no proxy, no LXD_DIR.
 *
 * ## Deadlines
 *
 * `timeout_ms` (1 … 2^32-1) is for the whole call on CLOCK_MONOTONIC: connecting, the answer, reading it, and the
 * operation where the server makes one. What may come on top is two passes over the reply's bytes, some ms per MiB.
 *
 * - A server that has been restarted is connected to again by the next call.
 * - An operation is waited for by the server. One that does not wait is asked again after 50 ms, then 100, and so on up
 *   to once a second.
 *
 * ## Bounds
 *
 * | a reply | is |
 * |---|---|
 * | longer than max_reply_bytes, or with headers of more than 64 KiB | not read to its end |
 * | with more than 4096 + max_reply_bytes / 32 values (a bracket counts as one), or 256 levels | not parsed: 16 MiB of "{},{}," would be 1.3 GB |
 * | not whole | ignored: nothing is taken from it |
 *
 * So no call has more than 8 times max_reply_bytes and 1 MiB in use, 129 MiB by default. jansson aborts where memory
 * ends within a token. So what a reply needs at most is asked for in one piece first, 4 bytes for each of its own and
 * up to 576 for each value, and given back untouched.
 *
 * ## What goes into a request
 *
 * Names and values are escaped. What is no UTF-8 is refused: the servers would change it unasked. Of what a server says
 * only an operation's id comes back in a request, and only when it is letters, digits, "-" and "_". Redirections are
 * not followed.
 *
 * ## What a server can
 *
 * That is asked by its API extensions, never by its version: LXD 5.0.2 up to current, Incus 6.x. Where answers differ
 * (a volume is made at once, or by an operation; usage left out where it is 0; progress in two forms) the calls here
 * give the same record.
 *
 * ## Shared errors
 *
 * In all cases outputs are untouched, and migbuf_lxd_said() has the server's own words, if any.
 *
 *   MIGBUF_E_INVALID      a pointer is NULL, a name is empty or longer than MIGBUF_LXD_NAME - 1, a text is no UTF-8
 *   MIGBUF_E_RANGE        timeout_ms 0
 *   MIGBUF_E_SYSTEM       no connection; os_errno: ENOENT or ECONNREFUSED (no server there), EACCES (no permission)
 *   MIGBUF_E_TIMEOUT      the deadline passed; what was asked for may still happen
 *   MIGBUF_E_CLOSED       the reply was cut
 *   MIGBUF_E_TOO_BIG      the reply is beyond the bounds (need 0), or a list longer than its array (need, have: items),
 *                         or a name in a reply does not fit its field
 *   MIGBUF_E_PROTOCOL     the reply is not what this interface speaks
 *   MIGBUF_E_NOTFOUND     404
 *   MIGBUF_E_EXISTS       409: the name is taken
 *   MIGBUF_E_PEER         the server refused, points elsewhere, or its operation failed; error->need is the HTTP status,
 *                         whether the reply was JSON or not
 *   MIGBUF_E_UNSUPPORTED  this server cannot do it; the text begins with "not supported: "
 *   MIGBUF_E_NOMEM        no memory for the reply; what was asked for may have happened. libcurl does not always say
 *                         that it was memory it lacked: then one of the others. And it says so of a single header line
 *                         beyond its own bound (100 KiB)
 *
 * A handle belongs to one thread at a time. Strings given are copied. `project` NULL means the handle's, and that NULL
 * the server's default.
 *
 * Link with -lmigbuf-lxd.
 */
#include "migbuf/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct migbuf_lxd;

/** Room for a name with its NUL. */
#define MIGBUF_LXD_NAME 128

/** How to reach a server. Fill with migbuf_lxd_options_init(), then change what must be. */
struct migbuf_lxd_options {
    uint64_t size;            /**< sizeof, set by _init */
    uint64_t max_reply_bytes; /**< 1024 … 2^30, default 16 MiB. 1000 VMs are about 4 MiB */
    const char *project;      /**< for every call that names none; NULL: the server's default */
    const char *target;       /**< in a cluster, the member whose pools, volumes and counters (metrics) are meant;
                                   NULL: who answers. Ignored by a server that is no cluster */
    const char *certificate;  /**< file with the client's certificate (PEM), for https only */
    const char *key;          /**< file with its private key (PEM) */
    const char *server_certificate; /**< file with the server's certificate (PEM): this one and no other is believed,
                                         whatever host it names; NULL: the system's authorities and the host's name */
};

/**
 * Defaults. Errors: MIGBUF_E_INVALID, MIGBUF_E_STRUCT.
 * Test: test_lxd, wrong_arguments
 */
MIGBUF_API int migbuf_lxd_options_init(struct migbuf_lxd_options *options, uint64_t size);

/**
 * Connects to a server, and asks it what it is, so that the first call already knows what it can do. `where` is the
 * path of its unix socket (it begins with '/'), or "https://HOST:PORT". `options` and `allocator` may be NULL.
 *
 * Errors: the shared ones, MIGBUF_E_STRUCT; MIGBUF_E_PEER "does not trust" for a certificate the server does not know;
 * MIGBUF_E_TOO_BIG for a path that does not fit a unix address (need and have in bytes). *lxd is untouched then. The
 * caller owns *lxd and gives it to migbuf_lxd_free().
 * Test: test_lxd, nobody_there; test_lxd_daemon, a_remote_server
 */
MIGBUF_API int migbuf_lxd_open(const char *where, const struct migbuf_lxd_options *options,
                               const struct migbuf_allocator *allocator, uint32_t timeout_ms, struct migbuf_lxd **lxd,
                               struct migbuf_error *error);

/** Closes the connection and frees everything. NULL is fine. */
MIGBUF_API void migbuf_lxd_free(struct migbuf_lxd *lxd);

/**
 * What the server (or libcurl) said when the last call failed. Never NULL. Lives until the next call on the handle.
 *
 * | it is | when |
 * |---|---|
 * | "Storage pool not found" | the server's words |
 * | "HTTP status 502" | it had no words |
 * | the place a redirection points to | it points elsewhere |
 * | "" | there is nothing to say, and after a success |
 *
 * At most 511 bytes of UTF-8, cut between two characters, and made printable (migbuf_printable). Names in records are
 * as the server has them: make them printable before you show them.
 * Test: test_lxd, errors_by_their_status
 */
MIGBUF_API const char *migbuf_lxd_said(const struct migbuf_lxd *lxd);

/* ---- the server ---- */

#define MIGBUF_LXD_LXD 1 /**< kind: LXD */
#define MIGBUF_LXD_INCUS 2 /**< kind: Incus */

/** Running VMs can be moved without shared storage (API extension migration_vm_live: LXD 5.13, Incus). */
#define MIGBUF_LXD_LIVE_MIGRATION 1u
/** limits.read, .write and .max of a VM's disk work (vm_disk_io_limits: LXD 5.21; Incus always). */
#define MIGBUF_LXD_DISK_LIMITS 2u

/** A server. The caller sets `size` (sizeof); it may grow. */
struct migbuf_lxd_server {
    uint64_t size; /**< sizeof, set by the caller */
    int32_t kind;                /**< MIGBUF_LXD_LXD or _INCUS */
    uint32_t features;           /**< what it can, by API extensions */
    int32_t clustered;           /**< 1: member of a cluster */
    uint32_t extensions;         /**< how many API extensions it lists */
    char version[MIGBUF_LXD_NAME]; /**< for people: "5.0.2" */
    char name[MIGBUF_LXD_NAME];  /**< of the host, or of the cluster's member: VMs with this location run here */
};

/**
 * Asks again what the server is. Errors: the shared ones, MIGBUF_E_STRUCT.
 * Test: test_lxd_daemon, the_server_tells_what_it_is
 */
MIGBUF_API int migbuf_lxd_server(struct migbuf_lxd *lxd, uint32_t timeout_ms, struct migbuf_lxd_server *server,
                                 struct migbuf_error *error);

/**
 * 1 when the server has that API extension, as of the last migbuf_lxd_open() or _server(); else 0.
 * Test: test_lxd_daemon, the_server_tells_what_it_is
 */
MIGBUF_API int migbuf_lxd_has(const struct migbuf_lxd *lxd, const char *extension);

/**
 * 0 when the server can all of `features`, else MIGBUF_E_UNSUPPORTED with a sentence for its administrator: "not
 * supported: this server cannot move running VMs without shared storage (API extension migration_vm_live)".
 * Test: test_lxd_daemon, the_server_tells_what_it_is
 */
MIGBUF_API int migbuf_lxd_need(const struct migbuf_lxd *lxd, uint32_t features, struct migbuf_error *error);

/**
 * One key of the server's configuration; "" when it is not set. The keys "user.*" belong to whoever builds on LXD:
 * migbuf's programs keep the volume's size in "user.migbuf.buffer.size". Errors: the shared ones; MIGBUF_E_TOO_BIG when
 * it does not fit value_bytes (need and have in bytes).
 * Test: test_lxd_daemon, keys_are_set_read_and_removed
 */
MIGBUF_API int migbuf_lxd_key(struct migbuf_lxd *lxd, const char *key, uint32_t timeout_ms, char *value,
                              size_t value_bytes, struct migbuf_error *error);

/**
 * Sets a key of the server's; NULL or "" removes it. A key the server does not know is refused: MIGBUF_E_PEER.
 * Test: test_lxd_daemon, keys_are_set_read_and_removed
 */
MIGBUF_API int migbuf_lxd_set_key(struct migbuf_lxd *lxd, const char *key, const char *value, uint32_t timeout_ms,
                                  struct migbuf_error *error);

/* ---- pools and volumes ---- */

/** A volume is a file system of its own size: full is ENOSPC, QEMU stops the guest and nothing is lost. */
#define MIGBUF_LXD_LIMIT_ENOSPC 1
/** A volume is limited by a quota: full is EDQUOT, which QEMU hands to the guest as an I/O error. */
#define MIGBUF_LXD_LIMIT_EDQUOT 2
/** Limited by a project quota where the file system below has one (then EDQUOT on ext4); where not, not at all. */
#define MIGBUF_LXD_LIMIT_NONE 3
/** A driver this library does not know. */
#define MIGBUF_LXD_LIMIT_UNKNOWN 4

/** A storage pool. A record. */
struct migbuf_lxd_pool {
    char name[MIGBUF_LXD_NAME]; /**< its name */
    char driver[32];      /**< "dir", "btrfs", "zfs", "lvm", "ceph", … */
    char status[32];      /**< "Created"; anything else is not usable */
    uint64_t total_bytes; /**< of the pool; 0: the list does not tell (migbuf_lxd_pools), or the driver does not */
    uint64_t used_bytes; /**< what is used of it */
    uint64_t free_bytes;  /**< total - used; a thin pool has promised parts of it to others already */
    int32_t limit;        /**< MIGBUF_LXD_LIMIT_…: how it keeps a volume within its size */
    int32_t remote;       /**< 1: all members of a cluster see the same volumes (ceph): nothing to migrate there */
};

/**
 * All pools, without their space. Returns how many. Errors: the shared ones.
 * Test: test_lxd_daemon, pools_tell_their_space_and_how_they_limit
 */
MIGBUF_API int migbuf_lxd_pools(struct migbuf_lxd *lxd, uint32_t timeout_ms, struct migbuf_lxd_pool *pools,
                                size_t capacity, struct migbuf_error *error);

/**
 * One pool with its space. Errors: the shared ones.
 * Test: test_lxd_daemon, pools_tell_their_space_and_how_they_limit
 */
MIGBUF_API int migbuf_lxd_pool(struct migbuf_lxd *lxd, const char *name, uint32_t timeout_ms,
                               struct migbuf_lxd_pool *pool, struct migbuf_error *error);

/** A custom volume. A record. */
struct migbuf_lxd_volume {
    char pool[MIGBUF_LXD_NAME]; /**< the storage pool's */
    char name[MIGBUF_LXD_NAME]; /**< its name */
    char location[MIGBUF_LXD_NAME]; /**< the cluster's member, "none" without a cluster; in a cluster each member may have
                                         one of the same pool and name */
    char content[32];               /**< "filesystem" or "block" */
    uint64_t size_bytes;            /**< as configured; 0: none, it may fill the pool */
    uint64_t used_bytes;            /**< 0 when has_usage is 0 */
    int32_t has_usage;              /**< 0: the pool cannot tell, so it does not enforce the size either */
    uint32_t users;                 /**< instances and profiles it is attached to */
};

/**
 * One custom volume. Errors: the shared ones; MIGBUF_E_NOTFOUND for the pool or the volume.
 * Test: test_lxd_daemon, a_volume_is_made_shown_resized_and_removed
 */
MIGBUF_API int migbuf_lxd_volume(struct migbuf_lxd *lxd, const char *pool, const char *name, uint32_t timeout_ms,
                                 struct migbuf_lxd_volume *volume, struct migbuf_error *error);

/**
 * Makes a custom volume (a file system) of that size.
 *
 * Thin pools would promise anything, but Ω must be there when it is needed. So a size beyond what the pool has free is
 * refused: MIGBUF_E_NOSPACE, need and have in bytes. A total of 0 means that the pool does not tell: no check.
 * Errors: also the shared ones; MIGBUF_E_EXISTS for a taken name; MIGBUF_E_RANGE for 0 bytes or more than 2^62.
 * Test: test_lxd_daemon, a_taken_name_and_a_full_pool
 */
MIGBUF_API int migbuf_lxd_volume_create(struct migbuf_lxd *lxd, const char *pool, const char *name, uint64_t bytes,
                                        uint32_t timeout_ms, struct migbuf_error *error);

/**
 * Gives a volume another size.
 *
 * | refused | need and have |
 * |---|---|
 * | MIGBUF_E_IN_USE: below what is in use. Where the pool cannot tell the server decides | what is in use, what was asked for |
 * | MIGBUF_E_NOSPACE: growing beyond the pool's free space | of the growth |
 *
 * Errors: also the shared ones.
 * Test: test_lxd_daemon, a_volume_is_made_shown_resized_and_removed
 */
MIGBUF_API int migbuf_lxd_volume_resize(struct migbuf_lxd *lxd, const char *pool, const char *name, uint64_t bytes,
                                        uint32_t timeout_ms, struct migbuf_error *error);

/**
 * Deletes a volume with all it holds. One that is attached to something is refused: MIGBUF_E_PEER. Errors: the shared
 * ones.
 * Test: test_lxd_daemon, a_volume_is_made_shown_resized_and_removed
 */
MIGBUF_API int migbuf_lxd_volume_delete(struct migbuf_lxd *lxd, const char *pool, const char *name,
                                        uint32_t timeout_ms, struct migbuf_error *error);

/* ---- VMs ---- */

#define MIGBUF_LXD_VM_STATEFUL 1u       /**< migration.stateful: it may be moved while it runs */
#define MIGBUF_LXD_VM_MEMORY_PERCENT 2u /**< limits.memory is a part of the host's: memory_bytes is 0 */
#define MIGBUF_LXD_VM_STATE_DEFAULT 4u  /**< size.state is not set: state_bytes is the server's default */
#define MIGBUF_LXD_VM_RUNNING 8u /**< flag: it runs */

/** A VM. A record. */
struct migbuf_lxd_vm {
    char project[MIGBUF_LXD_NAME]; /**< it is in */
    char name[MIGBUF_LXD_NAME]; /**< its name */
    char location[MIGBUF_LXD_NAME]; /**< the cluster's member it runs on, "none" without a cluster */
    char status[32];                /**< "Running", "Stopped", "Error", … */
    char root[MIGBUF_LXD_NAME];     /**< name of its root disk's device; "": it has none */
    char pool[MIGBUF_LXD_NAME];     /**< where that lies */
    uint64_t memory_bytes;          /**< limits.memory; 1 GiB where it is not set, as the servers have it */
    uint64_t state_bytes;           /**< size of its state volume, where dump and overlay go: size.state, else 100 MiB
                                         (LXD) or 500 MiB (Incus) */
    uint32_t cpus;                  /**< limits.cpu, a list of CPUs counted; 1 where it is not set */
    uint32_t flags;                 /**< MIGBUF_LXD_VM_… */
};

/**
 * All VMs of all projects the client may see. Returns how many. Errors: the shared ones.
 * Test: test_lxd_daemon, vms_with_their_memory_disks_and_limits
 */
MIGBUF_API int migbuf_lxd_vms(struct migbuf_lxd *lxd, uint32_t timeout_ms, struct migbuf_lxd_vm *vms,
                              size_t capacity, struct migbuf_error *error);

/**
 * One VM. Errors: the shared ones; MIGBUF_E_NOTFOUND, also for a container of that name.
 * Test: test_lxd_daemon, vms_with_their_memory_disks_and_limits
 */
MIGBUF_API int migbuf_lxd_vm(struct migbuf_lxd *lxd, const char *project, const char *name, uint32_t timeout_ms,
                             struct migbuf_lxd_vm *vm, struct migbuf_error *error);

/**
 * One key of a VM's configuration with that of its profiles, "raw.qemu" for instance. Errors: as migbuf_lxd_key() and
 * migbuf_lxd_vm().
 * Test: test_lxd_daemon, vms_with_their_memory_disks_and_limits
 */
MIGBUF_API int migbuf_lxd_vm_key(struct migbuf_lxd *lxd, const char *project, const char *name, const char *key,
                                 uint32_t timeout_ms, char *value, size_t value_bytes, struct migbuf_error *error);

/** A disk of a VM, as configured. Limits are 0 where there is none. A record. */
struct migbuf_lxd_disk {
    char device[MIGBUF_LXD_NAME]; /**< its device's name */
    char pool[MIGBUF_LXD_NAME];   /**< "" for a path of the host */
    char source[256];             /**< volume or path, cut at 255 bytes; "" for the root disk */
    char bus[32];                 /**< io.bus; "" for the default, virtio-scsi */
    uint64_t size_bytes;          /**< 0: the pool's default */
    uint64_t read_bytes_per_s; /**< limits.read (or .max) in bytes */
    uint64_t write_bytes_per_s; /**< limits.write (or .max) in bytes */
    uint64_t read_iops; /**< the same where they are given as "500iops" */
    uint64_t write_iops; /**< the same where they are given as "500iops" */
    int32_t root;                 /**< 1: path is "/" */
    int32_t dependent;            /**< 1: it moves with the VM, under an overlay of its own ("dependent" is "true"; Incus
                                       from 6.23) */
};

/**
 * The disks of one VM, in no order. Returns how many. Errors: the shared ones.
 * Test: test_lxd, memory_cpus_and_limits_as_they_are_written
 */
MIGBUF_API int migbuf_lxd_disks(struct migbuf_lxd *lxd, const char *project, const char *vm, uint32_t timeout_ms,
                                struct migbuf_lxd_disk *disks, size_t capacity, struct migbuf_error *error);

/**
 * Another size of a VM's state volume (size.state of its root disk): for migbuf_state_bound() before a migration, and
 * for the old value after it. 0 takes the setting away.
 *
 * A root disk that comes from a profile is copied to the VM first, and that copy stays: the server knows no other way
 * to set one key of it. Errors: the shared ones; MIGBUF_E_NOTFOUND when the VM has no root disk.
 * Test: test_lxd_daemon, a_state_volume_grows_and_comes_back
 */
MIGBUF_API int migbuf_lxd_vm_set_state_bytes(struct migbuf_lxd *lxd, const char *project, const char *vm,
                                             uint64_t bytes, uint32_t timeout_ms, struct migbuf_error *error);

/** What one disk of a running VM has had written since the VM was started. A record. */
struct migbuf_lxd_written {
    char project[MIGBUF_LXD_NAME];  /**< the VM's */
    char instance[MIGBUF_LXD_NAME]; /**< the VM's name */
    char device[256]; /**< what the server calls the disk. See below */
    uint64_t bytes;   /**< written; to the nearest byte below 2^53 */
    uint64_t writes;  /**< requests of which these were; 0: not told */
};

/**
 * The counters of all running VMs' disks, as the server's metrics have them, of all projects the client may see (or the
 * handle's). Returns how many. Two readings give a rate.
 *
 * - The server keeps its metrics for some seconds (8 in both): a reading may be as old as that.
 * - In a cluster each member counts for its own VMs: these are the target's, or who answers'.
 * - A VM that the server cannot ask is not listed. Without an agent in the guest both servers ask its QEMU.
 * - `device` is QEMU's id of the device where QEMU was asked ("dev-incus_root"), and the guest's own name for the disk
 *   where its agent was ("sda"). The agent lists mapped devices beside the disks below them: their bytes count twice.
 * - A counter begins anew when the VM is started, and may when it has moved.
 *
 * Source: /1.0/metrics, lxd_disk_written_bytes_total and lxd_disk_writes_completed_total (incus_... in Incus).
 *
 * Example: incus_disk_written_bytes_total of the device "dev-incus_root" of vm1, 1.5e+06 -> instance "vm1", device
 * "dev-incus_root", bytes 1'500'000.
 *
 * Errors: the shared ones; MIGBUF_E_UNSUPPORTED without the API extension metrics; MIGBUF_E_PROTOCOL for one of these
 * counters that is not a number below 2^62, or lacks its labels.
 * Test: test_lxd, what_vms_have_written; test_lxd_daemon, counters_of_stopped_vms
 */
MIGBUF_API int migbuf_lxd_written(struct migbuf_lxd *lxd, uint32_t timeout_ms, struct migbuf_lxd_written *list,
                                  size_t capacity, struct migbuf_error *error);

/* ---- its names in QEMU ---- */

/** What a device is called in QEMU. A record. */
struct migbuf_lxd_names {
    char node[64];     /**< its block node without an overlay: for migbuf_disk_watch() */
    char overlay[64];  /**< the node a migration puts on top; "": the server moves no such device. See below */
    char target[64];   /**< the node for the disk on the other host, mirrored to; "" as above */
    char device[288];  /**< the id of its QEMU device: qdev in query-block, with io.bus virtio-scsi and nvme */
    char backend[336]; /**< qdev in query-block, with io.bus virtio-blk */
};

/**
 * What LXD or Incus (`kind`: MIGBUF_LXD_LXD, _INCUS) calls the device `device` of a VM in its QEMU.
 *
 *   name     "-" becomes "--", then "/" becomes "-"
 *   device   "dev-lxd_" or "dev-incus_", and the name, however long
 *   node     "lxd_" or "incus_", and the name; one longer than 27 (LXD) or 25 (Incus) bytes is replaced by so many
 *            characters of its SHA-256 in base64url
 *   overlay, target
 *            LXD: "lxd_root_snapshot" and "lxd_root_nbd", for the device "root" alone: it moves no other.
 *            Incus: node_snap and node_nbd. Before 6.23 it had "incus_root_snapshot", and moved "root" alone
 *
 * **Names are for recognising, not for finding.** Which node is on top of a device is what QEMU says (query-blockstats,
 * by qdev): overlays had other names before and may again, and after a snapshot of a running VM on a qcow2 pool Incus
 * leaves "incus_root_overlay1" there.
 *
 * Examples, LXD: "root" -> node lxd_root, device dev-lxd_root, backend /machine/peripheral/dev-lxd_root/virtio-backend;
 * "root-disk" -> node lxd_root--disk, no overlay; "a/b" -> node lxd_a-b; "system-disk-of-the-mail-host" -> node
 * lxd_fV-B812K5Nhy2sSel0qpoxdoY6Y. Incus: "root-disk" -> node incus_root--disk, overlay incus_root--disk_snap;
 * "system-disk-of-the-mail-host" -> node incus_fV-B812K5Nhy2sSel0qpoxdoY.
 * Source: LXD at a83edf2, qemuDeviceNameOrID (lxd/instance/drivers/driver_qemu_templates.go), PathNameEncode
 * (lxd/storage/filesystem/fs.go), addDriveConfig and migrateSendLive (driver_qemu.go); Incus at be7afc5, blockNodeName,
 * addDriveConfig (internal/server/instance/drivers/driver_qemu.go), hashValue, ephemeralSnapshotName,
 * migrationNBDTarget (util.go).
 * Errors: MIGBUF_E_INVALID, also for an empty name; MIGBUF_E_TOO_BIG for one longer than MIGBUF_LXD_NAME - 1 (the
 * servers allow 63). Any thread.
 * Test: test_lxd, names_in_qemu
 */
MIGBUF_API int migbuf_lxd_names(int32_t kind, const char *device, struct migbuf_lxd_names *names);

/* ---- migrations ---- */

#define MIGBUF_LXD_MAY_CANCEL 1u /**< flag: the server lets it be cancelled */
#define MIGBUF_LXD_HAS_PROCESSED 2u /**< processed_bytes counts; U follows from its differences (link.h) */

/** An instance that leaves or comes, as the server's list of operations shows it. A record. */
struct migbuf_lxd_migration {
    char id[MIGBUF_LXD_NAME];       /**< for migbuf_lxd_cancel() */
    char project[MIGBUF_LXD_NAME]; /**< it is in */
    char instance[MIGBUF_LXD_NAME]; /**< may be a container: ask migbuf_lxd_vm() */
    char location[MIGBUF_LXD_NAME]; /**< member that carries it out, "none" without a cluster */
    char stage[MIGBUF_LXD_NAME];    /**< "fs", "block", … : what the progress is of; "" where nothing is said */
    uint64_t processed_bytes;       /**< of that stage; where older servers list past ones beside it, of all of them, and
                                         stage, speed and percent are those of the largest */
    uint64_t speed_bytes_per_s;     /**< the mean since the stage began; 0 where nothing is said */
    int32_t percent;                /**< 0 … 100, -1 where nothing is said */
    uint32_t flags;                 /**< MIGBUF_LXD_MAY_CANCEL | _HAS_PROCESSED, each where it is so */
};

/**
 * The migrations under way, in all projects. Returns how many.
 *
 * A move between members of a cluster is two operations of its instance on the member that sends it: the one that sends, which
 * may be cancelled, and the one that waits for it and ends later (a member that is evacuated has only the first). Both are
 * listed, in any order. Every member lists those of all; `location` says whose they are.
 *
 * Errors: the shared ones; MIGBUF_E_UNSUPPORTED on a server that cannot move running VMs, because what it has under way are
 * copies of stopped ones.
 * Test: test_lxd, progress_in_both_forms; test_lxd_daemon, migrations_are_listed_and_cancelled
 */
MIGBUF_API int migbuf_lxd_migrations(struct migbuf_lxd *lxd, uint32_t timeout_ms, struct migbuf_lxd_migration *list,
                                     size_t capacity, struct migbuf_error *error);

/**
 * A counter of bytes as LXD and Incus write it in an operation's metadata. Decimal units are powers of 1000, those with
 * an i of 1024. Rounded down.
 *
 * | text | result |
 * |---|---|
 * | "1234", "110.5MiB", "1.2GB (110MB/s)" | the bytes |
 * | "vm1: 1.20GB (110.00MB/s)" | 1'200'000'000: a description ends with the text's last ": " |
 * | "vm1: 45% (110.00MB/s)", "vm1: 110.00MB/s" | MIGBUF_E_PROTOCOL: no counter |
 * | "Live migration: 3.00MB remaining (110.00MB/s)" | MIGBUF_E_PROTOCOL: counts what is left |
 * | anything else | MIGBUF_E_PROTOCOL |
 *
 * Source: SetProgressMetadata of both servers (LXD 5.21 shared/util.go, Incus internal/server/operations/util.go),
 * buildProgressData (LXD shared/ioprogress/tracker.go). Other errors: MIGBUF_E_RANGE beyond 2^62, MIGBUF_E_INVALID.
 * Test: test_lxd, processed_texts
 */
MIGBUF_API int migbuf_lxd_processed(const char *text, size_t length, uint64_t *bytes);

/**
 * Cancels an operation. Many servers refuse that for a migration once data flows: MIGBUF_E_PEER. Incus 6.0.4 does it,
 * and the guest stays where it is. Then end who waits for a move first: `incus move` 6.0.4 takes a cancelled move for
 * one that is done, and deletes the VM at the source. Errors: the shared ones.
 * Test: test_lxd_daemon, migrations_are_listed_and_cancelled
 */
MIGBUF_API int migbuf_lxd_cancel(struct migbuf_lxd *lxd, const char *id, uint32_t timeout_ms,
                                 struct migbuf_error *error);

/* ---- anything else ---- */

/**
 * One request as it stands.
 *
 * - `method` is GET, POST, PUT, PATCH or DELETE.
 * - `path` begins with a slash, mostly "/1.0/", and is printable ASCII without blanks: escape what you put in.
 *   `project` and `target` are not added.
 * - `body` is JSON, NULL for none.
 * - Where the server makes an operation its end is awaited.
 * - *text is the value of "metadata" as JSON (of the operation where there is one) and lives until the next call on the
 *   handle. text and text_bytes may be NULL.
 *
 * Example: migbuf_lxd_call(lxd, "GET", "/1.0/networks", NULL, 5000, &text, &bytes, NULL) -> ["/1.0/networks/lo"].
 * Errors: the shared ones; MIGBUF_E_INVALID, with nothing sent, for another method or path.
 * Test: test_lxd, a_request_as_it_stands
 */
MIGBUF_API int migbuf_lxd_call(struct migbuf_lxd *lxd, const char *method, const char *path, const char *body,
                               uint32_t timeout_ms, const char **text, uint64_t *text_bytes,
                               struct migbuf_error *error);

#ifdef __cplusplus
}
#endif
#endif
