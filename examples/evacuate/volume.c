/* SPDX-License-Identifier: MIT */
/* Makes, measures and removes the buffer volume. The only file that mounts. */
#include "volume.h"
#include "migbuf/cow.h"
#include "process.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int put_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return -1;
    n = write(fd, text, strlen(text));
    close(fd);
    return n < 0 ? -1 : 0;
}

/* For whoever is not root: root in a namespace where only we live. */
static int private_user(void)
{
    unsigned uid = geteuid(), gid = getegid();
    char map[64];

    if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
        return -1;
    snprintf(map, sizeof map, "0 %u 1", uid);
    if (put_file("/proc/self/setgroups", "deny") || put_file("/proc/self/uid_map", map))
        return -1;
    snprintf(map, sizeof map, "0 %u 1", gid);
    return put_file("/proc/self/gid_map", map);
}

int volume_private_mounts(char error[FAIL_SIZE])
{
    if (unshare(CLONE_NEWNS) && private_user())
        return fail(error, "a mount namespace of our own (needs root or user namespaces): %s", strerror(errno));
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        return fail(error, "making mounts private: %s", strerror(errno));
    return 0;
}

/* Whoever is not root made a user namespace, too, and has no right to the mounts before it is there. */
static int join(pid_t pid, const char *kind)
{
    char path[64];
    int fd, rc;

    snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, kind);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    rc = setns(fd, 0);
    close(fd);
    return rc;
}

int volume_join_mounts(pid_t pid, char error[FAIL_SIZE])
{
    char here[PATH_MAX];

    if (!getcwd(here, sizeof here))
        return fail(error, "the working directory: %s", strerror(errno));
    if (join(pid, "user") && errno != EINVAL) /* EINVAL: ours is the same */
        return fail(error, "joining the user namespace of process %d: %s", (int)pid, strerror(errno));
    if (join(pid, "mnt"))
        return fail(error, "joining the mount namespace of process %d: %s", (int)pid, strerror(errno));
    return chdir(here) ? fail(error, "%s: %s", here, strerror(errno)) : 0;
}

static int set_paths(struct volume *volume, const char *directory, char error[FAIL_SIZE])
{
    int n = snprintf(volume->image, sizeof volume->image, "%s/volume.img", directory);

    if (n < 0 || (size_t)n >= sizeof volume->image)
        return fail(error, "%s: too long", directory);
    snprintf(volume->path, sizeof volume->path, "%s/volume", directory);
    return 0;
}

/* All blocks at once: a full disk below would reach QEMU as an I/O error, not as a full volume. */
static int make_image(const char *path, uint64_t bytes, char error[FAIL_SIZE])
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), reason;

    if (fd < 0)
        return fail(error, "%s: %s", path, strerror(errno));
    reason = posix_fallocate(fd, 0, (off_t)bytes);
    close(fd);
    if (!reason)
        return 0;
    unlink(path);
    return fail(error, "%s, %llu bytes: %s", path, (unsigned long long)bytes, strerror(reason));
}

static int mount_ext4(struct volume *volume, uint64_t bytes, char error[FAIL_SIZE])
{
    const char *mkfs[] = {
        "mkfs.ext4",   "-q", "-F", "-m", "0", "-N", "1024", "-O", "^has_journal", "-E", "nodiscard,lazy_itable_init=0",
        volume->image, NULL
    };
    const char *mount_it[] = { "mount", "-o", "loop,nodev,nosuid", volume->image, volume->path, NULL };

    if (make_image(volume->image, bytes, error))
        return -1;
    if (process_run(mkfs, 60000, error) || process_run(mount_it, 60000, error)) {
        unlink(volume->image);
        return -1;
    }
    volume->kind = VOLUME_EXT4;
    return 0;
}

static int mount_tmpfs(struct volume *volume, uint64_t bytes, char error[FAIL_SIZE])
{
    char options[64];

    snprintf(options, sizeof options, "size=%llu,mode=700", (unsigned long long)bytes);
    if (mount("none", volume->path, "tmpfs", MS_NODEV | MS_NOSUID, options))
        return fail(error, "mount tmpfs on %s: %s", volume->path, strerror(errno));
    volume->kind = VOLUME_TMPFS;
    return 0;
}

/* What a file can still take. ext4 keeps back some blocks for its own use: f_bavail knows, f_bfree does not. */
static int available(const char *path, uint64_t *bytes, char error[FAIL_SIZE])
{
    struct statvfs s;

    if (statvfs(path, &s))
        return fail(error, "statvfs %s: %s", path, strerror(errno));
    *bytes = (uint64_t)s.f_bavail * s.f_frsize;
    return 0;
}

static int mount_volume(struct volume *volume, uint64_t bytes, enum volume_kind kind, char error[FAIL_SIZE])
{
    char first[FAIL_SIZE], second[FAIL_SIZE];

    if (kind == VOLUME_TMPFS)
        return mount_tmpfs(volume, bytes, error);
    if (!mount_ext4(volume, bytes, first))
        return 0;
    if (kind == VOLUME_EXT4 || mount_tmpfs(volume, bytes, second))
        return fail(error, "%s", first);
    return 0;
}

int volume_make(struct volume *volume, const char *directory, uint64_t bytes, enum volume_kind kind,
                char error[FAIL_SIZE])
{
    *volume = (struct volume){ .kind = VOLUME_NONE };
    if (bytes < 1 << 20 || bytes > INT64_MAX)
        return fail(error, "a buffer volume of %llu bytes: at least 1 MiB", (unsigned long long)bytes);
    if (set_paths(volume, directory, error))
        return -1;
    if (mkdir(volume->path, 0700))
        return fail(error, "mkdir %s: %s", volume->path, strerror(errno));
    if (mount_volume(volume, bytes, kind, error)) {
        rmdir(volume->path);
        return -1;
    }
    if (!available(volume->path, &volume->size_bytes, error))
        return 0;
    volume_remove(volume);
    return -1;
}

int volume_adopt(struct volume *volume, const char *directory, enum volume_kind kind, uint64_t size_bytes,
                 char error[FAIL_SIZE])
{
    struct stat here, below;
    char lower[256 + 4];

    *volume = (struct volume){ .kind = VOLUME_NONE };
    if (set_paths(volume, directory, error))
        return -1;
    snprintf(lower, sizeof lower, "%s/..", volume->path);
    if (stat(volume->path, &here) || stat(lower, &below) || here.st_dev == below.st_dev)
        return fail(error, "%s is not mounted any more", volume->path);
    volume->kind = kind;
    volume->size_bytes = size_bytes;
    return 0;
}

static int look_at(struct volume *volume, const char *given, char error[FAIL_SIZE])
{
    int fd = open(given, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct migbuf_full full = { .kind = MIGBUF_FULL_UNKNOWN };
    struct migbuf_error e = { .text = strerror(errno) };
    uint64_t left = 0, margin = 0;
    int rc = fd < 0 ? -1 : migbuf_cow_when_full(fd, &full, &e);

    if (fd >= 0)
        close(fd);
    if (rc)
        return fail(error, "%s: %s", given, e.text);
    volume->fails = full.kind != MIGBUF_FULL_STOPS;
    if (volume->fails)
        margin = full.free_bytes / 16 > 2u << 20 ? full.free_bytes / 16 : 2u << 20;
    if (full.free_bytes < margin + (8u << 20))
        return fail(error, "%s: room for %llu bytes only", given, (unsigned long long)full.free_bytes);
    volume->size_bytes = full.free_bytes - margin;
    if (available(volume->path, &left, error))
        return -1;
    volume->others_bytes = left > volume->size_bytes ? left - volume->size_bytes : 0;
    return 0;
}

int volume_use(struct volume *volume, const char *directory, const char *given, char error[FAIL_SIZE])
{
    char *whole = realpath(given, NULL);
    int rc;

    *volume = (struct volume){ .kind = VOLUME_NONE };
    if (!whole)
        return fail(error, "%s: %s", given, strerror(errno));
    rc = set_paths(volume, directory, error);
    if (!rc && symlink(whole, volume->path))
        rc = fail(error, "%s: %s", volume->path, strerror(errno));
    free(whole);
    if (rc)
        return -1;
    volume->kind = VOLUME_GIVEN;
    if (!look_at(volume, given, error))
        return 0;
    volume_remove(volume);
    return -1;
}

int volume_usage(const struct volume *volume, uint64_t *used_bytes, uint64_t *free_bytes, char error[FAIL_SIZE])
{
    uint64_t left = 0;

    if (available(volume->path, &left, error))
        return -1;
    left = left > volume->others_bytes ? left - volume->others_bytes : 0;
    if (left > volume->size_bytes)
        left = volume->size_bytes;
    *free_bytes = left;
    *used_bytes = volume->size_bytes - left;
    return 0;
}

/* The first look only takes the measure. */
bool volume_has_grown(struct volume *volume)
{
    uint64_t before = volume->total_bytes, total;
    struct statvfs s;

    if (statvfs(volume->path, &s))
        return false;
    total = (uint64_t)s.f_blocks * s.f_frsize;
    volume->total_bytes = total;
    if (!before || total <= before)
        return false;
    volume->size_bytes += total - before;
    return true;
}

/* MNT_DETACH: whoever still has a file open does not keep the name. */
static void remove_paths(const struct volume *volume)
{
    struct stat here, below;
    char lower[256 + 4];

    snprintf(lower, sizeof lower, "%s/..", volume->path);
    for (int i = 0; i < 8 && !stat(volume->path, &here) && !stat(lower, &below) && here.st_dev != below.st_dev; i++)
        if (umount2(volume->path, MNT_DETACH | UMOUNT_NOFOLLOW))
            break;
    rmdir(volume->path); /* only if empty: files put there without a mount are not ours to delete */
    unlink(volume->image);
}

void volume_remove(struct volume *volume)
{
    if (volume->kind == VOLUME_GIVEN)
        unlink(volume->path);
    else if (volume->kind != VOLUME_NONE)
        remove_paths(volume);
    volume->kind = VOLUME_NONE;
}

void volume_clean(const char *directory)
{
    struct volume volume;
    char error[FAIL_SIZE];

    if (!set_paths(&volume, directory, error))
        remove_paths(&volume);
}
