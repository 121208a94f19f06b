/* SPDX-License-Identifier: MIT */
/*
 * migbuf_state_bound() against real dumps: QEMU guests made as LXD makes them, stopped, their memory empty or impossible
 * to compress, sent through a pipe and gzip as LXD sends them. STATE_FULL=1 in the environment: more sizes, some minutes.
 */
#include "migbuf/qmp_socket.h"
#include "migbuf/report.h"
#include "migbuf/state.h"
#include "process.h"
#include "unit.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define MS PATIENCE_MS
#define DEVICE_RAM (16 * MIB)

struct dump {
    uint64_t ram_bytes, device_ram_bytes, raw_bytes, gzip_bytes;
};

static char directory[] = "/tmp/migbuf-state-XXXXXX";

/* Memory without a pattern: xorshift64*, written to the file that is the guest's RAM. */
static void fill(int fd, uint64_t bytes)
{
    uint64_t *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), x = 88172645463325252u;

    ck_assert(p != MAP_FAILED);
    for (uint64_t k = 0; k < bytes / 8; k++) {
        x ^= x >> 12, x ^= x << 25, x ^= x >> 27;
        p[k] = x * UINT64_C(2685821657736338717);
    }
    munmap(p, bytes);
}

static void call(struct migbuf_qmp_socket *q, const char *name, const char *arguments, struct migbuf_qmp_message *m)
{
    struct migbuf_error e = { .text = "" };
    int rc = migbuf_qmp_socket_call(q, name, arguments, MS, m, &e);

    ck_assert_msg(rc == 0, "%s: %s %s", name, e.text, rc == MIGBUF_E_PEER ? m->text : "");
}

/* The RAM blocks of `info ramblock`, used sizes, without the guest's own memory. */
static uint64_t device_ram(struct migbuf_qmp_socket *q)
{
    struct migbuf_qmp_message m;
    uint64_t sum = 0;

    call(q, "human-monitor-command", "{\"command-line\":\"info ramblock\"}", &m);
    for (const char *line = m.text; (line = strstr(line, "\\n")); line++) {
        char name[64];
        unsigned long long offset, used;

        while (!strncmp(line, "\\r", 2) || !strncmp(line, "\\n", 2))
            line += 2;
        if (sscanf(line, "%63s %*d KiB 0x%llx 0x%llx", name, &offset, &used) == 3 && strcmp(name, "ram"))
            sum += used;
        line--;
    }
    return sum;
}

/* Reads the pipe to its end and gives the bytes to gzip. */
static uint64_t carry(int from, int to)
{
    static char block[1 << 20];
    uint64_t sum = 0;
    ssize_t n;

    while ((n = read(from, block, sizeof block)) > 0) {
        sum += (uint64_t)n;
        for (ssize_t done = 0, w; done < n; done += w)
            ck_assert_int_gt(w = write(to, block + done, (size_t)(n - done)), 0);
    }
    return sum;
}

static pid_t start_gzip(int *to, int out)
{
    int ends[2];
    pid_t pid;

    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    pid = fork();
    if (!pid) {
        dup2(ends[0], 0);
        dup2(out, 1);
        execlp("gzip", "gzip", "-1", "-c", (char *)NULL);
        _exit(127);
    }
    close(ends[0]);
    *to = ends[1];
    return pid;
}

static void migrate_through_gzip(struct migbuf_qmp_socket *q, struct dump *d)
{
    struct migbuf_qmp_message m;
    int pipes[2], out = memfd_create("dump", MFD_CLOEXEC), to, status = -1;
    struct stat s;
    pid_t gzip;

    ck_assert(out >= 0 && !pipe2(pipes, O_CLOEXEC));
    gzip = start_gzip(&to, out);
    ck_assert_int_eq(migbuf_qmp_socket_call_fd(q, "getfd", "{\"fdname\":\"migration\"}", pipes[1], MS, &m, NULL), 0);
    close(pipes[1]);
    call(q, "migrate-set-parameters", "{\"max-bandwidth\":100000000000}", &m);
    call(q, "migrate", "{\"uri\":\"fd:migration\"}", &m);
    d->raw_bytes = carry(pipes[0], to);
    close(pipes[0]);
    close(to);
    ck_assert(waitpid(gzip, &status, 0) == gzip && status == 0);
    ck_assert_int_eq(fstat(out, &s), 0);
    d->gzip_bytes = (uint64_t)s.st_size;
    close(out);
    for (;;) { /* the end of the stream is there before the status says so */
        struct migbuf_migrate_report r;

        call(q, "query-migrate", NULL, &m);
        ck_assert_int_eq(migbuf_report_migrate(m.text, m.text_bytes, &r, NULL), 0);
        ck_assert_str_ne(r.status, "failed");
        if (!strcmp(r.status, "completed"))
            return;
        poll(NULL, 0, 10);
    }
}

static struct dump dump(uint64_t ram_bytes, unsigned cpus, bool random)
{
    const char *qemu = getenv("MIGBUF_QEMU") ? getenv("MIGBUF_QEMU") : "qemu-system-x86_64";
    char memory[160], shared[160], backend[256], extra[256], monitor[160], socket[64], size[32], smp[16], error[FAIL_SIZE];
    const char *argv[] = { qemu,       "-accel",    "tcg",       "-machine",   "q35,memory-backend=ram", "-object", backend,
                           "-m",       size,        "-smp",      smp,          "-nodefaults",            "-S",
                           "-display", "none",      "-device",   "virtio-vga", "-device",                "virtio-scsi-pci",
                           "-device",  "qemu-xhci", "-qmp",      monitor,      "-device",                "virtio-net-pci",
                           "-device",  "virtio-serial-pci", "-device", "virtio-balloon-pci",
                           "-object",  extra,        "-device", "ivshmem-plain,memdev=extra,master=on", NULL };
    struct dump d = { .ram_bytes = ram_bytes };
    struct migbuf_qmp_socket *q = NULL;
    struct process process;
    int fd, log;

    snprintf(memory, sizeof memory, "%s/ram", directory);
    snprintf(socket, sizeof socket, "%s/qmp", directory);
    snprintf(shared, sizeof shared, "%s/shared", directory); /* device RAM with something in it */
    snprintf(extra, sizeof extra, "memory-backend-file,id=extra,size=%lluM,mem-path=%s,share=on",
             (unsigned long long)(DEVICE_RAM / MIB), shared);
    snprintf(backend, sizeof backend, "memory-backend-file,id=ram,size=%lluM,mem-path=%s,share=on",
             (unsigned long long)(ram_bytes / MIB), memory);
    snprintf(monitor, sizeof monitor, "unix:%s,server=on,wait=off", socket);
    snprintf(size, sizeof size, "%lluM", (unsigned long long)(ram_bytes / MIB));
    snprintf(smp, sizeof smp, "%u", cpus);
    fd = open(shared, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert(fd >= 0 && !ftruncate(fd, (off_t)DEVICE_RAM));
    fill(fd, DEVICE_RAM);
    close(fd);
    fd = open(memory, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert(fd >= 0 && !ftruncate(fd, (off_t)ram_bytes));
    if (random)
        fill(fd, ram_bytes);
    close(fd);
    log = open("/dev/null", O_WRONLY | O_CLOEXEC);
    ck_assert_msg(!process_start(&process, argv, log, error), "%s", error);
    close(log);
    while (migbuf_qmp_socket_open(socket, NULL, NULL, MS, &q, NULL)) {
        ck_assert_msg(process_runs(&process), "QEMU does not start");
        poll(NULL, 0, 20);
    }
    d.device_ram_bytes = device_ram(q);
    migrate_through_gzip(q, &d);
    migbuf_qmp_socket_free(q);
    process_end(&process, PATIENCE_MS);
    unlink(memory);
    unlink(shared);
    unlink(socket);
    return d;
}

START_TEST(bounds_hold)
{
    static const struct {
        uint64_t mib;
        unsigned cpus;
        bool full;
    } sizes[] = { { 32, 1, false }, { 64, 2, true }, { 128, 1, true }, { 256, 4, false }, { 512, 2, true }, { 1024, 8, true } };
    bool full = getenv("STATE_FULL") != NULL;

    ck_assert_ptr_nonnull(mkdtemp(directory));
    if (full)
        printf("# RAM MiB | CPUs | memory | device RAM | raw | bound | gzip | bound\n");
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int random = 0; random < 2 && (full || !sizes[k].full); random++) {
            if (!full && sizes[k].mib > 32 && !random)
                continue;
            struct dump d = dump(sizes[k].mib * MIB, sizes[k].cpus, random);
            struct migbuf_state s;
            uint64_t raw, gzip;

            migbuf_state_init(&s, sizeof s);
            s.memory_bytes = d.ram_bytes;
            s.device_ram_bytes = d.device_ram_bytes;
            s.cpus = sizes[k].cpus;
            ck_assert_int_eq(migbuf_state_bound(&s, &raw, &gzip), 0);
            if (full)
                printf("# %llu | %u | %s | %llu | %llu | %llu | %llu | %llu\n", (unsigned long long)sizes[k].mib,
                       sizes[k].cpus, random ? "random" : "empty", (unsigned long long)d.device_ram_bytes,
                       (unsigned long long)d.raw_bytes, (unsigned long long)raw, (unsigned long long)d.gzip_bytes,
                       (unsigned long long)gzip);
            ck_assert(d.device_ram_bytes > 24 * MIB && d.device_ram_bytes < MIGBUF_STATE_DEVICE_RAM);
            ck_assert_msg(d.raw_bytes <= raw && d.gzip_bytes <= gzip, "%llu MiB: %llu > %llu or %llu > %llu",
                          (unsigned long long)sizes[k].mib, (unsigned long long)d.raw_bytes, (unsigned long long)raw,
                          (unsigned long long)d.gzip_bytes, (unsigned long long)gzip);
            if (random) /* and they are no wild guess */
                ck_assert(d.raw_bytes > d.ram_bytes + DEVICE_RAM && d.gzip_bytes > d.ram_bytes + DEVICE_RAM);
            if (sizes[k].mib >= 256)
                ck_assert((double)gzip <= 1.03 * (double)(d.ram_bytes + d.device_ram_bytes));
        }
    rmdir(directory);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { bounds_hold, NULL };

    if (system("gzip --version >/dev/null 2>&1") ||
        (!getenv("MIGBUF_QEMU") && system("qemu-system-x86_64 --version >/dev/null 2>&1"))) {
        printf("1..0 # SKIP there is no QEMU, or no gzip\n");
        return 0;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    return unit_run("state", tests, WATCHDOG_S);
}
