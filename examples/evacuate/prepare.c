/* SPDX-License-Identifier: MIT */
/* Before anything begins: all that may be missing or refused, the directory, and the way back to a run that was killed. */
#include "command.h"
#include "extension.h"
#include "program.h"
#include <errno.h>
#include <ftw.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

/* From here on SIGINT and its like are read by the loop: nobody is interrupted in the middle of anything. */
static int catch_signals(void)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int find_guest(struct program *p, char error[FAIL_SIZE])
{
    char self[400];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash;

    if (p->options.guest) {
        snprintf(p->kernel, sizeof p->kernel, "%s", p->options.guest);
    } else {
        self[n < 0 ? 0 : n] = 0;
        slash = strrchr(self, '/');
        snprintf(p->kernel, sizeof p->kernel, "%.*s/%s", slash ? (int)(slash - self) : 1, slash ? self : ".",
                 extension.guest);
    }
    return access(p->kernel, R_OK) ? fail(error, "--guest %s: %s", p->kernel, strerror(errno)) : 0;
}

static int make_directory(struct program *p, char error[FAIL_SIZE])
{
    const char *parent = p->options.work_dir ? p->options.work_dir : getenv("TMPDIR");

    if (!parent || !*parent)
        parent = "/tmp";
    if (strlen(parent) > 60)
        return fail(error, "--work-dir %s: at most 60 characters, sockets have short names", parent);
    snprintf(p->directory, sizeof p->directory, "%s/evacuate-XXXXXX", parent);
    if (mkdtemp(p->directory))
        return 0;
    fail(error, "--work-dir %s: %s", parent, strerror(errno));
    p->directory[0] = 0;
    return -1;
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *walk)
{
    (void)s, (void)kind, (void)walk;
    return remove(path);
}

void remove_directory(struct program *p)
{
    if (p->options.state) {
        state_remove(&p->state);
        return;
    }
    if (!p->directory[0])
        return;
    if (p->options.keep)
        fprintf(p->out, "Disks and messages are in %s\n", p->directory);
    else if (nftw(p->directory, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT))
        fprintf(p->out, "%s: could not be removed: %s\n", p->directory, strerror(errno));
}

/*
 * Back to a run that was killed: its options hold, and what is said now about reports.
 */
static int take_up(struct program *p, int argc, char *const argv[], char error[FAIL_SIZE])
{
    struct options now = p->options, then;
    int n = p->state.argc;
    char **both = calloc((size_t)(n + argc) + 1, sizeof *both);

    if (!both)
        return fail(error, "out of memory");
    memcpy(both, p->state.argv, (size_t)n * sizeof *both);
    memcpy(both + n, argv + 1, (size_t)(argc - 1) * sizeof *both);
    if (options_read(&then, n, both, error) || options_read(&p->options, n + argc - 1, both, error)) {
        free(both);
        return -1;
    }
    free(both);
    if (!options_same_run(&then, &p->options))
        return fail(error,
                    "--state %s: it holds %s run with other options; --state alone %s, --end %s %s it", now.state,
                    p->finished ? "a finished" : "an unfinished", p->finished ? "tells of it" : "finishes it", now.state,
                    p->finished ? "removes" : "ends");
    if (p->finished && now.svg && (!then.svg || strcmp(now.svg, then.svg)))
        return fail(error, "--state %s: this run is over, another --svg comes too late; --end %s removes it", now.state,
                    now.state);
    return extension_resume(&then, &now, &p->options, &p->state, p->finished, error);
}

static int open_state(struct program *p, int argc, char *const argv[], char error[FAIL_SIZE])
{
    int rc = state_open(&p->state, p->options.state, error);

    p->resuming = rc == STATE_UNFINISHED;
    p->finished = rc == STATE_FINISHED;
    if (rc < 0 || state_keep_arguments(&p->state, argc, argv, error))
        return -1;
    snprintf(p->directory, sizeof p->directory, "%s", p->state.directory);
    return rc == STATE_NEW ? 0 : take_up(p, argc, argv, error);
}

/* Pages that are missing are asked for by userfaultfd, which knows files of a tmpfs only. QEMU 7.2 finds that out when the
 * guest is neither here nor there. */
static int check_memory(const struct program *p, char error[FAIL_SIZE])
{
    struct statfs s;

    if (!p->options.postcopy)
        return 0;
    if (statfs(p->directory, &s))
        return fail(error, "%s: %s", p->directory, strerror(errno));
    return s.f_type == TMPFS_MAGIC ? 0 : fail(error, "--postcopy: %s is not on a tmpfs; try --work-dir /dev/shm", p->directory);
}

/* Everything that may be missing or refused, before anything begins. */
static int check(const struct program *p, char error[FAIL_SIZE])
{
    const struct options *o = &p->options;
    bool overlays = !o->policy_given || o->policy != POLICY_MIRROR;

    return command_check_output("svg", o->svg, error) || command_check_output("json", o->json, error) ||
                   command_check_output("history", o->history, error) ||
                   check_memory(p, error) || vm_check_path(p->directory, error) || vm_check_path(p->kernel, error) ||
                   vm_check_programs(o->qemu, overlays, error)
               ? -1
               : 0;
}

int prepare(struct program *p, int argc, char *const argv[], char error[FAIL_SIZE])
{
    p->signals = catch_signals();
    if (p->signals < 0)
        return fail(error, "signalfd: %s", strerror(errno));
    if (p->options.state ? open_state(p, argc, argv, error) : make_directory(p, error))
        return -1;
    if (p->finished)
        return 0;
    if (find_guest(p, error) || check(p, error) || (!p->resuming && volume_private_mounts(error)) ||
        extension_open(&p->options, error))
        return -1;
    return 0;
}

void leave(struct program *p)
{
    if (p->resuming)
        fprintf(stderr, "evacuate: the guests still run; try again, or end them: evacuate --end %s\n",
                p->state.directory);
    if (p->resuming || p->finished)
        state_close(&p->state);
    else
        remove_directory(p);
}
