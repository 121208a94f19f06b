/* SPDX-License-Identifier: MIT */
#include "unit.h"
#include "migbuf/cow.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

START_TEST(an_unlinked_file_is_measured)
{
    char name[] = "/tmp/migbuf-cow-XXXXXX";
    int fd = mkstemp(name);
    uint64_t empty = 1, bytes = 0;
    static const char block[65536] = { 1 };

    ck_assert_int_ge(fd, 0);
    unlink(name);
    ck_assert_int_eq(migbuf_cow_file_bytes(fd, &empty, NULL), 0);
    ck_assert_int_eq(ftruncate(fd, 1 << 30), 0); /* length is not allocation */
    ck_assert_int_eq(pwrite(fd, block, sizeof block, 1 << 20), sizeof block);
    fsync(fd);
    ck_assert_int_eq(migbuf_cow_file_bytes(fd, &bytes, NULL), 0);
    ck_assert(bytes - empty >= 65536 && bytes - empty < 1 << 20);
    close(fd);
}
END_TEST

START_TEST(a_volume_is_what_statvfs_says)
{
    struct migbuf_volume v;
    int fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    ck_assert_int_eq(migbuf_cow_volume(fd, &v, NULL), 0);
    ck_assert(v.size_bytes > 0 && v.used_bytes + v.free_bytes == v.size_bytes);
    close(fd);
}
END_TEST

START_TEST(a_bad_descriptor_is_a_named_error)
{
    struct migbuf_error e = { 0 };
    struct migbuf_volume v;
    uint64_t bytes = 7;

    ck_assert_int_eq(migbuf_cow_file_bytes(-1, &bytes, &e), MIGBUF_E_SYSTEM);
    ck_assert(e.code == MIGBUF_E_SYSTEM && e.os_errno == EBADF && e.text && bytes == 7);
    ck_assert_int_eq(migbuf_cow_volume(-1, &v, &e), MIGBUF_E_SYSTEM);
    ck_assert_int_eq(migbuf_cow_volume(-1, NULL, NULL), MIGBUF_E_INVALID);
}
END_TEST

/* The kernel counts no blocks of them, and said 0 and success: an overlay that never grows. */
START_TEST(what_is_no_file_has_no_size)
{
    static const char *const why[] = { "block device", "directory, a pipe", "directory, a pipe", "directory, a pipe",
                                       "directory, a pipe" };
    char name[] = "/tmp/migbuf-cow-XXXXXX", device[64];
    int fd[5], ends[2];
    struct migbuf_filesystem fs;
    struct migbuf_volume v;
    int32_t file;

    ck_assert_ptr_nonnull(mkdtemp(name));
    snprintf(device, sizeof device, "%s/disk", name);
    /* Looked at only: one of that number need not be there. */
    fd[0] = mknod(device, S_IFBLK | 0600, makedev(7, 0)) ? -1 : open(device, O_PATH | O_CLOEXEC);
    ck_assert_int_eq(pipe(ends), 0);
    fd[1] = ends[0];
    fd[2] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fd[3] = open("/dev/null", O_RDWR | O_CLOEXEC);
    fd[4] = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(device, sizeof device, "%s/file", name);
    file = open(device, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    for (int k = fd[0] < 0; k < 5; k++) {
        struct migbuf_error e = { .text = "" };
        uint64_t bytes[2] = { 7, 7 };
        int32_t both[2] = { file, fd[k] };

        ck_assert_int_eq(migbuf_cow_file_bytes(fd[k], bytes, &e), MIGBUF_E_UNSUPPORTED);
        ck_assert_msg(strstr(e.text, why[k]) && e.code == MIGBUF_E_UNSUPPORTED && bytes[0] == 7, "%d: %s", k, e.text);
        ck_assert_int_eq(migbuf_cow_sizes(both, 2, MIGBUF_COW_LAGS, bytes, &e), MIGBUF_E_UNSUPPORTED);
        ck_assert_msg(strstr(e.text, why[k]) && e.need == 1 && bytes[0] == 7, "%d: %s", k, e.text);
        ck_assert_int_eq(migbuf_cow_sizes(both, 2, 0, bytes, NULL), MIGBUF_E_UNSUPPORTED);
        ck_assert_int_eq(migbuf_cow_volume(fd[k], &v, &e), k == 4 ? 0 : MIGBUF_E_UNSUPPORTED);
        ck_assert_int_eq(migbuf_cow_filesystem(fd[k], &fs, &e), k == 4 ? 0 : MIGBUF_E_UNSUPPORTED);
        close(fd[k]);
    }
    close(ends[1]);
    close(file);
    unlink(device);
    snprintf(device, sizeof device, "%s/disk", name);
    unlink(device);
    ck_assert_int_eq(rmdir(name), 0);
}
END_TEST

START_TEST(a_full_volume_is_told_before)
{
    struct migbuf_full full = { .kind = 7 };
    struct migbuf_error e = { 0 };
    struct migbuf_volume before, after;
    int fd = open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    ck_assert_int_eq(migbuf_cow_when_full(-1, &full, &e), MIGBUF_E_SYSTEM);
    ck_assert(full.kind == 7 && e.os_errno == EBADF);
    ck_assert_int_eq(migbuf_cow_when_full(fd, NULL, NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_cow_volume(fd, &before, NULL), 0);
    ck_assert_int_eq(migbuf_cow_when_full(fd, &full, NULL), 0);
    ck_assert_int_eq(full.kind, MIGBUF_FULL_STOPS);
    ck_assert_int_eq(migbuf_cow_volume(fd, &after, NULL), 0);
    ck_assert(full.room_bytes <= after.size_bytes);
    close(fd);
}
END_TEST

/* /proc has no nameless files, as FUSE has none. */
START_TEST(where_it_cannot_be_tried_it_is_unknown)
{
    struct migbuf_full full = { .kind = 7, .room_bytes = 7 };
    struct migbuf_error e = { 0 };
    int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

    ck_assert(openat(fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) < 0 && errno == EOPNOTSUPP);
    rc = migbuf_cow_when_full(fd, &full, &e);
    if (geteuid()) { /* one may not write there anyway */
        ck_assert(rc == MIGBUF_E_SYSTEM && e.os_errno == EACCES && full.kind == 7 && full.room_bytes == 7);
    } else {
        ck_assert_int_eq(rc, 0);
        ck_assert(full.kind == MIGBUF_FULL_UNKNOWN && full.room_bytes == 0); /* as statvfs has it */
    }
    close(fd);
    fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC); /* no directory */
    full.kind = 7;
    ck_assert_int_eq(migbuf_cow_when_full(fd, &full, &e), MIGBUF_E_SYSTEM);
    ck_assert(e.os_errno == ENOTDIR && full.kind == 7);
    close(fd);
}
END_TEST

START_TEST(all_files_in_one_pass)
{
    char name[2][24] = { "/tmp/migbuf-cow-XXXXXX", "/tmp/migbuf-cow-XXXXXX" };
    static const char block[65536] = { 1 };
    struct migbuf_error e = { 0 };
    int32_t fd[3];
    uint64_t bytes[3] = { 7, 7, 7 };

    for (int k = 0; k < 2; k++) {
        fd[k] = mkstemp(name[k]);
        ck_assert_int_ge(fd[k], 0);
        unlink(name[k]);
        ck_assert(pwrite(fd[k], block, sizeof block, (off_t)k << 30) == sizeof block && !fsync(fd[k]));
    }
    ck_assert_int_eq(migbuf_cow_sizes(fd, 2, 0, bytes, NULL), 0);
    ck_assert(bytes[0] >= 65536 && bytes[0] < 1 << 20 && bytes[1] >= 65536 && bytes[1] < 1 << 20 && bytes[2] == 7);
    ck_assert_int_eq(migbuf_cow_sizes(fd, 2, MIGBUF_COW_LAGS, bytes, NULL), 0); /* what the count may not know yet */
    ck_assert(bytes[0] < 1 << 20 && bytes[1] == (1 << 30) + 65536);
    fd[2] = -1;
    bytes[0] = 7;
    ck_assert_int_eq(migbuf_cow_sizes(fd, 3, 0, bytes, &e), MIGBUF_E_SYSTEM);
    ck_assert(e.need == 2 && e.os_errno == EBADF && bytes[0] == 7);
    ck_assert_int_eq(migbuf_cow_sizes(NULL, 0, 0, NULL, NULL), 0);
    ck_assert_int_eq(migbuf_cow_sizes(fd, 1, 0, NULL, NULL), MIGBUF_E_INVALID);
    close(fd[0]);
    close(fd[1]);
}
END_TEST

/* A file system of that kind on a loop file, mounted over its own directory, for us alone; false where this machine cannot. */
static bool mounted(const char *kind, const char *options, char at[64])
{
    char text[512];

    snprintf(at, 64, "/tmp/migbuf-cow-XXXXXX");
    if (geteuid() || unshare(CLONE_NEWNS) || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) || !mkdtemp(at))
        return false;
    snprintf(text, sizeof text,
             "cd %s && truncate -s 320M image && mkfs.%s -q image >/dev/null 2>&1 && mount -o loop,%s image %s 2>/dev/null",
             at, kind, options, at);
    if (!system(text))
        return true;
    snprintf(text, sizeof text, "rm -rf %s", at);
    if (system(text))
        printf("# %s is left\n", at);
    return false;
}

static void unmount(const char *at)
{
    char text[160];

    snprintf(text, sizeof text, "umount %s && rm -rf %s", at, at);
    ck_assert_int_eq(system(text), 0);
}

static struct migbuf_filesystem look(const char *at)
{
    struct migbuf_filesystem fs;
    int fd = open(at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    ck_assert_int_eq(migbuf_cow_filesystem(fd, &fs, NULL), 0);
    close(fd);
    return fs;
}

START_TEST(kinds_of_file_systems)
{
    static const struct {
        const char *kind, *options;
        uint32_t flags;
    } given[] = { { "ext4", "rw", 0 },
                  { "xfs", "rw", MIGBUF_COW_PREALLOCATES },
                  { "btrfs", "rw", MIGBUF_COW_COPIES },
                  { "btrfs", "compress-force=zstd", MIGBUF_COW_COPIES | MIGBUF_COW_COMPRESSES } };
    static char zeros[1 << 20];
    struct migbuf_filesystem fs;
    struct migbuf_error e;
    char at[64], path[96];

    ck_assert_int_eq(migbuf_cow_filesystem(-1, &fs, &e), MIGBUF_E_SYSTEM);
    ck_assert_int_eq(migbuf_cow_filesystem(0, NULL, &e), MIGBUF_E_INVALID);
    fs = look("/proc");
    ck_assert(fs.flags == MIGBUF_COW_UNKNOWN && !fs.name[0] && fs.magic == 0x9fa0);
    fs = look("/dev/shm");
    ck_assert(!strcmp(fs.name, "tmpfs") && !fs.flags);
    memset(zeros, 'z', sizeof zeros);
    for (size_t k = 0; k < sizeof given / sizeof *given; k++) {
        struct migbuf_volume before, after;
        uint64_t bytes = 0;
        int32_t fd;

        if (!mounted(given[k].kind, given[k].options, at))
            continue;
        fs = look(at);
        ck_assert_str_eq(fs.name, given[k].kind);
        ck_assert_uint_eq(fs.flags, given[k].flags);
        snprintf(path, sizeof path, "%s/overlay", at);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        ck_assert_int_eq(migbuf_cow_volume(fd, &before, NULL), 0);
        for (int n = 0; n < 8; n++)
            ck_assert_int_eq(write(fd, zeros, sizeof zeros), sizeof zeros);
        ck_assert_int_eq(migbuf_cow_sizes(&fd, 1, fs.flags, &bytes, NULL), 0);
        ck_assert_msg(bytes >= 8 << 20, "%s counts %llu before it has written", given[k].kind, (unsigned long long)bytes);
        fsync(fd);
        ck_assert_int_eq(migbuf_cow_sizes(&fd, 1, fs.flags, &bytes, NULL), 0);
        ck_assert_msg(bytes >= 8 << 20 && bytes < 80 << 20, "%llu", (unsigned long long)bytes);
        syncfs(fd);
        ck_assert_int_eq(migbuf_cow_volume(fd, &after, NULL), 0);
        if (given[k].flags & MIGBUF_COW_COMPRESSES) /* the file counts as it was written, its volume knows better */
            ck_assert(after.used_bytes < before.used_bytes + (4 << 20));
        else
            ck_assert(after.used_bytes >= before.used_bytes + (8 << 20));
        close(fd);
        unmount(at);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { an_unlinked_file_is_measured,
                                   a_volume_is_what_statvfs_says,
                                   a_bad_descriptor_is_a_named_error,
                                   what_is_no_file_has_no_size,
                                   a_full_volume_is_told_before,
                                   where_it_cannot_be_tried_it_is_unknown,
                                   all_files_in_one_pass,
                                   kinds_of_file_systems,
                                   NULL };

    return unit_run("cow", tests, 30);
}
