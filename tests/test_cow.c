/* SPDX-License-Identifier: MIT */
#include "unit.h"
#include "migbuf/cow.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
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

int main(void)
{
    const TTest *const tests[] = { an_unlinked_file_is_measured, a_volume_is_what_statvfs_says,
                                   a_bad_descriptor_is_a_named_error, a_full_volume_is_told_before, NULL };

    return unit_run("cow", tests, 10);
}
