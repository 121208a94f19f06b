/* SPDX-License-Identifier: MIT */
/* lxd_calls: what a host manager asks: pools, volumes, VMs, migrations. Requests are made in lxd.c. */
#include "lxd.h"
#include "memory.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define MAX_BYTES (UINT64_C(1) << 62)

/* What the servers take where nothing is set: QEMUDefaultMemSize and DefaultVMBlockFilesystemSize of either. */
#define DEFAULT_MEMORY (1024 * MIB)
#define DEFAULT_STATE_LXD (100 * MIB)
#define DEFAULT_STATE_INCUS (500 * MIB)

static int fail_null(struct migbuf_error *error)
{
    return migbuf__fail(error, MIGBUF_E_INVALID, "a pointer is NULL");
}

static const char *project_of(const struct migbuf_lxd *lxd, const char *project)
{
    return project ? project : lxd->project;
}

const char *migbuf__lxd_target(const struct migbuf_lxd *lxd)
{
    bool clustered = false;
    const struct migbuf__json *e = migbuf__lxd_environment(lxd);

    migbuf__json_boolean(migbuf__json_member(e, "server_clustered"), &clustered);
    if (!clustered)
        return "";
    return lxd->target[0] ? lxd->target : migbuf__lxd_text(e, "server_name");
}

/* The reply is an array: how many there are, and whether they fit. Go writes an empty one as null at times. */
static int count_list(const struct migbuf_lxd *lxd, uint64_t capacity, uint64_t *count, struct migbuf_error *error)
{
    if (!migbuf__json_is_array(lxd->metadata) && !migbuf__json_is_null(lxd->metadata))
        return migbuf__fail(error, MIGBUF_E_PROTOCOL, "a list was expected");
    *count = migbuf__json_count(lxd->metadata);
    if (*count > capacity)
        return migbuf__fail_numbers(error, MIGBUF_E_TOO_BIG, "the list is longer than the array for it", *count,
                                    capacity);
    return 0;
}

#define COPY(field, text) migbuf__lxd_copy(field, sizeof(field), text, error)

/* ---- pools ---- */

static int32_t limit_of(const char *driver, const struct migbuf__json *config)
{
    static const struct {
        const char *driver;
        int32_t limit;
    } known[] = { { "dir", MIGBUF_LXD_LIMIT_NONE },       { "btrfs", MIGBUF_LXD_LIMIT_EDQUOT },
                  { "zfs", MIGBUF_LXD_LIMIT_EDQUOT },     { "cephfs", MIGBUF_LXD_LIMIT_EDQUOT },
                  { "lvm", MIGBUF_LXD_LIMIT_ENOSPC },     { "lvmcluster", MIGBUF_LXD_LIMIT_ENOSPC },
                  { "ceph", MIGBUF_LXD_LIMIT_ENOSPC },    { "powerflex", MIGBUF_LXD_LIMIT_ENOSPC },
                  { "pure", MIGBUF_LXD_LIMIT_ENOSPC },    { "linstor", MIGBUF_LXD_LIMIT_ENOSPC },
                  { "truenas", MIGBUF_LXD_LIMIT_ENOSPC }, { "alletra", MIGBUF_LXD_LIMIT_ENOSPC } };

    /* A zfs pool may make its volumes block devices with a file system of their own. */
    if (!strcmp(driver, "zfs") && !strcmp(migbuf__lxd_text(config, "volume.zfs.block_mode"), "true"))
        return MIGBUF_LXD_LIMIT_ENOSPC;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(driver, known[i].driver))
            return known[i].limit;
    return MIGBUF_LXD_LIMIT_UNKNOWN;
}

static int read_pool(const struct migbuf__json *from, struct migbuf_lxd_pool *pool, struct migbuf_error *error)
{
    static const char *const local[] = { "dir", "btrfs", "zfs", "lvm" };
    const char *driver = migbuf__lxd_text(from, "driver");
    int rc;

    *pool = (struct migbuf_lxd_pool){ .limit = limit_of(driver, migbuf__json_member(from, "config")), .remote = 1 };
    for (size_t i = 0; i < sizeof local / sizeof *local; i++)
        if (!strcmp(driver, local[i]))
            pool->remote = 0;
    if ((rc = COPY(pool->name, migbuf__lxd_text(from, "name"))) < 0 || (rc = COPY(pool->driver, driver)) < 0 ||
        (rc = COPY(pool->status, migbuf__lxd_text(from, "status"))) < 0)
        return rc;
    if (!pool->name[0] || !pool->driver[0])
        return migbuf__fail(error, MIGBUF_E_PROTOCOL, "a storage pool without name or driver");
    return 0;
}

int migbuf_lxd_pools(struct migbuf_lxd *lxd, uint32_t timeout_ms, struct migbuf_lxd_pool *pools, size_t capacity,
                     struct migbuf_error *error)
{
    struct migbuf__lxd_path path;
    struct migbuf_lxd_pool pool;
    uint64_t count = 0;
    int rc;

    if (!lxd || (!pools && capacity))
        return fail_null(error);
    migbuf__lxd_path(&path, "/storage-pools?recursion=1");
    migbuf__lxd_path_query(&path, "project", lxd->project);
    if ((rc = migbuf__lxd_begin(lxd, timeout_ms, error)) < 0 ||
        (rc = migbuf__lxd_ask(lxd, "GET", &path, NULL, error)) < 0 ||
        (rc = count_list(lxd, capacity, &count, error)) < 0)
        return rc;
    for (uint64_t i = 0; i < count; i++) /* all or none */
        if ((rc = read_pool(migbuf__json_item(lxd->metadata, (size_t)i), &pool, error)) < 0)
            return rc;
    for (uint64_t i = 0; i < count; i++)
        read_pool(migbuf__json_item(lxd->metadata, (size_t)i), &pools[i], NULL);
    return (int)count;
}

/* Within a call that has begun. */
static int ask_pool(struct migbuf_lxd *lxd, const char *name, struct migbuf_lxd_pool *pool,
                    struct migbuf_error *error)
{
    struct migbuf__lxd_path path;
    const struct migbuf__json *space;
    int rc;

    migbuf__lxd_path(&path, "/storage-pools");
    migbuf__lxd_path_name(&path, name);
    migbuf__lxd_path_query(&path, "project", lxd->project);
    if ((rc = migbuf__lxd_ask(lxd, "GET", &path, NULL, error)) < 0 ||
        (rc = read_pool(lxd->metadata, pool, error)) < 0)
        return rc;
    migbuf__lxd_path(&path, "/storage-pools");
    migbuf__lxd_path_name(&path, name);
    migbuf__write(&path.w, "/resources");
    migbuf__lxd_path_query(&path, "target", migbuf__lxd_target(lxd));
    if ((rc = migbuf__lxd_ask(lxd, "GET", &path, NULL, error)) < 0)
        return rc;
    space = migbuf__json_member(lxd->metadata, "space");
    pool->total_bytes = migbuf__lxd_number(space, "total");
    pool->used_bytes = migbuf__lxd_number(space, "used");
    pool->free_bytes = pool->used_bytes < pool->total_bytes ? pool->total_bytes - pool->used_bytes : 0;
    return 0;
}

int migbuf_lxd_pool(struct migbuf_lxd *lxd, const char *name, uint32_t timeout_ms, struct migbuf_lxd_pool *pool,
                    struct migbuf_error *error)
{
    struct migbuf_lxd_pool p;
    int rc;

    if (!lxd || !pool)
        return fail_null(error);
    if ((rc = migbuf__lxd_name(name, error)) < 0 || (rc = migbuf__lxd_begin(lxd, timeout_ms, error)) < 0 ||
        (rc = ask_pool(lxd, name, &p, error)) < 0)
        return rc;
    *pool = p;
    return 0;
}

/* ---- volumes ---- */

static void volume_path(const struct migbuf_lxd *lxd, struct migbuf__lxd_path *path, const char *pool, const char *name,
                        const char *more)
{
    migbuf__lxd_path(path, "/storage-pools");
    migbuf__lxd_path_name(path, pool);
    migbuf__write(&path->w, "/volumes/custom");
    if (name)
        migbuf__lxd_path_name(path, name);
    migbuf__write(&path->w, "%s", more);
    migbuf__lxd_path_query(path, "project", lxd->project);
    migbuf__lxd_path_query(path, "target", migbuf__lxd_target(lxd));
}

static int begin_volume(struct migbuf_lxd *lxd, const char *pool, const char *name, uint32_t timeout_ms,
                        struct migbuf_error *error)
{
    int rc = migbuf__lxd_name(pool, error);

    if (rc == 0)
        rc = migbuf__lxd_name(name, error);
    return rc < 0 ? rc : migbuf__lxd_begin(lxd, timeout_ms, error);
}

/* What it uses. A pool without quotas answers with an error (LXD) or with nothing (Incus). */
static int ask_usage(struct migbuf_lxd *lxd, struct migbuf_lxd_volume *v, struct migbuf_error *error)
{
    struct migbuf__lxd_path path;
    const struct migbuf__json *usage;
    int rc;

    volume_path(lxd, &path, v->pool, v->name, "/state");
    rc = migbuf__lxd_ask(lxd, "GET", &path, NULL, error);
    if (rc == MIGBUF_E_PEER) {
        lxd->said[0] = 0;
        return 0;
    }
    if (rc < 0)
        return rc;
    usage = migbuf__json_member(lxd->metadata, "usage");
    v->has_usage = migbuf__json_is_object(usage);
    v->used_bytes = migbuf__lxd_number(usage, "used"); /* left out where it is 0 */
    return 0;
}

static int ask_volume(struct migbuf_lxd *lxd, const char *pool, const char *name, struct migbuf_lxd_volume *v,
                      struct migbuf_error *error)
{
    struct migbuf__lxd_path path;
    int rc;

    *v = (struct migbuf_lxd_volume){ .has_usage = 0 };
    volume_path(lxd, &path, pool, name, "");
    rc = migbuf__lxd_ask(lxd, "GET", &path, NULL, error);
    if (rc < 0)
        return rc;
    v->size_bytes = migbuf__lxd_size(migbuf__lxd_text(migbuf__json_member(lxd->metadata, "config"), "size"));
    v->users = (uint32_t)migbuf__json_count(migbuf__json_member(lxd->metadata, "used_by"));
    if ((rc = COPY(v->pool, pool)) < 0 || (rc = COPY(v->name, name)) < 0 ||
        (rc = COPY(v->location, migbuf__lxd_text(lxd->metadata, "location"))) < 0 ||
        (rc = COPY(v->content, migbuf__lxd_text(lxd->metadata, "content_type"))) < 0)
        return rc;
    return ask_usage(lxd, v, error);
}

int migbuf_lxd_volume(struct migbuf_lxd *lxd, const char *pool, const char *name, uint32_t timeout_ms,
                      struct migbuf_lxd_volume *volume, struct migbuf_error *error)
{
    struct migbuf_lxd_volume v;
    int rc;

    if (!lxd || !volume)
        return fail_null(error);
    if ((rc = begin_volume(lxd, pool, name, timeout_ms, error)) < 0 ||
        (rc = ask_volume(lxd, pool, name, &v, error)) < 0)
        return rc;
    *volume = v;
    return 0;
}

/* Has the pool room for `bytes` more? */
static int check_space(struct migbuf_lxd *lxd, const char *pool, uint64_t bytes, struct migbuf_error *error)
{
    struct migbuf_lxd_pool p;
    int rc = ask_pool(lxd, pool, &p, error);

    if (rc < 0)
        return rc;
    if (p.total_bytes && bytes > p.free_bytes)
        return migbuf__fail_numbers(error, MIGBUF_E_NOSPACE, "the storage pool has not that much free", bytes,
                                    p.free_bytes);
    return 0;
}

static int check_size(uint64_t bytes, struct migbuf_error *error)
{
    return bytes && bytes <= MAX_BYTES ? 0
                                       : migbuf__fail(error, MIGBUF_E_RANGE, "the size is not within 1 byte and 2^62");
}

int migbuf_lxd_volume_create(struct migbuf_lxd *lxd, const char *pool, const char *name, uint64_t bytes,
                             uint32_t timeout_ms, struct migbuf_error *error)
{
    char body[MIGBUF__LXD_BODY];
    struct migbuf__writer w = { .text = body, .capacity = sizeof body };
    struct migbuf__lxd_path path;
    int rc;

    if (!lxd)
        return fail_null(error);
    if ((rc = check_size(bytes, error)) < 0 || (rc = begin_volume(lxd, pool, name, timeout_ms, error)) < 0 ||
        (rc = check_space(lxd, pool, bytes, error)) < 0)
        return rc;
    migbuf__write(&w, "{\"content_type\":\"filesystem\",\"description\":\"Overlays of running migrations\",\"name\":");
    migbuf__write_json_string(&w, name);
    migbuf__write(&w, ",\"config\":{\"size\":\"%llu\"}}", (unsigned long long)bytes);
    volume_path(lxd, &path, pool, NULL, "");
    return migbuf__lxd_ask(lxd, "POST", &path, body, error);
}

int migbuf_lxd_volume_resize(struct migbuf_lxd *lxd, const char *pool, const char *name, uint64_t bytes,
                             uint32_t timeout_ms, struct migbuf_error *error)
{
    struct migbuf__lxd_path path;
    struct migbuf_lxd_volume v;
    char body[64];
    int rc;

    if (!lxd)
        return fail_null(error);
    if ((rc = check_size(bytes, error)) < 0 || (rc = begin_volume(lxd, pool, name, timeout_ms, error)) < 0 ||
        (rc = ask_volume(lxd, pool, name, &v, error)) < 0)
        return rc;
    if (v.has_usage && bytes < v.used_bytes)
        return migbuf__fail_numbers(error, MIGBUF_E_IN_USE, "more than that is in use", v.used_bytes, bytes);
    if (bytes > v.size_bytes && v.size_bytes && (rc = check_space(lxd, pool, bytes - v.size_bytes, error)) < 0)
        return rc;
    snprintf(body, sizeof body, "{\"config\":{\"size\":\"%llu\"}}", (unsigned long long)bytes);
    volume_path(lxd, &path, pool, name, "");
    return migbuf__lxd_ask(lxd, "PATCH", &path, body, error);
}

int migbuf_lxd_volume_delete(struct migbuf_lxd *lxd, const char *pool, const char *name, uint32_t timeout_ms,
                             struct migbuf_error *error)
{
    struct migbuf__lxd_path path;
    int rc;

    if (!lxd)
        return fail_null(error);
    rc = begin_volume(lxd, pool, name, timeout_ms, error);
    if (rc < 0)
        return rc;
    volume_path(lxd, &path, pool, name, "");
    return migbuf__lxd_ask(lxd, "DELETE", &path, NULL, error);
}

/* ---- VMs ---- */

/* "4" is four CPUs, "0-3,7" a list of five; at least 1. */
static uint32_t count_cpus(const char *text)
{
    unsigned long long count = 0;

    if (!strpbrk(text, "-,")) {
        count = strtoull(text, NULL, 10);
        return count ? (uint32_t)(count < 4096 ? count : 4096) : 1;
    }
    while (*text) {
        char *end;
        unsigned long long first = strtoull(text, &end, 10), last = first;

        if (*end == '-')
            last = strtoull(end + 1, &end, 10);
        if (last >= first && last - first < 4096)
            count += last - first + 1;
        text = *end ? end + 1 : end;
    }
    return count ? (uint32_t)(count < 4096 ? count : 4096) : 1;
}

/* The device whose path is "/". */
static const struct migbuf__json *root_disk(const struct migbuf__json *devices, const char **name)
{
    const struct migbuf__json *device;
    void *cursor = NULL;

    while (migbuf__json_each(devices, &cursor, name, &device))
        if (!strcmp(migbuf__lxd_text(device, "type"), "disk") && !strcmp(migbuf__lxd_text(device, "path"), "/"))
            return device;
    *name = "";
    return NULL;
}

static void read_vm_sizes(const struct migbuf_lxd *lxd, const struct migbuf__json *from, struct migbuf_lxd_vm *vm)
{
    const struct migbuf__json *config = migbuf__json_member(from, "expanded_config");
    const char *memory = migbuf__lxd_text(config, "limits.memory"), *root, *state;

    state = migbuf__lxd_text(root_disk(migbuf__json_member(from, "expanded_devices"), &root), "size.state");
    if (strchr(memory, '%'))
        vm->flags |= MIGBUF_LXD_VM_MEMORY_PERCENT;
    else
        vm->memory_bytes = *memory ? migbuf__lxd_size(memory) : DEFAULT_MEMORY;
    vm->state_bytes = migbuf__lxd_size(state);
    if (!*state) {
        bool incus = !strcmp(migbuf__lxd_text(migbuf__lxd_environment(lxd), "server"), "incus");

        vm->flags |= MIGBUF_LXD_VM_STATE_DEFAULT;
        vm->state_bytes = incus ? DEFAULT_STATE_INCUS : DEFAULT_STATE_LXD;
    }
    vm->cpus = count_cpus(migbuf__lxd_text(config, "limits.cpu"));
    if (!strcmp(migbuf__lxd_text(config, "migration.stateful"), "true"))
        vm->flags |= MIGBUF_LXD_VM_STATEFUL;
}

/* 1: a VM, 0: something else. */
static int read_vm(const struct migbuf_lxd *lxd, const struct migbuf__json *from, struct migbuf_lxd_vm *vm,
                   struct migbuf_error *error)
{
    const struct migbuf__json *root;
    const char *name;
    int rc;

    *vm = (struct migbuf_lxd_vm){ .flags = 0 };
    if (strcmp(migbuf__lxd_text(from, "type"), "virtual-machine"))
        return 0;
    root = root_disk(migbuf__json_member(from, "expanded_devices"), &name);
    if ((rc = COPY(vm->name, migbuf__lxd_text(from, "name"))) < 0 ||
        (rc = COPY(vm->project, migbuf__lxd_text(from, "project"))) < 0 ||
        (rc = COPY(vm->location, migbuf__lxd_text(from, "location"))) < 0 ||
        (rc = COPY(vm->status, migbuf__lxd_text(from, "status"))) < 0 || (rc = COPY(vm->root, name)) < 0 ||
        (rc = COPY(vm->pool, migbuf__lxd_text(root, "pool"))) < 0)
        return rc;
    if (!strcmp(vm->status, "Running"))
        vm->flags |= MIGBUF_LXD_VM_RUNNING;
    read_vm_sizes(lxd, from, vm);
    return 1;
}

int migbuf_lxd_vms(struct migbuf_lxd *lxd, uint32_t timeout_ms, struct migbuf_lxd_vm *vms, size_t capacity,
                   struct migbuf_error *error)
{
    struct migbuf__lxd_path path;
    struct migbuf_lxd_vm vm;
    uint64_t all = 0, count = 0;
    int rc;

    if (!lxd || (!vms && capacity))
        return fail_null(error);
    migbuf__lxd_path(&path, "/instances?recursion=1");
    /* One handle, one project; without one all of them. */
    migbuf__lxd_path_query(&path, lxd->project[0] ? "project" : "all-projects", lxd->project[0] ? lxd->project : "true");
    if ((rc = migbuf__lxd_begin(lxd, timeout_ms, error)) < 0 ||
        (rc = migbuf__lxd_ask(lxd, "GET", &path, NULL, error)) < 0 ||
        (rc = count_list(lxd, UINT64_MAX, &all, error)) < 0)
        return rc;
    for (uint64_t i = 0; i < all; i++) {
        rc = read_vm(lxd, migbuf__json_item(lxd->metadata, (size_t)i), &vm, error);
        if (rc < 0)
            return rc;
        count += (uint64_t)rc;
    }
    if (count > capacity)
        return migbuf__fail_numbers(error, MIGBUF_E_TOO_BIG, "the list is longer than the array for it", count,
                                    capacity);
    count = 0;
    for (uint64_t i = 0; i < all; i++)
        if (read_vm(lxd, migbuf__json_item(lxd->metadata, (size_t)i), &vm, NULL) == 1)
            vms[count++] = vm;
    return (int)count;
}

/* GET of one instance, which must be a VM; lxd->metadata is it then. */
static int ask_vm(struct migbuf_lxd *lxd, const char *project, const char *name, uint32_t timeout_ms,
                  struct migbuf_lxd_vm *vm, struct migbuf_error *error)
{
    struct migbuf__lxd_path path;
    int rc;

    if (!lxd)
        return fail_null(error);
    if ((rc = migbuf__lxd_name(name, error)) < 0 || (rc = migbuf__lxd_begin(lxd, timeout_ms, error)) < 0)
        return rc;
    migbuf__lxd_path(&path, "/instances");
    migbuf__lxd_path_name(&path, name);
    migbuf__lxd_path_query(&path, "project", project_of(lxd, project));
    if ((rc = migbuf__lxd_ask(lxd, "GET", &path, NULL, error)) < 0)
        return rc;
    rc = read_vm(lxd, lxd->metadata, vm, error);
    if (rc == 0)
        return migbuf__fail(error, MIGBUF_E_NOTFOUND, "the server has no VM of that name");
    return rc < 0 ? rc : 0;
}

int migbuf_lxd_vm(struct migbuf_lxd *lxd, const char *project, const char *name, uint32_t timeout_ms,
                  struct migbuf_lxd_vm *vm, struct migbuf_error *error)
{
    struct migbuf_lxd_vm v;
    int rc;

    if (!vm)
        return fail_null(error);
    rc = ask_vm(lxd, project, name, timeout_ms, &v, error);
    if (rc == 0)
        *vm = v;
    return rc;
}

int migbuf_lxd_vm_key(struct migbuf_lxd *lxd, const char *project, const char *name, const char *key,
                      uint32_t timeout_ms, char *value, size_t value_bytes, struct migbuf_error *error)
{
    struct migbuf_lxd_vm vm;
    int rc;

    if (!key || !*key || !value)
        return fail_null(error);
    rc = ask_vm(lxd, project, name, timeout_ms, &vm, error);
    if (rc < 0)
        return rc;
    return migbuf__lxd_copy(value, value_bytes,
                            migbuf__lxd_text(migbuf__json_member(lxd->metadata, "expanded_config"), key), error);
}

/* "50MB" and "50MB/s" are bytes, "500iops" requests; Incus takes both at once, with a comma between. */
static void read_limit(const char *text, uint64_t *bytes_per_s, uint64_t *iops)
{
    while (*text) {
        size_t length = strcspn(text, ",");
        char part[64];

        snprintf(part, sizeof part, "%.*s", (int)length, text);
        if (length > 4 && length < sizeof part && !strcmp(part + length - 4, "iops")) {
            *iops = strtoull(part, NULL, 10);
        } else {
            part[strcspn(part, "/")] = 0;
            *bytes_per_s = migbuf__lxd_size(part);
        }
        text += length + (text[length] == ',');
    }
}

static int read_disk(const char *name, const struct migbuf__json *from, struct migbuf_lxd_disk *disk,
                     struct migbuf_error *error)
{
    const char *both = migbuf__lxd_text(from, "limits.max"), *read = migbuf__lxd_text(from, "limits.read"),
               *write = migbuf__lxd_text(from, "limits.write");
    int rc;

    *disk = (struct migbuf_lxd_disk){ .root = !strcmp(migbuf__lxd_text(from, "path"), "/") };
    if (strcmp(migbuf__lxd_text(from, "type"), "disk"))
        return 0;
    disk->dependent = !strcmp(migbuf__lxd_text(from, "dependent"), "true");
    disk->size_bytes = migbuf__lxd_size(migbuf__lxd_text(from, "size"));
    read_limit(*both ? both : read, &disk->read_bytes_per_s, &disk->read_iops);
    read_limit(*both ? both : write, &disk->write_bytes_per_s, &disk->write_iops);
    migbuf__copy_cut(disk->source, sizeof disk->source, migbuf__lxd_text(from, "source"));
    if ((rc = COPY(disk->device, name)) < 0 || (rc = COPY(disk->pool, migbuf__lxd_text(from, "pool"))) < 0 ||
        (rc = COPY(disk->bus, migbuf__lxd_text(from, "io.bus"))) < 0)
        return rc;
    return 1;
}

int migbuf_lxd_disks(struct migbuf_lxd *lxd, const char *project, const char *name, uint32_t timeout_ms,
                     struct migbuf_lxd_disk *disks, size_t capacity, struct migbuf_error *error)
{
    const struct migbuf__json *devices, *device;
    struct migbuf_lxd_disk disk;
    struct migbuf_lxd_vm vm;
    void *cursor = NULL;
    uint64_t count = 0;
    const char *key;
    int rc;

    if (!disks && capacity)
        return fail_null(error);
    rc = ask_vm(lxd, project, name, timeout_ms, &vm, error);
    if (rc < 0)
        return rc;
    devices = migbuf__json_member(lxd->metadata, "expanded_devices");
    while (migbuf__json_each(devices, &cursor, &key, &device)) {
        rc = read_disk(key, device, &disk, error);
        if (rc < 0)
            return rc;
        count += (uint64_t)rc;
    }
    if (count > capacity)
        return migbuf__fail_numbers(error, MIGBUF_E_TOO_BIG, "the list is longer than the array for it", count,
                                    capacity);
    count = 0;
    while (migbuf__json_each(devices, &cursor, &key, &device))
        if (read_disk(key, device, &disk, NULL) == 1)
            disks[count++] = disk;
    return (int)count;
}

/* A device's keys as an object, with one of them set or (value "") left out. */
static void write_device(struct migbuf__writer *w, const struct migbuf__json *device, const char *key,
                         const char *value)
{
    const struct migbuf__json *member;
    const char *name, *text;
    void *cursor = NULL;
    size_t bytes;
    int first = 1;

    migbuf__write(w, "{");
    while (migbuf__json_each(device, &cursor, &name, &member)) {
        if (!strcmp(name, key) || !migbuf__json_string(member, &text, &bytes))
            continue;
        migbuf__write(w, first ? "" : ",");
        first = 0;
        migbuf__write_json_string(w, name);
        migbuf__write(w, ":");
        migbuf__write_json_string(w, text);
    }
    if (*value) {
        migbuf__write(w, first ? "" : ",");
        migbuf__write_json_string(w, key);
        migbuf__write(w, ":");
        migbuf__write_json_string(w, value);
    }
    migbuf__write(w, "}");
}

int migbuf_lxd_vm_set_state_bytes(struct migbuf_lxd *lxd, const char *project, const char *name, uint64_t bytes,
                                  uint32_t timeout_ms, struct migbuf_error *error)
{
    char body[MIGBUF__LXD_BODY], value[32] = "";
    struct migbuf__writer w = { .text = body, .capacity = sizeof body };
    const struct migbuf__json *root;
    struct migbuf__lxd_path path;
    struct migbuf_lxd_vm vm;
    const char *device;
    int rc;

    if (bytes > MAX_BYTES)
        return migbuf__fail(error, MIGBUF_E_RANGE, "the size is beyond 2^62");
    rc = ask_vm(lxd, project, name, timeout_ms, &vm, error);
    if (rc < 0)
        return rc;
    root = root_disk(migbuf__json_member(lxd->metadata, "expanded_devices"), &device);
    if (!root)
        return migbuf__fail(error, MIGBUF_E_NOTFOUND, "the VM has no root disk");
    if (bytes)
        snprintf(value, sizeof value, "%llu", (unsigned long long)bytes);
    migbuf__write(&w, "{\"devices\":{");
    migbuf__write_json_string(&w, device);
    migbuf__write(&w, ":");
    write_device(&w, root, "size.state", value);
    migbuf__write(&w, "}}");
    if (w.length >= w.capacity)
        return migbuf__fail(error, MIGBUF_E_TOO_BIG, "the root disk's settings are too long");
    migbuf__lxd_path(&path, "/instances");
    migbuf__lxd_path_name(&path, name);
    migbuf__lxd_path_query(&path, "project", project_of(lxd, project));
    return migbuf__lxd_ask(lxd, "PATCH", &path, body, error);
}

/* ---- migrations ---- */

/* The first instance among an operation's resources: "/1.0/instances/NAME?project=P". LXD 5.0 has "containers" too. */
static const char *instance_url(const struct migbuf__json *operation)
{
    static const char *const keys[] = { "instances", "virtual-machines", "containers" };
    const struct migbuf__json *resources = migbuf__json_member(operation, "resources");
    const char *url = "";
    size_t bytes;

    for (size_t i = 0; i < sizeof keys / sizeof *keys && !*url; i++)
        migbuf__json_string(migbuf__json_item(migbuf__json_member(resources, keys[i]), 0), &url, &bytes);
    return url;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A part of a URL, unescaped. */
static int unescape(char *out, size_t size, const char *text, size_t length, struct migbuf_error *error)
{
    size_t n = 0;

    for (size_t i = 0; i < length; i++) {
        int c = (unsigned char)text[i];

        if (c == '%' && i + 2 < length && hex_digit(text[i + 1]) >= 0 && hex_digit(text[i + 2]) >= 0) {
            c = 16 * hex_digit(text[i + 1]) + hex_digit(text[i + 2]);
            i += 2;
        }
        if (n + 1 >= size)
            return migbuf__fail_numbers(error, MIGBUF_E_TOO_BIG, "a text of the server's does not fit", length, size);
        if (!c)
            return migbuf__fail(error, MIGBUF_E_PROTOCOL, "a name with a NUL in it");
        out[n++] = (char)c;
    }
    out[n] = 0;
    return 0;
}

static int read_instance(const char *url, struct migbuf_lxd_migration *m, struct migbuf_error *error)
{
    size_t path = strcspn(url, "?");
    const char *name = url, *project;
    int rc;

    for (size_t i = 0; i < path; i++)
        if (url[i] == '/')
            name = url + i + 1;
    rc = unescape(m->instance, sizeof m->instance, name, (size_t)(url + path - name), error);
    if (rc < 0)
        return rc;
    project = strstr(url + path, "project=");
    if (!project)
        return COPY(m->project, "default");
    project += strlen("project=");
    return unescape(m->project, sizeof m->project, project, strcspn(project, "&"), error);
}

/* A number and nothing else. */
static bool read_number(const char *text, uint64_t *number)
{
    size_t digits = strspn(text, "0123456789");

    if (!digits || digits > 18 || text[digits])
        return false;
    *number = strtoull(text, NULL, 10);
    return true;
}

static void read_percent(const char *text, struct migbuf_lxd_migration *m)
{
    uint64_t percent;

    if (read_number(text, &percent) && percent <= 100)
        m->percent = (int32_t)percent;
}

/* "110.00MB/s": false for anything else. */
static bool read_speed(const char *text, size_t length, uint64_t *bytes_per_s)
{
    return length > 2 && !memcmp(text + length - 2, "/s", 2) && !migbuf_lxd_processed(text, length - 2, bytes_per_s);
}

/*
 * "[DESCRIPTION: ]", then "1.20GB", "45%" or nothing, then the speed: in brackets where it stands behind something. Several
 * such texts may be there at once, because older servers leave those of past stages: their bytes add up, so that the sum
 * goes on whichever of them does, and the rest is that of the stage with the most.
 */
static void read_progress_text(const char *stage, size_t length, const char *text, struct migbuf_lxd_migration *m,
                               uint64_t *most)
{
    struct migbuf_lxd_migration here = { .percent = -1 };
    const char *speed;
    char percent[8];
    size_t word;

    if (!migbuf_lxd_processed(text, strlen(text), &here.processed_bytes))
        m->flags |= MIGBUF_LXD_HAS_PROCESSED;
    m->processed_bytes += here.processed_bytes;
    if (here.processed_bytes < *most)
        return;
    *most = here.processed_bytes;
    for (const char *behind; (behind = strstr(text, ": "));)
        text = behind + 2;
    word = strcspn(text, " ");
    if (word && word <= sizeof percent && text[word - 1] == '%') {
        snprintf(percent, sizeof percent, "%.*s", (int)(word - 1), text);
        read_percent(percent, &here);
    }
    speed = strchr(text, '(');
    if (speed ? !read_speed(speed + 1, strcspn(speed + 1, ")"), &here.speed_bytes_per_s)
              : !read_speed(text, word, &here.speed_bytes_per_s))
        here.speed_bytes_per_s = 0;
    m->percent = here.percent;
    m->speed_bytes_per_s = here.speed_bytes_per_s;
    snprintf(m->stage, sizeof m->stage, "%.*s", (int)length, stage);
}

/* Either "progress": {stage, processed, percent, speed}, all texts, or "fs_progress": "vm1: 1.2GB (110MB/s)"; the latter's
 * text may say anything, what is no size counts as silence. */
static int read_progress(const struct migbuf__json *metadata, struct migbuf_lxd_migration *m,
                         struct migbuf_error *error)
{
    static const char suffix[] = "_progress";
    const struct migbuf__json *progress = migbuf__json_member(metadata, "progress"), *value;
    void *cursor = NULL;
    uint64_t most = 0;
    const char *key;

    if (migbuf__json_is_object(progress)) {
        if (read_number(migbuf__lxd_text(progress, "processed"), &m->processed_bytes))
            m->flags |= MIGBUF_LXD_HAS_PROCESSED;
        read_number(migbuf__lxd_text(progress, "speed"), &m->speed_bytes_per_s);
        read_percent(migbuf__lxd_text(progress, "percent"), m);
        return COPY(m->stage, migbuf__lxd_text(progress, "stage"));
    }
    while (migbuf__json_each(metadata, &cursor, &key, &value)) {
        size_t length = strlen(key), tail = sizeof suffix - 1;
        const char *text = migbuf__lxd_text(metadata, key);

        if (*text && length > tail && length - tail < sizeof m->stage && !strcmp(key + length - tail, suffix))
            read_progress_text(key, length - tail, text, m, &most);
    }
    return 0;
}

/* 1: a migration of an instance, 0: something else. */
static int read_migration(const struct migbuf__json *from, struct migbuf_lxd_migration *m, struct migbuf_error *error)
{
    const char *what = migbuf__lxd_text(from, "description");
    bool may_cancel = false;
    int rc;

    *m = (struct migbuf_lxd_migration){ .percent = -1 };
    if ((strcmp(what, "Migrating instance") && strcmp(what, "Live-migrating instance")) || !*instance_url(from))
        return 0;
    migbuf__json_boolean(migbuf__json_member(from, "may_cancel"), &may_cancel);
    m->flags = may_cancel ? MIGBUF_LXD_MAY_CANCEL : 0;
    if ((rc = COPY(m->id, migbuf__lxd_text(from, "id"))) < 0 ||
        (rc = COPY(m->location, migbuf__lxd_text(from, "location"))) < 0 ||
        (rc = read_instance(instance_url(from), m, error)) < 0 ||
        (rc = read_progress(migbuf__json_member(from, "metadata"), m, error)) < 0)
        return rc;
    return 1;
}

int migbuf_lxd_migrations(struct migbuf_lxd *lxd, uint32_t timeout_ms, struct migbuf_lxd_migration *list,
                          size_t capacity, struct migbuf_error *error)
{
    const struct migbuf__json *running;
    struct migbuf__lxd_path path;
    struct migbuf_lxd_migration m;
    uint64_t count = 0;
    int rc;

    if (!lxd || (!list && capacity))
        return fail_null(error);
    if ((rc = migbuf_lxd_need(lxd, MIGBUF_LXD_LIVE_MIGRATION, error)) < 0)
        return rc;
    migbuf__lxd_path(&path, "/operations?recursion=1");
    if (lxd->project[0] || migbuf_lxd_has(lxd, "operations_get_query_all_projects"))
        migbuf__lxd_path_query(&path, lxd->project[0] ? "project" : "all-projects",
                               lxd->project[0] ? lxd->project : "true");
    if ((rc = migbuf__lxd_begin(lxd, timeout_ms, error)) < 0 ||
        (rc = migbuf__lxd_ask(lxd, "GET", &path, NULL, error)) < 0)
        return rc;
    if (!migbuf__json_is_object(lxd->metadata) && !migbuf__json_is_null(lxd->metadata))
        return migbuf__fail(error, MIGBUF_E_PROTOCOL, "an object was expected");
    running = migbuf__json_member(lxd->metadata, "running");
    for (size_t i = 0; i < migbuf__json_count(running); i++) {
        rc = read_migration(migbuf__json_item(running, i), &m, error);
        if (rc < 0)
            return rc;
        count += (uint64_t)rc;
    }
    if (count > capacity)
        return migbuf__fail_numbers(error, MIGBUF_E_TOO_BIG, "the list is longer than the array for it", count,
                                    capacity);
    count = 0;
    for (size_t i = 0; i < migbuf__json_count(running); i++)
        if (read_migration(migbuf__json_item(running, i), &m, NULL) == 1)
            list[count++] = m;
    return (int)count;
}

int migbuf_lxd_cancel(struct migbuf_lxd *lxd, const char *id, uint32_t timeout_ms, struct migbuf_error *error)
{
    struct migbuf__lxd_path path;
    int rc;

    if (!lxd)
        return fail_null(error);
    if ((rc = migbuf__lxd_name(id, error)) < 0 || (rc = migbuf__lxd_begin(lxd, timeout_ms, error)) < 0)
        return rc;
    migbuf__lxd_path(&path, "/operations");
    migbuf__lxd_path_name(&path, id);
    return migbuf__lxd_ask(lxd, "DELETE", &path, NULL, error);
}
