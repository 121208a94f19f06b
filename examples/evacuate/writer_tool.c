/* SPDX-License-Identifier: MIT */
/*
 * The host's side of the writing guest as a program, for hosts that are not written in C (examples/go): makes its disk, and checks that
 * no acknowledged write is missing from one. What a good disk is, writer.c knows.
 */
#include "writer.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int usage(void)
{
    fputs("usage: writer make DISK BYTES [NAME=NUMBER..]    makes a new disk for a guest with these numbers\n"
          "       writer check DISK MEMORY [NAME=NUMBER..]  compares it with the status in the memory of the stopped guest\n"
          "numbers: sectors window start random seed depth pace on_ms off_ms count id base_sectors, see writer.h;\n"
          "disk: of its disks this one, 0 is the first\n"
          "Exit status of check: 0 nothing is missing, 1 something is, 2 it could not be checked.\n",
          stderr);
    return 2;
}

/* In the end those of disk *disk. */
static int read_params(struct writer_params *p, uint32_t *disk, char **words)
{
    const struct {
        const char *name;
        uint32_t *number;
    } known[] = { { "sectors", &p->sectors }, { "window", &p->window },
                  { "start", &p->start },     { "random", &p->random },
                  { "seed", &p->seed },       { "depth", &p->depth },
                  { "pace", &p->pace },       { "on_ms", &p->on_ms },
                  { "off_ms", &p->off_ms },   { "count", &p->count },
                  { "id", &p->id },           { "base_sectors", &p->base_sectors },
                  { "disk", disk } };

    *disk = 0;
    writer_params_init(p);
    for (; *words; words++) {
        size_t name = strcspn(*words, "="), k = 0;
        unsigned long number;
        char *end;

        while (k < sizeof known / sizeof *known &&
               (strlen(known[k].name) != name || strncmp(known[k].name, *words, name) != 0))
            k++;
        if (k == sizeof known / sizeof *known || (*words)[name] != '=')
            return -1;
        errno = 0;
        number = strtoul(*words + name + 1, &end, 10);
        if (errno || *end || end == *words + name + 1 || number > UINT32_MAX)
            return -1;
        *known[k].number = (uint32_t)number;
    }
    *p = writer_of_disk(p, *disk);
    return *disk <= 1 ? 0 : -1;
}

static int make(const char *path, const char *size, const struct writer_params *p, char error[FAIL_SIZE])
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), rc;

    if (fd < 0)
        return fail(error, "%s: %s", path, strerror(errno));
    rc = writer_disk_make(fd, p, strtoull(size, NULL, 10), error);
    close(fd);
    return rc;
}

static int check(const char *path, const char *memory, const struct writer_params *p, uint32_t number, char error[FAIL_SIZE])
{
    int disk = open(path, O_RDONLY | O_CLOEXEC), ram = open(memory, O_RDONLY | O_CLOEXEC), rc = -1;
    struct guest_status status;
    struct writer_result r;

    if (disk < 0 || ram < 0)
        fail(error, "%s: %s", disk < 0 ? path : memory, strerror(errno));
    else if (writer_disk_status(ram, number, &status, error) != 1)
        fail(error, "%s: no guest's memory", memory);
    else
        rc = writer_check(disk, p, &status, &r, error);
    if (disk >= 0)
        close(disk);
    if (ram >= 0)
        close(ram);
    if (rc)
        return -1;
    printf("acknowledged %u slots %llu lost %llu foreign %llu base %llu %s\n", status.acknowledged,
           (unsigned long long)r.slots, (unsigned long long)r.lost, (unsigned long long)r.foreign,
           (unsigned long long)r.base, r.first_bad);
    return writer_good(&r) ? 0 : 1;
}

int main(int argc, char **argv)
{
    char error[FAIL_SIZE] = "";
    struct writer_params p;
    uint32_t disk;
    int rc;

    if (argc < 4 || read_params(&p, &disk, argv + 4))
        return usage();
    if (!strcmp(argv[1], "make"))
        rc = make(argv[2], argv[3], &p, error);
    else if (!strcmp(argv[1], "check"))
        rc = check(argv[2], argv[3], &p, disk, error);
    else
        return usage();
    if (rc < 0)
        fprintf(stderr, "writer: %s\n", error);
    return rc < 0 ? 2 : rc;
}
