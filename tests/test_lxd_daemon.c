/* SPDX-License-Identifier: MIT */
/* The room lxd against a real daemon: test_lxd_daemon lxd | incus. What no daemon can be made to do is in test_lxd.c. */
#include "lxd_lab.h"
#include "migbuf/lxd.h"
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define MS PATIENCE_MS

static struct migbuf_error e;

static struct migbuf_lxd *open_lxd(void)
{
    struct migbuf_lxd *lxd = NULL;

    ck_assert_msg(migbuf_lxd_open(lxd_lab_daemon.socket, NULL, NULL, MS, &lxd, &e) == 0, "%s", e.text);
    return lxd;
}

/* A call that must succeed. */
#define ck_lxd(call)                                                                                                   \
    do {                                                                                                               \
        int rc_ = (call);                                                                                              \
        ck_assert_msg(rc_ >= 0, "%s: %d %s (%s)", #call, rc_, e.text, migbuf_lxd_said(lxd));                           \
    } while (0)

#define ck_lxd_fails(call, code)                                                                                       \
    do {                                                                                                               \
        int rc_ = (call);                                                                                              \
        ck_assert_msg(rc_ == (code), "%s is %d, not %d: %s (%s)", #call, rc_, code, rc_ < 0 ? e.text : "",             \
                      migbuf_lxd_said(lxd));                                                                           \
    } while (0)

static void request(struct migbuf_lxd *lxd, const char *method, const char *path, const char *body)
{
    ck_lxd(migbuf_lxd_call(lxd, method, path, body, MS, NULL, NULL, &e));
}

/* The pools every test may use: a directory, and btrfs on a loop file of 512 MiB. Made once. */
static void make_pools(struct migbuf_lxd *lxd)
{
    struct migbuf_lxd_pool pool;

    if (migbuf_lxd_pool(lxd, "b1", MS, &pool, &e) == 0)
        return;
    request(lxd, "POST", "/1.0/storage-pools", "{\"name\":\"d1\",\"driver\":\"dir\"}");
    request(lxd, "POST", "/1.0/storage-pools", "{\"name\":\"b1\",\"driver\":\"btrfs\",\"config\":{\"size\":\"512MiB\"}}");
}

START_TEST(the_server_tells_what_it_is)
{
    struct migbuf_lxd *lxd = open_lxd();
    struct migbuf_lxd_server s = { .size = sizeof s };
    char host[128];

    ck_lxd(migbuf_lxd_server(lxd, MS, &s, &e));
    gethostname(host, sizeof host);
    ck_assert_int_eq(s.kind, lxd_lab_is_incus() ? MIGBUF_LXD_INCUS : MIGBUF_LXD_LXD);
    ck_assert(s.extensions > 100 && s.version[0] && !s.clustered);
    ck_assert_str_eq(s.name, host);
    ck_assert_int_eq(migbuf_lxd_has(lxd, "virtual-machines"), 1);
    ck_assert_int_eq(migbuf_lxd_has(lxd, "no-such-extension"), 0);
    if (lxd_lab_is_incus()) {
        ck_lxd(migbuf_lxd_need(lxd, MIGBUF_LXD_LIVE_MIGRATION | MIGBUF_LXD_DISK_LIMITS, &e));
    } else { /* 5.0.2 */
        ck_lxd_fails(migbuf_lxd_need(lxd, MIGBUF_LXD_LIVE_MIGRATION, &e), MIGBUF_E_UNSUPPORTED);
        ck_assert(!strncmp(e.text, "not supported: this server cannot move running VMs", 50));
        ck_lxd_fails(migbuf_lxd_need(lxd, MIGBUF_LXD_DISK_LIMITS, &e), MIGBUF_E_UNSUPPORTED);
        ck_lxd_fails(migbuf_lxd_migrations(lxd, MS, NULL, 0, &e), MIGBUF_E_UNSUPPORTED);
    }
    migbuf_lxd_free(lxd);
}
END_TEST

START_TEST(keys_are_set_read_and_removed)
{
    struct migbuf_lxd *lxd = open_lxd();
    char value[64] = "x";

    ck_lxd(migbuf_lxd_key(lxd, "user.migbuf.test", MS, value, sizeof value, &e));
    ck_assert_str_eq(value, "");
    ck_lxd(migbuf_lxd_set_key(lxd, "user.migbuf.test", "10 \"GiB\" \\ ö", MS, &e));
    ck_lxd(migbuf_lxd_key(lxd, "user.migbuf.test", MS, value, sizeof value, &e));
    ck_assert_str_eq(value, "10 \"GiB\" \\ ö");
    ck_lxd_fails(migbuf_lxd_key(lxd, "user.migbuf.test", MS, value, 4, &e), MIGBUF_E_TOO_BIG);
    ck_assert_uint_eq(e.have, 4);
    ck_lxd(migbuf_lxd_set_key(lxd, "user.migbuf.test", NULL, MS, &e));
    ck_lxd(migbuf_lxd_key(lxd, "user.migbuf.test", MS, value, sizeof value, &e));
    ck_assert_str_eq(value, "");
    ck_lxd_fails(migbuf_lxd_set_key(lxd, "migbuf.test", "1", MS, &e), MIGBUF_E_PEER);
    ck_assert_ptr_nonnull(strstr(migbuf_lxd_said(lxd), "nknown"));
    ck_assert_uint_eq(e.need, 400);
    migbuf_lxd_free(lxd);
}
END_TEST

START_TEST(pools_tell_their_space_and_how_they_limit)
{
    struct migbuf_lxd *lxd = open_lxd();
    struct migbuf_lxd_pool p[8];
    int n;

    make_pools(lxd);
    n = migbuf_lxd_pools(lxd, MS, p, 8, &e);
    ck_assert_int_eq(n, 2);
    ck_assert(!strcmp(p[0].status, "Created") && !p[0].total_bytes && !p[0].remote);
    ck_lxd_fails(migbuf_lxd_pools(lxd, MS, p, 1, &e), MIGBUF_E_TOO_BIG);
    ck_assert(e.need == 2 && e.have == 1);
    ck_lxd(migbuf_lxd_pool(lxd, "b1", MS, p, &e));
    ck_assert(!strcmp(p->driver, "btrfs") && p->limit == MIGBUF_LXD_LIMIT_EDQUOT && p->total_bytes == 512 * MIB);
    ck_assert(p->free_bytes == p->total_bytes - p->used_bytes && p->free_bytes > 400 * MIB);
    ck_lxd(migbuf_lxd_pool(lxd, "d1", MS, p, &e));
    ck_assert(!strcmp(p->driver, "dir") && p->limit == MIGBUF_LXD_LIMIT_NONE && p->total_bytes > 0);
    ck_lxd_fails(migbuf_lxd_pool(lxd, "no such/pool", MS, p, &e), MIGBUF_E_NOTFOUND);
    ck_assert_uint_eq(e.need, 404);
    migbuf_lxd_free(lxd);
}
END_TEST

static void fill(const char *pool, const char *volume, size_t mib)
{
    static char block[1 << 20];
    char path[320];
    int fd;

    memset(block, 'x', sizeof block);
    snprintf(path, sizeof path, "%s/storage-pools/%s/custom/default_%s/fill", lxd_lab_daemon.directory, pool, volume);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
    for (size_t i = 0; i < mib; i++)
        ck_assert_int_eq(write(fd, block, sizeof block), sizeof block);
    ck_assert_int_eq(syncfs(fd), 0);
    close(fd);
}

START_TEST(a_volume_is_made_shown_resized_and_removed)
{
    struct migbuf_lxd *lxd = open_lxd();
    struct migbuf_lxd_volume v;

    make_pools(lxd);
    ck_lxd(migbuf_lxd_volume_create(lxd, "b1", "omega", 64 * MIB, MS, &e));
    ck_lxd(migbuf_lxd_volume(lxd, "b1", "omega", MS, &v, &e));
    ck_assert(!strcmp(v.pool, "b1") && !strcmp(v.name, "omega") && !strcmp(v.content, "filesystem"));
    ck_assert(v.size_bytes == 64 * MIB && v.has_usage && v.used_bytes < MIB && v.users == 0);
    ck_lxd(migbuf_lxd_volume_resize(lxd, "b1", "omega", 96 * MIB, MS, &e));
    ck_lxd(migbuf_lxd_volume(lxd, "b1", "omega", MS, &v, &e));
    ck_assert_uint_eq(v.size_bytes, 96 * MIB);

    fill("b1", "omega", 20);
    ck_lxd(migbuf_lxd_volume(lxd, "b1", "omega", MS, &v, &e));
    ck_assert(v.used_bytes >= 20 * MIB && v.used_bytes < 22 * MIB);
    ck_lxd_fails(migbuf_lxd_volume_resize(lxd, "b1", "omega", 16 * MIB, MS, &e), MIGBUF_E_IN_USE);
    ck_assert(e.need == v.used_bytes && e.have == 16 * MIB);
    ck_lxd(migbuf_lxd_volume_resize(lxd, "b1", "omega", 32 * MIB, MS, &e));
    ck_lxd(migbuf_lxd_volume_delete(lxd, "b1", "omega", MS, &e));
    ck_lxd_fails(migbuf_lxd_volume(lxd, "b1", "omega", MS, &v, &e), MIGBUF_E_NOTFOUND);
    ck_lxd_fails(migbuf_lxd_volume_delete(lxd, "b1", "omega", MS, &e), MIGBUF_E_NOTFOUND);
    ck_lxd_fails(migbuf_lxd_volume_resize(lxd, "b1", "omega", MIB, MS, &e), MIGBUF_E_NOTFOUND);
    migbuf_lxd_free(lxd);
}
END_TEST

START_TEST(a_directory_pool_does_not_tell_usage)
{
    struct migbuf_lxd *lxd = open_lxd();
    struct migbuf_lxd_volume v;

    make_pools(lxd);
    ck_lxd(migbuf_lxd_volume_create(lxd, "d1", "omega", 64 * MIB, MS, &e));
    ck_lxd(migbuf_lxd_volume(lxd, "d1", "omega", MS, &v, &e));
    ck_assert(v.size_bytes == 64 * MIB && !v.has_usage && !v.used_bytes);
    ck_assert_str_eq(migbuf_lxd_said(lxd), "");
    ck_lxd(migbuf_lxd_volume_delete(lxd, "d1", "omega", MS, &e));
    migbuf_lxd_free(lxd);
}
END_TEST

START_TEST(a_taken_name_and_a_full_pool)
{
    struct migbuf_lxd *lxd = open_lxd();
    struct migbuf_lxd_volume v;

    make_pools(lxd);
    ck_lxd(migbuf_lxd_volume_create(lxd, "b1", "taken", 32 * MIB, MS, &e));
    ck_lxd_fails(migbuf_lxd_volume_create(lxd, "b1", "taken", 32 * MIB, MS, &e), MIGBUF_E_EXISTS);
    ck_assert_ptr_nonnull(strstr(migbuf_lxd_said(lxd), "already exists"));
    ck_lxd_fails(migbuf_lxd_volume_create(lxd, "b1", "huge", 600 * MIB, MS, &e), MIGBUF_E_NOSPACE);
    ck_assert(e.need == 600 * MIB && e.have > 400 * MIB && e.have < 512 * MIB);
    ck_lxd_fails(migbuf_lxd_volume(lxd, "b1", "huge", MS, &v, &e), MIGBUF_E_NOTFOUND);
    ck_lxd_fails(migbuf_lxd_volume_resize(lxd, "b1", "taken", 700 * MIB, MS, &e), MIGBUF_E_NOSPACE);
    ck_assert(e.need == 668 * MIB);
    ck_lxd_fails(migbuf_lxd_volume_create(lxd, "b1", "a/b", 32 * MIB, MS, &e), MIGBUF_E_PEER);
    ck_lxd_fails(migbuf_lxd_volume_create(lxd, "none", "x", 32 * MIB, MS, &e), MIGBUF_E_NOTFOUND);
    ck_lxd_fails(migbuf_lxd_volume_create(lxd, "b1", "", 32 * MIB, MS, &e), MIGBUF_E_INVALID);
    ck_lxd_fails(migbuf_lxd_volume_create(lxd, "b1", "x", 0, MS, &e), MIGBUF_E_RANGE);
    ck_lxd(migbuf_lxd_volume_delete(lxd, "b1", "taken", MS, &e));
    migbuf_lxd_free(lxd);
}
END_TEST

static void make_vm(struct migbuf_lxd *lxd)
{
    struct migbuf_lxd_vm vm;

    make_pools(lxd);
    if (migbuf_lxd_vm(lxd, NULL, "vm1", MS, &vm, &e) == 0)
        return;
    request(lxd, "PATCH", "/1.0/profiles/default",
            "{\"devices\":{\"root\":{\"type\":\"disk\",\"path\":\"/\",\"pool\":\"b1\",\"size\":\"64MiB\"}}}");
    ck_lxd(lxd_lab_make_vm(lxd, "vm1",
                           "{\"migration.stateful\":\"true\",\"limits.memory\":\"256MiB\",\"limits.cpu\":\"0-1,3\","
                           "\"raw.qemu\":\"-qmp unix:/x,server=on,wait=off\"}",
                           "{\"root\":{\"type\":\"disk\",\"path\":\"/\",\"pool\":\"b1\",\"size\":\"48MiB\",\"size.state\":"
                           "\"300MiB\",\"limits.write\":\"1MB\",\"limits.read\":\"500iops\"}}"));
    ck_lxd(lxd_lab_make_vm(lxd, "vm2", "{}", "{}"));
    request(lxd, "POST", "/1.0/instances", "{\"name\":\"c1\",\"type\":\"container\",\"source\":{\"type\":\"none\"}}");
}

START_TEST(vms_with_their_memory_disks_and_limits)
{
    struct migbuf_lxd *lxd = open_lxd();
    struct migbuf_lxd_vm vm[4];
    struct migbuf_lxd_disk disk[4];
    char value[64];
    int n, first;

    make_vm(lxd);
    n = migbuf_lxd_vms(lxd, MS, vm, 4, &e);
    ck_assert_int_eq(n, 2);
    first = !strcmp(vm[0].name, "vm1") ? 0 : 1;
    ck_assert_str_eq(vm[first].name, "vm1");
    ck_assert_str_eq(vm[first].project, "default");
    ck_assert(!strcmp(vm[first].status, "Stopped") && !strcmp(vm[first].root, "root") && !strcmp(vm[first].pool, "b1"));
    ck_assert_uint_eq(vm[first].memory_bytes, 256 * MIB);
    ck_assert_uint_eq(vm[first].state_bytes, 300 * MIB);
    ck_assert_uint_eq(vm[first].cpus, 3);
    ck_assert_uint_eq(vm[first].flags, MIGBUF_LXD_VM_STATEFUL);
    ck_assert_uint_eq(vm[!first].memory_bytes, 1024 * MIB);
    ck_assert_uint_eq(vm[!first].state_bytes, (lxd_lab_is_incus() ? 500 : 100) * MIB);
    ck_assert_uint_eq(vm[!first].flags, MIGBUF_LXD_VM_STATE_DEFAULT);
    ck_lxd_fails(migbuf_lxd_vms(lxd, MS, vm, 1, &e), MIGBUF_E_TOO_BIG);
    ck_lxd_fails(migbuf_lxd_vm(lxd, NULL, "c1", MS, vm, &e), MIGBUF_E_NOTFOUND);
    ck_lxd_fails(migbuf_lxd_vm(lxd, "no-project", "vm1", MS, vm, &e), MIGBUF_E_NOTFOUND);
    ck_lxd(migbuf_lxd_vm_key(lxd, "default", "vm1", "raw.qemu", MS, value, sizeof value, &e));
    ck_assert_str_eq(value, "-qmp unix:/x,server=on,wait=off");
    ck_lxd(migbuf_lxd_vm_key(lxd, NULL, "vm2", "raw.qemu", MS, value, sizeof value, &e));
    ck_assert_str_eq(value, "");

    ck_assert_int_eq(migbuf_lxd_disks(lxd, NULL, "vm1", MS, disk, 4, &e), 1);
    ck_assert(disk->root && disk->size_bytes == 48 * MIB && disk->write_bytes_per_s == 1000000 && !disk->write_iops);
    ck_assert(disk->read_iops == 500 && !disk->read_bytes_per_s && !strcmp(disk->pool, "b1"));
    migbuf_lxd_free(lxd);
}
END_TEST

/* No VM of this lab runs, so there is none of these counters in what is a real server's text. */
START_TEST(counters_of_stopped_vms)
{
    struct migbuf_lxd *lxd = open_lxd();
    struct migbuf_lxd_written w[4];

    make_vm(lxd);
    ck_assert_int_eq(migbuf_lxd_written(lxd, MS, w, 4, &e), 0);
    migbuf_lxd_free(lxd);
}
END_TEST

START_TEST(a_state_volume_grows_and_comes_back)
{
    struct migbuf_lxd *lxd = open_lxd();
    struct migbuf_lxd_vm vm;
    struct migbuf_lxd_disk disk;

    make_vm(lxd);
    ck_lxd(migbuf_lxd_vm_set_state_bytes(lxd, NULL, "vm1", 320 * MIB, MS, &e));
    ck_lxd(migbuf_lxd_vm(lxd, NULL, "vm1", MS, &vm, &e));
    ck_assert_uint_eq(vm.state_bytes, 320 * MIB);
    ck_lxd(migbuf_lxd_vm_set_state_bytes(lxd, NULL, "vm1", 300 * MIB, MS, &e));
    ck_assert_int_eq(migbuf_lxd_disks(lxd, NULL, "vm1", MS, &disk, 1, &e), 1);
    ck_assert(disk.write_bytes_per_s == 1000000 && disk.size_bytes == 48 * MIB); /* the rest stayed */

    ck_lxd(migbuf_lxd_vm_set_state_bytes(lxd, NULL, "vm2", 200 * MIB, MS, &e)); /* its disk is the profile's */
    ck_lxd(migbuf_lxd_vm(lxd, NULL, "vm2", MS, &vm, &e));
    ck_assert(vm.state_bytes == 200 * MIB && !(vm.flags & MIGBUF_LXD_VM_STATE_DEFAULT));
    ck_lxd(migbuf_lxd_vm_set_state_bytes(lxd, NULL, "vm2", 0, MS, &e));
    ck_lxd(migbuf_lxd_vm(lxd, NULL, "vm2", MS, &vm, &e));
    ck_assert(vm.flags & MIGBUF_LXD_VM_STATE_DEFAULT);
    ck_lxd_fails(migbuf_lxd_vm_set_state_bytes(lxd, NULL, "vm3", MIB, MS, &e), MIGBUF_E_NOTFOUND);
    migbuf_lxd_free(lxd);
}
END_TEST

/* A stopped VM's move is an operation of the same kind as a running one's: it waits for the other side until it is
 * cancelled. */
START_TEST(migrations_are_listed_and_cancelled)
{
    struct migbuf_lxd *lxd = open_lxd();
    struct migbuf_lxd_migration m[4];
    struct migbuf_lxd *other;
    int n, status = -1;
    pid_t caller;

    make_vm(lxd);
    if (!lxd_lab_is_incus()) {
        migbuf_lxd_free(lxd);
        return;
    }
    ck_assert_int_eq(migbuf_lxd_migrations(lxd, MS, m, 4, &e), 0);
    caller = lxd_lab_begin_migration(lxd, "vm1");
    n = migbuf_lxd_migrations(lxd, MS, m, 4, &e);
    ck_assert_int_eq(n, 1);
    ck_assert(!strcmp(m->instance, "vm1") && !strcmp(m->project, "default") && m->id[0] && m->percent == -1);
    ck_assert_uint_eq(m->flags, MIGBUF_LXD_MAY_CANCEL);
    other = open_lxd();
    ck_lxd(migbuf_lxd_cancel(other, m->id, MS, &e));
    migbuf_lxd_free(other);
    ck_assert_int_eq(waitpid(caller, &status, 0), caller); /* who waits for the operation is told of its end */
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == -MIGBUF_E_PEER, "status %x", status);
    while ((n = migbuf_lxd_migrations(lxd, MS, m, 4, &e)) == 1)
        usleep(10000);
    ck_assert_int_eq(n, 0);
    ck_lxd_fails(migbuf_lxd_cancel(lxd, "11111111-2222-3333-4444-555555555555", MS, &e), MIGBUF_E_NOTFOUND);
    migbuf_lxd_free(lxd);
}
END_TEST

START_TEST(an_operation_that_fails_says_why)
{
    struct migbuf_lxd *lxd = open_lxd();

    make_vm(lxd);
    ck_lxd_fails(migbuf_lxd_call(lxd, "POST", "/1.0/instances", "{\"name\":\"c1\",\"type\":\"container\",\"source\":{\"type\":\"none\"}}",
                                 MS, NULL, NULL, &e),
                 MIGBUF_E_PEER);
    ck_assert_msg(strstr(migbuf_lxd_said(lxd), "record"), "%s", migbuf_lxd_said(lxd));
    ck_lxd_fails(migbuf_lxd_call(lxd, "PUT", "/1.0/instances/c1/state", "{\"action\":\"freeze\",\"timeout\":1}", MS, NULL,
                                 NULL, &e),
                 MIGBUF_E_PEER);
    ck_assert_msg(migbuf_lxd_said(lxd)[0], "nothing was said");
    migbuf_lxd_free(lxd);
}
END_TEST

START_TEST(projects_are_kept_apart)
{
    struct migbuf_lxd *lxd = open_lxd(), *in;
    struct migbuf_lxd_options o;
    struct migbuf_lxd_volume v;
    struct migbuf_lxd_vm vm;

    make_pools(lxd);
    request(lxd, "POST", "/1.0/projects", "{\"name\":\"p&q\",\"config\":{}}");
    ck_lxd(migbuf_lxd_options_init(&o, sizeof o));
    o.project = "p&q";
    ck_assert_int_eq(migbuf_lxd_open(lxd_lab_daemon.socket, &o, NULL, MS, &in, &e), 0);
    ck_lxd(migbuf_lxd_volume_create(in, "b1", "mine", 16 * MIB, MS, &e));
    ck_lxd(migbuf_lxd_volume(in, "b1", "mine", MS, &v, &e));
    ck_lxd_fails(migbuf_lxd_volume(lxd, "b1", "mine", MS, &v, &e), MIGBUF_E_NOTFOUND);
    ck_assert_int_eq(migbuf_lxd_vms(in, MS, &vm, 1, &e), 0);
    ck_lxd(migbuf_lxd_volume_delete(in, "b1", "mine", MS, &e));
    migbuf_lxd_free(in);
    request(lxd, "DELETE", "/1.0/projects/p%26q", NULL);
    migbuf_lxd_free(lxd);
}
END_TEST

START_TEST(a_bound_is_kept_by_a_real_reply)
{
    struct migbuf_lxd_options o;
    struct migbuf_lxd *lxd = NULL;

    ck_assert_int_eq(migbuf_lxd_options_init(&o, sizeof o), 0);
    o.max_reply_bytes = 2000; /* GET /1.0 is about 15 KB */
    ck_assert_int_eq(migbuf_lxd_open(lxd_lab_daemon.socket, &o, NULL, MS, &lxd, &e), MIGBUF_E_TOO_BIG);
    ck_assert_ptr_null(lxd);
}
END_TEST

START_TEST(no_permission)
{
    struct migbuf_lxd *lxd = NULL;
    int status = 0;
    pid_t pid;

    chmod(lxd_lab_daemon.socket, 0600);
    pid = fork();
    if (!pid) {
        if (setgid(65534) || setuid(65534))
            _exit(9);
        _exit(migbuf_lxd_open(lxd_lab_daemon.socket, NULL, NULL, MS, &lxd, &e) == MIGBUF_E_SYSTEM &&
                      e.os_errno == EACCES && strstr(e.text, "permission")
                  ? 0
                  : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* https with certificates of our own, on the loopback of our own network. */
START_TEST(a_remote_server)
{
    static const char *const make[] = { "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                                        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj", "/CN=migbuf",
                                        "-keyout", "key.pem", "-out", "crt.pem", NULL };
    struct migbuf_lxd *lxd = open_lxd(), *far = NULL;
    struct migbuf_lxd_server s = { .size = sizeof s };
    struct migbuf_lxd_options o;
    char body[4096], text[8192], server[200];
    const char *reply, *line;
    uint64_t bytes;
    size_t n = 0, length;
    FILE *f;

    ck_assert_int_eq(chdir(lxd_lab_directory()), 0);
    ck_assert_msg(lxd_lab_run(make, NULL, &reply) == 0, "%s", reply);
    request(lxd, "PATCH", "/1.0", "{\"config\":{\"core.https_address\":\"127.0.0.1:18443\"}}");
    snprintf(server, sizeof server, "%s/server.crt", lxd_lab_daemon.directory);
    ck_lxd(migbuf_lxd_options_init(&o, sizeof o));
    o.certificate = "crt.pem";
    o.key = "key.pem";
    o.server_certificate = server;
    ck_assert_int_eq(migbuf_lxd_open("https://127.0.0.1:18443", &o, NULL, MS, &far, &e), MIGBUF_E_PEER);
    ck_assert_msg(strstr(e.text, "does not trust"), "%s", e.text);

    f = fopen("crt.pem", "r"); /* the base64 between the lines, on one line */
    while (fgets(text, 128, f))
        if (!strstr(text, "-----") && n < sizeof body - 128) {
            length = strcspn(text, "\n");
            memcpy(body + n, text, length);
            n += length;
        }
    body[n] = 0;
    fclose(f);
    snprintf(text, sizeof text, "{\"type\":\"client\",\"name\":\"migbuf\",\"certificate\":\"%s\"}", body);
    request(lxd, "POST", "/1.0/certificates", text);
    ck_assert_msg(migbuf_lxd_open("https://127.0.0.1:18443", &o, NULL, MS, &far, &e) == 0, "%s", e.text);
    ck_assert_int_eq(migbuf_lxd_server(far, MS, &s, &e), 0);
    ck_assert_int_eq(migbuf_lxd_call(far, "GET", "/1.0/storage-pools", NULL, MS, &line, &bytes, &e), 0);
    ck_assert(bytes >= 2 && line[0] == '[');
    migbuf_lxd_free(far);

    o.server_certificate = NULL; /* no authority of the system's knows it */
    ck_assert_int_eq(migbuf_lxd_open("https://127.0.0.1:18443", &o, NULL, MS, &far, &e), MIGBUF_E_PEER);
    o.server_certificate = "crt.pem"; /* another's */
    ck_assert_int_eq(migbuf_lxd_open("https://127.0.0.1:18443", &o, NULL, MS, &far, &e), MIGBUF_E_PEER);
    ck_assert_msg(strstr(e.text, "certificates"), "%s", e.text);
    ck_assert_int_eq(migbuf_lxd_open("https://127.0.0.1:18444", &o, NULL, MS, &far, &e), MIGBUF_E_SYSTEM);
    ck_assert_int_eq(e.os_errno, ECONNREFUSED);
    request(lxd, "PATCH", "/1.0", "{\"config\":{\"core.https_address\":\"\"}}");
    migbuf_lxd_free(lxd);
}
END_TEST

int main(int argc, char **argv)
{
    const TTest *const tests[] = { the_server_tells_what_it_is,
                                          keys_are_set_read_and_removed,
                                          pools_tell_their_space_and_how_they_limit,
                                          a_volume_is_made_shown_resized_and_removed,
                                          a_directory_pool_does_not_tell_usage,
                                          a_taken_name_and_a_full_pool,
                                          vms_with_their_memory_disks_and_limits,
                                          counters_of_stopped_vms,
                                          a_state_volume_grows_and_comes_back,
                                          migrations_are_listed_and_cancelled,
                                          an_operation_that_fails_says_why,
                                          projects_are_kept_apart,
                                          a_bound_is_kept_by_a_real_reply,
                                          no_permission,
                                          a_remote_server,
                                          NULL };
    int status;

    if (argc != 2) {
        fprintf(stderr, "usage: test_lxd_daemon lxd | incus\n");
        return 2;
    }
    curl_global_init(CURL_GLOBAL_DEFAULT);
    status = lxd_lab_main("lxd", argv[1], tests, WATCHDOG_S);
    curl_global_cleanup();
    return status;
}
