/* SPDX-License-Identifier: MIT */
/*
 * The parts of examples/evacuate, each alone: the checker (laws and negative controls), the link on a virtual clock,
 * processes, the volume; with the argument "guest" instead: the real guest in a real QEMU, killed at a random moment,
 * against the checker. Speeds are printed, never asserted. EVACUATE_GUEST names the guest program.
 */
#include "command.h"
#include "link.h"
#include "numbers.h"
#include "process.h"
#include "unit.h"
#include "vm.h"
#include "volume.h"
#include "writer.h"
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1u << 20)
#define SECOND UINT64_C(1000000000)

static char directory[64], error[FAIL_SIZE];

static void setup(void)
{
    snprintf(directory, sizeof directory, "/tmp/migbuf-parts-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    *error = 0;
}

static int remove_one(const char *path, const struct stat *s, int type, struct FTW *ftw)
{
    (void)s, (void)type, (void)ftw;
    return remove(path);
}

static void teardown(void)
{
    nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static const char *in_directory(const char *name)
{
    static char path[4][128];
    static unsigned turn;
    char *p = path[turn++ % 4];

    snprintf(p, sizeof path[0], "%s/%s", directory, name);
    return p;
}

static int new_file(const char *name)
{
    int fd = open(in_directory(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    ck_assert_int_ge(fd, 0);
    return fd;
}

/* --- the checker -------------------------------------------------------------------------------------------------- */

/* A disk as the guest would leave it, written by code that shares nothing with the checker but the sector's layout. */
static void put_sector(int fd, const struct writer_params *p, uint32_t write, uint32_t slot, uint32_t index)
{
    uint32_t sector[128], lba = p->start + slot * p->sectors + index;

    memset(sector, 0x5a, sizeof sector);
    sector[0] = 0x4655424d, sector[1] = write, sector[2] = lba, sector[3] = index, sector[4] = ~write,
    sector[5] = p->id;
    ck_assert_int_eq(pwrite(fd, sector, 512, (off_t)lba * 512), 512);
}

static void put_slot(int fd, const struct writer_params *p, uint32_t write, uint32_t slot)
{
    for (uint32_t i = 0; i < p->sectors; i++)
        put_sector(fd, p, write, slot, i);
}

static uint32_t slot_of(const struct writer_params *p, uint32_t write)
{
    uint32_t x = p->seed;

    if (!p->random)
        return (write - 1) % p->window;
    for (uint32_t i = 0; i < write; i++)
        x = x * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)x * p->window) >> 32);
}

/* slots[n] of write n; quick enough to be used for whole runs. */
static uint32_t *all_slots(const struct writer_params *p, uint32_t writes)
{
    uint32_t *slots = calloc(writes + 1, sizeof *slots), x = p->seed;

    ck_assert_ptr_nonnull(slots);
    for (uint32_t n = 1; n <= writes; n++) {
        x = x * 1664525u + 1013904223u;
        slots[n] = p->random ? (uint32_t)(((uint64_t)x * p->window) >> 32) : (n - 1) % p->window;
    }
    return slots;
}

/* 100 random writes of 4 sectors in 16 slots of an 1 MiB disk with 64 KiB of base data, all acknowledged. */
struct fixture {
    struct writer_params p;
    struct guest_status status;
    struct writer_result r;
    int fd;
};

static struct fixture disk_of_100(uint32_t random)
{
    struct fixture f = { .fd = new_file("disk") };

    writer_params_init(&f.p);
    f.p.sectors = 4, f.p.window = 16, f.p.start = 101, f.p.random = random, f.p.seed = 7, f.p.id = 3;
    f.p.base_sectors = 128;
    ck_assert_msg(!writer_disk_make(f.fd, &f.p, MIB, error), "%s", error);
    for (uint32_t n = 1; n <= 100; n++)
        put_slot(f.fd, &f.p, n, slot_of(&f.p, n));
    f.status = (struct guest_status){ .acked = 100, .issued = 100, .acknowledged = 100 };
    return f;
}

static void check(struct fixture *f, uint64_t lost, uint64_t foreign, uint64_t base)
{
    ck_assert_msg(!writer_check(f->fd, &f->p, &f->status, &f->r, error), "%s", error);
    ck_assert_msg(f->r.lost == lost && f->r.foreign == foreign && f->r.base == base,
                  "lost %lu (%lu), foreign %lu (%lu), base %lu (%lu): %s", (unsigned long)f->r.lost,
                  (unsigned long)lost, (unsigned long)f->r.foreign, (unsigned long)foreign, (unsigned long)f->r.base,
                  (unsigned long)base, f->r.first_bad);
    ck_assert_int_eq(writer_good(&f->r), lost + foreign + base == 0);
    ck_assert_int_eq(*f->r.first_bad != 0, lost + foreign + base != 0);
}

static uint64_t lba_of(const struct fixture *f, uint32_t slot, uint32_t index)
{
    return f->p.start + slot * f->p.sectors + index;
}

static void zero(int fd, uint64_t lba)
{
    static const char zeros[512];

    ck_assert_int_eq(pwrite(fd, zeros, 512, (off_t)lba * 512), 512);
}

START_TEST(checker_accepts_a_good_disk)
{
    struct fixture f = disk_of_100((uint32_t)_i);

    check(&f, 0, 0, 0);
    ck_assert_uint_ge(f.r.slots, 14);
    ck_assert_uint_le(f.r.slots, 16);
    ck_assert_uint_eq(f.r.sectors, MIB / 512);
    ck_assert_uint_eq(f.r.torn, 0);
    close(f.fd);
}
END_TEST

START_TEST(checker_finds_a_zeroed_sector)
{
    struct fixture f = disk_of_100(1);
    uint32_t slot = slot_of(&f.p, 100);

    zero(f.fd, lba_of(&f, slot, 2));
    check(&f, 1, 0, 0);
    ck_assert_uint_eq(f.r.first_bad_lba, lba_of(&f, slot, 2));
    close(f.fd);
}
END_TEST

START_TEST(checker_finds_an_older_version)
{
    struct fixture f = disk_of_100(0);

    put_sector(f.fd, &f.p, 84, slot_of(&f.p, 100), 3); /* 84 was to the same slot, 16 writes before */
    check(&f, 1, 0, 0);
    put_slot(f.fd, &f.p, 84, slot_of(&f.p, 100));
    check(&f, 4, 0, 0);
    close(f.fd);
}
END_TEST

START_TEST(checker_finds_data_of_before)
{
    struct fixture f = disk_of_100(0);
    char sector[512];
    int other = new_file("other");

    ck_assert(!writer_disk_make(other, &f.p, MIB, error));
    ck_assert_int_eq(pread(other, sector, 512, 101 * 512), 512);
    ck_assert_int_eq(pwrite(f.fd, sector, 512, 101 * 512), 512);
    check(&f, 1, 0, 0);
    close(other);
    close(f.fd);
}
END_TEST

START_TEST(checker_finds_a_sector_of_another_place_or_guest)
{
    struct fixture f = disk_of_100(0);
    struct writer_params other = f.p;
    char sector[512];

    ck_assert_int_eq(pread(f.fd, sector, 512, (off_t)lba_of(&f, 3, 1) * 512), 512);
    ck_assert_int_eq(pwrite(f.fd, sector, 512, (off_t)lba_of(&f, 5, 1) * 512), 512);
    check(&f, 0, 1, 0);
    other.id = 4;
    put_sector(f.fd, &other, 100, slot_of(&f.p, 100), 0);
    check(&f, 0, 2, 0);
    put_sector(f.fd, &f.p, 101, 7, 0); /* never issued */
    check(&f, 0, 3, 0);
    ck_assert_int_eq(pwrite(f.fd, "x", 1, (off_t)lba_of(&f, 9, 0) * 512 + 511), 1); /* damaged at the very end */
    check(&f, 0, 4, 0);
    close(f.fd);
}
END_TEST

START_TEST(checker_looks_outside_the_window)
{
    struct fixture f = disk_of_100(0);

    zero(f.fd, 0);
    check(&f, 0, 0, 1);
    put_sector(f.fd, &f.p, 5, f.p.window, 0); /* one slot behind the last */
    check(&f, 0, 1, 1);
    ck_assert_int_eq(pwrite(f.fd, "x", 1, MIB - 1), 1);
    check(&f, 0, 2, 1);
    ck_assert(!ftruncate(f.fd, 4 * MIB)); /* a hole at the end: nothing to read there, and nothing wrong */
    check(&f, 0, 2, 1);
    ck_assert_int_eq(pwrite(f.fd, "x", 1, 4 * MIB - 1), 1);
    check(&f, 0, 3, 1);
    close(f.fd);
}
END_TEST

/* Write 101 goes to slot 4 of the sequential guest, which holds 85. */
START_TEST(checker_judges_a_write_in_flight)
{
    struct fixture f = disk_of_100(0);
    uint32_t slot = slot_of(&f.p, 101);

    f.status.issued = 101;
    f.status.in_flight[9] = 101;
    check(&f, 0, 0, 0); /* not there yet */
    put_sector(f.fd, &f.p, 101, slot, 1);
    check(&f, 0, 0, 0); /* half there */
    ck_assert_uint_eq(f.r.torn, 1);
    put_slot(f.fd, &f.p, 101, slot);
    check(&f, 0, 0, 0); /* all there */
    ck_assert_uint_eq(f.r.torn, 0);
    f.status.issued = 100; /* stopped between the two stores of the guest */
    check(&f, 0, 0, 0);
    f.status.issued = 101, f.status.acked = 101, f.status.in_flight[9] = 0;
    check(&f, 0, 0, 0); /* acknowledged */
    put_sector(f.fd, &f.p, 85, slot, 1);
    check(&f, 1, 0, 0); /* acknowledged and torn */
    put_sector(f.fd, &f.p, 69, slot, 2);
    check(&f, 2, 0, 0);
    close(f.fd);
}
END_TEST

/* A write stuck for long holds the low watermark down; those after it are acknowledged all the same and are checked. */
START_TEST(checker_is_exact_above_the_watermark)
{
    struct fixture f = disk_of_100(0);

    f.p.window = 200; /* every write to a slot of its own */
    ck_assert(!ftruncate(f.fd, 0));
    ck_assert(!writer_disk_make(f.fd, &f.p, MIB, error));
    for (uint32_t n = 1; n <= 100; n++)
        if (n != 6)
            put_slot(f.fd, &f.p, n, n - 1);
    f.status = (struct guest_status){ .acked = 5, .issued = 100, .in_flight = { 6 } };
    check(&f, 0, 0, 0);
    ck_assert_uint_eq(f.r.slots, 99);
    zero(f.fd, lba_of(&f, 49, 0));
    check(&f, 1, 0, 0);
    f.status.in_flight[0] = 0;
    check(&f, 5, 0, 0);
    close(f.fd);
}
END_TEST

START_TEST(checker_refuses_nonsense)
{
    struct fixture f = disk_of_100(0);

    f.status.acked = 101;
    ck_assert_int_eq(writer_check(f.fd, &f.p, &f.status, &f.r, error), -1);
    f.status.acked = 100;
    ck_assert(!ftruncate(f.fd, 512 * 64));
    ck_assert_int_eq(writer_check(f.fd, &f.p, &f.status, &f.r, error), -1);
    close(f.fd);
    ck_assert_int_eq(writer_check(f.fd, &f.p, &f.status, &f.r, error), -1);
    ck_assert_int_eq(writer_status(f.fd, &f.status, error), -1);
}
END_TEST

START_TEST(a_writers_demand_counts_its_bursts)
{
    struct writer_params p;

    writer_params_init(&p);
    ck_assert_uint_eq(writer_demand(&p, 0, 60000), 0);
    p.pace = 16;
    ck_assert_uint_eq(writer_demand(&p, 12345, 2000), 32);
    p.on_ms = 1000, p.off_ms = 2000;
    ck_assert_uint_eq(writer_demand(&p, 500, 2500), 8);
    ck_assert_uint_eq(writer_demand(&p, 500, 3000), 16);
    ck_assert_uint_eq(writer_demand(&p, 1000, 2000), 0);
    ck_assert_uint_eq(writer_demand(&p, UINT32_MAX, 30000), 160);
}
END_TEST

START_TEST(writer_parameters_have_limits)
{
    struct writer_params good, p;
    char text[256];

    writer_params_init(&good);
    ck_assert(!writer_params_check(&good, 16 * MIB, error));
    ck_assert(writer_params_check(&good, 2 * MIB, error)); /* 1024 slots of 4 KiB from 1 MiB on */
    ck_assert(writer_params_check(&good, 16 * MIB + 1, error));
    p = good, p.sectors = 0, ck_assert(writer_params_check(&p, 16 * MIB, error));
    p = good, p.sectors = 2049, ck_assert(writer_params_check(&p, 16 * MIB, error));
    p = good, p.depth = 33, ck_assert(writer_params_check(&p, 16 * MIB, error));
    p = good, p.window = 0, ck_assert(writer_params_check(&p, 16 * MIB, error));
    p = good, p.window = UINT32_MAX, ck_assert(writer_params_check(&p, 16 * MIB, error));
    p = good, p.off_ms = 5, ck_assert(writer_params_check(&p, 16 * MIB, error));
    p = good, p.base_sectors = 32769, ck_assert(writer_params_check(&p, 16 * MIB, error));
    ck_assert_uint_eq(writer_ram_mib(&good), 16);
    p = good, p.depth = 32, p.sectors = 2048;
    ck_assert_uint_eq(writer_ram_mib(&p), 37);
    ck_assert_int_eq(writer_append(&p, text, 20), -1);
    memset(&p, 0xff, sizeof p);
    ck_assert_int_eq(writer_append(&p, text, sizeof text), 0);
}
END_TEST

START_TEST(checker_is_fast)
{
    struct fixture f = { .fd = new_file("disk") };
    uint32_t *slots;
    uint64_t t;

    writer_params_init(&f.p);
    f.p.window = 16384, f.p.random = 1; /* 64 MiB */
    ck_assert(!writer_disk_make(f.fd, &f.p, 80 * MIB, error));
    slots = all_slots(&f.p, 300000);
    for (uint32_t n = 300000 - 65536; n <= 300000; n++)
        put_slot(f.fd, &f.p, n, slots[n]);
    free(slots);
    f.status.acked = f.status.issued = 300000;
    t = now_ns();
    ck_assert(!writer_check(f.fd, &f.p, &f.status, &f.r, error));
    t = now_ns() - t;
    printf("# checker: 300000 writes, %lu slots, %lu sectors: %lu ms\n", (unsigned long)f.r.slots,
           (unsigned long)f.r.sectors, (unsigned long)(t / 1000000));
    ck_assert_uint_lt(f.r.lost, f.r.slots * 8 / 20); /* slots last written before those 65536 */
    ck_assert_uint_eq(f.r.foreign, 0);
    close(f.fd);
}
END_TEST

/* --- the link ----------------------------------------------------------------------------------------------------- */

static struct link *link_of(uint64_t rate, bool count_holes)
{
    struct link_config config = { .bytes_per_s = rate, .count_holes = count_holes };
    struct link *l = link_new(&config);

    ck_assert_ptr_nonnull(l);
    return l;
}

/* One turn of a caller's loop on a virtual clock: sockets are looked at without waiting, then time passes. */
static int turn(struct link *l, uint64_t *now)
{
    struct pollfd fds[64];
    int timeout = 50;
    size_t n = link_poll_prepare(l, fds, 64, *now, &timeout);

    ck_assert_uint_le(n, link_poll_max(l));
    if (poll(fds, n, 0) == 0)
        *now += (uint64_t)timeout * 1000000;
    link_run(l, *now);
    return timeout;
}

static int file_of(const char *name, uint64_t size, uint64_t data_from, uint64_t data_to)
{
    int fd = new_file(name);
    char block[4096];

    ck_assert(!ftruncate(fd, (off_t)size));
    for (uint64_t at = data_from; at < data_to; at += sizeof block) {
        memset(block, (int)(1 + at / 4096 % 250), sizeof block);
        ck_assert_int_eq(pwrite(fd, block, sizeof block, (off_t)at), sizeof block);
    }
    return fd;
}

static void same_files(const char *a, const char *b)
{
    char command[300];

    snprintf(command, sizeof command, "cmp %s %s", in_directory(a), in_directory(b));
    ck_assert_int_eq(system(command), 0);
}

static int add_copy(struct link *l, int source, int target)
{
    int id = link_add_copy(l, source, target, error);

    ck_assert_msg(id >= 0, "%s", error);
    return id;
}

START_TEST(link_copies_at_its_rate)
{
    static const uint64_t rates[] = { 100000, 1000000, 12500000, 125000000, 1250000000 };
    uint64_t rate = rates[_i], start = 5 * SECOND, now = start, sent = 0;
    struct link *l = link_of(rate, false);
    int id = add_copy(l, file_of("a", 32 * MIB, 4 * MIB, 12 * MIB), new_file("b")), spins = 0;
    double burst = (double)rate / 50 < 4096 ? 4096 : (double)rate / 50;

    ck_assert_uint_eq(link_flow(l, id).remaining_bytes, 8 * MIB);
    while (link_flow(l, id).phase == LINK_ACTIVE && now < start + 200 * SECOND) {
        spins += turn(l, &now) == 0;
        ck_assert_msg(link_sent_bytes(l) >= sent, "bytes went down");
        sent = link_sent_bytes(l);
        ck_assert_msg((double)sent <= (double)rate * (double)(now - start) / 1e9 + burst + 1, "too fast");
        ck_assert_uint_eq(link_flow(l, id).remaining_bytes + sent, 8 * MIB);
    }
    ck_assert_int_eq(link_flow(l, id).phase, LINK_DONE);
    ck_assert_msg((double)(now - start) / 1e9 <= 8 * MIB / (double)rate * 1.05 + 0.1, "too slow");
    ck_assert_uint_eq(link_flow(l, id).skipped_bytes, 24 * MIB);
    ck_assert_int_le(spins, 40);
    link_free(l);
    same_files("a", "b");
}
END_TEST

START_TEST(link_counts_zeros_when_told)
{
    uint64_t now = SECOND;
    struct link *l = link_of(8 * MIB, true);
    int a = file_of("a", 32 * MIB, 4 * MIB, 12 * MIB), id;
    struct stat s;
    char zeros[4096] = { 0 };

    for (off_t at = 20 * MIB; at < 22 * MIB; at += 4096) /* zeros that are no hole */
        ck_assert_int_eq(pwrite(a, zeros, sizeof zeros, at), sizeof zeros);
    id = add_copy(l, a, new_file("b"));
    while (link_flow(l, id).phase == LINK_ACTIVE)
        turn(l, &now);
    ck_assert_uint_eq(link_sent_bytes(l), 32 * MIB);
    ck_assert_uint_eq(link_flow(l, id).skipped_bytes, 24 * MIB);
    ck_assert_uint_eq(now / SECOND, 4);
    link_free(l);
    same_files("a", "b");
    ck_assert(!stat(in_directory("b"), &s));
    ck_assert_int_lt(s.st_blocks * 512, 9 * MIB);
}
END_TEST

START_TEST(link_is_unlimited_without_a_rate)
{
    uint64_t now = SECOND;
    struct link *l = link_of(0, false);
    int id = add_copy(l, file_of("a", 64 * MIB, 0, 64 * MIB), new_file("b")), turns = 0;

    for (; link_flow(l, id).phase == LINK_ACTIVE; turns++)
        turn(l, &now);
    ck_assert_int_le(turns, 12);
    ck_assert_uint_eq(now, SECOND); /* and no pause anywhere */
    link_free(l);
    same_files("a", "b");
}
END_TEST

START_TEST(link_shares_fairly)
{
    uint64_t now = SECOND;
    struct link *l = link_of(20000000, false);
    int id[5];

    for (int i = 0; i < 5; i++) {
        char name[16];

        snprintf(name, sizeof name, "s%d", i);
        id[i] = add_copy(l, file_of(name, 4 * MIB, 0, 4 * MIB), new_file(i % 2 ? "x" : "y"));
    }
    while (now < SECOND + SECOND / 2) {
        uint64_t least = UINT64_MAX, most = 0;

        turn(l, &now);
        for (int i = 0; i < 5; i++) {
            uint64_t sent = link_flow(l, id[i]).sent_bytes;

            least = sent < least ? sent : least;
            most = sent > most ? sent : most;
        }
        ck_assert_uint_le(most - least, 65536);
    }
    ck_assert_uint_ge(link_sent_bytes(l), 9900000);
    ck_assert_uint_ge(link_waited_ns(l), SECOND / 3);
    link_remove(l, id[2]); /* the others go on */
    while (link_flow(l, id[4]).phase == LINK_ACTIVE)
        turn(l, &now);
    ck_assert_int_eq(link_flow(l, id[0]).phase, LINK_DONE);
    ck_assert_int_eq(link_flow(l, id[2]).phase, LINK_FAILED); /* no such flow */
    link_free(l);
}
END_TEST

START_TEST(link_takes_a_new_rate)
{
    uint64_t now = SECOND, before;
    struct link *l = link_of(1000000, false);
    int id = add_copy(l, file_of("a", 8 * MIB, 0, 8 * MIB), new_file("b"));

    while (now < 2 * SECOND)
        turn(l, &now);
    before = link_sent_bytes(l);
    ck_assert_uint_le(before, 1100000);
    link_set_rate(l, 10000000);
    while (now < 2 * SECOND + SECOND / 2)
        turn(l, &now);
    ck_assert_uint_ge(link_sent_bytes(l) - before, 4500000);
    ck_assert_uint_le(link_sent_bytes(l) - before, 5500000);
    ck_assert_int_eq(link_flow(l, id).phase, LINK_ACTIVE);
    link_free(l);
}
END_TEST

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };

    ck_assert_uint_lt(strlen(path), sizeof a.sun_path);
    memcpy(a.sun_path, path, strlen(path) + 1);
    return a;
}

static int new_socket(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    return fd;
}

static int listen_at(const char *path)
{
    struct sockaddr_un a = address_of(path);
    int fd = new_socket();

    ck_assert(!bind(fd, (struct sockaddr *)&a, sizeof a) && !listen(fd, 1));
    return fd;
}

static int connect_to(const char *path)
{
    struct sockaddr_un a = address_of(path);
    int fd = new_socket();

    ck_assert(!connect(fd, (struct sockaddr *)&a, sizeof a));
    return fd;
}

/* A proxy with both its ends connected to us. */
struct ends {
    struct link *link;
    int id, client, server;
    uint64_t now;
};

static struct ends proxy_of(uint64_t rate)
{
    struct ends e = { .link = link_of(rate, false), .now = SECOND };
    int listener = listen_at(in_directory("server"));

    e.id = link_add_proxy(e.link, in_directory("proxy"), in_directory("server"), error);
    ck_assert_msg(e.id >= 0, "%s", error);
    turn(e.link, &e.now);
    ck_assert_int_eq(link_flow(e.link, e.id).phase, LINK_WAITING);
    e.client = connect_to(in_directory("proxy"));
    for (int i = 0; i < 5; i++)
        turn(e.link, &e.now);
    e.server = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    ck_assert_int_ge(e.server, 0);
    ck_assert_int_eq(link_flow(e.link, e.id).phase, LINK_ACTIVE);
    ck_assert(access(in_directory("proxy"), F_OK)); /* the name is gone once it is used */
    close(listener);
    return e;
}

static void end(struct ends *e)
{
    if (e->client >= 0)
        close(e->client);
    if (e->server >= 0)
        close(e->server);
    link_free(e->link);
}

/* Sends what the socket takes, up to `left`. */
static size_t push(int fd, size_t left)
{
    static char block[65536];
    ssize_t n = send(fd, block, left < sizeof block ? left : sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL);

    return n > 0 ? (size_t)n : 0;
}

static size_t pull(int fd, bool *eof)
{
    static char block[262144];
    ssize_t n = recv(fd, block, sizeof block, MSG_DONTWAIT);

    *eof = !n;
    return n > 0 ? (size_t)n : 0;
}

START_TEST(proxy_shapes_one_way_only)
{
    struct ends e = proxy_of(1000000);
    size_t out = 0, in = 0, back_out = 0, back_in = 0;
    uint64_t start = e.now;
    bool eof;

    while (e.now < start + SECOND) {
        out += push(e.client, 65536);
        back_out += push(e.server, 4096);
        in += pull(e.server, &eof);
        back_in += pull(e.client, &eof);
        turn(e.link, &e.now);
        e.now += 500000; /* the way back keeps poll busy: time passes all the same */
    }
    in += pull(e.server, &eof);
    ck_assert_uint_ge(in, 900000);
    ck_assert_uint_le(in, 1000000 + 20000 + 50000);
    ck_assert_uint_eq(link_flow(e.link, e.id).sent_bytes, in);
    ck_assert_uint_eq(link_sent_bytes(e.link), in);
    ck_assert_uint_ge(out, in);
    ck_assert_uint_gt(back_in, 0);
    ck_assert_uint_ge(back_out, back_in);
    end(&e);
}
END_TEST

START_TEST(proxy_passes_half_close)
{
    struct ends e = proxy_of(4000000);
    size_t out = 0, in = 0, back = 0, reply = 0;
    bool eof = false;

    for (int i = 0; i < 10000 && !eof; i++) {
        if (out < 500000 && (out += push(e.client, 500000 - out)) == 500000)
            shutdown(e.client, SHUT_WR);
        in += pull(e.server, &eof);
        turn(e.link, &e.now);
    }
    ck_assert_uint_eq(in, 500000);
    ck_assert(eof);
    ck_assert_int_eq(link_flow(e.link, e.id).phase, LINK_ACTIVE); /* the reply is still to come */
    eof = false;
    for (int i = 0; i < 10000 && !eof; i++) {
        if (reply < 700000 && (reply += push(e.server, 700000 - reply)) == 700000)
            shutdown(e.server, SHUT_WR);
        back += pull(e.client, &eof);
        turn(e.link, &e.now);
    }
    ck_assert_uint_eq(back, 700000);
    ck_assert_uint_eq(link_flow(e.link, e.id).back_bytes, 700000);
    ck_assert_int_eq(link_flow(e.link, e.id).phase, LINK_DONE);
    ck_assert_str_eq(link_flow(e.link, e.id).error, "");
    end(&e);
}
END_TEST

START_TEST(proxy_buffers_little_and_does_not_spin)
{
    struct ends e = proxy_of(0);
    size_t out = 0, in = 0;
    int zeros = 0;
    bool eof;

    for (int i = 0; i < 500; i++) { /* nobody reads */
        out += push(e.client, 1 << 20);
        zeros += turn(e.link, &e.now) == 0;
    }
    ck_assert_uint_le(out, 2 * MIB);
    ck_assert_int_le(zeros, 3);
    for (int i = 0; i < 500; i++) { /* now somebody does */
        turn(e.link, &e.now);
        in += pull(e.server, &eof);
    }
    ck_assert_uint_eq(in, out);
    end(&e);
}
END_TEST

/* Whoever hangs up first, the other side learns it, what was on its way back arrives, and poll has nothing to spin on.
 */
START_TEST(proxy_survives_a_hang_up)
{
    struct ends e = proxy_of(1000000);
    int *gone = _i ? &e.client : &e.server, *left = _i ? &e.server : &e.client;
    struct pollfd fds[4];
    size_t back = 0;
    bool eof = false;
    int timeout = 1000;

    push(e.client, 65536);
    push(e.server, 50000);
    for (int i = 0; i < 3; i++)
        turn(e.link, &e.now);
    close(*gone);
    *gone = -1;
    for (int i = 0; i < 1000 && !eof; i++) {
        push(*left, 65536);
        back += pull(*left, &eof);
        turn(e.link, &e.now);
    }
    ck_assert(eof);
    ck_assert_uint_ge(back, 50000);
    close(*left);
    *left = -1;
    for (int i = 0; i < 10; i++)
        turn(e.link, &e.now);
    ck_assert_int_eq(link_flow(e.link, e.id).phase, LINK_DONE);
    ck_assert_uint_eq(link_poll_prepare(e.link, fds, 4, e.now, &timeout), 0);
    ck_assert_int_ge(timeout, 1);
    end(&e);
}
END_TEST

START_TEST(proxy_reports_a_missing_server)
{
    struct link *l = link_of(1000000, false);
    uint64_t now = SECOND;
    int id = link_add_proxy(l, in_directory("proxy"), in_directory("nobody"), error), client;
    char text[200];

    ck_assert_int_ge(id, 0);
    ck_assert_int_eq(link_add_proxy(l, in_directory("proxy"), "x", error), -1); /* taken */
    ck_assert_int_eq(link_add_proxy(l, "", "x", error), -1);
    memset(text, 'x', sizeof text), text[199] = 0;
    ck_assert_int_eq(link_add_proxy(l, text, "x", error), -1);
    client = connect_to(in_directory("proxy"));
    for (int i = 0; i < 5; i++)
        turn(l, &now);
    ck_assert_int_eq(link_flow(l, id).phase, LINK_FAILED);
    ck_assert_ptr_nonnull(strstr(link_flow(l, id).error, "nobody"));
    close(client);
    link_free(l);
}
END_TEST

START_TEST(proxy_and_copies_share)
{
    struct ends e = proxy_of(10000000);
    int id[3];
    uint64_t start = e.now;
    bool eof;

    for (int i = 0; i < 3; i++) {
        char name[16];

        snprintf(name, sizeof name, "s%d", i);
        id[i] = add_copy(e.link, file_of(name, 8 * MIB, 0, 8 * MIB), new_file(i % 2 ? "x" : "y"));
    }
    while (e.now < start + SECOND) {
        push(e.client, 65536), push(e.client, 65536);
        pull(e.server, &eof);
        turn(e.link, &e.now);
    }
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_ge(link_flow(e.link, id[i]).sent_bytes, 2300000);
        ck_assert_uint_le(link_flow(e.link, id[i]).sent_bytes, 2800000);
    }
    ck_assert_uint_ge(link_flow(e.link, e.id).sent_bytes, 2300000);
    ck_assert_uint_le(link_flow(e.link, e.id).sent_bytes, 2800000);
    end(&e);
}
END_TEST

START_TEST(link_reports_a_copy_that_fails)
{
    struct link *l = link_of(0, false);
    uint64_t now = SECOND;
    int source = file_of("a", 4 * MIB, 0, 4 * MIB), target = new_file("b"), id, read_only;

    read_only = open(in_directory("b"), O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(link_add_copy(l, source, read_only, error), -1);
    close(read_only);
    id = add_copy(l, source, target);
    ck_assert(!truncate(in_directory("a"), MIB));
    for (int i = 0; i < 5; i++)
        turn(l, &now);
    ck_assert_int_eq(link_flow(l, id).phase, LINK_FAILED);
    ck_assert_ptr_nonnull(strstr(link_flow(l, id).error, "shorter"));
    link_free(l);
    link_free(NULL);
}
END_TEST

/* --- processes ---------------------------------------------------------------------------------------------------- */

START_TEST(process_starts_and_ends)
{
    const char *const sleeper[] = { "sleep", "100", NULL };
    char text[512];
    const char *const stubborn[] = { "sh", "-c", text, NULL };
    struct process p;
    uint64_t t;

    ck_assert_msg(!process_start(&p, sleeper, 2, error), "%s", error);
    ck_assert(process_runs(&p));
    process_end(&p, PATIENCE_MS);
    ck_assert(!process_runs(&p));
    ck_assert_str_eq(process_describe(&p, text), "was killed by signal 15");
    process_end(&p, PATIENCE_MS);
    snprintf(text, sizeof text, "trap '' TERM; : >%s; while :; do sleep 0.05; done", in_directory("stubborn"));
    ck_assert_msg(!process_start(&p, stubborn, 2, error), "%s", error);
    while (access(in_directory("stubborn"), F_OK))
        usleep(1000);
    t = now_ns();
    process_end_begin(&p, t, 150);
    process_end_begin(&p, t, 150);
    ck_assert(process_step(&p, now_ns()));
    while (process_step(&p, now_ns()))
        usleep(1000);
    ck_assert_uint_ge(now_ns() - t, 150000000);
    ck_assert_str_eq(process_describe(&p, text), "was killed by signal 9");
}
END_TEST

START_TEST(process_failures_are_readable)
{
    const char *const missing[] = { "/nonexistent/qemu", NULL };
    const char *const loud[] = { "sh", "-c", "echo first; echo the reason >&2; exit 3", NULL };
    const char *const slow[] = { "sleep", "100", NULL };
    const char *const quick[] = { "true", NULL };
    struct process p;

    ck_assert_int_eq(process_start(&p, missing, 2, error), -1);
    ck_assert_str_eq(error, "cannot run /nonexistent/qemu: No such file or directory");
    ck_assert_int_eq(process_run(loud, PATIENCE_MS, error), -1);
    ck_assert_str_eq(error, "sh ended with status 3: first\nthe reason");
    ck_assert_int_eq(process_run(slow, 50, error), -1);
    ck_assert_ptr_nonnull(strstr(error, "took more than 50 ms"));
    ck_assert_int_eq(process_run(quick, PATIENCE_MS, error), 0);
}
END_TEST

START_TEST(process_inherits_nothing)
{
    const char *const list[] = { "sh", "-c", "ls -m /proc/$$/fd; :", NULL }; /* no pipe: the shell itself may still hold it */
    int leak = open("/dev/null", O_RDONLY), out = new_file("out"); /* leak: not close-on-exec */
    struct process p;
    char text[16];

    ck_assert(!process_start(&p, list, out, error));
    while (process_runs(&p))
        usleep(1000);
    process_tail(out, text, sizeof text);
    ck_assert_str_eq(text, "0, 1, 2");
    close(leak);
    close(out);
}
END_TEST

START_TEST(process_dies_with_its_starter)
{
    const char *const sleeper[] = { "sleep", "100", NULL };
    pid_t starter, child = 0;
    int pipe_fd[2], status = 0;

    prctl(PR_SET_CHILD_SUBREAPER, 1); /* the orphan comes to us */
    ck_assert(!pipe(pipe_fd));
    starter = fork();
    if (!starter) {
        struct process p;

        if (!process_start(&p, sleeper, 2, error) && write(pipe_fd[1], &p.pid, sizeof p.pid) > 0)
            pause();
        _exit(1);
    }
    ck_assert_int_eq(read(pipe_fd[0], &child, sizeof child), sizeof child);
    kill(starter, SIGKILL);
    ck_assert_int_eq(waitpid(starter, NULL, 0), starter);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    close(pipe_fd[0]), close(pipe_fd[1]);
}
END_TEST

START_TEST(process_outlives_its_starter_and_is_found_again)
{
    const char *const sleeper[] = { "sleep", "100", NULL };
    const char *const quick[] = { "true", NULL };
    const char *life = in_directory("life");
    struct process p, other;
    int pipe_fd[2], status;
    char text[64];
    pid_t starter;

    ck_assert_int_eq(process_adopt(&p, life, error), 0); /* no such file */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    ck_assert(!pipe(pipe_fd));
    starter = fork();
    if (!starter) {
        if (!process_start_outliving(&p, sleeper, 2, life, error) && write(pipe_fd[1], &p.pid, sizeof p.pid) > 0)
            pause();
        _exit(1);
    }
    ck_assert_int_eq(read(pipe_fd[0], &other.pid, sizeof other.pid), sizeof other.pid);
    kill(starter, SIGKILL);
    ck_assert_int_eq(waitpid(starter, NULL, 0), starter);
    ck_assert_int_eq(process_adopt(&p, life, error), 1);
    ck_assert_int_eq(p.pid, other.pid);
    ck_assert(process_runs(&p));
    ck_assert_int_eq(process_start_outliving(&other, sleeper, 2, life, error), -1);
    ck_assert_ptr_nonnull(strstr(error, "still runs"));
    process_end(&p, PATIENCE_MS);
    ck_assert(!process_runs(&p));
    ck_assert_str_eq(process_describe(&p, text), "has ended");
    ck_assert_int_eq(process_adopt(&p, life, error), 0); /* its number is still in the file */
    ck_assert(waitpid(other.pid, &status, 0) < 0 || WIFSIGNALED(status));

    /* Killed between the lock and the number. */
    ck_assert(!process_start_outliving(&p, quick, 2, life, error));
    while (process_runs(&p))
        usleep(1000);
    ck_assert_int_eq(truncate(life, 0), 0);
    starter = fork();
    if (!starter) {
        int fd = open(life, O_RDWR);

        if (!flock(fd, LOCK_EX) && write(pipe_fd[1], "x", 1) == 1)
            usleep(100000);
        _exit(0);
    }
    ck_assert_int_eq(read(pipe_fd[0], text, 1), 1);
    ck_assert_int_eq(process_adopt(&p, life, error), 0);
    ck_assert_int_eq(waitpid(starter, NULL, 0), starter);
    close(pipe_fd[0]), close(pipe_fd[1]);
}
END_TEST

START_TEST(vm_refuses_what_it_cannot_quote)
{
    char name[200];
    struct vm vm;
    struct vm_config config = { .directory = directory, .image = "/tmp/a,b" };

    ck_assert_int_eq(vm_start(&vm, &config, error), -1);
    config.image = "/tmp/a\"b";
    ck_assert_int_eq(vm_start(&vm, &config, error), -1);
    memset(name, 'x', sizeof name), name[0] = '/', name[199] = 0;
    config.image = "/tmp/a", config.directory = name;
    ck_assert_int_eq(vm_start(&vm, &config, error), -1);
    config.directory = directory, config.program = "/nonexistent/qemu";
    ck_assert_int_eq(vm_start(&vm, &config, error), -1);
    ck_assert_ptr_nonnull(strstr(error, "cannot run"));
    ck_assert(access(in_directory("memory"), F_OK));
    vm_release(&vm);
}
END_TEST

/* --- the volume --------------------------------------------------------------------------------------------------- */

static bool may_mount(void)
{
    if (!volume_private_mounts(error))
        return true;
    printf("# volume not tried: %s\n", error);
    return false;
}

START_TEST(volume_has_the_size_it_says)
{
    static const enum volume_kind kinds[] = { VOLUME_EXT4, VOLUME_TMPFS };
    struct volume v;
    uint64_t used, left, written = 0;
    char path[300], block[65536] = { 1 };
    int fd;

    if (!may_mount())
        return;
    if (volume_make(&v, directory, 24 * MIB, kinds[_i], error)) {
        ck_assert_msg(kinds[_i] == VOLUME_EXT4, "%s", error); /* no loop devices here */
        printf("# no ext4: %s\n", error);
        return;
    }
    ck_assert(!volume_usage(&v, &used, &left, error));
    ck_assert_uint_eq(used, 0);
    ck_assert_uint_eq(left, v.size_bytes);
    ck_assert_uint_le(left, 24 * MIB);
    ck_assert_uint_ge(left, 20 * MIB);
    snprintf(path, sizeof path, "%s/overlay", v.path);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    for (ssize_t n; (n = write(fd, block, sizeof block)) > 0;)
        written += (uint64_t)n;
    ck_assert_int_eq(errno, ENOSPC);
    printf("# %s of %lu bytes took a file of %lu\n", v.kind == VOLUME_EXT4 ? "ext4" : "tmpfs",
           (unsigned long)v.size_bytes, (unsigned long)written);
    ck_assert_uint_le(written, v.size_bytes);
    ck_assert_uint_ge(written + MIB / 2, v.size_bytes); /* ext4 takes a little for its own records */
    ck_assert(!volume_usage(&v, &used, &left, error));
    ck_assert_uint_ge(used, written);
    ck_assert_uint_eq(used + left, v.size_bytes);
    volume_remove(&v);
    volume_remove(&v);
    ck_assert(access(in_directory("volume"), F_OK) && access(in_directory("volume.img"), F_OK));
    close(fd);
}
END_TEST

START_TEST(volume_goes_with_a_killed_program)
{
    int pipe_fd[2];
    char path[300], made = 0;
    struct stat s;
    pid_t pid;

    ck_assert(!pipe(pipe_fd));
    pid = fork();
    if (!pid) {
        struct volume v;

        made = !volume_private_mounts(error) && !volume_make(&v, directory, 8 * MIB, VOLUME_NONE, error) ? 'y' : 'n';
        if (write(pipe_fd[1], &made, 1) > 0)
            pause();
        _exit(1);
    }
    ck_assert_int_eq(read(pipe_fd[0], &made, 1), 1);
    kill(pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    close(pipe_fd[0]), close(pipe_fd[1]);
    if (made == 'n')
        return;
    snprintf(path, sizeof path, "grep -q %s /proc/self/mounts", directory);
    ck_assert_int_ne(system(path), 0);
    ck_assert(!stat(in_directory("volume"), &s)); /* an empty directory is left, and maybe the file */
    volume_clean(directory);
    ck_assert(access(in_directory("volume"), F_OK) && access(in_directory("volume.img"), F_OK));
    volume_clean(directory);
}
END_TEST

/* In a child each: what joins a namespace stays there. */
static char seen_by_one_who_joins(pid_t pid, const struct volume *v)
{
    int pipe_fd[2], status;
    char seen = 0;
    pid_t joiner;

    ck_assert(!pipe(pipe_fd));
    joiner = fork();
    if (!joiner) {
        char here[300], there[300];
        uint64_t used, left;
        struct volume again;
        struct stat s;

        seen = 'n';
        if (getcwd(here, sizeof here) && volume_adopt(&again, directory, v->kind, v->size_bytes, error) &&
            !volume_join_mounts(pid, error) && getcwd(there, sizeof there) && !strcmp(here, there) &&
            !volume_adopt(&again, directory, v->kind, v->size_bytes, error) &&
            !volume_usage(&again, &used, &left, error) && used >= MIB && !stat(in_directory("volume/file"), &s))
            seen = 'y';
        _exit(write(pipe_fd[1], &seen, 1) != 1);
    }
    ck_assert_int_eq(read(pipe_fd[0], &seen, 1), 1);
    ck_assert_int_eq(waitpid(joiner, &status, 0), joiner);
    close(pipe_fd[0]), close(pipe_fd[1]);
    return seen;
}

START_TEST(volume_is_found_again_by_one_who_joins)
{
    int to_us[2];
    struct volume v = { .kind = VOLUME_NONE };
    pid_t pid;

    ck_assert(!pipe(to_us));
    pid = fork();
    if (!pid) {
        char block[65536] = { 1 };
        int fd = -1;

        if (!volume_private_mounts(error) && !volume_make(&v, directory, 8 * MIB, VOLUME_NONE, error))
            fd = open(in_directory("volume/file"), O_RDWR | O_CREAT, 0600);
        for (int i = 0; fd >= 0 && i < 16; i++)
            if (write(fd, block, sizeof block) < 0)
                break;
        if (write(to_us[1], &v, sizeof v) > 0)
            pause();
        _exit(1);
    }
    ck_assert_int_eq(read(to_us[0], &v, sizeof v), sizeof v);
    if (v.kind != VOLUME_NONE)
        ck_assert_int_eq(seen_by_one_who_joins(pid, &v), 'y');
    kill(pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    close(to_us[0]), close(to_us[1]);
    ck_assert_int_eq(volume_join_mounts(pid, error), -1);
    volume_clean(directory);
}
END_TEST

START_TEST(volume_refuses_nonsense)
{
    struct volume v;

    ck_assert_int_eq(volume_make(&v, directory, 1000, VOLUME_NONE, error), -1);
    ck_assert_int_eq(volume_make(&v, "/nonexistent/directory", 8 * MIB, VOLUME_NONE, error), -1);
    ck_assert_ptr_nonnull(strstr(error, "No such file"));
    volume_remove(&v);
    ck_assert(!mkdir(in_directory("volume"), 0700));
    close(new_file("volume/precious"));
    ck_assert_int_eq(volume_make(&v, directory, 8 * MIB, VOLUME_NONE, error), -1);
    volume_clean(directory); /* not mounted: not ours to empty */
    ck_assert(!access(in_directory("volume/precious"), F_OK));
}
END_TEST

/* --- the guest ---------------------------------------------------------------------------------------------------- */

static const struct writer_params guests[] = {
    { .sectors = 8, .window = 1024, .start = 2048, .depth = 1, .id = 1 },
    { .sectors = 8,
      .window = 4096,
      .start = 2048,
      .random = 1,
      .seed = 5,
      .depth = 32,
      .id = 2,
      .base_sectors = 65536 },
    { .sectors = 1, .window = 40, .start = 1, .random = 1, .seed = 9, .depth = 32, .id = 3, .base_sectors = 64 },
    { .sectors = 2048, .window = 30, .start = 2049, .random = 1, .seed = 3, .depth = 8, .id = 4 },
    { .sectors = 2048, .window = 60, .start = 2048, .depth = 32, .id = 5 },
    { .sectors = 128, .window = 64, .start = 2047, .random = 1, .seed = 1, .depth = 4, .pace = 300, .id = 6 },
    { .sectors = 17, .window = 500, .start = 77, .random = 1, .depth = 3, .on_ms = 100, .off_ms = 200, .id = 7 },
    { .sectors = 8, .window = 1, .start = 0, .depth = 32, .count = 500, .id = UINT32_MAX },
};

static void start_guest(struct vm *vm, const struct writer_params *p, int *disk)
{
    char append[256], image[128];
    struct vm_config config = { .directory = directory, .image = image, .kernel = getenv("EVACUATE_GUEST") };

    snprintf(image, sizeof image, "%s", in_directory("disk"));
    *disk = new_file("disk");
    ck_assert_msg(!writer_disk_make(*disk, p, 72 * MIB, error), "%s", error);
    ck_assert(!writer_append(p, append, sizeof append));
    config.append = append;
    config.ram_mib = writer_ram_mib(p);
    ck_assert_msg(!vm_start(vm, &config, error), "%s", error);
}

/* On each of its disks. */
static void wait_for(struct vm *vm, uint32_t disks, uint32_t acknowledged)
{
    uint64_t until = now_ns() + PATIENCE_S * UINT64_C(1000000000);

    for (uint32_t k = 0; k < disks; k++) {
        struct guest_status status = { 0 };

        while (status.acknowledged < acknowledged) {
            ck_assert_msg(vm_runs(vm, error), "%s", error);
            ck_assert_int_ge(writer_disk_status(vm->memory_fd, k, &status, error), 0);
            ck_assert_msg(now_ns() < until, "only %u writes to disk %u", status.acknowledged, k);
            usleep(1000);
        }
    }
}

/* Killed without warning, so that writes are cut wherever they happen to be; its memory file survives it. */
START_TEST(guest_agrees_with_the_checker)
{
    struct fixture f = { .p = guests[_i] };
    uint32_t histogram = 0;
    struct vm vm;

    start_guest(&vm, &f.p, &f.fd);
    wait_for(&vm, 1, f.p.count ? f.p.count : 20); /* a counted writer ends by itself, whenever that is */
    usleep(700000);
    process_end(&vm.process, 0);
    ck_assert_int_eq(writer_status(vm.memory_fd, &f.status, error), 1);
    check(&f, 0, 0, 0);
    for (int i = 0; i < GUEST_BUCKETS; i++)
        histogram += f.status.latency[i];
    ck_assert_uint_ge(histogram + 1, f.status.acknowledged);
    ck_assert_uint_le(histogram, f.status.acknowledged + 1);
    ck_assert_uint_le(f.status.acked, f.status.acknowledged + 1);
    ck_assert_uint_le(f.status.acknowledged, f.status.issued);
    ck_assert_uint_eq(f.status.failed, 0);
    if (f.p.count)
        ck_assert_uint_eq(f.status.acknowledged, f.p.count);
    printf("# %u acknowledged, %u issued, %lu slots, %lu torn, longest %u ms\n", f.status.acknowledged, f.status.issued,
           (unsigned long)f.r.slots, (unsigned long)f.r.torn, f.status.longest_ms);
    f.status.acked = f.status.issued += 40; /* negative control: claims writes that were never made */
    memset(f.status.in_flight, 0, sizeof f.status.in_flight);
    ck_assert_int_eq(writer_check(f.fd, &f.p, &f.status, &f.r, error), 0);
    ck_assert(!writer_good(&f.r));
    vm_release(&vm);
    close(f.fd);
}
END_TEST

/* Two disks, a writer each, with either kind of device. */
START_TEST(guest_writes_to_two_disks)
{
    struct fixture f = { .fd = -1 };
    struct writer_params p = { .sectors = 9, .window = 700, .start = 3, .random = 1, .seed = 2, .depth = 32, .id = 8 };
    char append[256], image[2][128];
    struct vm_config config = { .directory = directory, .kernel = getenv("EVACUATE_GUEST"), .append = append };
    struct vm vm;

    p.more_disks = 1;
    config.image = image[0], config.second_image = image[1];
    config.device = _i ? VM_VIRTIO_SCSI : VM_VIRTIO_BLK;
    config.ram_mib = writer_ram_mib(&p);
    ck_assert(!writer_append(&p, append, sizeof append));
    for (uint32_t k = 0; k < 2; k++) {
        struct writer_params one = writer_of_disk(&p, k);

        snprintf(image[k], sizeof image[k], "%s", in_directory(k ? "data" : "disk"));
        f.fd = new_file(k ? "data" : "disk");
        ck_assert_msg(!writer_disk_make(f.fd, &one, 8 * MIB, error), "%s", error);
        close(f.fd);
    }
    ck_assert_msg(!vm_start(&vm, &config, error), "%s", error);
    wait_for(&vm, 2, 2000);
    usleep(300000); /* killed in the middle of whatever it does */
    process_end(&vm.process, 0);
    for (uint32_t k = 0; k < 2; k++) {
        f.fd = open(image[k], O_RDONLY | O_CLOEXEC);
        f.p = writer_of_disk(&p, k);
        ck_assert_int_eq(writer_disk_status(vm.memory_fd, k, &f.status, error), 1);
        ck_assert_uint_ge(f.status.acknowledged, 2000);
        ck_assert_uint_eq(f.status.failed, 0);
        check(&f, 0, 0, 0);
        printf("# disk %u: %u acknowledged, %lu slots\n", k, f.status.acknowledged, (unsigned long)f.r.slots);
        f.p = writer_of_disk(&p, 1 - k); /* negative control: one disk is not the other */
        ck_assert_int_eq(writer_check(f.fd, &f.p, &f.status, &f.r, error), 0);
        ck_assert(!writer_good(&f.r));
        close(f.fd);
    }
    vm_release(&vm);
}
END_TEST

START_TEST(vm_ends_in_time_and_tells_why)
{
    const char *const extra[] = { "-device", "no-such-device", NULL };
    struct writer_params p = guests[0];
    struct vm_config config = { .directory = directory, .image = in_directory("disk"), .extra = extra };
    struct vm vm;
    int fd;

    start_guest(&vm, &p, &fd);
    wait_for(&vm, 1, 1);
    ck_assert_int_eq(access(vm.qmp, F_OK), 0);
    vm_end(&vm, PATIENCE_MS);
    ck_assert(access(vm.qmp, F_OK) && access(vm.memory, F_OK));
    ck_assert_msg(!vm_start(&vm, &config, error), "%s", error);
    while (vm_runs(&vm, error))
        usleep(1000);
    ck_assert_msg(strstr(error, "ended with status 1") && strstr(error, "no-such-device"), "%s", error);
    vm_release(&vm);
    close(fd);
}
END_TEST

/* What people write is read as they mean it, to the byte, or refused. */
START_TEST(sizes_and_counts)
{
    static const struct {
        const char *text;
        uint64_t size; /* UINT64_MAX: none */
    } sizes[] = {
        { "10GiB", UINT64_C(10) << 30 }, { "16K", 16384 }, { "16KB", 16000 }, { "1.5MiB", 1572864 }, { "1.5", 1 }, { "0.999999999K", 1023 },
        { "8m/s", 8 << 20 }, { "9007199254740993", UINT64_C(9007199254740993) }, { "18446744073709551614", UINT64_MAX - 1 },
        { "010", 10 }, { "1.T", UINT64_MAX }, { "1.0000000001T", UINT64_MAX }, { "0x10", UINT64_MAX }, { "1e3", UINT64_MAX },
        { "18446744073709551616", UINT64_MAX }, { "16777216T", UINT64_MAX }, { "", UINT64_MAX }, { "-1", UINT64_MAX },
        { " 1", UINT64_MAX }, { "1 K", UINT64_MAX }, { "nan", UINT64_MAX }, { "1KK", UINT64_MAX }, { "1/s2", UINT64_MAX },
    };
    uint64_t value;
    char text[HUMAN_SIZE];

    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        value = 7;
        ck_assert_msg(read_size(sizes[k].text, 1024, 0, UINT64_MAX, &value) == (sizes[k].size != UINT64_MAX), "%s", sizes[k].text);
        ck_assert_uint_eq(value, sizes[k].size == UINT64_MAX ? 7 : sizes[k].size);
    }
    ck_assert(!read_size("11", 1024, 0, 10, &value) && !read_size("9", 1024, 10, 20, &value));
    ck_assert(read_size("16K", 1000, 0, UINT64_MAX, &value) && value == 16000);
    ck_assert(read_count("0777", 0, UINT64_MAX, &value) && value == 777); /* nobody means octal */
    ck_assert(read_count("18446744073709551615", 0, UINT64_MAX, &value) && value == UINT64_MAX);
    value = 7;
    ck_assert(!read_count("0x10", 0, UINT64_MAX, &value) && !read_count("18446744073709551616", 0, UINT64_MAX, &value) &&
              !read_count("1.5", 0, 9, &value) && !read_count("", 0, 9, &value) && !read_count("10", 0, 9, &value) && value == 7);
    ck_assert_str_eq(human_time(INT64_MAX, text), "2562047788015:12:56");
    ck_assert_str_eq(human_time(INT64_MIN, text), "-");
    ck_assert_str_eq(human_time(41500, text), "0:42");
}
END_TEST

static int take_letters(void *program, int option, const char *value, char text[FAIL_SIZE])
{
    (void)value, (void)text;
    snprintf(program, 2, "%c", option);
    return 0;
}

static void no_help(FILE *out)
{
    (void)out;
}

/* A line that is refused in the middle of a word leaves nothing to the next one. */
START_TEST(a_command_line_begins_anew)
{
    static const struct option options[] = { { "quiet", no_argument, NULL, 'q' }, { "size", required_argument, NULL, 's' }, COMMAND_OPTIONS };
    const struct command c = { .name = "p", .options = options, .help = no_help, .take = take_letters };
    char first[] = "-xqq", *one[] = { "p", first, NULL }, *two[] = { "p", "--size", "5", NULL }, taken[2] = "";

    ck_assert_int_eq(command_read(&c, taken, 2, one, error), -1);
    ck_assert_str_eq(error, "-x is no option; --help lists them");
    memset(first, 'h', 4); /* which would be taken for --help */
    ck_assert_int_eq(command_read(&c, taken, 3, two, error), 0);
    ck_assert_str_eq(taken, "s");
    ck_assert_int_eq(command_no_words(3, two, error), 0);
}
END_TEST

static Suite *parts_suite(void)
{
    Suite *s = suite_create("evacuate parts");
    TCase *checker = tcase_create("checker"), *link = tcase_create("link"), *host = tcase_create("host");

    tcase_add_checked_fixture(checker, setup, teardown);
    tcase_set_timeout(checker, WATCHDOG_S);
    tcase_add_loop_test(checker, checker_accepts_a_good_disk, 0, 2);
    tcase_add_test(checker, checker_finds_a_zeroed_sector);
    tcase_add_test(checker, checker_finds_an_older_version);
    tcase_add_test(checker, checker_finds_data_of_before);
    tcase_add_test(checker, checker_finds_a_sector_of_another_place_or_guest);
    tcase_add_test(checker, checker_looks_outside_the_window);
    tcase_add_test(checker, checker_judges_a_write_in_flight);
    tcase_add_test(checker, checker_is_exact_above_the_watermark);
    tcase_add_test(checker, checker_refuses_nonsense);
    tcase_add_test(checker, a_writers_demand_counts_its_bursts);
    tcase_add_test(checker, writer_parameters_have_limits);
    tcase_add_test(checker, checker_is_fast);
    tcase_add_test(checker, sizes_and_counts);
    tcase_add_test(checker, a_command_line_begins_anew);
    suite_add_tcase(s, checker);

    tcase_add_checked_fixture(link, setup, teardown);
    tcase_set_timeout(link, WATCHDOG_S);
    tcase_add_loop_test(link, link_copies_at_its_rate, 0, 5);
    tcase_add_test(link, link_counts_zeros_when_told);
    tcase_add_test(link, link_is_unlimited_without_a_rate);
    tcase_add_test(link, link_shares_fairly);
    tcase_add_test(link, link_takes_a_new_rate);
    tcase_add_test(link, link_reports_a_copy_that_fails);
    tcase_add_test(link, proxy_shapes_one_way_only);
    tcase_add_test(link, proxy_passes_half_close);
    tcase_add_test(link, proxy_buffers_little_and_does_not_spin);
    tcase_add_loop_test(link, proxy_survives_a_hang_up, 0, 2);
    tcase_add_test(link, proxy_reports_a_missing_server);
    tcase_add_test(link, proxy_and_copies_share);
    suite_add_tcase(s, link);

    tcase_add_checked_fixture(host, setup, teardown);
    tcase_set_timeout(host, WATCHDOG_S);
    tcase_add_test(host, process_starts_and_ends);
    tcase_add_test(host, process_outlives_its_starter_and_is_found_again);
    tcase_add_test(host, process_failures_are_readable);
    tcase_add_test(host, process_inherits_nothing);
    tcase_add_test(host, process_dies_with_its_starter);
    tcase_add_test(host, vm_refuses_what_it_cannot_quote);
    tcase_add_loop_test(host, volume_has_the_size_it_says, 0, 2);
    tcase_add_test(host, volume_goes_with_a_killed_program);
    tcase_add_test(host, volume_is_found_again_by_one_who_joins);
    tcase_add_test(host, volume_refuses_nonsense);
    suite_add_tcase(s, host);
    return s;
}

static Suite *guest_suite(void)
{
    Suite *s = suite_create("evacuate guest");
    TCase *guest = tcase_create("guest");

    tcase_add_checked_fixture(guest, setup, teardown);
    tcase_set_timeout(guest, WATCHDOG_S);
    tcase_add_loop_test(guest, guest_agrees_with_the_checker, 0, sizeof guests / sizeof *guests);
    tcase_add_loop_test(guest, guest_writes_to_two_disks, 0, 2);
    tcase_add_test(guest, vm_ends_in_time_and_tells_why);
    suite_add_tcase(s, guest);
    return s;
}

int main(int argc, char **argv)
{
    const char *const qemu[] = { "qemu-system-x86_64", "--version", NULL };
    bool guest = argc > 1 && !strcmp(argv[1], "guest");

    if (guest && (process_run(qemu, PATIENCE_MS, error) || !getenv("EVACUATE_GUEST"))) {
        printf("1..0 # SKIP no qemu-system-x86_64, or EVACUATE_GUEST not set\n");
        return 0; /* with TAP the plan says it; 77 would be taken for a failure */
    }
    return unit_run_suite(guest ? guest_suite() : parts_suite(), argv[0]);
}
