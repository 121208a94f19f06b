/* SPDX-License-Identifier: MIT */
#include "lxd_lab.h"
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct daemon lxd_lab_daemon;
static char directory[] = "/tmp/migbuf-lxd-XXXXXX";
static char incus_root[256];

const char *lxd_lab_directory(void)
{
    return directory;
}

bool lxd_lab_is_incus(void)
{
    return lxd_lab_daemon.kind == DAEMON_INCUS;
}

static bool write_file(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        close(fd);
    return good;
}

static bool in_path(const char *program)
{
    char path[4096], *part, *rest = path;

    snprintf(path, sizeof path, "%s", getenv("PATH") ? getenv("PATH") : "");
    while ((part = strsep(&rest, ":"))) {
        char file[4096 + 64];

        snprintf(file, sizeof file, "%s/%s", part, program);
        if (!access(file, X_OK))
            return true;
    }
    return false;
}

/* /dev with two more names, over the real one, which stays as it is. */
static bool make_devices(void)
{
    char options[640], upper[160], work[160];

    snprintf(upper, sizeof upper, "%s/dev", directory);
    snprintf(work, sizeof work, "%s/work", directory);
    snprintf(options, sizeof options, "lowerdir=/dev,upperdir=%s,workdir=%s", upper, work);
    if (mkdir(upper, 0755) || mkdir(work, 0755) || mount("overlay", "/dev", "overlay", 0, options))
        return false;
    return (!access("/dev/kvm", F_OK) || write_file("/dev/kvm", "", 0666)) &&
           (!access("/dev/vsock", F_OK) || write_file("/dev/vsock", "", 0666));
}

static bool make_programs(void)
{
    char path[160];

    snprintf(path, sizeof path, "%s/bin", directory);
    if (mkdir(path, 0755))
        return false;
    snprintf(path, sizeof path, "%s/bin/modprobe", directory);
    if (!write_file(path, "#!/bin/sh\nexit 0\n", 0755))
        return false;
    snprintf(path, sizeof path, "%s/bin/qemu-system-x86_64", directory);
    return !lxd_lab_is_incus() || write_file(path, "#!/bin/sh\nexit 1\n", 0755);
}

static bool loopback_up(void)
{
    struct ifreq r = { .ifr_name = "lo" };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool good = fd >= 0 && !ioctl(fd, SIOCGIFFLAGS, &r);

    r.ifr_flags = (short)(r.ifr_flags | IFF_UP);
    good = good && !ioctl(fd, SIOCSIFFLAGS, &r);
    if (fd >= 0)
        close(fd);
    return good;
}

static const char *find_all(const char *name)
{
    const char *root = getenv("MIGBUF_INCUS");
    static char why[256];

    lxd_lab_daemon.kind = strcmp(name, "incus") ? DAEMON_LXD : DAEMON_INCUS;
    if (geteuid())
        return "a daemon of our own needs root";
    if (lxd_lab_is_incus() && !root)
        return "Incus is not unpacked aside: MIGBUF_INCUS names no root";
    snprintf(incus_root, sizeof incus_root, "%s", root ? root : "");
    if (!lxd_lab_is_incus() && !in_path("lxd"))
        return "there is no lxd";
    if (!in_path("mkfs.btrfs") || !in_path("qemu-system-x86_64"))
        return "there is no mkfs.btrfs, or no QEMU";
    if (!mkdtemp(directory))
        return "no directory in /tmp";
    if (unshare(CLONE_NEWNS | CLONE_NEWNET) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("migbuf", directory, "tmpfs", 0, "mode=755,size=64g") || (!lxd_lab_is_incus() && !make_devices()) || !make_programs() || !loopback_up()) {
        snprintf(why, sizeof why, "no namespaces of our own: %s", strerror(errno));
        return why;
    }
    return NULL;
}

/* Is somebody there, and (ready) at work? */
static bool answers(const char *path, bool ready)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    static const char ask[] = "GET /1.0 HTTP/1.0\r\nHost: lxd\r\n\r\n";
    char reply[16];
    int fd;
    bool good;

    if (strlen(path) >= sizeof a.sun_path)
        return false;
    strcpy(a.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    good = !connect(fd, (struct sockaddr *)&a, sizeof a) &&
           send(fd, ask, sizeof ask - 1, MSG_NOSIGNAL) == sizeof ask - 1 && recv(fd, reply, sizeof reply, 0) > 0 &&
           (!ready || !strncmp(reply, "HTTP/1.0 200", 12));
    close(fd);
    return good;
}

bool lxd_lab_start(void)
{
    struct daemon *d = &lxd_lab_daemon;
    char program[320], library[320], path[4200], before[4096], error[FAIL_SIZE];
    const char *lxd[] = { "lxd", "--group", "root", NULL }, *incus[] = { program, "--group", "root", NULL };
    uint64_t until = now_ns() + PATIENCE_MS * UINT64_C(1000000);
    int log;

    snprintf(program, sizeof program, "%s/usr/libexec/incus/incusd", incus_root);
    snprintf(library, sizeof library, "%s/usr/lib/x86_64-linux-gnu", incus_root);
    snprintf(d->directory, sizeof d->directory, "%s/d", directory);
    snprintf(d->socket, sizeof d->socket, "%s/d/unix.socket", directory);
    snprintf(d->log, sizeof d->log, "%s/log", directory);
    mkdir(d->directory, 0711);
    setenv(lxd_lab_is_incus() ? "INCUS_DIR" : "LXD_DIR", d->directory, 1);
    snprintf(before, sizeof before, "%s", getenv("PATH") ? getenv("PATH") : "/usr/sbin:/usr/bin:/sbin:/bin");
    snprintf(path, sizeof path, "%s/bin:%s", directory, before);
    setenv("PATH", path, 1); /* for the daemon alone */
    if (lxd_lab_is_incus())
        setenv("LD_LIBRARY_PATH", library, 1);
    log = open(d->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (!process_start(&d->process, lxd_lab_is_incus() ? incus : lxd, log, error))
        while (!answers(d->socket, true) && now_ns() < until && process_runs(&d->process))
            poll(NULL, 0, 20);
    close(log);
    unsetenv("LD_LIBRARY_PATH");
    setenv("PATH", before, 1);
    if (answers(d->socket, true))
        return true;
    log = open(d->log, O_RDONLY | O_CLOEXEC);
    process_tail(log, error, sizeof error);
    close(log);
    fprintf(stderr, "the daemon does not answer: %s\n", error);
    lxd_lab_end();
    return false;
}

void lxd_lab_end(void)
{
    uint64_t until = now_ns() + PATIENCE_MS * UINT64_C(1000000);

    process_end_begin(&lxd_lab_daemon.process, now_ns(), PATIENCE_MS);
    while (answers(lxd_lab_daemon.socket, false) && now_ns() < until) /* a test is not its parent and cannot wait for it */
        poll(NULL, 0, 20);
    while (process_step(&lxd_lab_daemon.process, now_ns()))
        poll(NULL, 0, 20);
}

bool lxd_lab_open(const char *name)
{
    const char *missing = find_all(name);

    if (missing)
        printf("1..0 # SKIP %s\n", missing);
    fflush(stdout);
    return !missing;
}

void lxd_lab_close(void)
{
    lxd_lab_end();
    if (!lxd_lab_is_incus())
        umount2("/dev", MNT_DETACH);
    umount2(directory, MNT_DETACH);
    rmdir(directory);
}

/* Incus checks at its start whether it can run VMs, here it cannot, and then makes no record of one. So a container becomes
 * one: in the database by its own interface for that, and in the pool by hand. */
static int make_vm_of_container(struct migbuf_lxd *lxd, const char *name, const char *config, const char *devices)
{
    int root = (int)strcspn(devices + strspn(devices, "{\""), "\"}"); /* the name its root disk is to have */
    static const char *const table[] = { "instances SET type=1", "storage_volumes SET type=3, content_type=1" };
    char body[2048], path[2][320];
    int fd, rc;

    snprintf(body, sizeof body,
             "{\"name\":\"%s\",\"type\":\"container\",\"source\":{\"type\":\"none\"},\"devices\":{\"%.*s\":{\"type\":"
             "\"disk\",\"path\":\"/\",\"pool\":\"b1\"}}}",
             name, root ? root : 4, root ? devices + strspn(devices, "{\"") : "root");
    rc = migbuf_lxd_call(lxd, "POST", "/1.0/instances", body, PATIENCE_MS, NULL, NULL, NULL);
    for (size_t k = 0; rc == 0 && k < 2; k++) {
        snprintf(path[k], sizeof path[k], "%s/storage-pools/b1/%s/%s", lxd_lab_daemon.directory,
                 k ? "virtual-machines" : "containers", name);
        snprintf(body, sizeof body, "{\"database\":\"global\",\"query\":\"UPDATE %s WHERE name='%s'\"}", table[k], name);
        rc = migbuf_lxd_call(lxd, "POST", "/internal/sql", body, PATIENCE_MS, NULL, NULL, NULL);
    }
    if (rc || rename(path[0], path[1]))
        return -1;
    snprintf(body, sizeof body, "%s/virtual-machines/%s", lxd_lab_daemon.directory, name);
    if (symlink(path[1], body))
        return -1;
    strcat(path[1], "/root.img");
    fd = open(path[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    rc = fd < 0 || ftruncate(fd, 1 << 20);
    close(fd);
    snprintf(path[0], sizeof path[0], "/1.0/instances/%s", name);
    snprintf(body, sizeof body, "{\"config\":%s,\"devices\":%s}", config, devices);
    return rc ? -1 : migbuf_lxd_call(lxd, "PATCH", path[0], body, PATIENCE_MS, NULL, NULL, NULL);
}

int lxd_lab_make_vm(struct migbuf_lxd *lxd, const char *name, const char *config, const char *devices)
{
    char body[2048];

    if (lxd_lab_is_incus())
        return make_vm_of_container(lxd, name, config, devices);
    snprintf(body, sizeof body,
             "{\"name\":\"%s\",\"type\":\"virtual-machine\",\"source\":{\"type\":\"none\"},\"config\":%s,\"devices\":%s}",
             name, config, devices);
    return migbuf_lxd_call(lxd, "POST", "/1.0/instances", body, PATIENCE_MS, NULL, NULL, NULL);
}

pid_t lxd_lab_begin_migration(struct migbuf_lxd *lxd, const char *name)
{
    uint64_t until = now_ns() + PATIENCE_MS * UINT64_C(1000000);
    struct migbuf_lxd_migration list[8];
    struct migbuf_lxd *own;
    pid_t self = getpid(), pid = fork();
    char path[128];

    ck_assert_int_ge(pid, 0);
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        snprintf(path, sizeof path, "/1.0/instances/%s", name);
        if (getppid() != self || migbuf_lxd_open(lxd_lab_daemon.socket, NULL, NULL, PATIENCE_MS, &own, NULL))
            _exit(255);
        _exit(-migbuf_lxd_call(own, "POST", path, "{\"migration\":true}", WATCHDOG_S * 1000, NULL, NULL, NULL));
    }
    for (;;) {
        int n = migbuf_lxd_migrations(lxd, PATIENCE_MS, list, 8, NULL);

        ck_assert_msg(n >= 0, "%d %s", n, migbuf_lxd_said(lxd));
        while (n-- > 0)
            if (!strcmp(list[n].instance, name))
                return pid;
        ck_assert_msg(now_ns() < until && !waitpid(pid, NULL, WNOHANG), "no migration of %s", name);
        poll(NULL, 0, 10);
    }
}

int lxd_lab_run(const char *const argv[], const char *input, const char **output)
{
    static char text[65536];
    int in[2], out[2], status = -1;
    size_t length = 0;
    ssize_t n;
    pid_t pid;

    ck_assert(!pipe2(in, O_CLOEXEC) && !pipe2(out, O_CLOEXEC));
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (!pid) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(out[1], 2);
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    if (input)
        ck_assert(write(in[1], input, strlen(input)) == (ssize_t)strlen(input));
    close(in[1]);
    while (length < sizeof text - 1 && (n = read(out[0], text + length, sizeof text - 1 - length)) > 0)
        length += (size_t)n;
    text[length] = 0;
    close(out[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (output)
        *output = text;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int lxd_lab_main(const char *suite, const char *daemon, const TTest *const *tests, int seconds)
{
    int status = EXIT_SUCCESS;

    if (!lxd_lab_open(daemon))
        return status;
    status = !lxd_lab_start() ? EXIT_FAILURE : unit_run(suite, tests, seconds);
    lxd_lab_close();
    return status;
}
